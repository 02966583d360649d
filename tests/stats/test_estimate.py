"""Intervals on planted truth: data drawn from a known model must be covered as often as the interval promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rankscope.stats.estimate import mean_estimate, rate_estimate, spread


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


def test_one_item_tells_nothing_about_others():
    found = mean_estimate(np.ones((3, 1)))
    assert found.low == -math.inf and found.high == math.inf


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros(3), np.array([[1.0, math.nan]])])
def test_what_cannot_be_averaged_is_refused(bad):
    with pytest.raises(ValueError):
        spread(bad)


def test_wilson_stays_between_zero_and_one_and_matches_scipy():
    values = np.array([0.0] * 19 + [1.0])
    found = rate_estimate(values)
    expected = stats.binomtest(1, 20).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert rate_estimate(np.zeros(20)).low == pytest.approx(0, abs=1e-12)
