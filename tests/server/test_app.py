"""The live page is the report's page; it follows the store, and a study that can't be shown says why."""

from __future__ import annotations

import json
import re
import threading
import time
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from made_stores import DECLARED, MadeStore
from rankscope.errors import DataError
from rankscope.report.html import page
from rankscope.report.policy import without_policy
from rankscope.server import app as served
from rankscope.server import keeping
from rankscope.server.keeping import Fresh, Made
from rankscope.storage.store import Store
from rankscope.storage.watching import Now, write_now
from rankscope.study.plan import run_key
from rankscope.study.study import Study


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(keeping, "_LEAST", 0.0)
    monkeypatch.setattr(keeping, "REST", 0.0)


def told(text):
    return json.loads(re.search(r'id="live">(.*?)</script>', text)[1])


def until(ask, is_there):
    for _ in range(400):
        if is_there(found := ask()):
            return found
        time.sleep(0.05)
    raise AssertionError(f"it never came; the last: {found}")


def state_of(client, made):
    return client.get(f"/api/studies/{made.key}/state").json()


def test_the_page_is_the_reports_with_one_script_more(client, first_seed):
    text = client.get(f"/studies/{first_seed.key}").text
    file = without_policy(page(Study.load(DECLARED).result(first_seed.folder).full_view()))
    before, end = file.rsplit("</body>", 1)
    assert text.startswith(before) and text.endswith("</body>" + end)
    assert text[len(before) :].count("<script") == 2
    assert told(text)["ask"] == f"/api/studies/{first_seed.key}/state"


def test_the_state_names_a_new_version_once_its_page_is_made(following, made):
    shown = told(following.get(f"/studies/{made.key}").text)["version"]
    first = until(lambda: state_of(following, made), lambda s: s["said"])
    assert (first["version"], first["done"], first["total"], first["running"]) == (shown, 3, 6, False)
    assert first["said"].startswith("not running: 3 of 6 runs done, at least ")
    assert first["said"].endswith(" of work left")
    made.add(0, 1)
    later = until(lambda: state_of(following, made), lambda s: s["version"] != shown and s["done"] == 4)
    assert told(following.get(f"/studies/{made.key}").text)["version"] == later["version"]
    cells = {(row["arm"], cell["seed"]): cell["state"] for row in later["arms"] for cell in row["cells"]}
    assert cells["lora-r1", 1] == "done" and cells["full", 1] == "to do" and cells["base", None] == "done"


def test_what_runs_now_is_said_and_whoever_is_gone_runs_nothing(following, made):
    until(lambda: state_of(following, made), lambda s: s["said"])
    at = time.time()
    key, losses = run_key(made.spec(1, 1)), ((1, 3.0), (30, 1.5))
    now = Now(made.key, "demo_people, seed 1: lora-r4", "steps", 30, 40, 0, at - 60, at, (key,), losses)
    cache = made.folder / "cache"
    write_now(cache, now)
    state = state_of(following, made)
    assert state["running"] and state["work"] == "demo_people, seed 1: lora-r4: 30 of 40 steps"
    assert state["losses"] == [[1, 3.0], [30, 1.5]] and state["said"].startswith("running: ")
    assert [cell["state"] for row in state["arms"] for cell in row["cells"] if key in cell["keys"]] == ["running"]
    file = cache / "now.json"
    file.write_text(file.read_text().replace('"pid":', '"pid":4999999'))
    assert state_of(following, made)["running"] is False


def test_another_studys_run_is_not_this_ones(following, made):
    write_now(made.folder / "cache", Now("another"))
    assert until(lambda: state_of(following, made), lambda s: s["said"])["running"] is False


def test_the_list_has_every_study_with_how_it_goes(following, made):
    other = MadeStore(made.folder, {**DECLARED, "name": "other", "title": "Another"})
    found = until(lambda: following.get("/api/studies").json(), lambda f: all(row["said"] for row in f["studies"]))
    assert {row["title"] for row in found["studies"]} == {DECLARED["title"], "Another"}
    text = following.get("/").text
    assert told(text)["ask"] == "/api/studies" and f'href="/studies/{other.key}"' in text
    assert "not running: 3 of 6 runs done" in text


def test_a_study_whose_files_are_gone_says_so_without_this_machines_paths(following, made, tmp_path):
    rows = tmp_path / "mine.jsonl"
    rows.write_text("".join(json.dumps({"question": f"{i}?", "answer": "yes"}) + "\n" for i in range(20)))
    declared = {**DECLARED, "name": "lost", "title": "Lost", "train": [{"task": "data", "path": str(rows)}]}
    lost = Study.load(declared)
    with Store.open(made.folder) as store:
        place = {"folder": str(tmp_path), "data_dir": None}
        store.save_study("lost", lost.key, lost.config.as_dict(), {"place": place})
    rows.unlink()
    found = until(lambda: following.get("/api/studies").json(), lambda f: any(row["problem"] for row in f["studies"]))
    (row,) = (row for row in found["studies"] if row["problem"])
    assert row["key"] == lost.key and "mine.jsonl" in row["problem"] and str(tmp_path) not in row["problem"]
    answer = following.get(f"/studies/{lost.key}")
    assert answer.status_code == 200 and "This study can&#39;t be shown: " in answer.text
    assert str(tmp_path) not in answer.text
    assert told(following.get(f"/studies/{made.key}").text)["version"]


def test_this_machines_folders_are_on_no_page(client, first_seed):
    for path in ("/", "/api/studies", f"/studies/{first_seed.key}", f"/api/studies/{first_seed.key}/state"):
        assert str(first_seed.folder.parent) not in client.get(path).text


def test_a_store_that_is_gone_is_said(following, made):
    (made.folder / "rankscope.db").unlink()
    answer = following.get("/")
    assert (answer.status_code, answer.text) == (503, "the store can't be read: no store here\n")


def test_one_thing_is_made_once_at_a_time_and_the_last_one_is_shown_meanwhile(monkeypatch):
    monkeypatch.setattr(keeping, "_LEAST", 100.0)
    jobs = []
    fresh = Fresh(threading.Lock(), lambda version: Made(version, f"page {version}"), jobs.append)
    assert fresh.get("1") is None and fresh.get("2") is None and len(jobs) == 1
    jobs.pop()()
    assert fresh.get("1").thing == "page 1"
    assert fresh.get("2").thing == "page 1" and jobs == []  # it rests first
    fresh._rests_until = 0.0
    assert fresh.get("2").thing == "page 1" and len(jobs) == 1
    jobs.pop()()
    assert fresh.get("2").thing == "page 2"


def test_what_could_not_be_made_is_tried_again_after_a_rest(monkeypatch):
    monkeypatch.setattr(keeping, "_LEAST", 100.0)
    jobs, problems = [], ["no such folder", ""]
    fresh = Fresh(threading.Lock(), lambda version: Made(version, "page", problems.pop(0)), jobs.append)
    fresh.get("1")
    jobs.pop()()
    assert fresh.get("1").problem and jobs == []  # it rests first
    fresh._rests_until = 0.0
    fresh.get("1")
    jobs.pop()()
    fresh._rests_until = 0.0
    assert (fresh.get("1").thing, fresh.get("1").problem, jobs) == ("page", "", [])


def test_an_error_that_nobody_foresaw_is_said_on_the_page_and_on_the_terminal(capsys):
    jobs = []
    fresh = Fresh(threading.Lock(), lambda version: 1 // 0, jobs.append)
    fresh.get("1")
    with pytest.raises(ZeroDivisionError) as raised:
        jobs.pop()()
    assert "a bug in rankscope" in fresh.get("1").problem
    served._last_words(SimpleNamespace(exc_type=ZeroDivisionError, exc_value=raised.value))
    assert (
        capsys.readouterr().err == "error: a bug in rankscope: ZeroDivisionError: integer division or modulo by zero\n"
    )


def test_a_first_visit_waits_for_its_page_and_not_forever(made, access):
    may_go_on = threading.Event()

    class Slow:
        def tally(self, folder):
            raise DataError("no such rows")

        def result(self, folder):
            may_go_on.wait(20)
            raise DataError("no such rows")

    app = served.make_app(made.folder, lambda row: Slow(), access)
    client = TestClient(app, base_url="http://127.0.0.1:8765")
    client.get(f"/?token={access.token}")
    served_patience, served._PATIENCE = served._PATIENCE, 0.2
    try:
        assert "Its page is being made" in client.get(f"/studies/{made.key}").text
        may_go_on.set()
        answer = until(lambda: client.get(f"/studies/{made.key}").text, lambda text: "can&#39;t be shown" in text)
        assert "no such rows" in answer
    finally:
        served._PATIENCE = served_patience
