"""The share of a gain that is left, against shares put there on purpose and a bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from rankscope.stats.share import share


def test_a_part_that_is_the_same_share_of_every_row_is_known_exactly():
    whole = np.random.default_rng(0).uniform(0.5, 1.5, (1, 50))
    found = share(0.8 * whole, whole)
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.8, 0.8))


def test_the_interval_is_that_of_a_bootstrap_over_rows():
    random = np.random.default_rng(1)
    whole = random.normal(1.0, 0.6, 400)
    part = 0.9 * whole + random.normal(0, 0.3, 400)
    found = share(part[None], whole[None])
    drawn = random.integers(0, 400, (4000, 400))
    ratios = part[drawn].mean(axis=1) / whole[drawn].mean(axis=1)
    assert found.value == pytest.approx(part.mean() / whole.mean())
    assert found.se == pytest.approx(ratios.std(), rel=0.06)
    assert [found.low, found.high] == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.006)
    assert found.scope == "this seed only"


def test_the_interval_covers_the_planted_share_as_often_as_it_says():
    random, hits = np.random.default_rng(2), 0
    for _ in range(400):
        rows = random.normal(1.0, 0.5, 60)
        seeds = random.normal(0, 0.1, (3, 1))
        whole = rows + seeds + random.normal(0, 0.2, (3, 60))
        part = 0.7 * rows + seeds + random.normal(0, 0.2, (3, 60))
        found = share(part, whole)
        hits += found.low <= 0.7 <= found.high
    assert 0.92 <= hits / 400 <= 0.995


def test_of_a_gain_that_is_not_shown_there_is_no_share():
    whole = np.random.default_rng(3).normal(0.0, 1.0, (1, 50))
    assert share(whole / 2, whole) is None
    assert share(whole - 5, whole - 5) is None
