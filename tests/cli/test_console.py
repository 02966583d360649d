"""What people read: aligned tables, plain progress lines, JSON without NaN."""

from __future__ import annotations

import io
import time

from rankscope.cli.answer import Asked, jsonable
from rankscope.cli.console import LiveConsole, PlainConsole, duration, format_table
from rankscope.records import Ledger


def test_a_table_is_aligned_and_what_is_missing_stays_empty():
    rows = [{"arm": "base", "score": 0.25}, {"arm": "lora-r16", "score": None, "note": "failed"}]
    assert format_table(rows).splitlines() == [
        "arm       score  note",
        "--------  -----  ------",
        "base       0.25",
        "lora-r16         failed",
    ]
    assert format_table([]) == "(nothing)"


def test_plain_progress_is_a_few_lines():
    stream = io.StringIO()
    with PlainConsole(stream) as console:
        console.stage("training")
        console.start("demo/lora-r4", 100, "steps")
        for _ in range(100):
            console.advance("demo/lora-r4", loss=1.0)
        console.finish("demo/lora-r4")
        console.note("done")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "training" and lines[-1] == "done"
    assert len(lines) == 3 and lines[1].startswith("  demo/lora-r4: 100/100 steps in ")


def test_plain_progress_shows_the_numbers_now_and_then():
    stream = io.StringIO()
    console = PlainConsole(stream, every_seconds=0)
    console.start("run", 2, "steps")
    console.advance("run", 1, loss=0.123456, rate=None)
    assert stream.getvalue() == "  run: 1/2 steps  loss 0.1235\n"


def test_live_progress_leaves_notes_and_tables_as_they_are_written():
    stream = io.StringIO()
    with LiveConsole(stream) as console:
        console.start("lora[r4]", 2, "steps")
        console.advance("lora[r4]", 2, loss=1.5)
        console.note("[not markup]")
        console.table([{"arm": "lora[r4]"}])
        console.finish("lora[r4]")
        console.finish("never started")
    assert "[not markup]" in stream.getvalue() and "lora[r4]" in stream.getvalue()


def test_durations_are_short():
    assert [duration(s) for s in (0.5, 48, 200, 7500)] == ["0.5 s", "48 s", "3 min 20 s", "2 h 5 min"]


def test_json_holds_records_and_null_for_what_is_no_number():
    data = jsonable({"ledger": Ledger(seconds=float("nan")), "values": (1, float("inf"))})
    assert data["ledger"]["seconds"] is None
    assert data["values"] == [1, None]


def test_the_next_command_repeats_what_makes_the_study():
    asked = Asked("my study.yaml", store="out", overrides=("training.epochs=2",))
    assert asked.next("run") == "rankscope run 'my study.yaml' --store out --set training.epochs=2"
    assert Asked("study.yaml").next("check") == "rankscope check study.yaml"


def test_progress_says_how_fast_it_goes_and_how_long_it_takes(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    shown = PlainConsole(stream, every_seconds=5.0)
    shown.start("train", 100, "steps")
    shown.advance("train", 20)  # resumed: these were done before
    clock[0] += 10.0
    shown.advance("train", 20)
    assert "train: 40/100 steps  2/s, 30 s left" in stream.getvalue()
