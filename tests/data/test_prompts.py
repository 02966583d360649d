"""Prompt formats, by example."""

from __future__ import annotations

from rankscope.data import prompts


def test_a_cloze_prompt_has_the_question_and_an_open_answer():
    assert prompts.cloze(" Why? ") == "Question: Why?\nAnswer:"


def test_a_letters_prompt_lists_the_options():
    assert prompts.letters("Why?", ["so ", "no"]) == "Question: Why?\nA. so\nB. no\nAnswer:"
    assert prompts.letters("Why?", ["so", "no"], lead="") == "Why?\nA. so\nB. no\nAnswer:"


def test_a_continuation_starts_with_one_space():
    assert prompts.continuation("  word \n") == " word"


def test_few_shot_examples_stand_in_front_with_a_blank_line_between():
    assert prompts.few_shot("Q2:", [("Q0:", " a"), ("Q1:", " b")], "Head.\n\n") == "Head.\n\nQ0: a\n\nQ1: b\n\nQ2:"


def test_the_examples_picked_are_the_first_that_ask_something_else():
    pool = [("Q0:", " a"), ("Q1:", " b"), ("Q2:", " c")]
    assert prompts.pick(pool, "Q0:", 2) == pool[1:]
    assert prompts.pick(pool, "Q9:", 2) == pool[:2]
    assert prompts.pick(pool, "Q0:", 5) == pool[1:]
    assert prompts.pick(pool, "Q0:", 0) == []
