"""Verdicts on planted truth: the family's intervals hold together, words mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rankscope.stats.contrast import Pair, contrasts, mcnemar


def _family(rng, members=8, items=150, seeds=3, means=0.0, shared=0.2):
    common = shared * rng.standard_normal(items)
    means = np.broadcast_to(means, members)
    noise = [0.2 * rng.standard_normal((seeds, items)) for _ in means]
    return [Pair(f"a{i}", "base", "t", m + common + x) for i, (m, x) in enumerate(zip(means, noise, strict=True))]


def test_all_intervals_of_a_family_hold_together():
    rng = np.random.default_rng(0)
    together = apart = 0
    for _ in range(200):
        found = contrasts(_family(rng))
        together += all(c.low <= 0 <= c.high for c in found)
        apart += all(c.estimate.low <= 0 <= c.estimate.high for c in found)
    assert together / 200 >= 0.91 and apart < together


def test_never_wider_than_bonferroni_and_never_narrower_than_one():
    family = _family(np.random.default_rng(1))
    for pair, found in zip(family, contrasts(family), strict=True):
        single = contrasts([pair])[0]
        assert single.high - single.low <= found.high - found.low
        (bonferroni,) = contrasts([pair], level=1 - 0.05 / len(family))
        assert found.high - found.low <= (bonferroni.high - bonferroni.low) * (1 + 1e-9)


@pytest.mark.parametrize(("mean", "word"), [(0.2, "better"), (-0.2, "worse"), (0.0, "equivalent")])
def test_planted_differences_get_their_word(mean, word):
    rng = np.random.default_rng(2)
    (found,) = contrasts([Pair("a", "b", "t", mean + 0.05 * rng.standard_normal((3, 400)))], margin=0.02)
    assert found.verdict == word


def test_too_little_data_is_undecided_and_says_what_could_be_seen():
    rng = np.random.default_rng(3)
    (found,) = contrasts([Pair("a", "b", "t", 0.03 + 0.5 * rng.standard_normal((3, 40)))])
    assert found.verdict == "undecided" and found.detectable > found.margin


def test_equivalent_comes_before_better():
    rng = np.random.default_rng(4)
    (found,) = contrasts([Pair("a", "b", "t", 0.005 + 0.001 * rng.standard_normal((3, 400)))], margin=0.02)
    assert found.low > 0 and found.verdict == "equivalent"


def test_for_losses_less_is_better():
    rng = np.random.default_rng(5)
    (found,) = contrasts([Pair("a", "b", "ce", 0.3 + 0.05 * rng.standard_normal((3, 100)), higher_is_better=False)])
    assert found.verdict == "worse" and found.estimate.value == pytest.approx(-0.3, abs=0.02)


def test_the_detectable_effect_is_detected_eight_times_in_ten():
    def contrast(rng, effect):
        return contrasts([Pair("a", "b", "t", effect + rng.standard_normal((1, 200)))])[0]

    rng, probe = np.random.default_rng(6), contrast(np.random.default_rng(6), 0.0)
    hits = sum(contrast(rng, probe.detectable).verdict == "better" for _ in range(400))
    assert 0.72 <= hits / 400 <= 0.88


def test_mcnemar_is_the_binomial_test_of_the_items_that_changed():
    before, after = np.array([1, 1, 1, 0, 0, 1.0]), np.array([0, 0, 0, 1, 0, 1.0])
    assert mcnemar(before, after) == pytest.approx(stats.binomtest(1, 4, 0.5).pvalue)
    assert mcnemar(before, before) == 1.0


def test_an_empty_family_is_refused():
    with pytest.raises(ValueError):
        contrasts([])
