"""Each scorer on worked instances."""

from __future__ import annotations

import math

import pytest

from rankscope import plugins
from rankscope.errors import RunFailed
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Response

CITIES = Sample("i", "p", " Constantinople", (" Rome", " Constantinople"), 1)


def value(scorer, sample, **response):
    return plugins.get("scorers", scorer)(sample, Response(**response)).value


def test_choice_divides_by_bytes_and_choice_raw_does_not():
    assert value("choice", CITIES, loglikelihoods=(-5.0, -9.0)) == 1.0
    assert value("choice_raw", CITIES, loglikelihoods=(-5.0, -9.0)) == 0.0
    assert value("choice_raw", CITIES, loglikelihoods=(-5.0, -4.0)) == 1.0


def test_choice_counts_bytes_and_not_characters():
    # ' ab' has 3 bytes, ' éé' 5: -1.0 against -0.8 per byte; per character it would be -1.0 against -1.33.
    sample = Sample("i", "p", " éé", (" ab", " éé"), 1)
    assert value("choice", sample, loglikelihoods=(-3.0, -4.0)) == 1.0


@pytest.mark.parametrize("scorer", ["choice", "choice_raw"])
@pytest.mark.parametrize("sums", [(), (-1.0,), (-1.0, math.nan)])
def test_choices_without_a_finite_value_each_fail(scorer, sums):
    with pytest.raises(RunFailed):
        value(scorer, CITIES, loglikelihoods=sums)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (" 3 * 600 = 1,800\n#### 1,800", 1.0),
        ("#### 1800", 1.0),
        ("#### 1800\n#### 7", 1.0),
        ("#### 7\n#### 1800", 0.0),
        ("#### 1800.0", 0.0),
        ("#### -1800", 0.0),
        ("The answer is 1800", 0.0),
        ("####1800", 0.0),
        ("", 0.0),
    ],
)
def test_final_number_follows_the_official_rule(text, right):
    assert value("final_number", Sample("i", "p", " So 3 * 600 = 1800\n#### 1800"), text=text) == right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (" M T L", 1.0),
        ("\n M  T L \n", 1.0),
        (" M T L\nTake G", 1.0),
        (" m t l", 0.0),
        (" M T L.", 0.0),
        (" M T", 0.0),
        ("", 0.0),
    ],
)
def test_exact_match_compares_as_many_lines_as_are_expected(text, right):
    assert value("exact_match", Sample("i", "p", " M T L"), text=text) == right


def test_exact_match_reads_several_lines_of_a_longer_answer():
    sample = Sample("i", "p", " one\ntwo")
    assert value("exact_match", sample, text="one\ntwo\nthree") == 1.0
    assert value("exact_match", sample, text="one") == 0.0


def test_cross_entropy_is_nats_per_token():
    sample = Sample("i", "", "Rain.")
    assert value("cross_entropy", sample, loglikelihoods=(-10.0,), num_tokens=(4,)) == 2.5


@pytest.mark.parametrize(("sums", "tokens"), [((), ()), ((0.0,), (0,)), ((math.nan,), (3,)), ((-math.inf,), (3,))])
def test_cross_entropy_of_nothing_or_of_a_diverged_model_fails(sums, tokens):
    with pytest.raises(RunFailed):
        value("cross_entropy", Sample("i", "", "Rain."), loglikelihoods=sums, num_tokens=tokens)


WAYS = Sample("i", "p", " never", (" always", " never", " seldom"), 1, accepted=(" seldom",))


def test_true_mass_is_the_true_choices_share_of_the_probability():
    sums = (math.log(0.1), math.log(0.2), math.log(0.1))
    assert value("true_mass", WAYS, loglikelihoods=sums) == pytest.approx(0.75)
    assert value("true_mass", WAYS, loglikelihoods=tuple(v - 2000 for v in sums)) == pytest.approx(0.75)
    assert value("true_mass", CITIES, loglikelihoods=(-1.0, -1.0)) == 0.5


@pytest.mark.parametrize("sums", [(), (-1.0, -2.0), (-1.0, -2.0, math.nan), (-1.0, -2.0, -math.inf)])
def test_true_mass_without_a_finite_value_each_fails(sums):
    with pytest.raises(RunFailed):
        value("true_mass", WAYS, loglikelihoods=sums)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (" the Nile", 1.0),
        (" Nile.", 1.0),
        ("NILE\nQuestion: and then?", 1.0),
        (" a River_Nile!", 1.0),
        (" river ‘Nile’", 1.0),
        (" Nile, in Africa", 0.0),
        (" The answer is the Nile", 0.0),
        (" the Niles", 0.0),
        (" the", 0.0),
        ("", 0.0),
    ],
)
def test_alias_match_takes_any_name_after_the_official_normalisation(text, right):
    assert value("alias_match", Sample("i", "p", " The Nile", accepted=("river nile",)), text=text) == right


def test_alias_match_never_takes_an_empty_answer_even_if_an_alias_is_only_an_article():
    assert value("alias_match", Sample("i", "p", " X", accepted=("The",)), text=" an") == 0.0


@pytest.mark.parametrize("scorer", ["choice", "choice_raw"])
@pytest.mark.parametrize(("sums", "right"), [((-3.0, -2.0), 1.0), ((-2.0, -3.0), 0.0), ((-2.0, -2.0), 0.0)])
def test_choices_with_prompts_of_their_own_are_told_apart_by_them_and_not_by_their_text(scorer, sums, right):
    sample = Sample("i", "the box", " was full.", (" was full.",) * 2, 1, prompts=("the mug", "the box"))
    assert value(scorer, sample, loglikelihoods=sums) == right
