"""Progress is told to the console as it was, and to readers of the store at most once a second."""

from __future__ import annotations

import pytest

from rankscope.storage import watching
from rankscope.storage.watching import read_now
from rankscope.study import telling
from rankscope.study.scoring import ticker
from rankscope.study.telling import POINTS, Teller


class Console:
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args, **info: self.calls.append((name, *args, *info.items()))


class Clock:
    def __init__(self):
        self.at = 1000.0

    def __call__(self):
        return self.at


def test_a_console_hears_what_it_heard_without_the_teller(tmp_path):
    alone, told = Console(), Console()
    for progress in (alone, Teller(told, tmp_path, "key")):
        tick = ticker(progress, "training", "steps")
        tick(1, 2, 0.5)
        tick(2, 2, 0.25)
        progress.stage("a")
        progress.note("b")
        progress.table([{"c": 1}])
    assert told.calls == alone.calls and ("advance", "training", 1, ("loss", 0.25)) in told.calls


@pytest.mark.parametrize("inner", [None, Console()])
def test_readers_see_what_goes_on_and_nothing_at_the_end(tmp_path, inner):
    clock = Clock()
    with Teller(inner, tmp_path, "key", clock) as teller:
        assert read_now(tmp_path) == watching.Now("key")
        teller.about(iter(["r1", "r2"]))
        teller.start("training", 40, "steps")
        clock.at += 5
        teller.advance("training", 1, loss=2.0)
        found = read_now(tmp_path)
        assert (found.work, found.done, found.total, found.runs) == ("training", 1, 40, ("r1", "r2"))
        assert found.losses == ((1, 2.0),) and found.seconds_left == pytest.approx(39 * 5)
        teller.advance("something else", 7)
        teller.finish("training")
        assert read_now(tmp_path).work == "" and read_now(tmp_path).runs == ()
    assert read_now(tmp_path) is None
    assert teller.is_read is (inner is not None)


def test_a_file_is_written_at_most_once_a_second(tmp_path, monkeypatch):
    written, clock = [], Clock()
    monkeypatch.setattr(telling, "write_now", lambda cache, now: written.append(now.done))
    teller = Teller(None, tmp_path, "key", clock)
    teller.start("training", 1000, "steps")
    for _ in range(1000):
        clock.at += 0.01
        teller.advance("training", 1, loss=1.0)
    assert 9 <= len(written) <= 11 and written[-1] > 890


def test_a_resumed_runs_steps_are_no_pace(tmp_path):
    clock = Clock()
    teller = Teller(None, tmp_path, "key", clock)
    teller.start("training", 100, "steps")
    teller.advance("training", 60, loss=1.0)
    clock.at += 10
    teller.advance("training", 10, loss=1.0)
    assert read_now(tmp_path).seconds_left == pytest.approx(30.0)


def test_losses_are_thinned_and_one_that_is_not_finite_is_left_out(tmp_path):
    clock = Clock()
    teller = Teller(None, tmp_path, "key", clock)
    teller.start("training", 2000, "steps")
    for step in range(1, 2001):
        clock.at += 0.02
        teller.advance("training", 1, loss=float("nan") if step == 48 else 1 / step)
    losses = read_now(tmp_path).losses
    steps = [step for step, _ in losses]
    assert POINTS / 3 < len(losses) <= POINTS and steps[-1] > 1900
    assert steps == [step for step in range(16, steps[-1] + 1, 16) if step != 48]
