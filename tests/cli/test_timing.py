"""``rankscope run`` ends with where its time went: on stderr, in JSON, and of a run that ends badly."""

from __future__ import annotations

import json
import sys
import types

import pytest

from rankscope.cli.main import main
from rankscope.cli.timing import spent
from rankscope.errors import StoreError
from rankscope.records import Breakdown, Work

FOUND = Breakdown(
    seconds=200.0,
    stages={"loading": 10.0, "training": 150.0, "scoring": 30.0, "other": 10.0},
    work={"training": Work(0.7, 0.1, 0.05, 0.15, 0.625, 3, 4.5)},
    ceiling=1.15e11,
)


def test_the_table_shows_stages_and_what_the_sampled_ones_went_into():
    lines = spent(FOUND).splitlines()
    assert lines[0] == "where 3 min 20 s went:"
    assert lines[1].split() == ["stage", "seconds", "%", "products", "attention", "optimiser", "rest", "of", "ceiling"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[3:-1]}
    assert rows == {"loading": ["10", "5"], "training": ["150", "75", "70", "10", "5", "15", "62.5"],
                    "scoring": ["30", "15"], "other": ["10", "5"]}  # fmt: skip
    assert "from 3 steps and passes sampled (4.5 s); ceiling: 115 GFLOP/s" in lines[-1]


class _Study:
    """A facade whose run trains and then ends as planted."""

    ending: BaseException | None = None

    @classmethod
    def load(cls, study, overrides=(), data_dir=None):
        return cls()

    def run(self, store, progress=None, budget_seconds=None, clock=None):
        with clock.stage("training"):
            if self.ending is not None:
                raise self.ending
        return types.SimpleNamespace(verdict="", failed=[("x", "y")], is_complete=True, has_more_to_measure=False,
                                     dropped=(), table=lambda: [])  # fmt: skip


@pytest.fixture
def study(monkeypatch):
    module = types.ModuleType("rankscope.study.study")
    module.Study = type("Study", (_Study,), {})
    package = types.ModuleType("rankscope.study")
    package.study = module
    monkeypatch.setitem(sys.modules, "rankscope.study", package)
    monkeypatch.setitem(sys.modules, "rankscope.study.study", module)
    return module.Study


def test_json_has_the_time_and_the_terminal_the_table(study, capsys):
    assert main(["run", "s.yaml", "--json"]) == 1  # a failed run
    captured = capsys.readouterr()
    time = json.loads(captured.out)["time"]
    assert sum(time["stages"].values()) == pytest.approx(time["seconds"])
    assert {"training", "other"} <= set(time["stages"])
    assert (time["work"], time["ceiling"]) == ({}, None)
    assert " went:" in captured.err and "\ntraining " in captured.err


def test_with_quiet_the_table_is_not_shown(study, capsys):
    assert main(["run", "s.yaml", "-q"]) == 1
    assert "went:" not in capsys.readouterr().err


@pytest.mark.parametrize(("ending", "code"), [(KeyboardInterrupt(), 130), (StoreError("the disk is full"), 2)])
def test_a_stopped_or_failed_run_still_shows_it(study, monkeypatch, capsys, ending, code):
    monkeypatch.setattr(study, "ending", ending)
    assert main(["run", "s.yaml"]) == code
    assert "\ntraining " in capsys.readouterr().err
