"""Each scorer on worked instances."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace

import pytest

from rankscope import plugins
from rankscope.errors import DataError, RunFailed
from rankscope.tasks.judging import perfect, pick
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Configurable, Response

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


@pytest.mark.parametrize(
    ("text", "f1"),
    [
        ("the Denver Broncos", 1.0),
        ("Denver  broncos!", 1.0),
        ("Broncos of Denver", 0.8),  # 2 of 3 words, 2 of 2: 2 * (2/3) / (5/3)
        ("denver denver", 0.5),  # one of two, one of two
        ("Seattle", 0.0),
        ("the", 0.0),
        ("", 0.0),
    ],
)
def test_token_f1_is_squads(text, f1):
    assert value("token_f1", Sample("i", "p", " Denver Broncos"), text=text) == pytest.approx(f1)


def test_token_f1_of_two_empty_bags_is_one():
    assert value("token_f1", Sample("i", "p", " The ..."), text="a") == 1.0


def test_a_scorer_with_settings_says_what_it_gives_in_one_line():
    assert plugins.get("scorers", "regex").summary.startswith("1.0 if the last match of your pattern's first group")


def judged(pattern, target, text):
    return pick("regex", {"pattern": pattern})(Sample("i", "p", target), Response(text=text)).value


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("The answer is 5, no: the answer is 4.", 1.0),
        ("The answer is 4, no: the answer is 5.", 0.0),
        ("answer is 4", 1.0),
        ("The answer is four", 0.0),
        ("", 0.0),
        ("x" * 10_000 + "answer is 4", 1.0),
        ("answer is 4" + "x" * 10_000, 0.0),  # the last 4,000 characters are read
    ],
)
def test_regex_compares_what_the_group_last_matched(text, right):
    assert judged("answer is ([0-9]+)", " 2 + 2, so the answer is 4", text) == right


def test_regex_leaves_white_space_around_the_group_out():
    assert judged("is(.*)end", " is 4 end", "is  4end") == 1.0


def test_regex_begins_where_the_answer_does():
    assert judged("^([A-D])", " B", "\n B, of course") == 1.0
    assert judged("([A-D])$", " B", "it is B \n") == 1.0


def test_regex_fails_on_an_answer_that_the_pattern_does_not_match():
    with pytest.raises(RunFailed, match=r"matches nothing in the expected answer of item i \(got 'four'\)"):
        judged("answer is ([0-9]+)", " four", "answer is 4")
    with pytest.raises(RunFailed):
        judged("x|(y)", " x", "x")  # a match in which the group took no part


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (None, "needs a pattern"),
        ("", "needs a pattern"),
        (3, "needs a pattern"),
        ("(x", "no regular expression"),
        ("(?P<a>x)(?P<a>y)", "no regular expression"),
        ("x" + "{1," + "9" * 30 + "}", "no regular expression"),
        ("[0-9]+", "into a group"),
        ("(?:x)", "into a group"),
        ("((a+)+)$", "a repeat inside a repeat"),
        ("(a*?b)*", "a repeat inside a repeat"),
        ("(?:(x|y+)z){2,}", "a repeat inside a repeat"),
        ("((?:a{0,500})*)", "a repeat inside a repeat"),
        ("((?:a|aa)+)b", "alternatives inside one"),
        ("((?:a|ab|b|aba)*)c", "alternatives inside one"),
        ("((?:a|aa){13})b", "alternatives inside one"),
        ("((?:a+){3})b", "a repeat inside a repeat"),
        ("((?:a?a){30})b", "a repeat inside a repeat"),
        ("((?=(?:a|aa)+b).*)", "alternatives inside one"),
        ("(x)(?(1)(?:a?a)+|y)", "a repeat inside a repeat"),
        ("((?:[0-9]{3},?)+)", "a repeat inside a repeat.*matches in one way alone"),
    ],
)
def test_a_pattern_that_is_none_or_could_take_forever_is_refused(pattern, message):
    with pytest.raises(DataError, match=message):
        pick("regex", {"pattern": pattern})


def test_repeats_side_by_side_and_short_ones_inside_are_fine():
    assert judged("([0-9]+)[.,]*([0-9]{1,3})", " 12.5", "12.5") == 1.0
    assert judged("([0-9]{1,3}(?:,[0-9]{3})*)", " 123,456", "so 123,456") == 1.0
    assert judged("((?:a|b|[cd])+)", " abcd", "abcd") == 1.0
    assert judged("(yes|no|(?:or|and){2})", " no", "yes or no") == 1.0
    assert judged(r"(?:\w+ ){1,2}([0-9]+)", " a b 4", "a b 4") == 1.0


@pytest.mark.parametrize("name", plugins.names("scorers"))
def test_every_scorer_opens_with_an_instance_and_calls_a_perfect_answer_perfect(name):
    assert "Worked instance" in importlib.import_module(f"rankscope.library.scorers.{name}").__doc__
    found = plugins.get("scorers", name)
    judge = pick(name, found.example if isinstance(found, Configurable) else {})
    is_choice = name.startswith("choice") or name == "true_mass"
    sample = replace(CITIES if is_choice else Sample("i", "p", " #### 4"), subject="s", cluster="c")
    score = judge(sample, perfect(sample))
    best = 0.0 if name == "cross_entropy" else 1.0
    assert (score.item, score.value, score.subject, score.cluster) == ("i", best, "s", "c")
