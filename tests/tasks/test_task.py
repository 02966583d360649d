"""From a reference to samples: forms, shots, limits, chance, identity, and errors with their place."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from rankscope import plugins
from rankscope.data.dataset import VARIABLE, Source
from rankscope.data.files import Rows
from rankscope.errors import DataError, PluginError
from rankscope.records import TaskRef
from rankscope.tasks import task as task_module
from rankscope.tasks.samples import Sample, choice_sample
from rankscope.tasks.task import Task, chance_of, identity, prepare, resolve, train_samples


def to_sample(row, form, index):
    return choice_sample(row["q"], row["o"], row["a"], form, subject=row.get("s", ""))


def toy(**changes):
    fields = dict(
        name="toy", summary="Toy", source=Source("toy"), to_sample=to_sample, forms=("cloze", "letters"),
        default_form="cloze", uniform=0.5, licence="none", paper="none", example={"q": "q", "o": ["x", "y"], "a": 0},
    )  # fmt: skip
    return Task(**{**fields, **changes})


def rows(*subjects, answer=0):
    return [{"q": f"q{i} {s}", "o": ["x", "y"], "a": answer, "s": s} for i, s in enumerate(subjects)]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the rows of a split of the toy dataset into a mirror that the environment names."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "toy").mkdir()

    def write(split, items):
        file = tmp_path / "toy" / f"{split}.jsonl"
        file.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
        return file

    return write


@pytest.fixture
def shelf(monkeypatch):
    """Put one more task on the shelf, under the name toy."""
    real = plugins.get

    def put(task):
        monkeypatch.setattr(
            plugins, "get", lambda kind, name: task if (kind, name) == ("tasks", "toy") else real(kind, name)
        )

    put(toy())
    return put


def test_the_default_form_is_spelled_out_and_decides_the_scorer(write, shelf):
    write("train", rows(""))
    write("test", rows("", ""))
    cloze, letters = prepare(TaskRef("toy")), prepare(TaskRef("toy", form="letters"))
    assert (cloze.ref.form, cloze.kind, cloze.scorer.__name__) == ("cloze", "choices", "choice")
    assert (letters.ref.form, letters.kind, letters.scorer.__name__) == ("letters", "choices", "choice_raw")
    assert [s.id for s in cloze.samples] == [s.id for s in letters.samples]
    assert cloze.origin == "local mirror"


def test_a_limit_keeps_the_first_rows(write, shelf):
    write("train", rows("", "", ""))
    write("test", rows("", "", ""))
    assert [s.prompt for s in prepare(TaskRef("toy", limit=2)).samples] == [
        "Question: q0\nAnswer:",
        "Question: q1\nAnswer:",
    ]
    assert len(prepare(TaskRef("toy", limit=9)).samples) == 3
    assert len(train_samples(TaskRef("toy", limit=1))) == 1
    with pytest.raises(DataError, match="limit must be a whole number from 1"):
        prepare(TaskRef("toy", limit=0))


def test_a_spread_limit_takes_rows_of_all_subjects_in_turn(write, shelf):
    shelf(toy(spread_limit=True, is_trainable=False))
    write("test", rows("a", "a", "a", "b", "c", "c"))
    assert [s.subject for s in prepare(TaskRef("toy", limit=4)).samples] == ["a", "b", "c", "a"]
    assert [s.subject for s in prepare(TaskRef("toy", limit=6)).samples] == ["a", "a", "a", "b", "c", "c"]


def test_examples_are_the_first_training_rows_that_ask_something_else(write, shelf):
    write("train", rows("", "", ""))
    write("test", [rows("")[0], {"q": "new", "o": ["x", "y"], "a": 1}])
    same, new = prepare(TaskRef("toy", shots=2)).samples
    assert same.prompt == "Question: q1\nAnswer: x\n\nQuestion: q2\nAnswer: x\n\nQuestion: q0\nAnswer:"
    assert new.prompt == "Question: q0\nAnswer: x\n\nQuestion: q1\nAnswer: x\n\nQuestion: new\nAnswer:"
    assert [s.id for s in prepare(TaskRef("toy")).samples] == [same.id, new.id]


def test_examples_of_the_same_subject_and_a_header_where_the_task_says_so(write, shelf):
    shelf(toy(shots_same_subject=True, header=lambda sample, form: f"About {sample.subject}.\n\n"))
    write("train", rows("a", "b", "a"))
    write("test", [{"q": "new", "o": ["x", "y"], "a": 1, "s": "b"}])
    assert prepare(TaskRef("toy", shots=1)).samples[0].prompt == (
        "About b.\n\nQuestion: q1 b\nAnswer: x\n\nQuestion: new\nAnswer:"
    )
    with pytest.raises(DataError, match="only 1 examples .*got 2.*Ask for at most 1"):
        prepare(TaskRef("toy", shots=2))


def test_examples_stand_in_front_of_every_prompt_of_an_item(write, shelf):
    def to_sample(row, form, index):
        own = (f"{row['q']} x", f"{row['q']} y")
        return Sample(row["q"], own[row["a"]], " fits.", (" fits.",) * 2, row["a"], prompts=own)

    shelf(toy(to_sample=to_sample, forms=("cloze",)))
    write("train", rows("s"))
    write("test", [{"q": "new", "a": 1}])
    (sample,) = prepare(TaskRef("toy", shots=1)).samples
    assert sample.prompts == ("q0 s x fits.\n\nnew x", "q0 s x fits.\n\nnew y")
    assert sample.prompt == sample.prompts[1]


def test_training_prompts_carry_the_examples_too_but_never_themselves(write, shelf):
    write("train", rows("", ""))
    write("test", rows(""))
    assert [s.prompt for s in train_samples(TaskRef("toy", shots=1))] == [
        "Question: q1\nAnswer: x\n\nQuestion: q0\nAnswer:",
        "Question: q0\nAnswer: x\n\nQuestion: q1\nAnswer:",
    ]


def test_rows_that_repeat_get_ids_of_their_own_that_no_limit_changes(write, shelf):
    write("train", rows(""))
    write("test", [rows("")[0], rows("")[0], *rows("", "")])
    ids = [s.id for s in prepare(TaskRef("toy")).samples]
    assert ids[1:3] == [f"{ids[0]}#2", f"{ids[0]}#3"] and len(set(ids)) == 4
    assert [s.id for s in prepare(TaskRef("toy", limit=2)).samples] == ids[:2]


def test_a_row_called_like_a_repeated_one_keeps_its_own_place(monkeypatch):
    monkeypatch.setattr(task_module, "_sample", lambda task, row, form, index, rows: Sample(row["id"], "p", "t"))
    named = tuple({"id": name} for name in ("x", "x", "x#2", "x"))
    found = task_module._samples(toy(), Rows(named, "key", "here"), "cloze")
    assert [s.id for s in found] == ["x", "x#2", "x#2#2", "x#3"]


def test_chance_is_the_larger_of_uniform_guessing_and_the_commonest_answer():
    def sample(answer, choices=4):
        return Sample("i", "p", " t", (" x",) * choices, answer)

    assert chance_of([sample(0), sample(1), sample(2), sample(3)], "choices") == 0.25
    assert chance_of([sample(0), sample(0), sample(2), sample(3)], "choices") == 0.5
    assert chance_of([sample(0, 2), sample(3)], "choices") == 0.5
    assert chance_of([sample(0)], "generate") == 0.0
    labels = [Sample(str(i), "p", " yes" if i % 5 else "no ") for i in range(10)]
    assert chance_of(labels, "generate") == 0.8
    assert chance_of([Sample(str(i), "p", str(i // 2 if i < 4 else i)) for i in range(10)], "generate") == 0.0
    several = Sample("i", "p", " t", (" t", " u", " x", " y"), 0, accepted=(" u",))
    assert chance_of([several, sample(3), sample(2)], "choices") == pytest.approx((0.5 + 0.25 + 0.25) / 3)
    assert chance_of([several, sample(1), sample(2)], "choices") == pytest.approx(2 / 3)
    assert chance_of([sample(0)], "text") is None


def test_a_task_without_training_rows_says_so(write, shelf):
    shelf(toy(is_trainable=False))
    with pytest.raises(DataError, match="toy is for evaluation only"):
        train_samples(TaskRef("toy"))


def test_a_missing_validation_split_is_an_error(write, shelf):
    write("test", rows(""))
    with pytest.raises(DataError, match="no 'validation' split"):
        prepare(TaskRef("toy"), split="validation")


def test_a_pilots_rows_never_share_a_key_with_the_test(write, shelf):
    shelf(toy(source=Source("toy", splits=(("train", "train"), ("validation", "validation"), ("test", "test")))))
    for split in ("train", "validation", "test"):
        write(split, rows(split))
    ref = resolve(TaskRef("toy"))
    assert prepare(ref).ref == ref
    assert prepare(ref, split="validation").ref.data_key not in ("", ref.data_key)
    assert prepare(ref, split="validation").samples[0].subject == "validation"


def test_an_unknown_task_form_or_option_is_named_with_the_nearest(write, shelf):
    write("train", rows(""))
    write("test", rows(""))
    with pytest.raises(PluginError, match="no task named 'openbookqq'. Did you mean 'openbookqa'"):
        resolve(TaskRef("openbookqq"))
    with pytest.raises(DataError, match="toy has no form 'leters'. Did you mean 'letters'"):
        resolve(TaskRef("toy", form="leters"))
    with pytest.raises(DataError, match="toy has no option 'temperature'.*takes no options"):
        resolve(TaskRef("toy", options=(("temperature", 1),)))
    shelf(toy(options=("max_new_tokens",)))
    with pytest.raises(DataError, match="no option 'max_tokens'. Did you mean 'max_new_tokens'"):
        resolve(TaskRef("toy", options=(("max_tokens", 1),)))
    with pytest.raises(DataError, match="must be a whole number from 1 .got 0"):
        resolve(TaskRef("toy", options=(("max_new_tokens", 0),)))
    assert prepare(TaskRef("toy", options=(("max_new_tokens", 5),))).max_new_tokens == 5


def test_something_else_than_a_task_on_the_shelf_is_an_error(shelf):
    shelf("not a task")
    with pytest.raises(PluginError, match="is not a task"):
        resolve(TaskRef("toy"))


def test_the_data_key_follows_the_content_of_the_files_that_are_used(write, shelf):
    write("train", rows(""))
    write("test", rows(""))
    whole, test, train = (resolve(TaskRef("toy"), split=split).data_key for split in (None, "test", "train"))
    assert len({whole, test, train}) == 3
    write("train", rows("", ""))
    assert resolve(TaskRef("toy")).data_key != whole
    assert resolve(TaskRef("toy"), split="test").data_key == test
    assert resolve(TaskRef("toy"), split="train").data_key != train
    assert resolve(TaskRef("toy", shots=1), split="test").data_key != test


def test_resolving_asks_nothing_of_the_network(shelf, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace())
    shelf(toy(source=Source("toy", "someone/toy")))
    assert resolve(TaskRef("toy")).data_key


def test_data_that_changed_since_it_was_planned_is_an_error(write, shelf):
    write("train", rows(""))
    write("test", rows(""))
    ref = resolve(TaskRef("toy"))
    assert prepare(ref).ref == ref
    assert prepare(resolve(TaskRef("toy"), split="test")).samples
    write("test", rows("", ""))
    with pytest.raises(DataError, match="not the data the study was planned with"):
        prepare(ref)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"q": "q", "o": ["x", "y"]}, r"test\.jsonl:2: a row of toy has no field 'a'. Its fields: q, o"),
        ({"q": "q", "o": ["x", "y"], "a": 5}, r"test\.jsonl:2: 'answer' must point at one of the 2 choices"),
        ({"q": "q", "o": ["x", "y"], "a": "A"}, r"test\.jsonl:2: a row makes no sense for toy"),
        ({"q": None, "o": ["x", "y"], "a": 1}, r"test\.jsonl:2: a row makes no sense for toy"),
    ],
)
def test_a_row_that_makes_no_sense_is_an_error_with_file_and_line(write, shelf, row, message):
    write("train", rows(""))
    write("test", [rows("")[0], row])
    with pytest.raises(DataError, match=message):
        prepare(TaskRef("toy"))


def test_plain_text_takes_no_shots():
    with pytest.raises(DataError, match="takes no shots"):
        prepare(TaskRef("demo_text", shots=2))


def test_identity_leaves_out_the_label_and_the_paths_of_files(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for file in (first, second):
        file.write_text('{"prompt": "Say:", "completion": "yes"}\n', encoding="utf-8")
    refs = [
        TaskRef("data", options=(("test", str(file)),), label=label)
        for file, label in ((first, "one"), (second, "two"))
    ]
    one, two = (identity(resolve(ref)) for ref in refs)
    assert one == two
    second.write_text('{"prompt": "Say:", "completion": "no"}\n', encoding="utf-8")
    assert identity(resolve(refs[1])) != one
    assert identity(resolve(TaskRef("data", options=(*refs[0].options, ("max_new_tokens", 5))))) != one


def test_a_task_from_a_file_is_known_by_the_files_content(tmp_path):
    code = "from rankscope.library.tasks.demo_facts import PLUGIN\nmine = PLUGIN\n"
    files = [tmp_path / "a.py", tmp_path / "b.py", tmp_path / "c.py"]
    for file, text in zip(files, (code, code, code + "# changed\n"), strict=True):
        file.write_text(text, encoding="utf-8")
    first, same, changed = (identity(resolve(TaskRef(f"{file}@mine"))) for file in files)
    assert first == same != changed
