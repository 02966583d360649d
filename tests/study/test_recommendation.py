"""From a finished study to a range of ranks: the facade and the command."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from rankscope.cli.main import main
from rankscope.errors import InputError
from rankscope.report.cite import to_bibtex
from rankscope.study.study import Study


def test_a_finished_study_recommends_a_range_and_one_arm_in_it(small, store):
    choice = Study.load(small).result(store).recommend()
    assert choice.arm in choice.possible
    ranks = {"lora-r1": 1, "lora-r4": 4}
    assert choice.ranks == (min(ranks[a] for a in choice.possible), max(ranks[a] for a in choice.possible))
    assert choice.reason and choice.compared.margin == 0.03  # 16 items reach no less
    assert {*choice.possible, *(e.arm for e in choice.excluded)} == set(ranks)


def test_a_report_s_citation_has_the_day_of_its_newest_run(small, store):
    view = Study.load(small).result(store).view()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", view.date)
    assert f"year = {{{view.date[:4]}}}" in to_bibtex(view)


def test_other_terms_are_asked_of_the_same_scores(small, store):
    result = Study.load(small).result(store)
    assert result.recommend(retain=0.5, prefer="gain").rule != "none"
    with pytest.raises(InputError, match="retain is a share"):
        result.recommend(retain=1.5)
    with pytest.raises(InputError, match="prefer is one of"):
        result.recommend(prefer="beauty")
    with pytest.raises(InputError, match="no such recommendation"):
        result.recommend(train="gsm8k")


def test_the_command_prints_the_same_and_one_json_object(small, store, tmp_path, capsys):
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(small), encoding="utf-8")
    choice = Study.load(small).result(store).recommend()
    assert main(["recommend", str(study), "--store", str(store)]) == 0
    text = capsys.readouterr().out
    assert choice.reason in text and text.startswith("demo, trained on demo_people: rank")
    assert main(["recommend", str(study), "--store", str(store), "--json", "--prefer", "gain"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["recommendations"]
    assert found["train"] == "demo_people" and found["arm"] in ("lora-r1", "lora-r4")


def test_the_command_refuses_terms_that_make_no_sense(small, store, tmp_path, capsys):
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(small), encoding="utf-8")
    assert main(["recommend", str(study), "--store", str(store), "--retain", "95"]) == 2
    assert "above 0, at most 1 (got 95" in capsys.readouterr().err
    assert main(["recommend", str(study), "--store", str(store), "--prefer", "beauty"]) == 2
    assert main(["recommend", str(study), "--store", str(tmp_path / "lost")]) == 2


def test_the_command_says_what_is_not_complete_and_asks_for_more_runs_only_then(small, store, tmp_path, capsys):
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(small), encoding="utf-8")
    assert main(["recommend", str(study), "--store", str(store)]) == 0
    text = capsys.readouterr().out
    assert "rankscope run" not in text and text.count("in all would decide") <= 1 and "to decide it" not in text
    small["arms"][1]["lora"]["rank"] = [1, 4, 8]
    study.write_text(yaml.safe_dump(small), encoding="utf-8")
    assert main(["recommend", str(study), "--store", str(store)]) == 0
    text = capsys.readouterr().out
    assert "lora-r8 is not scored yet" in text and f"not complete. Next: rankscope run {study}" in text


def test_a_complete_study_without_a_lora_arm_is_not_sent_to_run_again(small, store, tmp_path, capsys):
    study = tmp_path / "study.yaml"
    del small["arms"][1]
    study.write_text(yaml.safe_dump(small), encoding="utf-8")
    assert main(["recommend", str(study), "--store", str(store)]) == 0
    text = capsys.readouterr().out
    assert "trains no LoRA arm" in text and "rankscope run" not in text
    assert main(["recommend", str(study), "--store", str(store), "--retain", "95"]) == 2
    assert "above 0, at most 1 (got 95" in capsys.readouterr().err
    with pytest.raises(InputError, match="trains no LoRA arm"):
        Study.load(small).result(store).recommend()
