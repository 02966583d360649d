"""Forgetting at matched gain on planted curves: the truth is read and covered, and nothing beyond an arm's reach."""

from __future__ import annotations

import numpy as np
import pytest

from rankscope.stats.matched import Point, curve, matched
from reference import matched as twin


def _arm(rng, slope, gains, items=400, noise=0.2):
    """An arm that forgets ``slope`` times what it gains, at each of its rates; item noise is shared by rates."""
    own, other = noise * rng.standard_normal(items), noise * rng.standard_normal(2 * items)
    small = [0.05 * rng.standard_normal(3 * items) for _ in gains]
    return [
        Point(1e-4 * 2**i, (g + own + e[:items])[None], ((slope * g + other + e[items:])[None],))
        for i, (g, e) in enumerate(zip(gains, small, strict=True))
    ]


def test_without_noise_the_planted_line_is_read_exactly_at_the_common_levels():
    rng = np.random.default_rng(0)
    arms = {"r4": _arm(rng, 0.5, (0.1, 0.2), noise=0), "r64": _arm(rng, 1.0, (0.2, 0.4), noise=0)}
    arms = {a: [Point(p.lr, np.full((1, 9), np.round(p.gain.mean(), 1)),
                      (np.full((1, 9), {"r4": 0.5, "r64": 1.0}[a] * np.round(p.gain.mean(), 1)),))
                for p in found] for a, found in arms.items()}  # fmt: skip
    rows = matched(arms, draws=10)
    assert [(r.arm, round(r.gain, 3)) for r in rows[:3]] == [("r4", 0.1), ("r4", 0.15), ("r4", 0.18)]
    assert [r.forgetting.value for r in rows] == pytest.approx([0.05, 0.075, 0.09, 0.1, 0.15, 0.18])
    assert all(r.forgetting.low == pytest.approx(r.forgetting.high) for r in rows)
    assert rows[1].rates == (1e-4, 2e-4) and rows[3].rates == (0.0, 1e-4)


def test_the_interval_covers_the_planted_truth_and_forgetting_a_gain_that_moves_would_not():
    rng, hits, blind = np.random.default_rng(1), [], []
    for _ in range(100):
        arms = {"a": _arm(rng, 0.6, (0.1, 0.3)), "b": _arm(rng, 0.6, (0.15, 0.35))}
        row = matched(arms, fractions=(0.5,), draws=200)[0]
        hits.append(row.forgetting.low <= 0.6 * row.gain <= row.forgetting.high)
        spread = np.mean([p.forgotten[0][0] for p in arms["a"]], axis=0).std() / np.sqrt(800)
        blind.append(abs(row.forgetting.value - 0.6 * row.gain) <= 1.96 * spread)
    assert np.mean(hits) >= 0.9 > np.mean(blind)


def test_nothing_is_read_beyond_an_arms_reach_and_an_arm_without_gain_says_so():
    rng = np.random.default_rng(2)
    arms = {"short": _arm(rng, 1, (0.2,)), "long": _arm(rng, 1, (0.5,)), "none": _arm(rng, 1, (-0.2,)), "empty": []}
    found = {r.arm: r for r in matched(arms, fractions=(1.5,), draws=50)}
    assert found["short"].forgetting is None and found["short"].why == "not reached at any rate"
    assert found["long"].forgetting is not None
    assert "gained nothing" in found["none"].why and "no learning rate" in found["empty"].why
    assert all(r.forgetting is None for r in matched({"none": arms["none"]}, draws=10))


def test_a_gain_hardly_seen_is_too_uncertain_to_be_matched():
    arms = {"a": _arm(np.random.default_rng(3), 1, (0.02,), items=30)}
    arms["a"] = [Point(p.lr, p.gain - p.gain.mean() + 0.01, p.forgotten) for p in arms["a"]]
    (row,) = matched(arms, fractions=(0.9,), draws=200)
    assert row.forgetting is None and "too uncertain" in row.why


def test_a_rate_that_gains_less_and_forgets_more_does_not_raise_the_curve():
    gains, least = curve(np.array([0.1, 0.3, 0.2]), np.array([0.02, 0.05, 0.4]))
    assert gains.tolist() == [0.0, 0.1, 0.2, 0.3] and least.tolist() == [0.0, 0.02, 0.05, 0.05]
    assert curve(np.array([0.1]), np.array([-0.03]))[1].tolist() == [-0.03, -0.03]  # it gained and forgot less


def test_it_is_the_plain_twin_one_draw_at_a_time():
    arm = _arm(np.random.default_rng(4), 0.7, (0.1, 0.3, 0.2), items=60)
    (row,) = matched({"a": arm}, fractions=(0.6,), draws=1500)
    plain = [(p.gain[0], p.forgotten[0][0]) for p in arm]
    assert row.forgetting.value == pytest.approx(twin.read([(g.mean(), f.mean()) for g, f in plain], row.gain))
    again = twin.bootstrap(plain, row.gain, 1500, seed=9)
    width = row.forgetting.high - row.forgetting.low
    assert np.percentile(again, [2.5, 97.5]) == pytest.approx(
        [row.forgetting.low, row.forgetting.high], abs=0.1 * width
    )


def test_items_that_belong_together_are_drawn_together():
    rng, passage = np.random.default_rng(5), np.repeat(np.arange(40), 10)
    noise = 0.2 * rng.standard_normal(40)[passage]
    arms = {"a": [Point(1e-4, np.full((1, 400), 0.3) + noise, ((0.2 + noise)[None],))]}
    (alone,), (together,) = (matched(arms, (0.5,), c, [c], draws=300) for c in (None, passage))
    assert together.forgetting.se > 1.5 * alone.forgetting.se


def test_tasks_count_equally_and_seeds_are_taken_as_they_are():
    two = [Point(1e-4, np.full((s, 5), 0.2), (np.full((s, 5), 0.1), np.full((s, 50), 0.3))) for s in (1, 3)]
    (one,), (three,) = (matched({"a": [p]}, (0.5,), draws=20) for p in two)
    assert one.forgetting.value == pytest.approx(0.1)  # half of the way to a mean of 0.2
    assert (one.forgetting.scope, three.forgetting.scope) == ("this seed only", "items")


def test_the_same_input_gives_the_same_answer_whatever_the_order_of_the_arms():
    rng = np.random.default_rng(6)
    arms = {"a": _arm(rng, 0.5, (0.1, 0.3)), "b": _arm(rng, 0.9, (0.1, 0.3))}
    turned = matched(dict(reversed(arms.items())), draws=100)
    assert {(r.arm, r.fraction): r for r in turned} == {(r.arm, r.fraction): r for r in matched(arms, draws=100)}


@pytest.mark.parametrize(
    "point",
    [
        Point(1e-4, np.zeros((1, 3)), (np.zeros((1, 4)),)),
        Point(1e-4, np.zeros((1, 2)), ()),
        Point(1e-4, np.zeros((1, 2)), (np.full((1, 4), np.nan),)),
        Point(1e-4, np.zeros((1, 2)), (np.zeros((1, 0)),)),
    ],
)
def test_points_that_do_not_fit_are_refused(point):
    with pytest.raises(ValueError):
        matched({"a": [Point(1e-4, np.zeros((1, 2)), (np.zeros((1, 4)),)), point]})
