"""What is done and left, arm by arm: planted states are counted as what they are."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from made_stores import DECLARED, MadeStore
from rankscope.records import EvalResult
from rankscope.storage.store import Store
from rankscope.storage.watching import Now
from rankscope.study import measures
from rankscope.study.forecast import MEASURED, UNCALIBRATED, Forecast
from rankscope.study.plan import Plan, run_key
from rankscope.study.span import NOTHING, Span
from rankscope.study.study import Study
from rankscope.study.tally import Tally


def states(tally):
    return {(row.arm, cell.seed): (cell.state, cell.note) for row in tally.rows for cell in row.cells}


def test_planted_states_are_counted(tmp_path):
    made = MadeStore(tmp_path)
    made.add_base()
    made.add(0, 0)
    made.fail(1, 0, "diverged")
    bare = made.add(2, 0)
    lost = made.add(0, 1)
    first = measures.scores(made.study, made.study.config.evaluations(made.raw))[0]
    with Store.open(tmp_path) as store, store._transaction() as db:  # trained, and not all scored
        from sqlalchemy import text

        db.execute(text("DELETE FROM evals WHERE run_key = :k AND task_key != :t"), {"k": bare, "t": first.key})
    with Store.open(tmp_path) as store:
        store.put_eval(EvalResult(lost, first.key, "failed", "out of memory"), first.ref, first.key)
    tally = made.study.tally(tmp_path)
    assert states(tally) == {
        ("base", None): ("done", ""),
        ("lora-r1", 0): ("done", ""),
        ("lora-r1", 1): ("failed", ""),
        ("lora-r4", 0): ("failed", ""),
        ("lora-r4", 1): ("to do", ""),
        ("full", 0): ("to score", "1 of 2 tasks"),
        ("full", 1): ("to do", ""),
    }
    assert not tally.is_done and tally.sentence(None, tally.made).startswith("not running: 4 of 6 runs done, at least ")
    busy = Now("of another name", runs=(run_key(made.spec(2, 0)), run_key(made.spec(0, 0))))
    assert tally.mine(busy, "mine") is busy and tally.mine(Now("x"), "mine") is None
    assert states(tally.running(busy))["full", 0] == ("running", "1 of 2 tasks")
    assert states(tally.running(busy))["lora-r1", 0] == ("done", "")


def test_an_arm_without_its_rate_counts_the_rates_tried(tmp_path):
    arms = ["base", {"lora": {"rank": 4, "lr": [1e-3, 3e-3]}}]
    made = MadeStore(tmp_path, {**DECLARED, "arms": arms})
    made.add(0, 0)
    assert states(made.study.tally(tmp_path)) == {
        ("base", None): ("to do", ""),
        ("lora-r4", 0): ("to do", "1 of 2 rates tried"),
        ("lora-r4", 1): ("to do", ""),
    }


def test_a_stored_study_is_the_one_that_was_run_wherever_it_is_asked_from(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "rows.jsonl").write_text(
        "".join(f'{{"question": "{i}?", "answer": "yes"}}\n' for i in range(30)))  # fmt: skip
    monkeypatch.chdir(tmp_path / "here")
    train = [{"task": "data", "path": "rows.jsonl"}]
    made = MadeStore(tmp_path / "runs", {**DECLARED, "train": train, "evaluate": {"retention": ["demo_facts"]}})
    made.add_base()
    made.add(0, 0)
    with Store.open(tmp_path / "runs") as store:
        place = {"folder": str(tmp_path / "here"), "data_dir": None}
        store.save_study("made", made.key, made.study.config.as_dict(), {"place": place})
    monkeypatch.chdir(tmp_path)
    with Store.open(tmp_path / "runs", write=False) as store:
        (row,) = store.studies()
    found = Study.stored(row).tally(tmp_path / "runs")
    assert states(found)["lora-r1", 0] == ("done", "") and states(found)["base", None] == ("done", "")


def plan(basis=MEASURED, seconds=600.0):
    train = Span(seconds, 3 * seconds, seconds if basis == MEASURED else None)
    return Plan((("a", True), ("b", False)), Forecast(train, NOTHING, NOTHING, NOTHING, Span(1.0, 1.0, 1.0), basis))


@pytest.mark.parametrize(("seconds", "words"), [(12, "10 s"), (55, "a minute"), (200, "3 min"), (9000, "2.5 h")])
def test_time_left_is_said_roughly(seconds, words):
    tally = Tally("s", plan(seconds=float(seconds)), (), 0.0)
    assert tally.sentence(Now("s"), 0.0) == f"running: 1 of 2 runs done, about {words} left"


def test_time_left_shrinks_while_it_runs_and_never_below_the_piece_under_way():
    tally = Tally("s", plan(), (), time.time())
    assert tally.seconds_left(None, tally.made + 99) == (600.0, False)
    assert tally.seconds_left(Now("s"), tally.made + 100) == (500.0, False)
    piece = Now("s", "w", "steps", 10, 40, 0, 0.0, 20.0)
    assert tally.seconds_left(piece, tally.made + 590) == (60.0, False)
    assert replace(tally, plan=plan(UNCALIBRATED)).seconds_left(None, 0.0) == (600.0, True)
    assert replace(tally, plan=replace(plan(), forecast=None)).seconds_left(None, 0.0) is None
