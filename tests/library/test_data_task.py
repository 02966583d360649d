"""The task ``data``: splits, forms, scorers and identity, on files and on a stand-in for the hub."""

from __future__ import annotations

import csv
import json
import sys
import types

import pytest

from rankscope import plugins
from rankscope.errors import DataError, PluginError, RunFailed
from rankscope.records import TaskRef
from rankscope.tasks.scoring import Response
from rankscope.tasks.task import identity, is_local, prepare, resolve, train_samples

QUESTIONS = [
    {"prompt": f"Is {i} even?", "choices": ["yes", "no"], "answer": "yes" if i % 2 == 0 else "B"} for i in range(60)
]
ANSWERS = [{"prompt": f"Say {i}:", "completion": str(i)} for i in range(60)]


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def ref(form="default", limit=None, **options) -> TaskRef:
    return TaskRef("data", form=form, limit=limit, options=tuple(sorted(options.items())))


# ---- splits


def test_one_file_is_split_by_content_and_nothing_is_on_both_sides(tmp_path):
    path = write(tmp_path / "my.jsonl", QUESTIONS + QUESTIONS[:5])
    test, train = prepare(ref(path=path)), train_samples(ref(path=path))
    assert len(test.samples) + len(train) == 65
    assert 5 <= len(test.samples) <= 25
    assert not {s.prompt for s in test.samples} & {s.prompt for s in train}
    assert test.origin == "my.jsonl, test part (about 20 % of rows, split by content)"
    shuffled = write(tmp_path / "other.jsonl", QUESTIONS[::-1])
    assert {s.prompt for s in prepare(ref(path=shuffled)).samples} == {s.prompt for s in test.samples}


def test_copies_that_differ_only_in_their_id_stay_on_one_side(tmp_path):
    path = write(tmp_path / "my.jsonl", [{**row, "id": i, "nr": i} for i, row in enumerate(ANSWERS * 2)])
    test, train = prepare(ref(path=path, id="nr")), train_samples(ref(path=path, id="nr"))
    assert not {s.prompt for s in test.samples} & {s.prompt for s in train}


def test_a_rows_side_is_the_same_whatever_is_made_of_it(tmp_path):
    found = [{"prompt": f"Say {i}:", "completion": str(i), "more": f"m{i}", "id": i, "n": [i]} for i in range(60)]
    path = write(tmp_path / "my.jsonl", found)
    train = {s.id for s in train_samples(ref(path=path))}
    for options in ({"chat": True}, {"prompt": "more"}, {"prompt": "{more} {prompt}"}, {"text": "more"}):
        test = {s.id for s in prepare(ref(path=path, **options)).samples}
        assert test and not test & train and test | train == {str(i) for i in range(60)}


def test_numbers_and_digits_blanks_and_missing_cells_are_split_alike(tmp_path):
    text = "prompt,completion,note\n" + "".join(f"Say {i}:,{i},\n" for i in range(60))
    (tmp_path / "my.csv").write_text(text)
    path = write(tmp_path / "my.jsonl", [{"prompt": f"Say {i}:", "completion": i} for i in range(60)])
    assert prepare(ref(path=path)).samples == prepare(ref(path=str(tmp_path / "my.csv"))).samples


def test_clusters_of_plain_text_are_kept(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"text": "Rain.", "who": "x", "subject": "s"}, {"text": "Sun.", "who": 7}])
    found = prepare(ref(test=path, cluster="who")).samples
    assert [(s.cluster, s.subject) for s in found] == [("x", "s"), ("7", "")]


def test_a_blank_column_that_the_form_does_not_use_leaves_no_row_out(tmp_path):
    rows = [{"prompt": "p", "completion": "c", "text": ""}, {"prompt": "q", "completion": "", "text": "t"}]
    path = write(tmp_path / "a.jsonl", [*rows, {"prompt": "r", "completion": "d"}])
    assert [s.prompt for s in prepare(ref(test=path)).samples] == ["p", "r"]
    path = write(tmp_path / "b.jsonl", rows)
    assert [s.target for s in prepare(ref("text", test=path)).samples] == ["t"]
    path = write(tmp_path / "c.jsonl", [{**QUESTIONS[0], "completion": ""}])
    assert len(prepare(ref(test=path)).samples) == 1


def test_an_id_that_is_blank_is_made_from_the_row(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,completion,k\np,c,\nq,d,7\n")
    named, plain = (prepare(ref(test=str(tmp_path / "a.csv"), **o)).samples for o in ({"id": "k"}, {}))
    assert [s.id for s in named] == [plain[0].id, "7"]


def test_the_same_rows_are_split_alike_whatever_file_they_come_in(tmp_path):
    with open(tmp_path / "my.csv", "w", newline="") as file:
        made = csv.DictWriter(file, ["prompt", "completion"])
        made.writeheader()
        made.writerows(ANSWERS)
    (tmp_path / "my.json").write_text(json.dumps(ANSWERS))
    paths = [write(tmp_path / "my.jsonl", ANSWERS), str(tmp_path / "my.csv"), str(tmp_path / "my.json")]
    assert prepare(ref(path=paths[0])).samples == prepare(ref(path=paths[1])).samples
    assert prepare(ref(path=paths[0])).samples == prepare(ref(path=paths[2])).samples


def test_a_test_file_is_scored_whole_beside_a_training_file_or_alone(tmp_path):
    train, test = write(tmp_path / "a.jsonl", QUESTIONS[:40]), write(tmp_path / "b.jsonl", QUESTIONS[40:])
    both = ref(train=train, test=test)
    assert len(prepare(both).samples) == 20
    assert len(train_samples(both)) == 40
    assert len(prepare(ref(test=test)).samples) == 20
    with pytest.raises(DataError, match="only a test file"):
        train_samples(ref(test=test))
    alone = ref(train=train)
    assert len(prepare(alone).samples) + len(train_samples(alone)) == 40


# ---- forms


def test_the_first_row_decides_the_default_form(tmp_path):
    assert prepare(ref(test=write(tmp_path / "a.jsonl", QUESTIONS))).kind == "choices"
    path = write(tmp_path / "b.jsonl", ANSWERS)
    found = prepare(ref(test=path))
    assert (found.kind, found.metric, found.chance, found.samples[3].target) == (
        "completion",
        "cross_entropy",
        None,
        " 3",
    )
    assert found.scorer(found.samples[0], Response((-6.0,), (4,))).value == 1.5
    found = prepare(ref(test=path, scorer="exact_match", max_new_tokens=9))
    assert (found.kind, found.metric, found.chance, found.max_new_tokens) == ("generate", "accuracy", 0.0, 9)
    found = prepare(ref(test=write(tmp_path / "c.jsonl", [{"text": "Rain."}])))
    assert (found.kind, found.metric, found.samples[0].prompt) == ("text", "cross_entropy", "")


def test_conversations_are_scored_on_their_last_answer_and_take_no_shots(tmp_path):
    turns = [
        {"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    ]
    path = write(tmp_path / "a.jsonl", [{"messages": turns}] * 3)
    found = prepare(ref(test=path))
    assert found.kind == "completion" and found.samples[0].target == " d"
    assert found.samples[0].prompt == "user: a\nassistant: b\nuser: c" and len(found.samples[0].turns) == 4
    with pytest.raises(DataError, match="conversations take no shots"):
        prepare(TaskRef("data", shots=2, options=(("test", path), ("train", path))))
    with pytest.raises(DataError, match=r"a\.jsonl:1: a conversation has no form 'cloze'"):
        prepare(ref("cloze", test=path))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "choices": ["a", "b"]}, r"my\.jsonl:61: the row has no 'answer'"),
        ({"choices": ["a", "b"], "answer": 0}, r"my\.jsonl:61: the row has no 'prompt'. Its fields: choices, answer"),
        ({"prompt": "q", "completion": "c"}, r"my\.jsonl:61: rows of different layouts"),
    ],
)
def test_a_row_that_makes_no_sense_is_named_by_file_and_line(tmp_path, row, message):
    path = write(tmp_path / "my.jsonl", [*QUESTIONS, row])
    with pytest.raises(DataError, match=message):
        prepare(ref(test=path))


def test_options_that_fit_neither_each_other_nor_the_data_are_errors(tmp_path):
    path = write(tmp_path / "a.jsonl", ANSWERS)
    for options, message in (
        ({}, "data needs a file or a hub dataset.*path: my.jsonl"),
        ({"path": path, "test": path}, "path: stands for train and test together"),
        ({"path": path, "hub": "a/b"}, "either in files or on the hub"),
        ({"path": path, "revision": "x"}, "revision: is for a hub dataset"),
        ({"hub": "../secrets"}, "hub: not the name of a dataset"),
        ({"hub": "a/b/c"}, "hub: not the name of a dataset"),
        ({"hub": "/etc"}, "hub: not the name of a dataset"),
        ({"hub": "a/b", "config": "../../x"}, "config: not a name"),
        ({"path": ("a.jsonl", "b.jsonl")}, "path: must be one text"),
        ({"pth": "my.jsonl"}, "no option 'pth'. Did you mean 'path'"),
        ({"path": path, "scorer": "cross_entropy"}, "the scorer 'cross_entropy' can't judge a perfect answer"),
        ({"path": path, "scorer": "choice"}, "the scorer 'choice' can't judge a perfect answer"),
        ({"path": path, "prompt": "\ud800"}, "prompt: must be a plain text or number"),
        ({"path": path, "text": (float("inf"),)}, "text: must be a plain text or number, or a list of them"),
        ({"path": path, "scorer": ("a", "b")}, "scorer: must be the name of one scorer"),
        ({"path": path, "scorer": 3}, "scorer: must be the name of one scorer"),
        ({"path": path, "pattern": "(x)"}, "pattern: only the scorer regex has one"),
        ({"path": path, "scorer": "exact_match", "pattern": "(x)"}, "pattern: only the scorer regex has one"),
        ({"path": path, "form": "completion", "scorer": "exact_match"}, "this form generates none"),
        ({"path": path, "max_new_tokens": "9"}, "max_new_tokens must be a whole number"),
        ({"path": write(tmp_path / "one.jsonl", ANSWERS[:1])}, "too few rows to split"),
    ):
        with pytest.raises(DataError, match=message):
            prepare(ref(**options)), train_samples(ref(**options))
    with pytest.raises(DataError, match="scorer: must be"):
        resolve(ref("cloze", path=path, scorer=("a", "b")))
    with pytest.raises(DataError, match="no such file of data"):
        resolve(ref("cloze", path=str(tmp_path / "nowhere.jsonl")))
    with pytest.raises(DataError, match="no 'validation' split"):
        prepare(ref(path=path), split="validation")
    with pytest.raises(PluginError, match="no scorer named 'exact_mtch'. Did you mean 'exact_match'"):
        prepare(ref(path=path, scorer="exact_mtch"))
    with pytest.raises(PluginError, match="no task named 'jsonl'. It is now called 'data'"):
        plugins.get("tasks", "jsonl")


# ---- the user's own scorer


def own(tmp_path, code: str) -> str:
    (tmp_path / "mine.py").write_text(code)
    return f"{tmp_path}/mine.py@judge"


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("def judge(s, r): return s.target.strip() == r.text.strip()", 0.0),
        ("def judge(s, r): return 1 if r.text == s.target else 0.25", 0.25),
        ("import numpy as np\ndef judge(s, r): return np.float32(1 if r.text == s.target else 0.5)", 0.5),
        (
            "from rankscope.records import Score\ndef judge(s, r): return Score('x', 1 - 0.25 * (r.text != s.target))",
            0.75,
        ),
    ],
)
def test_a_function_of_the_users_judges_and_its_item_is_the_samples(tmp_path, code, value):
    found = prepare(ref(test=write(tmp_path / "a.jsonl", ANSWERS), scorer=own(tmp_path, code)))
    score = found.scorer(found.samples[0], Response(text="other"))
    assert (score.value, score.item) == (value, found.samples[0].id)


def test_a_scorer_that_gives_a_perfect_answer_less_than_1_is_an_error_with_the_rows_place(tmp_path):
    path = write(tmp_path / "a.jsonl", [*ANSWERS[:4], {"prompt": "p", "completion": "long answer"}])
    scorer = own(tmp_path, "def judge(s, r): return len(r.text.strip()) < 4")
    with pytest.raises(DataError, match=r"mine\.py@judge' gives a perfect answer less than 1, at .*a\.jsonl:5"):
        prepare(ref(test=path, scorer=scorer))
    with pytest.raises(DataError, match=r"'final_number' gives a perfect answer less than 1, at .*a\.jsonl:1 "):
        prepare(ref(test=path, scorer="final_number"))


STEPS = {"prompt": "p", "completion": "Step one.\n\nThe answer is 4"}


@pytest.mark.parametrize(
    "options",
    [
        {"scorer": "exact_match"},
        {"scorer": "token_f1"},
        {"scorer": "regex", "pattern": "answer is ([0-9]+)"},
        {"scorer": "def judge(s, r): return r.text == s.target"},
    ],
)
def test_an_answer_that_ends_beyond_a_blank_line_is_refused_where_it_can_not_be_right(tmp_path, options):
    path = write(tmp_path / "a.jsonl", [*({**STEPS, "completion": f"answer is {i}"} for i in range(9)), STEPS])
    if "def" in options["scorer"]:
        options = {"scorer": own(tmp_path, options["scorer"])}
    with pytest.raises(
        DataError, match=r"the answer of .*a\.jsonl:10: none can be right \(got '\\n\\n'\)\. Set form: completion"
    ):
        prepare(ref(test=path, **options))
    assert prepare(ref("completion", test=path)).kind == "completion"


def test_blank_lines_are_fine_where_the_score_stands_before_them_and_in_conversations(tmp_path):
    path = write(tmp_path / "a.jsonl", [STEPS])
    assert prepare(ref(test=path, scorer="regex", pattern="(Step [a-z]+)")).kind == "generate"
    assert prepare(ref(test=path, scorer="exact_match", chat=True)).kind == "generate"


@pytest.mark.parametrize("result", ["1 / 0", "2.0", "-0.1", "float('nan')", "'yes'", "None", "[][0]"])
def test_what_a_function_of_the_users_raises_or_gives_wrongly_names_item_and_file(tmp_path, result):
    path = write(tmp_path / "a.jsonl", ANSWERS)
    scorer = own(tmp_path, f"def judge(s, r):\n    return 1.0 if r.text.strip() != 'bad' else {result}\n")
    found = prepare(ref(test=path, scorer=scorer))
    with pytest.raises(RunFailed, match=rf"mine\.py@judge .* item {found.samples[0].id}"):
        found.scorer(found.samples[0], Response(text="bad"))
    with pytest.raises(DataError, match=r"can't judge a perfect answer: the scorer mine\.py@judge"):
        prepare(ref(test=path, scorer=own(tmp_path, f"def judge(s, r): return {result}")))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("judge = 3", "mine.py@judge is no function"),
        ("def jduge(s, r): return 1", "mine.py has no 'judge'. Did you mean 'jduge'"),
        ("def judge(:", "can't be loaded: .* raises SyntaxError"),
    ],
)
def test_a_scorer_file_without_the_function_is_an_error(tmp_path, code, message):
    with pytest.raises((DataError, PluginError), match=message):
        prepare(ref(test=write(tmp_path / "a.jsonl", ANSWERS), scorer=own(tmp_path, code)))


def test_a_scorer_file_that_is_none_is_an_error(tmp_path):
    path = write(tmp_path / "a.jsonl", ANSWERS)
    for scorer, message in ((f"{tmp_path}/gone.py@judge", "no such file"), (f"{path}@judge", "must be Python")):
        with pytest.raises(PluginError, match=message):
            prepare(ref(test=path, scorer=scorer))


# ---- identity


def test_a_scorer_changes_scores_and_not_weights_and_its_file_counts_by_content(tmp_path):
    path = write(tmp_path / "a.jsonl", ANSWERS)
    plain, exact = resolve(ref(path=path)), resolve(ref(path=path, scorer="exact_match", max_new_tokens=9))
    assert identity(plain) != identity(exact)
    assert identity(plain, is_training=True) == identity(exact, is_training=True)
    scorer = own(tmp_path, "def judge(s, r): return 1")
    before = identity(resolve(ref(path=path, scorer=scorer)))
    assert str(tmp_path) not in json.dumps(before)
    own(tmp_path, "def judge(s, r): return 0")
    assert identity(resolve(ref(path=path, scorer=scorer))) != before
    asked = resolve(ref(path=path, prompt="Q: {prompt}"))
    assert identity(plain, is_training=True) != identity(asked, is_training=True)


# ---- the hub


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the ``datasets`` module; fill it with splits."""
    splits: dict[str, list] = {}

    def load_dataset(name, config, split=None, revision=None):
        if split is None:
            return splits
        if split not in splits:
            raise ValueError(f"Unknown split {split!r}")
        return splits[split]

    exceptions = types.SimpleNamespace(DatasetsError=type("DatasetsError", (Exception,), {}))
    monkeypatch.setitem(
        sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset, exceptions=exceptions)
    )
    monkeypatch.delenv("RANKSCOPE_DATA", raising=False)
    return splits


@pytest.mark.parametrize("test", ["test", "validation", None])
def test_a_hub_dataset_is_tested_on_its_test_split_else_its_validation_split_else_on_a_part(hub, test):
    hub["train"] = ANSWERS
    if test:
        hub[test] = QUESTIONS[:7]
    found = prepare(ref(hub="org/name", form="cloze") if test else ref(hub="org/name"))
    train = train_samples(ref(hub="org/name", form="generate"))
    assert len(train) == (60 if test else 60 - len(found.samples))
    assert len(found.samples) == 7 if test else not {s.prompt for s in found.samples} & {s.prompt for s in train}
    assert found.origin.startswith("hub org/name")


def test_named_splits_of_a_hub_dataset_are_read_as_named(hub):
    hub |= {"train": ANSWERS, "extra": ANSWERS[:9], "dev": ANSWERS[50:]}
    named = ref(hub="org/name", train_split="extra", test_split="dev")
    assert (len(prepare(named).samples), len(train_samples(named))) == (10, 9)
    keys = {resolve(r).data_key for r in (named, ref(hub="org/name"), ref(hub="org/name", revision="v2"))}
    assert len(keys) == 3 and not is_local(named)
    with pytest.raises(DataError, match="org/name has no split 'trn'. It has: train, extra, dev; name one with"):
        train_samples(ref(hub="org/name", train_split="trn"))
    with pytest.raises(DataError, match="can't get org/name, split 'nope', from the hub"):
        prepare(ref(hub="org/name", test_split="nope", form="completion"))


def test_a_mirror_stands_in_for_the_hub(hub, tmp_path):
    (tmp_path / "org" / "name").mkdir(parents=True)
    write(tmp_path / "org" / "name" / "train.jsonl", ANSWERS)
    both = prepare(ref(hub="org/name"), tmp_path), train_samples(ref(hub="org/name"), tmp_path)
    assert len(both[0].samples) + len(both[1]) == 60
    before = resolve(ref(hub="org/name"), tmp_path).data_key
    write(tmp_path / "org" / "name" / "validation.jsonl", ANSWERS[:3])
    assert len(prepare(ref(hub="org/name"), tmp_path).samples) == 3
    assert resolve(ref(hub="org/name"), tmp_path).data_key != before
    assert is_local(ref(hub="org/name"), tmp_path, "train")
