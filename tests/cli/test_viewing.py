"""Watching a store: the server starts, says where it is and ends; the terminal shows arms by seeds."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
import yaml

from made_stores import DECLARED, MadeStore
from rankscope.cli import viewing
from rankscope.cli.main import main
from rankscope.storage.store import Store
from rankscope.storage.watching import Now, write_now
from rankscope.study.plan import run_key


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder with a study file and its store: the base, one arm of the first seed, one failed run."""
    folder = tmp_path_factory.mktemp("watched")
    path = folder / "made.yaml"
    path.write_text(yaml.safe_dump({**DECLARED, "title": "Made [bold]study"}))
    made = MadeStore(folder / "runs", path)
    made.add_base()
    made.add(0, 0)
    made.fail(1, 0, "diverged at step 3 [/]")
    return made


@pytest.fixture
def made(filled, tmp_path, monkeypatch):
    shutil.copytree(filled.folder.parent, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return filled.at(tmp_path / "runs")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def running(made):
    at = time.time()
    now = Now("of another name", "demo_people, seed 0: full", "steps", 3, 12, 0, at - 9, at,
              (run_key(made.spec(2, 0)),), ((1, 3.0), (3, 2.5)))  # fmt: skip
    write_now(made.folder / "cache", now)


def test_status_says_the_plan_what_failed_and_what_runs(made, capsys):
    assert main(["status", "made.yaml"]) == 0
    quiet = capsys.readouterr().out
    head, *rows = quiet.splitlines()
    assert head.split()[:3] == ["arm", "runs", "done"] and "\x1b" not in quiet
    assert any(row.split()[:3] == ["lora-r1", "2", "1"] for row in rows)
    assert "failed: demo/demo_people/lora-r4/lr0.001/seed0: diverged at step 3 [/]" in quiet
    assert quiet.endswith("Next: rankscope run made.yaml\n") and "now:" not in quiet
    running(made)
    assert main(["status", "made.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "now: demo_people, seed 0: full: 3 of 12 steps, training loss 2.500" in lines
    assert lines[-1] == "Next: rankscope status made.yaml --watch"


def test_status_with_json_has_the_arms_seed_by_seed(made, capsys):
    running(made)
    assert main(["status", "made.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"study", "complete", "more_to_measure", "failed", "plan"} < set(found)
    states = {(row["arm"], cell["seed"]): cell["state"] for row in found["arms"] for cell in row["cells"]}
    assert states == {("base", None): "done", ("lora-r1", 0): "done", ("lora-r1", 1): "to do",
                      ("lora-r4", 0): "failed", ("lora-r4", 1): "to do", ("full", 0): "running",
                      ("full", 1): "to do"}  # fmt: skip
    assert found["running"]["done"] == 3 and found["seconds_left"] > 0 and found["verdict"]


def test_on_a_terminal_status_is_a_table_and_names_are_no_markup(made, monkeypatch):
    running(made)
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    assert main(["status", "made.yaml"]) == 0
    text = screen.getvalue()
    assert "Made [bold]study" in text and "diverged at step 3 [/]" in text
    for words in ("seed 0", "seed 1", "running", "failed", "to do", "now: demo_people, seed 0: full", "So far: "):
        assert words in text


def test_status_without_a_study_lists_the_stores_studies(made, capsys):
    with Store.open(made.folder) as store:
        store.save_study("lost", "lostkey", {**made.study.config.as_dict(), "models": [{"id": "./gone"}]}, {})
    assert main(["status", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["studies"]}
    assert (rows["made"]["done"], rows["made"]["total"], rows["made"]["problem"]) == (2, 6, "")
    assert rows["lost"]["done"] is None and "gone" in rows["lost"]["problem"]
    assert main(["status"]) == 0
    assert "not running: 2 of 6 runs done" in capsys.readouterr().out
    assert main(["status", "--watch"]) == 2
    assert "are about one study" in capsys.readouterr().err


def test_watching_goes_on_until_the_study_is_done(made, monkeypatch, capsys):
    todo = [(2, 0), (0, 1), (1, 1), (2, 1)]

    def pause(_):
        assert todo, "it watches a study that is done"
        while todo:
            made.add(*todo.pop())

    monkeypatch.setattr(viewing, "EVERY", 0.0)
    monkeypatch.setattr(viewing.time, "sleep", pause)
    monkeypatch.setattr(viewing, "_rest", lambda look: 0.0)
    monkeypatch.setattr(viewing._Look, "is_over", property(lambda look: look.tally.is_done))
    assert main(["status", "made.yaml", "--watch", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["plan"]["done"] == 6 and todo == []
    said = [line.partition(",")[0] for line in captured.err.splitlines()]
    assert said[0] == "not running: 2 of 6 runs done" and said[-1] == "done: 6 of 6 runs done"


def test_view_says_where_it_is_and_ends_with_ctrl_c(made):
    command = [sys.executable, "-m", "rankscope", "view", "runs", "--port", "0", "--no-browser", "--json"]
    child = subprocess.Popen(command, cwd=made.folder.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told = json.loads(child.stdout.readline())
    assert told["url"].startswith(f"http://127.0.0.1:{told['port']}/?token=") and told["pid"] == child.pid
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(told["url"].partition("?")[0], timeout=30)
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    assert b"Made [bold]study" in opener.open(told["url"], timeout=30).read()
    os.kill(child.pid, signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (0, "", "")


def test_view_without_a_store_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["view", "--no-browser"]) == 2
    assert "no store here" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
