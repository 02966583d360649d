"""Verbs hand their arguments to the facade and its answer to the user.

The facade here is a stand-in: no model, no store.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest

from rankscope.cli.main import main
from rankscope.errors import StoreError
from rankscope.report.drawing import Chart


class FakePlan:
    is_done = False
    runs = (("m/t/full/lr1/seed0", False),)

    def as_dict(self):
        return {"runs": 3}

    def __str__(self):
        return "3 runs"


class FakeResult:
    verdict = "rank 4 is enough"
    failed: list = []
    is_complete = True
    has_more_to_measure = False
    dropped = ()

    def table(self):
        return [{"arm": "base", "score": 0.25}, {"arm": "lora-r4", "score": float("nan")}]

    def report(self, path, form, has_items=True):
        Path(path).write_text(form)
        return Path(path)

    def view(self):
        return "a view"


class FakeReach:
    sentence = "the budget is enough"

    def after(self, runs):
        return f"left out: {[name for name, is_done in runs if not is_done]}"


class FakeStudy:
    """Remembers what it was asked in ``calls``."""

    calls: list = []
    outcome = FakeResult
    config = types.SimpleNamespace(name="fake")

    @classmethod
    def load(cls, study, overrides=(), data_dir=None):
        cls.calls.append(("load", study, overrides, data_dir))
        return cls()

    @classmethod
    def demo(cls):
        return cls()

    def plan(self, store=None, on=None, price_per_hour=None, currency="USD"):
        return FakePlan()

    def reach(self, store, budget_seconds):
        return FakeReach()

    def result(self, store):
        return self.outcome()

    def run(self, store, progress=None, budget_seconds=None, clock=None):
        self.calls.append(("run", store, budget_seconds))
        if progress is not None:
            progress.stage("working")
        print("a library talks")
        return self.outcome()


def fake_score(model, tasks, **options):
    FakeStudy.calls.append(("score", model, tasks, options["shots"], options["adapter"]))
    items = [{"item": "0", "value": 1.0}, {"item": "1", "value": 0.0}]
    return [{"task": task, "metric": "accuracy", "value": 0.5, "n": 2, "items": items} for task in tasks]


@pytest.fixture(autouse=True)
def facade(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("rankscope.study.study")
    module.Study, module.score = FakeStudy, fake_score
    module.collect_garbage = lambda store, dry_run: {"blobs": 2, "can_go": 0 if dry_run else 1}
    package = types.ModuleType("rankscope.study")
    package.study = module
    monkeypatch.setitem(sys.modules, "rankscope.study", package)
    monkeypatch.setitem(sys.modules, "rankscope.study.study", module)
    monkeypatch.setattr(FakeStudy, "calls", [])
    return FakeStudy


def test_run_hands_over_budget_overrides_store_and_data_folder(facade, capsys):
    line = "run s.yaml --budget 2h --set training.epochs=2 --set keep=all --store out --data-dir d --quiet"
    assert main(line.split()) == 0
    overrides = ("training.epochs=2", "keep=all")
    assert facade.calls == [("load", "s.yaml", overrides, "d"), ("run", "out", 7200)]
    out = capsys.readouterr().out
    assert "rank 4 is enough" in out
    assert "Next: rankscope report s.yaml --store out --set training.epochs=2 --set keep=all --data-dir d" in out


def test_run_with_json_prints_one_object_and_no_nan(capsys):
    assert main(["run", "s.yaml", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["table"][1] == {"arm": "lora-r4", "score": None}
    assert (found["complete"], found["failed"]) == (True, [])
    assert captured.err == "working\na library talks\n"


def test_a_failed_run_is_named_and_exits_with_1(facade, monkeypatch, capsys):
    failed = type("Failed", (FakeResult,), {"failed": [("demo/x/full/lr1/seed0", "diverged at step 3")]})
    monkeypatch.setattr(facade, "outcome", failed)
    assert main(["run", "s.yaml", "-q"]) == 1
    assert "failed: demo/x/full/lr1/seed0: diverged at step 3" in capsys.readouterr().out
    assert main(["run", "s.yaml", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["failed"][0]["message"] == "diverged at step 3"


def test_an_unfinished_study_says_how_to_go_on(facade, monkeypatch, capsys):
    monkeypatch.setattr(facade, "outcome", type("Partial", (FakeResult,), {"is_complete": False}))
    assert main(["run", "s.yaml", "--budget", "1s"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("the budget is enough\nworking\n")
    assert "Not complete. To go on: rankscope run s.yaml\nleft out: ['m/t/full/lr1/seed0']\n" in captured.out
    assert main(["run", "s.yaml", "--budget", "1s", "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)["budget"]
    assert (told["before"], told["after"]) == ("the budget is enough", "left out: ['m/t/full/lr1/seed0']")


def test_plan_shows_the_plan(capsys):
    assert main(["plan", "s.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": 3}


def test_compare_shows_verdict_and_table(capsys):
    assert main(["compare", "s.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "rank 4 is enough"


def test_report_is_written_in_the_form_asked(capsys):
    assert main(["report", "s.yaml", "--format", "md", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": "fake.md", "format": "md"}
    assert Path("fake.md").read_text() == "md"
    assert main(["report", "s.yaml", "--format", "pdf"]) == 2


def test_report_writes_the_figures_too_where_they_are_asked_for(capsys, monkeypatch):
    spec = {"mark": "point", "width": "container", "data": {"values": [{}]}}
    drawn = {"a view": (Chart("only", "ranks", "Title", "", "", spec),)}
    monkeypatch.setattr("rankscope.report.charts.charts", drawn.get)
    assert main(["report", "s.yaml", "--format", "md", "--figures", "figs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"] == ["figs/only.svg", "figs/only.png"]
    assert sorted(f.name for f in Path("figs").iterdir()) == ["only.png", "only.svg"]
    Path("fake.md").unlink()
    Path("file").write_text("mine")
    assert main(["report", "s.yaml", "--format", "md", "--figures", "file"]) == 2  # before any work
    assert "file: this is a file, not a folder for figures" in capsys.readouterr().err
    assert not Path("fake.md").exists() and Path("file").read_text() == "mine"


def test_demo_ends_with_its_report(capsys):
    assert main(["demo", "-q"]) == 0
    assert capsys.readouterr().out.endswith("demo.html written\n")
    assert Path("demo.html").exists()


def test_score_writes_items_apart_from_the_table(facade, capsys):
    assert main(["score", "demo", "gsm8k", "mmlu", "--shots", "2", "--items", "items.jsonl", "--json", "-q"]) == 0
    assert facade.calls == [("score", "demo", ["gsm8k", "mmlu"], 2, None)]
    found = json.loads(capsys.readouterr().out)
    assert [row["task"] for row in found["scores"]] == ["gsm8k", "mmlu"]
    assert "items" not in found["scores"][0]
    rows = [json.loads(line) for line in Path("items.jsonl").read_text().splitlines()]
    assert rows[0] == {"task": "gsm8k", "item": "0", "value": 1.0} and len(rows) == 4


def test_gc_touches_nothing_unless_told(capsys):
    assert main(["gc"]) == 2
    assert "no store here" in capsys.readouterr().err
    Path("runs").mkdir()
    assert main(["gc"]) == 0
    assert "Nothing was removed. Next: rankscope gc runs --delete" in capsys.readouterr().out
    assert main(["gc", "runs", "--delete", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"blobs": 2, "can_go": 1, "deleted": True}


def test_a_locked_store_is_one_line_and_exits_with_2(facade, monkeypatch, capsys):
    def locked(self, store):
        raise StoreError("in use by process 7", where=store, hint="Wait for it")

    monkeypatch.setattr(facade, "result", locked)
    assert main(["compare", "s.yaml"]) == 2
    assert capsys.readouterr().err == "error: runs: in use by process 7. Wait for it\n"
