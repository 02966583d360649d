"""Retention on planted truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rankscope.stats.retention import Kept, is_above_chance, retention, retentions


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


def test_nothing_lost_is_exactly_one_and_few_items_leave_room_for_a_loss():
    def found(items):
        return retention([_plant(np.random.default_rng(1), 1.0, items=items)]).estimate

    assert (found(60).value, found(60).se) == (1.0, 0.0)
    assert found(60).low < 0.92 < 0.99 < found(6000).low < 1 < found(6000).high


def test_degrees_of_freedom_are_those_of_clusters_and_of_the_small_task():
    """Two tasks with their own intervals: 2,000 items in 8 clusters, or a second task of 15 items."""
    rng = np.random.default_rng(4)

    def half(*tasks):
        found = retention(tasks).estimate
        return (found.high - found.low) / 2 / found.se

    def graded(items, task, clusters=None):
        base = 0.8 + 0.05 * rng.random(items)
        return Kept(task, 0.7 + 0.3 * rng.standard_normal((1, items)), base, 0.25, clusters)

    clusters = np.repeat(np.arange(8), 250)
    assert half(graded(2000, "a", clusters)) == pytest.approx(stats.t.isf(0.025, 7))
    assert half(graded(2000, "a"), graded(15, "b")) == pytest.approx(stats.t.isf(0.025, 14.2), rel=0.01)


def test_a_small_task_beside_a_large_one_is_covered():
    rng, hits = np.random.default_rng(5), 0
    for _ in range(400):
        tasks = [_plant(rng, 0.7, 0.9, 2000, task="a"), _plant(rng, 0.7, 0.9, 15, task="b")]
        found = retention(tasks)
        share = found.estimate.low <= 0.7 <= found.estimate.high
        hits += share
    assert hits / 400 >= 0.93


def test_arms_judged_on_the_same_tasks_share_their_seed_part():
    rng, hits = np.random.default_rng(6), []
    for _ in range(120):
        arms = [[_plant(rng, 0.8, seed_sd=0.06, seeds=2, items=600, task=t) for t in "ab"] for _ in range(5)]
        hits += [r.estimate.low <= 0.8 <= r.estimate.high for r in retentions(arms)]
    assert 0.92 <= np.mean(hits) <= 0.985
    quiet = retention([_plant(np.random.default_rng(7), 1.0, seeds=2)]).estimate
    loud = _plant(rng, 0.7, seed_sd=0.1, seeds=2)
    assert retentions([[_plant(np.random.default_rng(7), 1.0, seeds=2)], [loud]])[0].estimate.se > quiet.se


def test_a_task_at_chance_is_left_out_by_name():
    rng = np.random.default_rng(2)
    blind = _plant(rng, 1.0, base_rate=0.25, task="blind")
    found = retention([_plant(rng, 0.9, task="known"), blind])
    assert (found.used, found.left_out) == (("known",), ("blind",))
    assert retention([blind]).estimate is None
    assert not is_above_chance(blind.base, 0.25)


def test_one_seed_speaks_for_itself_only():
    assert retention([_plant(np.random.default_rng(3), 0.9, seeds=1)]).estimate.scope == "this seed only"


def test_a_base_without_one_right_answer_is_not_above_a_chance_of_zero():
    assert not any(is_above_chance(np.zeros(count), 0.0) for count in range(2, 400))
    assert is_above_chance(np.array([1.0] + [0.0] * 9), 0.0)
