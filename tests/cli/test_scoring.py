"""Models side by side: the same items, differences with their intervals, and one sentence; what fails is a row."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import rankscope
from rankscope.cli.main import main
from rankscope.errors import InputError
from rankscope.records import ModelRef, TaskRef
from rankscope.study import scoring

DEMO = Path(rankscope.__file__).parent / "demo" / "model"


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """The bundled model with noise on its weights: the same vocabulary, and worse at everything."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("models") / "noisy"
    shutil.copytree(DEMO, folder)
    torch.manual_seed(0)
    weights = load_file(DEMO / "model.safetensors")
    changed = {
        name: w + 0.5 * w.float().std().nan_to_num() * torch.randn_like(w.float()) for name, w in weights.items()
    }
    save_file({k: v.to(weights[k].dtype) for k, v in changed.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_spoiled_model_is_worse_and_the_whole_one_is_the_one_to_start_from(noisy, tmp_path, capsys):
    items = tmp_path / "items.jsonl"
    line = ["score", "demo", "demo_facts", "demo_text", "--limit", "40", "--against", str(noisy), "-q"]
    assert main([*line, "--json", "--items", str(items)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["models"], told["start_from"], told["decided_on"]) == (["demo", "noisy"], "demo", ["demo_facts"])
    assert [(row["model"], row["task"]) for row in told["scores"]][1:] == [
        ("demo", "demo_text"), ("noisy", "demo_facts"), ("noisy", "demo_text")]  # fmt: skip
    facts, text = told["contrasts"]
    assert (facts["arm"], facts["other"], facts["verdict"], text["verdict"]) == ("noisy", "demo", "worse", "worse")
    assert facts["low"] < facts["estimate"]["value"] < facts["high"] < 0 and told["notes"] == [
        "not in the mean: demo_text"
    ]
    assert (
        len(items.read_text().splitlines()) == 160
        and json.loads(items.read_text().splitlines()[-1])["model"] == "noisy"
    )
    by = {(row["model"], row["task"]): row["value"] for row in told["scores"]}
    assert by["noisy", "demo_text"] - by["demo", "demo_text"] == pytest.approx(-text["estimate"]["value"])


def test_what_can_not_be_scored_is_a_failed_row_and_the_rest_goes_on(monkeypatch, capsys, noisy):
    whole = scoring.evaluate

    def sometimes(base, task, *rest):
        found = whole(base, task, *rest)
        return replace(found, status="failed", message="out of paper") if task.ref.task == "demo_skills" else found

    monkeypatch.setattr(scoring, "evaluate", sometimes)
    assert main(["score", "demo", "demo_facts", "demo_skills", "--limit", "10", "--against", str(noisy), "-q"]) == 1
    text = capsys.readouterr().out
    assert "failed: noisy on demo_skills: out of paper" in text and "noisy - demo" in text.splitlines()[0]
    assert "note: not in the mean: demo_skills" in text


def test_a_model_that_is_missing_or_listed_twice_is_found_before_any_work(capsys):
    assert main(["score", "demo", "demo_facts", "--against", "demo"]) == 2
    assert "this model is listed twice (got 'demo')" in capsys.readouterr().err
    with pytest.raises(InputError, match="no such model folder"):
        scoring.score_models([ModelRef("demo"), ModelRef("./lost")], [TaskRef("demo_facts", limit=2)])


def test_models_are_called_by_what_tells_them_apart():
    names = scoring._names([ModelRef("a/m"), ModelRef("b/m"), ModelRef("c/n")], None)
    assert names == ("a/m", "b/m", "n")
    assert scoring._names([ModelRef("a/m"), ModelRef("a/m")], "adapters/legal/") == ("m + legal", "a/m")
