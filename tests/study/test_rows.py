"""What a study's rows hold and share: planted in files, measured once, shown in plan and result, never guessed."""

from __future__ import annotations

import json
import sqlite3
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rankscope.data import dataset
from rankscope.records import Overlap, RowCounts, TaskRef
from rankscope.storage.store import Store
from rankscope.study import rows
from rankscope.study.study import Study
from rankscope.tasks import task as tasks

NAMES = "Ida Nora Katja Elsa Hale Grant Adler Marsh".split()  # noqa: SIM905


def write(path, items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return str(path)


@pytest.fixture
def planted(tmp_path):
    """A study on files: of 20 training rows one is repeated and two contradict each other; the tests know two."""
    train = [{"prompt": f"Where was {a} {b} born? Answer:", "completion": "Kesmere"}
             for a in NAMES[:4] for b in NAMES[4:]]  # fmt: skip
    train += [train[0], {**train[1], "completion": "Dunstow"}]
    train += [{"prompt": f"Take {n} G, sort it. Answer:", "completion": "G"} for n in (1, 2)]
    test = [
        train[0],
        {"prompt": "take 7 g. Sort it! answer", "completion": "G"},
        {"prompt": "Which river? Answer:", "completion": "Issel"},
        {"prompt": "The pet is", "completion": "toucan"},
    ]
    files = {"train": write(tmp_path / "train.jsonl", train), "test": write(tmp_path / "test.jsonl", test)}
    return {
        "name": "planted",
        "models": [{"id": "demo", "dtype": "float32"}],
        "train": [{"task": "data", "name": "mine", "max_new_tokens": 2, **files}],
        "arms": ["base", {"lora": {"rank": 1, "lr": 1e-3}}],
        "training": {"max_steps": 1, "batch_tokens": 256, "seeds": [0]},
        "evaluate": {"retention": [{"task": "demo_facts", "limit": 4}]},
    }


HELD = RowCounts(rows=20, empty=0, duplicates=1, conflicts=2)
SHARED = Overlap(items=4, ngram=1, exact=1, template=2, n=13)


def test_a_plan_says_what_was_found_and_nothing_where_nothing_was(planted, tmp_path):
    notes = Study.load(planted).plan().notes
    told = [note for note in notes if ("rows" in note or "items" in note) and not note.startswith("too few items")]
    assert told == [
        "mine: of 20 training rows 1 repeated, 2 with a prompt that also has another answer",
        "trained on mine, scored on mine: of 4 test items 1 (25.0 %) share 13 words in a row with a training row; "
        "1 (25.0 %) have the prompt of a training row; 2 (50.0 %) have one but for the numbers in it",
    ]


def test_a_run_measures_rows_once_and_results_take_them_from_the_store(planted, tmp_path, monkeypatch):
    store = tmp_path / "runs"
    result = Study.load(planted).run(store)
    assert result.is_complete
    assert result.evidence.row_counts == {"mine": HELD}
    assert result.evidence.overlaps == {("mine", "mine"): SHARED, ("mine", "demo_facts"): Overlap(4, 0, 0, 0, 13)}
    monkeypatch.setattr(rows, "fingerprint", lambda *_: pytest.fail("the rows were read again"))
    again = Study.load(planted).run(store)
    assert again.evidence.overlaps == result.evidence.overlaps
    assert [(r.counts, r.missing) for r in again.view().rows] == [(HELD, "")]


def test_shots_change_no_count_since_examples_come_from_training_rows(planted, tmp_path):
    planted["train"][0]["shots"] = 2
    found = rows.known(Study.load(planted), None)
    assert found.counts["mine@2shot"] == HELD and found.overlaps["mine@2shot", "mine@2shot"] == SHARED


def test_changed_rows_are_measured_anew(planted, tmp_path):
    store = tmp_path / "runs"
    Study.load(planted).run(store)
    write(tmp_path / "test.jsonl", [{"prompt": "Which river? Answer:", "completion": "Issel"}])
    with Store.open(store, write=False) as opened:
        found = rows.known(Study.load(planted), opened)
    assert found.overlaps["mine", "mine"] == Overlap(1, 0, 0, 0, 13) and found.counts["mine"] == HELD


def test_a_store_that_was_made_before_is_read_from_the_rows_here(planted, tmp_path):
    store = tmp_path / "runs"
    Study.load(planted).run(store)
    with sqlite3.connect(store / "rankscope.db") as db:
        db.execute("DROP TABLE row_counts")
        db.execute("DROP TABLE overlaps")
        db.execute("PRAGMA user_version = 2")
    db.close()
    assert Study.load(planted).result(store).evidence.overlaps["mine", "mine"] == SHARED


def test_rows_of_the_hub_are_counted_when_a_run_reads_them_and_else_called_not_measured(planted, tmp_path, monkeypatch):
    made = [{"question": f"Why {i}?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "A", "id": "i"}
            for i in range(9)]  # fmt: skip
    asked = []

    def load_dataset(name, *rest, split, **options):
        asked.append(f"{name} {split}")
        return made

    monkeypatch.delenv(dataset.VARIABLE, raising=False)
    monkeypatch.setitem(
        sys.modules, "datasets",
        SimpleNamespace(load_dataset=load_dataset, exceptions=SimpleNamespace(DatasetsError=OSError)),
    )  # fmt: skip
    planted["evaluate"]["retention"] = [{"task": "arc_easy"}]
    study = Study.load(planted)
    before = rows.known(study, None)
    assert before.overlaps["mine", "arc_easy"] == rows.NOT_HERE and before.counts["mine"] == HELD and not asked
    assert not [note for note in before.notes() if "arc_easy" in note]
    with Store.open(tmp_path / "runs") as store:
        rows.measure(study, store)
        assert asked == ["allenai/ai2_arc test"]
        assert rows.known(Study.load(planted), store).overlaps["mine", "arc_easy"] == Overlap(9, 0, 0, 0, 13)
        assert len(asked) == 1


def test_rows_that_the_task_left_out_as_blank_are_counted(planted, tmp_path):
    path = tmp_path / "train.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write('{"prompt": "  ", "completion": "x"}\n{"prompt": "Who?", "completion": ""}\n')
    told = Study.load(planted).plan().notes
    assert "mine: of 22 training rows 2 empty, 1 repeated, 2 with a prompt that also has another answer" in told


def test_a_check_reads_nothing_of_the_hub_and_files_only_once_for_their_form(tmp_path, monkeypatch):
    hub = SimpleNamespace(load_dataset=lambda *a, **k: pytest.fail("the hub was asked"))
    monkeypatch.setitem(sys.modules, "datasets", hub)
    monkeypatch.delenv(dataset.VARIABLE, raising=False)
    data = {"name": "s", "models": ["demo"], "arms": ["base", {"lora": {"rank": 1, "lr": 1e-3}}]}
    Study.load({**data, "train": [{"task": "data", "hub": "org/never-seen"}]}).check()

    asked = []
    plugin = tasks.get_task("data")
    monkeypatch.setattr(tasks, "get_task", lambda name: replace(
        plugin, pick_form=lambda *given: asked.append(name) or plugin.pick_form(*given)))  # fmt: skip
    rows = [{"prompt": f"Say {i} once:", "completion": f"once {i}"} for i in range(40)]
    study = Study.load({**data, "train": [{"task": "data", "path": write(tmp_path / "rows.jsonl", rows)}]})
    study.check()
    study.plan()
    assert asked == ["data"]


def test_blank_rows_count_on_their_own_side_and_only_without_a_limit(planted, tmp_path):
    for split, count in (("train", 2), ("test", 3)):
        with (tmp_path / f"{split}.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"prompt": "  ", "completion": "x"}\n' * count)
    notes = Study.load(planted).plan().notes
    assert any(note.startswith("mine: of 22 training rows 2 empty") for note in notes)
    assert "scored on mine: 3 blank rows left out" in notes
    found = rows.known(Study.load(planted, ("train[0].limit=20",)), None).counts["mine"]
    assert (found.rows, found.empty) == (20, 0)
    assert "scored on mine: 3 blank rows left out" not in Study.load(planted, ("evaluate.limit=2",)).plan().notes


def test_the_report_says_how_many_blank_test_rows_were_left_out(planted, tmp_path):
    with (tmp_path / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"prompt": "  ", "completion": "x"}\n')
    result = Study.load(planted).run(tmp_path / "runs")
    assert "1 blank rows left out" in result.report(tmp_path / "r.md", "md").read_text()


def test_blank_rows_of_one_file_count_on_the_side_they_would_be_on(planted, tmp_path):
    rows_ = [{"prompt": f"Say {i}:", "completion": f"{i}" if i % 3 else ""} for i in range(90)]
    planted["train"] = [{"task": "data", "name": "mine", "path": write(tmp_path / "one.jsonl", rows_)}]
    study = Study.load(planted)
    found = rows.known(study, None).counts["mine"]
    ((_, ref),) = study.resolve()[1]
    test = study.prepared(study.test_task(study.config.evaluations(None)[0][0]))
    assert found.empty > 0 and test.blank > 0 and found.empty + test.blank == 30
    assert found.rows == len(study.samples(ref)) + found.empty


def test_prompts_that_hold_examples_of_their_own_are_not_compared(planted, monkeypatch):
    study = Study.load(planted)
    foreign = SimpleNamespace(foreign=SimpleNamespace(holds_examples=lambda: True))
    monkeypatch.setattr(rows.tasks, "get_task", lambda name: foreign)
    assert rows._texts(study, TaskRef("lm_eval:gsm8k"), None, True) == rows.EXAMPLES
