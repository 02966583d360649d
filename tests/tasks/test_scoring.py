"""Responses and the shared judgement of choices."""

from __future__ import annotations

import math

import pytest

from rankscope.errors import RunFailed
from rankscope.records import Score
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import pick_choice, scored

SAMPLE = Sample("i", "p", " yes", (" no", " yes"), 1, "subject", "cluster")


def test_a_score_carries_what_its_sample_is_about():
    assert scored(SAMPLE, True, "yes") == Score("i", 1.0, "subject", "cluster", "yes")


def test_the_highest_weight_is_picked_and_the_first_of_equals():
    assert pick_choice(SAMPLE, (-2.0, -1.0)) == Score("i", 1.0, "subject", "cluster", "yes")
    assert pick_choice(SAMPLE, (-1.0, -1.0)).response == "no"


def test_a_copy_of_the_right_choice_is_right():
    assert pick_choice(Sample("i", "p", " 4", (" 4", " 5", " 4"), 2), (-1.0, -2.0, -1.0)).value == 1.0


@pytest.mark.parametrize("weights", [(), (-1.0,), (-1.0, -1.0, -1.0), (-1.0, math.nan), (-math.inf, -1.0)])
def test_missing_or_infinite_values_fail_and_are_never_a_zero(weights):
    with pytest.raises(RunFailed):
        pick_choice(SAMPLE, weights)


def test_a_choice_with_a_prompt_of_its_own_is_recorded_by_that_prompts_last_line():
    sample = Sample("i", "x\n\nthe box", " fell", (" fell",) * 2, 1, prompts=("x\n\nthe mug", "x\n\nthe box"))
    assert pick_choice(sample, (-1.0, -2.0)) == Score("i", 0.0, "", "", "the mug")
    assert pick_choice(sample, (-2.0, -1.0)) == Score("i", 1.0, "", "", "the box")
