"""The verb roi on a planted study: a table, lines with tags, reasons, one JSON object. No model, no store."""

from __future__ import annotations

import json
import types
from dataclasses import replace
from pathlib import Path

import pytest

from rankscope.cli import money
from rankscope.cli.main import main
from rankscope.errors import InputError
from rankscope.report.view import build
from rankscope.study.result import StudyResult
from report.conftest import planted

PRICES = """currency: CHF
gpu_price: [1, 2, 3]
engineer_rate: 100
tasks: 10
retrainings: 4
engineer_hours_lora: 1
engineer_hours_full: 3
"""


@pytest.fixture(scope="module")
def result():
    whole = planted()
    runs = tuple(run for run in whole.runs if run[0].train is None or run[0].train.name == "qa-a")
    evidence = replace(whole, train=("qa-a",), evaluations={"qa-a": whole.evaluations["qa-a"]}, runs=runs)
    return StudyResult(build(evidence), evidence, Path("runs"))


@pytest.fixture(autouse=True)
def study(monkeypatch, tmp_path, result):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text(PRICES)
    monkeypatch.setattr(money, "load", lambda asked: types.SimpleNamespace(result=lambda store: result))


def test_the_table_has_every_arm_and_the_lines_their_tags(capsys):
    assert main(["roi", "s.yaml", "--prices", "p.yaml"]) == 0
    out = capsys.readouterr().out
    first = out.split("Assumptions:")[0]
    assert "tiny-model, trained on qa-a; scenario base; money in CHF" in first
    for arm in ("lora-r1", "lora-r4 *", "lora-r16", "full"):
        assert f"\n{arm} " in first
    assert "Retraining: 4,000.00 CHF  [typed]  = 40 * 100" in first
    assert "Saved on engineers' retraining: 8,000.00 CHF  [typed]  = 12000 - 4000" in first
    assert "without redeploying_cost, repair_cost, storage_cost, serving_cost, which is not known" in first
    assert "Redeploying" not in first.split("not known:")[0]
    assert "Engineer hours of redeploying a year: not typed: redeploy_hours_lora" in first.split("not known:")[1]
    assert "Assumptions:" in out and "Intervals: 95 %" in out


def test_json_holds_every_line_of_every_arm_and_the_savings_of_all_scenarios(capsys):
    assert main(["roi", "s.yaml", "--prices", "p.yaml", "--scenario", "high", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["currency"], data["scenario"], data["gpu"]) == ("CHF", "high", None)
    arms = {arm["arm"]: {line["name"]: line for line in arm["lines"]} for arm in data["cases"][0]["arms"]}
    # 40 trainings of 64 seconds, mean of three seeds, at 3 an hour
    assert arms["lora-r4"]["training_cost"]["value"] == pytest.approx(40 * 64 / 3600 * 3)
    assert arms["lora-r4"]["storage_cost"] | {"value": None, "reason": "not typed: storage_price"} == \
        arms["lora-r4"]["storage_cost"]  # fmt: skip
    saved = data["savings"][0]["arms"]["lora-r4"]
    assert saved["low"] < saved["base"] < saved["high"] == arms["lora-r4"]["savings"]["value"]


def test_without_prices_there_are_hours_but_no_money(capsys):
    assert main(["roi", "s.yaml"]) == 0
    out = capsys.readouterr().out
    assert "GPU hours of one training: 0.01778" in out
    assert "No prices, so no money. Next: rankscope roi s.yaml --template prices.yaml" in out


def test_the_template_is_written_once_and_can_be_used(capsys):
    assert main(["roi", "s.yaml", "--template", "new.yaml"]) == 0
    assert "Next: rankscope roi s.yaml --prices new.yaml" in capsys.readouterr().out
    assert main(["roi", "s.yaml", "--prices", "new.yaml"]) == 0
    assert main(["roi", "s.yaml", "--template", "new.yaml"]) == 2


def test_a_wrong_prices_file_is_one_line_and_exits_with_2(capsys, tmp_path):
    (tmp_path / "p.yaml").write_text("currency: EUR\ngpu_prize: 2\n")
    assert main(["roi", "s.yaml", "--prices", "p.yaml"]) == 2
    assert "p.yaml:2: gpu_prize: unknown key. Did you mean 'gpu_price'?" in capsys.readouterr().err


def test_lists_the_wrong_way_round_are_noted(capsys, tmp_path):
    (tmp_path / "p.yaml").write_text(PRICES.replace("tasks: 10", "tasks: [30, 10, 3]"))
    main(["roi", "s.yaml", "--prices", "p.yaml"])
    assert "note: tiny-model, qa-a: lora-r1: savings do not rise from low to high" in capsys.readouterr().out


def test_from_python_it_is_the_same_answer(capsys, result):
    assert main(["roi", "s.yaml", "--prices", "p.yaml", "--scenario", "high", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    (found,) = result.roi("p.yaml", "high")
    (case,) = (printed.get("data") or printed)["cases"]
    lines = {a.arm: {line.name: line.value for line in a.lines} for a in found.arms}
    assert lines["lora-r4"]["savings"] > 0
    assert lines == {a["arm"]: {line["name"]: line["value"] for line in a["lines"]} for a in case["arms"]}
    (bare,) = result.roi()
    assert all(line.value is None for arm in bare.arms for line in arm.lines if line.unit == "money")


def test_from_python_a_wrong_scenario_and_a_study_without_runs_say_so(result):
    with pytest.raises(InputError, match="no scenario 'hihg'"):
        result.roi("p.yaml", "hihg")
    nothing = StudyResult(replace(result.view(), cases=()), result.evidence, Path("runs"))
    with pytest.raises(InputError, match="no trained arm"):
        nothing.roi()
