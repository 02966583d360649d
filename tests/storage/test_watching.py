"""What a store says beside results: its studies and their places, its version, and what the writer does now."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from rankscope.records import Arm, EvalResult, Ledger, ModelRef, Recipe, RunResult, RunSpec, Score, TaskRef
from rankscope.storage.store import Store
from rankscope.storage.watching import Now, StoredStudy, clear_now, read_now, write_now

SPEC = RunSpec(ModelRef("demo", key="m"), Arm("lora-r4", "lora", rank=4), 1e-3, TaskRef("t"), Recipe(), 0)
NOW = Now("key", "training", "steps", 30, 90, 10, 100.0, 110.0, ("a", "b"), ((1, 2.5), (2, 2.25)))


def test_studies_come_with_their_places_the_latest_first(tmp_path):
    with Store.open(tmp_path) as store:
        store.save_study("old", "k1", {"name": "old"}, {"versions": {}})  # as older versions stored it
        store.save_study("new", "k2", {"title": "New"}, {"place": {"folder": "/here", "data_dir": None}})
    with Store.open(tmp_path, write=False) as store:
        new, old = store.studies()
    assert (new.key, new.title, new.place) == ("k2", "New", {"folder": "/here", "data_dir": None})
    assert old == StoredStudy("k1", "old", {"name": "old"}, {}, old.created) and old.title == "old"


def test_the_version_changes_with_whatever_is_put_and_with_nothing_else(tmp_path):
    seen = []
    with Store.open(tmp_path) as store, Store.open(tmp_path, write=False) as reader:
        for put in (
            lambda: None,
            lambda: store.save_study("s", "k", {}, {}),
            lambda: store.put_run(SPEC, "r1", RunResult("r1", "done")),
            lambda: store.put_run(SPEC, "r2", RunResult("r2", "done")),
            lambda: store.put_run(SPEC, "r1", RunResult("r1", "failed")),
            lambda: store.put_eval(EvalResult("r1", "t", "done", "", "accuracy", None, (Score("a", 1.0),), Ledger()),
                                   TaskRef("t"), "t"),
        ):  # fmt: skip
            put()
            assert reader.version() == reader.version()
            seen.append(reader.version())
    assert len(set(seen)) == len(seen)
    with Store.open(tmp_path, write=False) as reader:
        assert reader.version() == seen[-1]


def test_what_is_told_is_read_until_it_is_cleared(tmp_path):
    assert read_now(tmp_path) is None
    write_now(tmp_path / "cache", NOW)
    assert read_now(tmp_path / "cache") == NOW
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["now.json"]
    clear_now(tmp_path / "cache")
    assert read_now(tmp_path / "cache") is None
    clear_now(tmp_path / "cache")


def test_a_process_that_is_gone_or_another_of_its_number_does_nothing(tmp_path):
    script = "import sys; from pathlib import Path; from rankscope.storage.watching import *; "
    script += "write_now(Path(sys.argv[1]), Now('key', 'training'))"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
    assert (tmp_path / "now.json").exists() and read_now(tmp_path) is None
    write_now(tmp_path, NOW)
    file = json.loads((tmp_path / "now.json").read_text())
    assert file["pid"] == os.getpid()
    (tmp_path / "now.json").write_text(json.dumps(file | {"started": file["started"] - 100}))
    assert read_now(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', '{"pid": 1e99, "now": {}}', "\x00"])
def test_a_damaged_file_says_nothing(tmp_path, text):
    (tmp_path / "now.json").write_text(text)
    assert read_now(tmp_path) is None


def test_a_folder_that_cant_be_written_stops_nothing(tmp_path):
    (tmp_path / "cache").write_text("a file")
    write_now(tmp_path / "cache", NOW)
    clear_now(tmp_path / "cache")


def test_the_time_left_of_a_piece_is_at_its_own_pace():
    assert NOW.seconds_left == pytest.approx(60 * 10 / 20)
    assert Now("key").seconds_left is None
