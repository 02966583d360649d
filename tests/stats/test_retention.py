"""Retention on planted truth."""

from __future__ import annotations

import numpy as np
import pytest

from rankscope.stats.retention import Kept, is_above_chance, retention


def _plant(rng, keep: float, base_rate=0.8, items=300, seeds=3, seed_sd=0.0, chance=0.25, task="t"):
    """Items the base knows are kept with probability ``keep``; what is not known is guessed at ``chance``."""
    knows = rng.random(items) < (base_rate - chance) / (1 - chance)
    guess = rng.random(items) < chance
    rates = np.clip(keep + seed_sd * rng.standard_normal(seeds), 0, 1)
    kept = rng.random((seeds, items)) < rates[:, None]
    fresh = rng.random((seeds, items)) < chance
    arm = np.where(knows & kept, True, np.where(knows, fresh, guess))
    return Kept(task, arm.astype(float), (knows | guess).astype(float), chance)


@pytest.mark.parametrize("seed_sd", [0.0, 0.05])
def test_the_planted_share_is_covered(seed_sd):
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        one = _plant(rng, 0.7, seed_sd=seed_sd, task="a")
        other = _plant(rng, 0.7, seed_sd=seed_sd, task="b", items=200)
        found = retention([one, other])
        hits += found.estimate.low <= 0.7 <= found.estimate.high
    assert hits / 300 >= 0.92


def test_nothing_lost_is_exactly_one():
    kept = _plant(np.random.default_rng(1), 1.0)
    found = retention([kept]).estimate
    assert (found.value, found.se) == (1.0, 0.0)


def test_a_task_at_chance_is_left_out_by_name():
    rng = np.random.default_rng(2)
    blind = _plant(rng, 1.0, base_rate=0.25, task="blind")
    found = retention([_plant(rng, 0.9, task="known"), blind])
    assert (found.used, found.left_out) == (("known",), ("blind",))
    assert retention([blind]).estimate is None
    assert not is_above_chance(blind.base, 0.25)


def test_one_seed_speaks_for_itself_only():
    assert retention([_plant(np.random.default_rng(3), 0.9, seeds=1)]).estimate.scope == "this seed only"
