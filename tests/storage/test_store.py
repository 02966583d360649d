"""The store: what goes in comes out, one writer, and no kill, full disk or newer version does damage."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from rankscope.errors import NoStore, StoreError
from rankscope.records import (
    Arm,
    CurvePoint,
    EvalResult,
    Ledger,
    ModelRef,
    Overlap,
    Recipe,
    RowCounts,
    RunLook,
    RunResult,
    RunSpec,
    Score,
    TaskRef,
)
from rankscope.storage import opening
from rankscope.storage import store as store_module
from rankscope.storage.migrations import STEPS
from rankscope.storage.store import Store

ARM = Arm("lora-r4", "lora", rank=4, alpha=32.0)
SPEC = RunSpec(ModelRef("demo", key="m"), ARM, 1e-3, TaskRef("demo_people"), Recipe(), 0)
RUN = RunResult("k1", "done", validation_loss=0.5, validation_se=0.1, validation_items=(0.4, 0.6), steps=2,
                curve=(CurvePoint(1, 2.0, 1e-3, 10, 0.1), CurvePoint(2, 1.0, 5e-4, 20, 0.2)),
                ledger=Ledger(1.5, 20, 10, 1e9, 123, 45, 67), environment={"threads": 2}, notes=("said",))  # fmt: skip
SCORES = (Score("b", 1.0, "s", "c", "yes"), Score("a", 0.0))
EVAL = EvalResult("k1", "t1", "done", "", "accuracy", 0.25, SCORES, Ledger(0.5, 7))


def test_round_trip(tmp_path):
    with Store.open(tmp_path) as store:
        store.put_run(SPEC, "k1", RUN)
        store.put_eval(EVAL, TaskRef("demo_people"), "t1")
        store.save_study("s", "sk", {"a": 1}, {})
    with Store.open(tmp_path, write=False) as store:
        assert store.run("k1") == RUN and store.eval("k1", "t1") == EVAL
        assert store.run("k2") is None and store.eval("k1", "t2") is None
        assert store.eval_outcome("k1", "t1") == ("done", "") and store.eval_outcome("k1", "t2") is None


def test_a_later_result_takes_the_place_of_an_earlier_one(tmp_path):
    with Store.open(tmp_path) as store:
        store.put_run(SPEC, "k1", RUN)
        store.put_eval(EVAL, TaskRef("t"), "t1")
        failed = RunResult("k1", "failed", message="diverged at step 3")
        store.put_run(SPEC, "k1", failed)
        store.put_eval(EvalResult("k1", "t1", "failed", "why"), TaskRef("t"), "t1")
        assert store.run("k1") == failed and store.eval("k1", "t1").scores == ()


def test_what_rows_hold_and_share_is_kept_and_what_was_not_measured_is_missing(tmp_path):
    counts, shared = RowCounts(9, 1, 2, 3), Overlap(5, 4, 3, 2, 13)
    with Store.open(tmp_path) as store:
        store.put_rows("a", counts, {"x": shared, "y": Overlap(7, 0, 0, 0, 13)})
        store.put_rows("a", replace(counts, empty=0), {"x": replace(shared, exact=1)})
    with Store.open(tmp_path, write=False) as store:
        found = store.rows("a")
        assert found == (RowCounts(9, 0, 2, 3), {"x": Overlap(5, 4, 1, 2, 13), "y": Overlap(7, 0, 0, 0, 13)})
        assert store.rows("b") == (None, {})


def test_looks_are_kept_as_they_were_first_stored(tmp_path):
    early = RunLook("k1", "rows", 0.125, 2, (1.5, 2.5), (0.1, 0.0), 0, Ledger(tokens=9))
    cut, late = replace(early, cut=4, losses=(1.75, 2.75)), replace(early, share=0.5, step=8)
    with Store.open(tmp_path) as store:
        store.put_looks([late, early, cut, replace(early, rows_key="others"), replace(early, run_key="k2")])
        store.put_looks([replace(early, losses=(9.0, 9.0))])  # drops rest on what was seen first
    with Store.open(tmp_path, write=False) as store:
        assert store.looks("rows", ["k1", "k1"]) == [early, cut, late]
        assert store.looks("rows", ["k3"]) == [] and store.looks("none", ["k1"]) == []


def test_a_store_of_an_older_version_is_read_as_it_is_and_brought_up_to_date_by_a_writer(tmp_path):
    with sqlite3.connect(tmp_path / "rankscope.db") as db:
        for statement in (*STEPS[0], *STEPS[1]):
            db.execute(statement)
        db.execute("PRAGMA user_version = 2")
    db.close()
    with Store.open(tmp_path, write=False) as store:
        assert store.rows("a") == (None, {}) and store.run("k1") is None and store.looks("rows", ["k1"]) == []
    with Store.open(tmp_path) as store:
        store.put_rows("a", RowCounts(1, 0, 0, 0), {})
        assert store.rows("a") == (RowCounts(1, 0, 0, 0), {})


def test_a_second_writer_is_turned_away_and_a_reader_is_not(tmp_path):
    with Store.open(tmp_path) as store:
        store.put_run(SPEC, "k1", RUN)
        with pytest.raises(StoreError, match=f"in use by process {os.getpid()}"):
            Store.open(tmp_path)
        with Store.open(tmp_path, write=False) as reader:
            assert reader.run("k1") == RUN
    Store.open(tmp_path).close()


def test_a_newer_schema_is_left_alone(tmp_path):
    Store.open(tmp_path).close()
    with sqlite3.connect(tmp_path / "rankscope.db") as db:
        db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    before = (tmp_path / "rankscope.db").read_bytes()
    with pytest.raises(StoreError, match="newer rankscope"):
        Store.open(tmp_path)
    assert (tmp_path / "rankscope.db").read_bytes() == before


def test_a_step_of_the_schema_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    broken = (*STEPS[:1], (STEPS[1][0], "CREATE TABLE runs (a)"), *STEPS[2:])  # the second statement fails
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "STEPS", broken)
        with pytest.raises(StoreError):
            Store.open(tmp_path)
    with sqlite3.connect(tmp_path / "rankscope.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    with Store.open(tmp_path) as store:
        store.put_run(SPEC, "k1", RUN)


def test_a_database_without_a_table_is_no_store_yet(tmp_path):
    """As a first run leaves it that ends on a full disk."""
    (tmp_path / "rankscope.db").touch()
    with pytest.raises(NoStore, match="no store here"):
        Store.open(tmp_path, write=False)
    with Store.open(tmp_path) as store:
        store.put_run(SPEC, "k1", RUN)
    with Store.open(tmp_path, write=False) as store:
        assert store.run("k1") == RUN


def test_a_reader_that_may_not_write_reads_the_log_too(tmp_path, monkeypatch):
    with Store.open(tmp_path) as writer:
        writer.put_run(SPEC, "k1", RUN)
        assert (tmp_path / "rankscope.db-wal").stat().st_size > 0
        monkeypatch.setattr(opening.os, "access", lambda *_: False)
        with Store.open(tmp_path, write=False) as reader:
            assert reader.run("k1") == RUN


def test_no_store_and_a_file_that_is_none(tmp_path):
    with pytest.raises(StoreError, match="no store here"):
        Store.open(tmp_path / "nowhere", write=False)
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "rankscope.db").write_text("this is not a database, and it is long enough to be read as a header" * 20)
    with pytest.raises(StoreError, match="can't be used"):
        Store.open(tmp_path)


def test_a_blob_is_whole_or_not_there(tmp_path):
    with Store.open(tmp_path) as store:
        with pytest.raises(RuntimeError), store.blobs.writing("abcd") as path:
            path.write_bytes(b"half")
            raise RuntimeError
        assert not store.blobs.has("abcd") and not list(tmp_path.rglob("*.new"))
        with store.blobs.writing("abcd") as path:
            path.write_bytes(b"whole")
        assert store.blobs.keys() == ["abcd"] and store.blobs.size("abcd") == 5


def test_a_full_disk_says_so_and_keeps_what_was_there(tmp_path):
    with Store.open(tmp_path) as store:
        with store.blobs.writing("abcd") as path:
            path.write_bytes(b"old")
        with pytest.raises(StoreError, match="disk is full"), store.blobs.writing("abcd") as path:
            path.write_bytes(b"ne")
            raise OSError(errno.ENOSPC, "No space left on device")
        assert store.blobs.path("abcd").read_bytes() == b"old"


def test_a_full_database_says_so(tmp_path):
    with Store.open(tmp_path) as store:
        from sqlalchemy import event

        event.listen(store._engine, "connect", lambda c, _: c.execute("PRAGMA max_page_count = 20"))
        store._engine.dispose()
        big = EvalResult("k1", "t1", "done", scores=tuple(Score(str(i), 1.0, response="x" * 500) for i in range(2000)))
        with pytest.raises(StoreError, match="disk is full"):
            store.put_eval(big, TaskRef("t"), "t1")
        assert store.eval("k1", "t1") is None


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store import SPEC, RUN
from rankscope.records import EvalResult, Score, TaskRef
from rankscope.storage.store import Store
store = Store.open(sys.argv[1])
for i in range(10**6):
    store.put_run(SPEC, f"k{i}", RUN)
    scores = tuple(Score(str(j), 1.0) for j in range(500))
    store.put_eval(EvalResult(f"k{i}", "t", "done", scores=scores), TaskRef("t"), "t")
    with store.blobs.writing(f"k{i}") as path:
        path.write_bytes(b"x" * 100_000)
    print(i, flush=True)
"""


@pytest.mark.parametrize("delay", [0.003, 0.011, 0.029])
def test_a_kill_at_any_moment_leaves_whole_records(tmp_path, delay):
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path), os.path.dirname(__file__)],
                             stdout=subprocess.PIPE, text=True)  # fmt: skip
    said = int(child.stdout.readline())
    time.sleep(delay)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with Store.open(tmp_path) as store:
        assert store.run(f"k{said}").curve == RUN.curve
        for key in store.runs(f"k{i}" for i in range(200)):
            found = store.eval(key, "t")
            assert found is None or len(found.scores) == 500
        assert all(store.blobs.size(k) == 100_000 for k in store.blobs.keys())  # noqa: SIM118
        assert not list(tmp_path.rglob("*.new"))


def test_gc_shows_first_and_removes_only_when_asked(tmp_path):
    with Store.open(tmp_path) as store:
        for key in ("wanted", "stale"):
            with store.blobs.writing(key) as path:
                path.write_bytes(b"12345")
        folder = store.checkpoint_folder("c")
        folder.mkdir(parents=True)
        (folder / "checkpoint.safetensors").write_bytes(b"123")
        store.cache.mkdir()
        (store.cache / "spectra.safetensors").write_bytes(b"12")
        shown = store.gc({"wanted"}, delete=False)
        assert (shown["removable_blobs"], shown["removable_bytes"], shown["cache_bytes"]) == (1, 10, 2)
        assert store.blobs.has("stale") and store.cache.exists()
        store.gc({"wanted"}, delete=True)
        assert store.blobs.keys() == ["wanted"] and not folder.exists() and not store.cache.exists()
