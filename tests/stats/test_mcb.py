"""Multiple comparisons with the best on planted truth: the best stays in, a tie isn't claimed, a winner is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rankscope.stats.estimate import mean_estimate
from rankscope.stats.mcb import Scores, best
from reference import mcb as twin

MARGIN = 0.05


def _world(rng, means, seeds=3, items=150, seed_sd=0.02, noise=0.3):
    """Arms that share how hard each item is; seeds shift an arm as a whole."""
    hard, shape = 0.3 * rng.standard_normal(items), (seeds, items)
    tables = [m + hard + seed_sd * rng.standard_normal((seeds, 1)) + noise * rng.standard_normal(shape) for m in means]
    return [Scores(f"a{i}", table) for i, table in enumerate(tables)]


def _answers(rng, rates, seeds=3, items=200):
    """Right or wrong answers: what an item's base answer is, most arms give too."""
    base, change = rng.random(items) < 0.5, rng.random((len(rates), seeds, items))
    fresh = rng.random((len(rates), seeds, items)) < np.array(rates)[:, None, None]
    return [Scores(f"a{i}", np.where(change[i] < 0.3, fresh[i], base).astype(float)) for i in range(len(rates))]


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("make", [_world, _answers])
def test_of_equal_arms_each_is_excluded_as_best_at_most_once_in_twenty(make, seeds):
    rng, out = np.random.default_rng(0), []
    seed_part = {"seed_sd": 0.02 if seeds > 1 else 0.0} if make is _world else {}
    for _ in range(100):
        arms = make(rng, [0.5] * 4, seeds, **seed_part)
        out.append([a.arm not in best(arms, MARGIN).possible for a in arms])
    assert np.mean(out) <= 0.075  # 5 % and the simulation's own error


def test_significance_against_the_winner_excludes_the_best_more_often():
    rng, out, naive = np.random.default_rng(12), [], []
    for _ in range(100):
        arms = _world(rng, [0.5] * 5, seeds=1, seed_sd=0.0)
        top = max(arms, key=lambda a: a.values.mean())
        out.append([a.arm not in best(arms, MARGIN).possible for a in arms])
        naive.append([mean_estimate(a.values - top.values).high < 0 for a in arms if a is not top])
    assert np.mean(out) <= 0.08 and np.mean(naive) > 1.5 * np.mean(out)


def test_ignoring_seeds_would_exclude_the_best_far_too_often():
    rng, out, blind = np.random.default_rng(1), [], []
    for _ in range(120):
        arms = _world(rng, [0.5] * 4, seed_sd=0.06, items=400)
        out.append("a0" not in best(arms, MARGIN).possible)
        means = [Scores(a.arm, a.values.mean(axis=0)) for a in arms]
        blind.append("a0" not in best(means, MARGIN).possible)
    assert np.mean(out) <= 0.07 < 0.15 < np.mean(blind)


@pytest.mark.parametrize("means", [[0.5, 0.5 - MARGIN], [0.5, 0.5, 0.5, 0.5 - MARGIN]])
def test_an_arm_just_at_the_margin_is_rarely_shown_within_it(means):
    rng, wrong, naive = np.random.default_rng(2), [], []
    for _ in range(250):
        arms = _world(rng, means, items=300, seed_sd=0.0)
        wrong.append(arms[-1].arm in best(arms, MARGIN).within)
        naive.append(arms[-1].values.mean() > max(a.values.mean() for a in arms) - MARGIN)
    assert np.mean(wrong) <= 0.06 < np.mean(naive)


def test_its_intervals_hold_together():
    rng, means, hits = np.random.default_rng(3), np.array([0.5, 0.5, 0.46, 0.3]), []
    truth = [m - max(np.delete(means, i)) for i, m in enumerate(means)]
    for _ in range(120):
        found = best(_world(rng, means), MARGIN)
        hits.append(all(a <= t <= b for t, a, b in zip(truth, found.low, found.high, strict=True)))
    assert np.mean(hits) >= 0.93


def test_a_clear_winner_is_the_only_possible_best_and_the_others_say_who_beats_them():
    arms = _world(np.random.default_rng(4), [0.2, 0.5, 0.2])
    found = best(arms, MARGIN)
    assert found.possible == found.within == ("a1",)
    assert found.low[1] == 0 and found.high[1] > 0.2 and found.high[0] == 0
    assert found.rival("a0").other == "a1" and found.rival("a0").upper < 0 and found.lower("a0") < -0.2


def test_equal_arms_with_many_items_are_all_possible_and_all_within():
    arms = _world(np.random.default_rng(5), [0.5] * 3, items=4000, seed_sd=0.0)
    found = best(arms, MARGIN)
    assert found.possible == found.within == ("a0", "a1", "a2")


@pytest.mark.parametrize("items", [20, 4000])
def test_identical_answers_of_few_items_are_no_proof_of_being_within_the_margin(items):
    same = (np.arange(items) % 2).astype(float)[None]
    found = best([Scores("a", same), Scores("b", same)], MARGIN)
    assert found.possible == ("a", "b") and found.estimate == (0, 0)
    assert found.within == (("a", "b") if items == 4000 else ())


def test_the_order_of_the_arms_changes_nothing():
    arms = _world(np.random.default_rng(6), [0.5, 0.48, 0.4, 0.5])
    found, turned = best(arms, MARGIN), best(arms[::-1], MARGIN)
    assert (turned.low[::-1], turned.high[::-1]) == (found.low, found.high)
    assert set(turned.possible) == set(found.possible) and turned.arms == found.arms[::-1]


def test_one_seed_is_the_plain_twin_with_an_exact_critical_value():
    arms = _world(np.random.default_rng(7), [0.5, 0.47, 0.4, 0.5], seeds=1, items=250)
    found, plain = best(arms, MARGIN), twin.compare({a.arm: a.values[0] for a in arms})
    assert found.scope == "this seed only" and found.num_seeds == 1
    for i, name in enumerate(found.arms):
        assert (found.estimate[i], found.low[i], found.high[i]) == pytest.approx(plain[name], rel=0.03, abs=5e-4)


def test_two_arms_are_a_one_sided_paired_test():
    a, b = _world(np.random.default_rng(8), [0.5, 0.45])
    found, two_sided = best([a, b], MARGIN), mean_estimate(a.values - b.values, level=0.90)
    assert found.gap("a0", "a1").upper == pytest.approx(two_sided.high)
    assert found.gap("a1", "a0").upper == pytest.approx(-two_sided.low)


def test_one_arm_is_the_best_there_is():
    found = best([Scores("a", np.ones((2, 5)))], MARGIN)
    assert found.possible == found.within == ("a",) and found.low == found.high == (0.0,) and found.rival("a") is None


def test_arms_are_compared_over_the_seeds_that_both_have():
    a, b, c = _world(np.random.default_rng(9), [0.5, 0.5, 0.5])
    fewer = Scores("a1", b.values[[2, 0]], (2, 0))
    found = best([a, fewer, c], MARGIN)
    assert found.gap("a0", "a1").difference == pytest.approx((a.values[[0, 2]] - b.values[[0, 2]]).mean())
    assert found.gap("a0", "a2").difference == pytest.approx((a.values - c.values).mean()) and found.num_seeds == 2
    strange = best([a, Scores("a1", b.values, (7, 8, 9))], MARGIN)
    assert strange.gap("a0", "a1").difference == pytest.approx((a.values - b.values).mean())


def test_pairs_share_their_seed_part_with_the_freedom_of_the_arms_not_of_the_pairs():
    arms = _world(np.random.default_rng(10), [0.5] * 5)
    freedom = [g.parts.seed_df for g in best(arms, MARGIN).gaps]
    assert max(freedom) == pytest.approx(8)  # (5 - 1)(3 - 1), where ten pairs would claim 20


def test_clusters_widen_and_strata_narrow_the_range():
    rng, passage = np.random.default_rng(11), np.repeat(np.arange(30), 10)
    arms = [Scores(f"a{i}", 0.5 + 0.3 * rng.standard_normal(30)[passage] + 0.1 * rng.standard_normal((2, 300)))
            for i in range(3)]  # fmt: skip
    plain, wide = best(arms, MARGIN), best(arms, MARGIN, clusters=passage)
    narrow = best(arms, MARGIN, strata=passage)
    for a, b, c in zip(plain.gaps, wide.gaps, narrow.gaps, strict=True):
        assert c.upper < a.upper < b.upper


def test_one_item_excludes_nothing_and_shows_nothing():
    found = best([Scores("a", np.ones((2, 1))), Scores("b", np.zeros((2, 1)))], MARGIN)
    assert found.possible == ("a", "b") and found.within == ()


@pytest.mark.parametrize(
    "arms",
    [
        [],
        [Scores("a", np.ones((1, 2))), Scores("a", np.ones((1, 2)))],
        [Scores("a", np.ones((1, 2))), Scores("b", np.ones((1, 3)))],
        [Scores("a", np.ones((2, 2)), (1,))],
        [Scores("a", np.full((2, 2), np.nan))],
    ],
)
def test_arms_that_cannot_be_compared_are_refused(arms):
    with pytest.raises(ValueError):
        best(arms, MARGIN)


def test_an_arm_whose_seeds_vary_more_does_not_borrow_the_quiet_of_the_others():
    rng, out = np.random.default_rng(13), []
    for _ in range(100):
        quiet, loud = _world(rng, [0.5] * 3, items=400, seed_sd=0.02), _world(rng, [0.5], items=400, seed_sd=0.06)
        hard = quiet[0].values.mean(axis=0) - loud[0].values.mean(axis=0)
        arms = [*quiet, Scores("loud", loud[0].values + hard - hard.mean())]
        out.append([a.arm not in best(arms, MARGIN).possible for a in arms])
    assert np.mean(out, axis=0).max() <= 0.08


def test_answers_that_never_differ_are_no_proof_in_a_pool_either():
    """Of 40 items alike on both sides the next may differ: on one task, and on the mean of two."""
    same = (np.arange(40) % 2).astype(float)[None].repeat(2, axis=0)  # (S, N)
    alone = best([Scores("a", same), Scores("b", same)], 0.02)
    pooled = [Scores(n, np.concatenate([same, same], axis=1), (), ((same, None), (same, None))) for n in "ab"]
    strata = np.repeat(["x", "y"], 40)
    found = best(pooled, 0.02, None, strata)
    assert alone.within == found.within == () and 0.03 < found.high[0] < alone.high[0]
    unguarded = best([Scores(n, p.values) for n, p in zip("ab", pooled, strict=True)], 0.02, None, strata)
    assert unguarded.high[0] == pytest.approx(found.high[0])  # 0/1 as they stand: seen by themselves
    moved = [replace(p, values=p.values + 0.25) for p in pooled]  # as centring does
    assert best(moved, 0.02, None, strata).high == found.high
    assert best([replace(p, tasks=()) for p in moved], 0.02, None, strata).high == (0.0, 0.0)
