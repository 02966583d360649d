"""The user's columns as rows of one shape: by name, by template, and what is refused."""

from __future__ import annotations

import pytest

from rankscope.data.files import Rows
from rankscope.errors import DataError
from rankscope.tasks.shapes import ALPACA, ALPACA_INPUT, shaped, template


def rows(*found):
    return Rows(found, "k", "my.jsonl", tuple(f"my.jsonl:{i + 1}" for i in range(len(found))))


def one(row, **options):
    (found,) = shaped(rows(row), options).rows
    return found


TURNS = (("user", "Hi"), ("assistant", "Hello"))
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SHARE = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        ({"prompt": "p", "completion": "c"}, {}, {"prompt": "p", "completion": "c"}),
        ({"question": "p", "answer": 4}, {}, {"prompt": "p", "completion": "4"}),
        (
            {"prompt": "p", "choices": ["a", "b"], "answer": "b"},
            {},
            {"prompt": "p", "choices": ["a", "b"], "answer": 1},
        ),
        (
            {"question": "p", "choices": [3, 4.5], "answer": 0},
            {},
            {"prompt": "p", "choices": ["3", "4.5"], "answer": 0},
        ),
        ({"text": "t", "other": None}, {}, {"text": "t"}),
        ({"messages": MESSAGES, "id": 7}, {}, {"turns": TURNS, "id": "7"}),
        ({"conversations": SHARE}, {}, {"turns": TURNS}),
        ({"talk": SHARE}, {"messages": "talk"}, {"turns": TURNS}),
        ({"q": "p", "a": "c"}, {"prompt": "q", "completion": "a"}, {"prompt": "p", "completion": "c"}),
        ({"q": "p", "completion": "c"}, {"prompt": "q"}, {"prompt": "p", "completion": "c"}),
        (
            {"q": "p", "c": "x", "a": 1.5},
            {"prompt": "{c}: {q} {{yes}}", "completion": "{a}"},
            {"prompt": "x: p {yes}", "completion": "1.5"},
        ),
        (
            {"question": "p", "opa": "w", "opb": "x", "opc": "y", "cop": 2},
            {"prompt": "question", "choices": ("opa", "opb", "opc"), "answer": "cop"},
            {"prompt": "p", "choices": ["w", "x", "y"], "answer": 2},
        ),
        (
            {"q": "p", "a": "c", "key": "r7", "field": "law", "group": 3},
            {"prompt": "q", "completion": "a", "id": "key", "subject": "field", "cluster": "group"},
            {"prompt": "p", "completion": "c", "id": "r7", "subject": "law", "cluster": "3"},
        ),
        ({"prompt": "p", "completion": "c"}, {"chat": True}, {"turns": (("user", "p"), ("assistant", "c"))}),
        (
            {"instruction": "Add.", "input": "2 2", "output": "4"},
            {"chat": True},
            {"turns": (("user", "Add.\n\n2 2"), ("assistant", "4"))},
        ),
        (
            {"instruction": "Add.", "input": "2 2", "output": "4"},
            {},
            {
                "prompt": ALPACA.format(ALPACA_INPUT)
                + "\n\n### Instruction:\nAdd.\n\n### Input:\n2 2\n\n### Response:",
                "completion": "\n4",
            },
        ),
        (
            {"instruction": "Sing.", "input": "", "output": "La"},
            {},
            {"prompt": ALPACA.format("") + "\n\n### Instruction:\nSing.\n\n### Response:", "completion": "\nLa"},
        ),
    ],
)
def test_columns_become_the_parts_they_are_for(row, options, expected):
    assert one(row, **options) == expected


def test_the_alpaca_layout_is_the_published_one():
    found = one({"instruction": "Sing.", "output": "La"})["prompt"]
    assert found.startswith(
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    )
    assert "a task, paired with an input that provides further context. Write" in ALPACA.format(ALPACA_INPUT)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([{"role": "system", "content": "S"}, *MESSAGES], (("system", "S"), *TURNS)),
        ([{"role": "system", "content": " "}, *MESSAGES], TURNS),
        ([*MESSAGES, {"role": "user", "content": "Bye"}], TURNS),  # no one answers the last turn
        ([{"role": "user", "content": "Hi"}], None),
        ([], None),
        (None, None),
        ([{"role": "user", "content": ""}, MESSAGES[1]], None),
        ([MESSAGES[0], {"role": "assistant", "content": None}], None),
    ],
)
def test_a_conversation_ends_with_its_last_answer_and_a_blank_one_is_left_out(messages, expected):
    found = shaped(rows({"messages": MESSAGES}, {"messages": messages}), {})
    assert [row["turns"] for row in found.rows[1:]] == ([] if expected is None else [expected])
    assert found.origin == ("my.jsonl" if expected else "my.jsonl, 1 blank rows left out")


def test_blank_rows_are_left_out_and_counted_and_places_stay_right():
    pairs = [("p", "c"), (" ", "c"), ("p", None), ("p", "\n"), ("q", "d")]
    found = shaped(rows(*({"prompt": p, "completion": c} for p, c in pairs)), {})
    assert [row["prompt"] for row in found.rows] == ["p", "q"]
    assert (found.places, found.origin) == (("my.jsonl:1", "my.jsonl:5"), "my.jsonl, 3 blank rows left out")
    with pytest.raises(DataError, match=r"my\.jsonl: every row is blank.*\(got 1\)"):
        shaped(rows({"prompt": "", "completion": "c"}), {})


@pytest.mark.parametrize(
    ("answer", "index"), [(0, 0), ("0", 0), (2.0, 2), ("C", 2), ("c", 2), ("Paris", 1), (" Paris ", 1), ("D", None),
                          (3, None), (-1, None), ("3", None), ("-1", None), ("Pari", None), ("²", None), (True, None),
                          (None, None), ("", None), ([1], None), (1.5, None)]
)  # fmt: skip
def test_an_answer_is_an_index_a_letter_or_the_text_and_must_be_one_of_the_choices(answer, index):
    row = {"question": "p", "choices": ["Rome", "Paris", "Oslo"], "answer": answer}
    if index is not None:
        assert one(row)["answer"] == index
        return
    with pytest.raises(DataError, match=r"my\.jsonl:2: .*answer"):
        shaped(rows({**row, "answer": 0}, row), {})


def test_a_choice_that_is_itself_a_letter_or_a_number_goes_before_letters_and_indices():
    assert one({"question": "p", "choices": ["B", "A"], "answer": "A"})["answer"] == 1
    assert one({"question": "p", "choices": ["8080", "9090"], "answer": 9090})["answer"] == 1


@pytest.mark.parametrize(("choices", "answer", "index"), [
    ([10, 20, 30], 20, 1), ([10, 20, 30], 1, 1), ([0, 1, 2], 1, 1), (["1.0", "5"], 1, None), ([1, 2, 3, 4], 2, None),
    (["1", "0"], 0, None), (["3", "3", "1"], 1, None), (["1", "0"], "A", 0), (["1", "0"], 1.0, None),
    (["x", "2.0"], 2, 1), (["x", "y"], "1.0", 1),
])  # fmt: skip
def test_a_number_means_the_same_as_digits_and_what_is_both_text_and_index_is_ambiguous(choices, answer, index):
    for same in (answer, str(answer)):
        row = {"question": "p", "choices": choices, "answer": same}
        if index is not None:
            assert one(row)["answer"] == index
            continue
        with pytest.raises(DataError, match=r"my\.jsonl:1: the answer is ambiguous.*Write its letter: [A-D] \("):
            one(row)


ARC = {"text": ["x", "y", "z"], "label": ["1", "2", "3"]}


def test_the_answer_to_labelled_choices_is_a_label():
    assert [one({"question": "p", "choices": ARC, "answer": a})["answer"] for a in ("1", 3, " 2 ")] == [0, 2, 1]
    with pytest.raises(DataError, match=r"none of the labels \(got '0'\)\. Labels: 1, 2, 3"):
        one({"question": "p", "choices": ARC, "answer": "0"})
    for label in (["1", "2"], ["1", "1", "2"]):
        with pytest.raises(DataError, match="3 choices need as many labels, all different"):
            one({"question": "p", "choices": {**ARC, "label": label}, "answer": "1"})
    assert one({"question": "p", "choices": {"text": ["x", "y"]}, "answer": 1})["answer"] == 1


def test_an_option_wins_over_a_columns_name():
    row = {"question": "q", "choices": ["x", "y"], "answer": 0, "gold": 1}
    assert one(row, answer="gold")["answer"] == 1
    assert one(row, prompt="question", answer="gold") == {"prompt": "q", "choices": ["x", "y"], "answer": 1}
    assert one({"question": "q", "answer": "old", "gold": "new"}, answer="gold")["completion"] == "new"
    assert one({"question": "q", "answer": "a", "id": "1", "key": "2"}, id="key")["id"] == "2"


def test_an_id_that_is_only_guessed_and_is_no_text_is_left_alone():
    assert one({"prompt": "p", "completion": "c", "id": ["x"], "subject": True}) == {"prompt": "p", "completion": "c"}
    with pytest.raises(DataError, match="'id' must be a text or a number"):
        one({"prompt": "p", "completion": "c", "id": ["x"]}, id="id")


def test_columns_of_any_row_count_and_an_id_may_be_missing():
    found = shaped(
        rows({"prompt": "p", "completion": "c"}, {"prompt": "q", "completion": "d", "cluster": "k", "id": 2}), {}
    )
    assert [row.get("cluster") for row in found.rows] == [None, "k"] and found.rows[1]["id"] == "2"


def test_rows_of_several_layouts_are_an_error_at_the_first_that_differs():
    plain = {"question": "q", "answer": "a"}
    for other in ({**plain, "choices": ["a", "b"]}, {"messages": MESSAGES}, {"prompt": "p", "completion": "c"}):
        with pytest.raises(DataError, match=r"my\.jsonl:3: rows of different layouts in one file"):
            shaped(rows(plain, plain, other, plain), {})


def test_a_template_of_blank_cells_alone_is_blank():
    found = shaped(
        rows({"q": " ", "c": "x", "a": 1}, {"q": "p", "c": "", "a": 2}), {"prompt": "Q: {q}\nA:", "completion": "a"}
    )
    assert [row["prompt"] for row in found.rows] == ["Q: p\nA:"]
    found = shaped(rows({"q": "p", "c": "", "a": 2}), {"prompt": "{c} {q}", "completion": "a"})
    assert found.rows[0]["prompt"] == " p"


def test_whole_floats_lose_their_point():
    assert one({"question": 3.0, "answer": 2.5}) == {"prompt": "3", "completion": "2.5"}


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"a": 1, "b": 2}, {}, r"my\.jsonl:1: the columns fit no known layout \(got 'a, b'\)\. Say which"),
        ({"q": 1, "b": 2}, {"prompt": "q"}, "a prompt needs a completion or choices"),
        ({"q": 1, "b": 2}, {"completion": "q"}, "a row needs a prompt"),
        ({"q": 1, "b": ["x", "y"]}, {"prompt": "q", "choices": "b"}, "choices need an answer"),
        (
            {"quest": 1, "b": 2},
            {"prompt": "{qest}", "completion": "b"},
            "prompt: no column 'qest'. Did you mean 'quest'",
        ),
        ({"q": 1, "b": 2}, {"prompt": "q", "completion": "c"}, r"no column 'c'.* The columns: q, b"),
        ({"q": 1, "b": 2}, {"messages": "talk"}, "messages: no column 'talk'"),
        ({"prompt": 1, "completion": 2}, {"id": "nr"}, "id: no column 'nr'"),
        ({"prompt": 1, "completion": 2}, {"id": 3}, "id: must be the name of a column"),
        ({"prompt": 1, "completion": 2}, {"chat": "yes"}, "chat: must be true or false"),
        ({"prompt": 1, "choices": ["a", "b"], "answer": 0}, {"chat": True}, "chat: true is for rows with a completion"),
        ({"prompt": ["p"], "completion": "c"}, {}, r"my\.jsonl:1: 'prompt' must be a text or a number \(got 'list'\)"),
        ({"prompt": True, "completion": "c"}, {}, "'prompt' must be a text or a number"),
        ({"question": "p", "choices": "ab", "answer": 0}, {}, "'choices' must be a list of texts.*one column a choice"),
        ({"question": "p", "choices": ["a"], "answer": 0}, {}, "needs 2 to 26 choices"),
        ({"question": "p", "choices": ["a", ""], "answer": 0}, {}, "a choice is empty"),
        (
            {"prompt": 1, "messages": MESSAGES},
            {"prompt": "prompt", "messages": "messages"},
            "messages: .*contradicts prompt",
        ),
        ({"text": 1, "completion": 2}, {"text": "text", "completion": "completion"}, "text: .*contradicts completion"),
        ({"messages": MESSAGES, "a": 1}, {"answer": "a"}, "answer: is for rows with choices"),
        ({"prompt": 1, "completion": 2, "a": 1}, {"answer": "a"}, "answer: is for rows with choices"),
        (
            {"q": 1, "c": 2, "a": 1},
            {"prompt": "q", "completion": "c", "answer": "a"},
            "answer: is for rows with choices",
        ),
        ({"question": 1, "answer": 2}, {"answer": "gold"}, "answer: no column 'gold'"),
        ({"messages": "Hi"}, {}, "must be a list of turns"),
        ({"messages": ["Hi"]}, {}, "turn 1 must be an object with role and content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, {}, "turn 1 has a role that isn't known.*'tool'"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, {}, "turn 1 has a role that isn't known"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, {}, "the text of turn 1 must be a text"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [1]}]}, {}, "calls tools"),
        ({"messages": MESSAGES[1:]}, {}, "a conversation can't begin with an answer"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(row, options, message):
    with pytest.raises(DataError, match=message):
        shaped(rows(row), options)


def test_a_row_without_a_column_that_the_first_row_has_is_an_error_with_its_place():
    with pytest.raises(DataError, match=r"my\.jsonl:2: the row has no 'completion'. Its fields: prompt"):
        shaped(rows({"prompt": "p", "completion": "c"}, {"prompt": "q"}), {})


@pytest.mark.parametrize(
    "text",
    ["{a.b}", "{a[0]}", "{a!r}", "{a:>10}", "{a:{b}}", "{}", "{ }", "{a", "a}", "{{a}}", "", "  ", 3, None, ("a",)],
)
def test_a_template_is_words_and_columns_and_no_program(text):
    with pytest.raises(DataError, match="prompt: "):
        template("prompt", text)


def test_a_template_fills_text_with_braces_in_it_as_it_is():
    assert one({"a": "{b} {a.__class__}", "b": "%s"}, prompt="{a}", completion="{b}") == {
        "prompt": "{b} {a.__class__}",
        "completion": "%s",
    }
