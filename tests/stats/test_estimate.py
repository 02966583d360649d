"""Intervals on planted truth: data drawn from a known model must be covered as often as the interval promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rankscope.stats.estimate import (
    Flips,
    Parts,
    Spread,
    flips,
    interval,
    mean_estimate,
    mean_estimates,
    pooled_flips,
    rate_estimate,
    spread,
    unseen,
)


def _table(rng, seeds, items, item=0.3, seed=0.03, rest=0.3, mean=0.1):
    return (mean + item * rng.standard_normal(items)[None] + seed * rng.standard_normal(seeds)[:, None]
            + rest * rng.standard_normal((seeds, items)))  # fmt: skip


@pytest.mark.parametrize(("seeds", "seed_sd"), [(3, 0.0), (3, 0.03), (5, 0.03), (3, 0.2)])
def test_coverage_with_crossed_seeds_and_items(seeds, seed_sd):
    rng = np.random.default_rng(1)
    found = [mean_estimate(_table(rng, seeds, 120, seed=seed_sd)) for _ in range(600)]
    hits = sum(e.low <= 0.1 <= e.high for e in found)
    # 600 draws at 95 %: standard error 0.9 points; the interval may be wider than it needs, never much narrower.
    assert hits / 600 >= 0.93


def test_a_bootstrap_over_items_within_seeds_would_be_far_too_narrow():
    """Why the interval is what it is: nested resampling divides the item variance by the number of seeds."""
    rng, hits = np.random.default_rng(2), 0
    for _ in range(300):
        values = _table(rng, 3, 120, rest=0.05)
        half = 1.96 * math.sqrt(sum(row.var(ddof=1) / 120 for row in values)) / 3
        hits += abs(values.mean() - 0.1) <= half
    assert hits / 300 < 0.85


def test_one_seed_is_the_paired_t_interval_and_says_so():
    values = np.random.default_rng(3).standard_normal(50)
    found, t = mean_estimate(values[None]), stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((t.low, t.high)) and found.scope == "this seed only"


def test_clusters_of_equal_items_count_once():
    values = np.random.default_rng(4).standard_normal(40)
    whole = mean_estimate(np.repeat(values, 5)[None], np.repeat(np.arange(40), 5))
    assert whole.se == pytest.approx(mean_estimate(values[None]).se)
    assert mean_estimate(np.repeat(values, 5)[None]).se < 0.5 * whole.se


def test_no_difference_at_all_has_no_width():
    found = mean_estimate(np.zeros((3, 30)))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_seed_part_barely_above_the_rest_keeps_the_degrees_of_freedom_of_its_seeds():
    """The difference of two equal mean squares is next to nothing, and would have no degrees of freedom at all."""
    found = Parts(3, item=1e-9, item_df=599.0, seed=1.0001e-3, seed_df=6.0, rest=1e-3, rest_df=3594.0).spread
    assert found.df == 6 and found.se == pytest.approx(math.sqrt(1e-9 + 1e-7 / 3))


def test_means_of_alike_tables_with_two_seeds_are_covered():
    rng, hits = np.random.default_rng(7), []
    for _ in range(200):
        tables = [(_table(rng, 2, 300, item=0.4, seed=0.04), None) for _ in range(5)]
        hits += [e.low <= 0.1 <= e.high for e in mean_estimates(tables)]
    assert 0.93 <= np.mean(hits) <= 0.98


def test_a_difference_of_right_or_wrong_answers_stays_between_minus_one_and_one():
    assert interval(0.1, Spread(0.2, 1.0), 0.001, Flips(600.0, 90.0, 30.0)) == (-1.0, 1.0)


def test_one_item_tells_nothing_about_others():
    found = mean_estimate(np.ones((3, 1)))
    assert found.low == -math.inf and found.high == math.inf


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros(3), np.array([[1.0, math.nan]])])
def test_what_cannot_be_averaged_is_refused(bad):
    with pytest.raises(ValueError):
        spread(bad)


def test_wilson_at_none_or_all_right_ends_exactly_at_zero_or_one():
    for count in range(2, 400):
        assert rate_estimate(np.zeros(count)).low == 0.0 and rate_estimate(np.ones(count)).high == 1.0


def test_wilson_stays_between_zero_and_one_and_matches_scipy():
    values = np.array([0.0] * 19 + [1.0])
    found = rate_estimate(values)
    expected = stats.binomtest(1, 20).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert rate_estimate(np.zeros(20)).low == pytest.approx(0, abs=1e-12)
    assert found.scope == "items"


def test_clustered_or_graded_scores_of_one_model_get_the_t_interval():
    rng = np.random.default_rng(5)
    graded, clusters = rng.random(60), np.repeat(np.arange(20), 3)
    assert rate_estimate(graded).low == pytest.approx(mean_estimate(graded[None]).low)
    right = (graded > 0.5).astype(float)
    assert rate_estimate(right, clusters).low == pytest.approx(mean_estimate(right[None], clusters).low)
    assert rate_estimate(right, clusters).scope == "items"


def test_strata_vary_within_themselves_only_and_the_small_one_sets_the_degrees_of_freedom():
    """The mean of two tasks' means: 2,000 items and 15, the few being what is uncertain."""
    rng, hits = np.random.default_rng(6), 0
    strata = np.repeat(["large", "small"], [2000, 15])
    weights = np.where(strata == "large", 2015 / 4000, 2015 / 30)
    for _ in range(400):
        table = 5.0 * (strata == "small") + 0.3 * rng.standard_normal((1, 2015))
        means = table[0][strata == "large"].mean(), table[0][strata == "small"].mean()
        centred = table - np.where(strata == "large", *means)
        found = spread(weights * centred, strata=strata)
        half = found.se * stats.t.isf(0.025, found.df)
        hits += abs(np.mean(means) - 2.5) <= half
    assert 14 <= found.df < 15.5
    assert hits / 400 >= 0.93
    by_hand = np.sqrt(table[0][:2000].var(ddof=1) / 2000 + table[0][2000:].var(ddof=1) / 15) / 2
    assert found.se == pytest.approx(by_hand)


def test_without_a_flip_the_limit_is_the_rule_of_three_and_else_clopper_and_pearsons():
    none = interval(0.0, Spread(0.0, 59.0), 0.05, Flips(60.0, 0.0, 0.0))
    assert none[1] == -none[0] == pytest.approx(1 - 0.025 ** (1 / 60))
    exact = stats.binomtest(4, 60).proportion_ci(method="exact")
    low, high = interval(-4 / 60, Spread(0.0, 59.0), 0.05, Flips(60.0, 0.0, 4.0))
    assert low == pytest.approx(-exact.high)
    assert high == pytest.approx(none[1] - 4 / 60)
    assert unseen(60.0, 60.0, 0.05) == 0


def test_flips_count_only_what_every_seed_agrees_on():
    change = np.array([[1, -1, 1, 0, 0, 0], [1, -1, 0, 0, 0, 0.0]])
    found = flips(change)
    assert (found.items, found.gained, found.lost) == pytest.approx((6, 1, 1))
    small, large = Flips(20.0, 1.0, 0.0), Flips(400.0, 0.0, 40.0)
    pool = pooled_flips([small, large])
    assert (pool.items, pool.gained, pool.lost) == pytest.approx((40, 1, 2))


def test_clustered_items_count_for_as_many_as_their_flips_show():
    clusters = np.repeat(np.arange(40), 5)
    whole, apart, half = np.zeros((3, 1, 200))
    whole[0, :20], apart[0, ::10] = 1, 1  # four whole passages; one item in each of twenty
    half[0, [0, 1, 2, 50, 51, 100, 150]] = 1
    assert flips(whole, clusters).items == pytest.approx(40, rel=0.03)
    assert flips(apart, clusters).items == 200
    assert 60 < flips(half, clusters).items < 120
    assert flips(np.zeros((3, 200)), clusters).items == pytest.approx(40)  # nothing seen: the careful side


@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_every_share_of_gains_and_losses_among_sixty_items_is_covered(alpha):
    """Exactly, by adding up all outcomes: the interval misses hardly more often than alpha, the t interval far more."""
    num_items, most = 60, 30
    counts = [(g, x) for g in range(most) for x in range(most)]
    tables = {c: np.repeat([1.0, -1.0, 0.0], [*c, num_items - sum(c)])[None] for c in counts}
    found = {c: (float(t.mean()), spread(t), flips(t)) for c, t in tables.items()}
    wide, plain = ({c: interval(mean, s, alpha, x if is_wide else None) for c, (mean, s, x) in found.items()}
                   for is_wide in (True, False))  # fmt: skip
    for gain, loss in [(0, 0.005), (0, 0.03), (0.01, 0.02), (0.05, 0.02), (0.1, 0.1)]:
        chance = stats.multinomial(num_items, [gain, loss, 1 - gain - loss])
        weight = {c: chance.pmf([*c, num_items - sum(c)]) for c in counts}
        wide_miss, plain_miss = (
            sum(p for c, p in weight.items() if not of[c][0] - 1e-9 <= gain - loss <= of[c][1] + 1e-9)
            for of in (wide, plain)
        )
        assert wide_miss <= 1.15 * alpha
        assert plain_miss > 3 * alpha or gain + loss > 0.05


def test_a_perfect_score_is_no_certainty():
    ones, clusters = np.ones(20), np.repeat(np.arange(5), 4)
    alone, clustered = rate_estimate(ones), rate_estimate(ones, clusters)
    assert clustered.high == 1.0 and clustered.low == pytest.approx(0.025 ** (1 / 5))
    assert clustered.low < alone.low < 1.0
    (arm, none) = mean_estimates([(np.ones((3, 240)), None), (np.zeros((3, 240)), None)])
    assert (arm.low, arm.high) == (pytest.approx(0.025 ** (1 / 240)), 1.0)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 240)))


def test_a_share_of_right_answers_stays_between_none_and_all():
    few = rate_estimate(np.array([1.0, 0, 0, 0, 0, 0, 0, 0]), np.repeat(np.arange(4), 2))
    assert few.low == 0.0 < few.value < few.high < 1.0


def test_nats_that_are_all_zero_are_no_wrong_answers():
    """KL of an arm that learned nothing is exactly 0; of wrong answers the next one might still be right."""
    zeros = [(np.zeros((2, 50)), None)]
    (nats,), (answers,) = mean_estimates(zeros, is_score=False), mean_estimates(zeros)
    assert (nats.low, nats.high) == (0.0, 0.0) and answers.high > 0.05
