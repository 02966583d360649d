"""Rows to samples: formats, and rows that make no sense."""

from __future__ import annotations

import pytest

from rankscope.errors import DataError
from rankscope.tasks.samples import Sample, choice_sample, item_id, labelled_sample, plain_sample, text_sample

QUESTION = {"prompt": "Which port? ", "choices": ["8080", "9090", "a"], "answer": 1}


def test_cloze_scores_the_texts_and_letters_the_letters_of_one_item():
    cloze = choice_sample("Why?", ["so", "no "], 1, "cloze")
    letters = choice_sample("Why?", ["so", "no "], 1, "letters")
    assert (cloze.prompt, cloze.choices, cloze.target) == ("Question: Why?\nAnswer:", (" so", " no"), " no")
    assert (letters.prompt, letters.choices, letters.target) == (
        "Question: Why?\nA. so\nB. no\nAnswer:",
        (" A", " B"),
        " B",
    )
    assert cloze.id == letters.id == item_id("Why?", "so", "no ")


def test_a_label_may_be_a_digit():
    row = {"id": "x", "choices": {"text": ["so", "no"], "label": ["1", "2"]}, "answerKey": "2"}
    assert labelled_sample(row, "Why?", "letters").target == " B"
    with pytest.raises(DataError, match="answerKey is none of the labels.*'C'.*Labels: 1, 2"):
        labelled_sample({**row, "answerKey": "C"}, "Why?", "letters")


@pytest.mark.parametrize(
    ("answer", "index"), [(1, 1), ("9090", 1), ("B", 1), ("b", 1), ("A", 0), ("a", 2), (" 8080", 0)]
)
def test_an_answer_is_an_index_a_text_or_a_letter_and_the_text_comes_first(answer, index):
    assert plain_sample({**QUESTION, "answer": answer}, "cloze").answer == index


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": None}, "a row with 'choices' needs an 'answer'"),
        ({"answer": 3}, "must point at one of the 3 choices"),
        ({"answer": -1}, "must point at one of the 3 choices"),
        ({"answer": True}, "'answer' is none of the choices"),
        ({"answer": "7070"}, "'answer' is none of the choices .*'7070'"),
        ({"answer": "D"}, "must point at one of the 3 choices"),
        ({"choices": None}, "'choices' must be a list of texts"),
        ({"choices": [1, 2]}, "'choices' must be a list of texts"),
        ({"choices": ["one"], "answer": 0}, "2 to 26 choices"),
        ({"choices": ["one", " "], "answer": 0}, "a choice is empty"),
        ({"prompt": None}, "the row has no 'prompt'. Its fields: prompt, choices, answer"),
        ({"prompt": " "}, "'prompt' must be a text that isn't empty"),
        ({"prompt": 3}, "'prompt' must be a text that isn't empty"),
    ],
)
def test_a_row_that_makes_no_sense_is_an_error_that_says_why(change, message):
    with pytest.raises(DataError, match=message):
        plain_sample({**QUESTION, **change}, "cloze")


def test_a_completion_follows_a_space_unless_it_brings_its_own_white_space():
    assert plain_sample({"prompt": "Say:", "completion": "yes "}, "generate").target == " yes"
    assert plain_sample({"prompt": "Say:", "completion": "\nyes"}, "generate").target == "\nyes"
    with pytest.raises(DataError, match="the row has no 'completion'"):
        plain_sample({"prompt": "Say:"}, "generate")


def test_a_plain_row_keeps_its_prompt_and_lists_its_options_in_the_letters_form():
    assert plain_sample(QUESTION, "cloze").prompt == "Which port?"
    assert plain_sample(QUESTION, "letters").prompt == "Which port?\nA. 8080\nB. 9090\nC. a\nAnswer:"


def test_the_id_of_a_plain_row_is_its_own_or_that_of_its_content_whatever_the_form():
    assert plain_sample({**QUESTION, "id": 7}, "cloze").id == "7"
    ids = {plain_sample(QUESTION, form).id for form in ("cloze", "letters")}
    assert len(ids) == 1
    assert plain_sample({**QUESTION, "choices": ["8080", "9090", "b"]}, "cloze").id not in ids


def test_a_text_is_all_target():
    assert text_sample({"text": " Rain.\n"}) == Sample(item_id("Rain."), "", "Rain.")
    with pytest.raises(DataError, match="the row has no 'text'"):
        text_sample({"words": "Rain."})
