"""``init`` asks on a terminal, takes options elsewhere, and writes a study that passes its own check."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from rankscope.cli import starting
from rankscope.cli.main import main
from rankscope.config import STARTER, load

PAIRS = "".join(json.dumps({"prompt": f"What is {i} + 1?", "completion": str(i + 1)}) + "\n" for i in range(60))


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def type_in(monkeypatch, *answers):
    monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in answers)))


def test_own_rows_and_a_budget_make_a_study_that_passes_its_check(capsys):
    Path("pairs.jsonl").write_text(PAIRS)
    line = (
        "init new --model demo --train pairs.jsonl --retention demo_facts --seeds 1 --title Sums? --budget 10m --json"
    )
    assert main(line.split()) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["budget_seconds"] == 600 and told["predicted"]["seconds"] <= 600 and told["scale"]["seeds"] == 1
    text = Path("new/study.yaml").read_text()
    assert "# Sized to 10 min. Predicted on the machine" in text and 'title: "Sums?"' in text
    assert main(["check", "new/study.yaml"]) == 0
    assert load("new/study.yaml").train_refs()[0].name == "pairs"
    assert main(line.split()) == 2
    assert "there is a study here already" in capsys.readouterr().err
    assert Path("new/study.yaml").read_text() == text


def test_rows_that_make_no_sense_leave_no_file(capsys):
    Path("bad.jsonl").write_text('{"colour": "red"}\n' * 5)
    assert main(["init", "new", "--model", "demo", "--train", "bad.jsonl", "--budget", "1h"]) == 2
    assert "bad.jsonl" in capsys.readouterr().err and not Path("new").exists()


def test_a_terminal_is_asked_and_a_wrong_answer_is_asked_again(monkeypatch, capsys):
    Path("pairs.jsonl").write_text(PAIRS)
    type_in(monkeypatch, "./lost", "demo", "demo_peopel", "pairs.jsonl, demo_compose", "none", "soon", "any")
    assert main(["init", "new"]) == 0
    captured = capsys.readouterr()
    assert captured.out.endswith("new/study.yaml written. Next: rankscope check new/study.yaml\n")
    for words in ("no such model folder", "Did you mean 'demo_people'", "is not a time"):
        assert words in captured.err
    config = load("new/study.yaml")
    assert [ref.name for ref in config.train_refs()] == ["pairs", "demo_compose"] and not config.evaluate.retention


@pytest.mark.parametrize("more", [["--yes"], ["--json"]])
def test_whoever_wants_no_question_gets_the_starter(monkeypatch, more, capsys):
    type_in(monkeypatch)
    assert main(["init", "new", *more]) == 0
    assert Path("new/study.yaml").read_text() == STARTER


def test_no_terminal_and_no_option_is_the_starter():
    assert main(["init"]) == 0
    assert Path("study.yaml").read_text() == STARTER


def test_options_are_taken_without_a_question(monkeypatch):
    monkeypatch.setattr(starting, "_ask", lambda: pytest.fail("asked"))
    type_in(monkeypatch)
    assert main(["init", "--model", "demo", "--seeds", "2"]) == 0
    assert load("study.yaml").seeds == (0, 1)


def test_an_unknown_task_is_blamed_on_its_option(capsys):
    assert main(["init", "--model", "demo", "--retention", "demo_fact"]) == 2
    assert capsys.readouterr().err.startswith("error: --retention: neither a task nor a file")
    assert not Path("study.yaml").exists()


def test_the_schema_is_printed_or_written_with_the_line_that_names_it(capsys):
    assert main(["schema", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main(["schema", "-o", "study.schema.json"]) == 0
    assert "# yaml-language-server: $schema=study.schema.json" in capsys.readouterr().out
    assert json.loads(Path("study.schema.json").read_text()) == printed
    assert main(["schema", "-o", "no/such/folder.json"]) == 2
