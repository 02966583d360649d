"""The texts of test items for a report: of the very items that are scored, and a reason where they can't be had."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from rankscope.errors import DataError
from rankscope.study import texts
from rankscope.study.study import Study
from rankscope.study.texts import FOREIGN, NOT_HERE, item_text, item_texts
from rankscope.tasks.samples import Sample


def test_every_scored_task_of_the_demo_has_texts_by_the_ids_of_its_samples():
    study = Study.demo()
    found = item_texts(study)
    assert set(found) == {"demo_people", "demo_compose", "demo_facts", "demo_skills"}  # not demo_text: nothing flips
    for raw, _ in study.config.judged():
        if raw.name in found:
            samples = study.prepared(study.test_task(raw)).samples
            assert [(id, t.prompt, t.answer) for id, t in found[raw.name].items()] == [
                (s.id, s.prompt, s.answer) for s in samples
            ]


def test_where_rows_cannot_be_read_there_is_a_reason_and_no_network_is_asked(monkeypatch):
    monkeypatch.setattr(texts.tasks, "prepare", lambda *_: (_ for _ in ()).throw(AssertionError("rows were read")))
    monkeypatch.setattr(texts.tasks, "is_local", lambda *_: False)
    assert set(item_texts(Study.demo()).values()) == {NOT_HERE}
    monkeypatch.setattr(texts.tasks, "get_task", lambda name: SimpleNamespace(foreign=object()))
    study = Study.demo()
    monkeypatch.setattr(study, "test_task", lambda ref: replace(ref, form="cloze"))
    assert set(item_texts(study).values()) == {FOREIGN}


def test_rows_that_changed_since_cost_the_report_its_questions_and_nothing_else(monkeypatch):
    def changed(*_):
        raise DataError("the data of demo_facts is not the data the study was planned with", got="/home/me/rows.jsonl")

    monkeypatch.setattr(texts.tasks, "prepare", changed)
    assert set(item_texts(Study.demo()).values()) == {
        "the data of demo_facts is not the data the study was planned with"
    }


def test_choices_that_differ_in_the_context_are_shown_with_it():
    shots = "Examples.\n\n"
    own = ("The mug", "The box")
    prompts = tuple(shots + name for name in own)
    sample = Sample("a", f"{shots}The box", " was small.", (" was small.",) * 2, 1, prompts=prompts)
    found = item_text(sample)
    assert found.choices == ("The mug was small.", "The box was small.") and found.answer == 1
    assert found.names == own and found.prompt == "Examples.\n"
