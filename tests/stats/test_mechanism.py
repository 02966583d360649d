"""Claims about the inside are answered as planted, and wrongly no more often than they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rankscope.stats import mechanism as m

RANKS = {"r4": 4, "r16": 16, "r64": 64}


def _runs(means, noise=0.01, seeds=3, rng=None):
    rng = rng or np.random.default_rng(0)
    return {arm: {s: float(mean + noise * rng.standard_normal()) for s in range(seeds)} for arm, mean in means.items()}


def test_a_mean_over_seeds_has_student_s_interval():
    found = m.over_seeds([1.0, 2.0, 3.0])
    assert (found.value, found.num_seeds, found.scope) == (2.0, 3, "seeds")
    assert found.high - 2.0 == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # t of 2 degrees of freedom


def test_one_seed_has_no_interval_and_says_so():
    found = m.over_seeds([1.5])
    assert found.scope == "this seed only" and (found.low, found.high) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="no run"):
        m.over_seeds([])


@pytest.mark.parametrize(
    ("means", "noise", "answer"),
    [
        ({"r4": 0.5, "r16": 0.7, "full": 0.9}, 0.01, "holds"),
        ({"r4": 0.5, "r16": -0.4}, 0.01, "does not hold"),
        ({"r4": 0.5, "r16": 0.01}, 0.2, "undecided"),
        ({}, 0.0, "not asked"),
    ],
)
def test_upper_layers_change_more_as_planted(means, noise, answer):
    assert m.change_grows_upward(_runs(means, noise)).answer == answer


@pytest.mark.parametrize(("step", "answer"), [(0.2, "holds"), (-0.2, "does not hold"), (0.0, "undecided")])
def test_more_so_with_rank_as_planted(step, answer):
    means = {arm: step * math.log2(rank) for arm, rank in RANKS.items()}
    assert m.grows_upward_with_rank(_runs(means), RANKS).answer == answer


def test_more_so_with_rank_needs_two_ranks():
    assert m.grows_upward_with_rank(_runs({"r4": 1.0}), {"r4": 4}).answer == "not asked"


@pytest.mark.parametrize(
    ("grows", "answer"),
    [
        (lambda r: 1 + 0.5 * math.log2(r), "holds"),
        (math.sqrt, "does not hold"),
        (lambda r: r**0.25, "does not hold"),
        (lambda r: 3.0 - 0.3 * math.log2(r), "does not hold"),
        (lambda r: min(math.log2(r), 4.0), "does not hold"),  # levels off at rank 16
    ],
)
def test_a_norm_that_grows_like_the_log_of_the_rank_is_told_from_other_shapes(grows, answer):
    means = {arm: grows(rank) for arm, rank in RANKS.items()}
    assert m.norm_grows_like_log_rank(_runs(means, 0.002), RANKS).answer == answer


def test_a_noisy_norm_is_undecided_and_two_ranks_are_not_asked():
    means = {arm: math.log2(rank) for arm, rank in RANKS.items()}
    assert m.norm_grows_like_log_rank(_runs(means, 0.5), RANKS).answer == "undecided"
    two = {"r4": 4, "r16": 16}
    assert m.norm_grows_like_log_rank(_runs(means), two).answer == "not asked"


@pytest.mark.parametrize(
    ("full", "noise", "answer"),
    [(0.3, 0.005, "holds"), (0.05, 0.005, "does not hold"), (0.2, 0.3, "undecided")],
)
def test_full_reshapes_more_as_planted(full, noise, answer):
    found = m.full_reshapes_more(_runs({"r4": 0.1, "r64": 0.15, "full": full}, noise), "full")
    assert found.answer == answer and "full − r" in found.why


def test_full_against_no_lora_arm_is_not_asked():
    assert m.full_reshapes_more(_runs({"full": 0.3}), "full").answer == "not asked"


def test_with_one_seed_every_claim_is_undecided_and_says_why():
    means = {arm: math.log2(rank) for arm, rank in RANKS.items()}
    one = _runs(means, seeds=1)
    answers = (
        m.change_grows_upward(one),
        m.grows_upward_with_rank(one, RANKS),
        m.norm_grows_like_log_rank(one, RANKS),
        m.full_reshapes_more(_runs({"r4": 0.1, "full": 0.3}, seeds=1), "full"),
    )
    assert all(a.answer == "undecided" and m.ONE_SEED in a.why for a in answers)


def test_where_nothing_was_planted_claims_are_answered_at_most_once_in_twenty():
    rng, wrong, times = np.random.default_rng(5), np.zeros(4), 400
    for _ in range(times):
        flat = _runs(dict.fromkeys((*RANKS, "full"), 0.0), 1.0, 3, rng)
        shifted = {arm: {s: 5 + v for s, v in runs.items()} for arm, runs in flat.items()}
        answers = (
            m.change_grows_upward(flat),
            m.grows_upward_with_rank(flat, RANKS),
            m.norm_grows_like_log_rank(shifted, RANKS),
            m.full_reshapes_more(flat, "full"),
        )
        wrong += [a.answer != "undecided" for a in answers]
    # Two standard errors above 5 % of 400.
    assert (wrong / times).max() <= 0.072


def test_a_straight_line_is_refuted_and_a_borderline_bend_accepted_at_most_once_in_twenty():
    rng, refuted, accepted, times = np.random.default_rng(6), 0, 0, 300
    for _ in range(times):
        line = {arm: math.log2(rank) for arm, rank in RANKS.items()}
        refuted += m.norm_grows_like_log_rank(_runs(line, 0.1, 3, rng), RANKS).answer == "does not hold"
        # The middle point is lifted so that the parabola's middle lies exactly BENT of the rise above its chord.
        bent = line | {"r16": 4.0 + m.BENT * 4.0}
        accepted += m.norm_grows_like_log_rank(_runs(bent, 0.02, 3, rng), RANKS).answer == "holds"
    assert max(refuted, accepted) / times <= 0.075


def test_a_planted_order_has_correlation_one_and_the_exact_p():
    first = _runs({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0})
    found = m.associated(first, {arm: {s: 10 * v for s, v in runs.items()} for arm, runs in first.items()})
    assert (found.over_arms, found.over_runs) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (found.num_arms, found.num_runs, found.p_value) == (4, 12, 2 / 24)


def test_two_arms_or_a_constant_have_no_correlation():
    assert m.associated(_runs({"a": 1.0, "b": 2.0}), _runs({"a": 1.0, "b": 2.0})) is None
    flat = {arm: {0: 1.0} for arm in "abcd"}
    assert m.associated(flat, _runs(dict.fromkeys("abcd", 1.0), seeds=1)) is None


def test_unrelated_numbers_are_rarely_called_related():
    rng, small, times = np.random.default_rng(7), 0, 200
    for _ in range(times):
        names = [f"a{i}" for i in range(6)]
        arms = [dict(zip(names, rng.standard_normal(6), strict=True)) for _ in range(2)]
        small += m.associated(_runs(arms[0], 0.1, 3, rng), _runs(arms[1], 0.1, 3, rng)).p_value <= 0.05
    assert small / times <= 0.08


@pytest.mark.parametrize(
    ("estimate", "needed", "distance"),
    [(8.0, 16, 1.0), (32.0, 16, 1.0), (16.0, 16, 0.0), (None, 16, None), (4.0, None, None)],
)
def test_distance_of_an_estimate_is_in_doublings(estimate, needed, distance):
    assert m.distance_in_doublings(estimate, needed) == distance


@pytest.mark.parametrize(("spread", "answer"), [(0.1, "does not hold"), (0.346, "undecided")])
def test_the_three_intervals_of_the_log_rank_claim_hold_together(spread, answer):
    """A fall of 1 with a t of 17 over three seeds, and with one of 5: between the 95 % limits of one and of three."""
    norms = {arm: {s: 10.0 - step * (1 + (s - 1) * spread) for s in range(3)}
             for arm, step in (("r4", 0.0), ("r16", 0.5), ("r64", 1.0))}  # fmt: skip
    assert m.norm_grows_like_log_rank(norms, RANKS).answer == answer


@pytest.mark.parametrize(("means", "side"), [((1, 3, 4), "above"), ((1, 2, 4), "below"), ((4, 3, 1), "above")])
def test_a_bend_is_told_on_its_side_whichever_way_the_norm_goes(means, side):
    norms = _runs(dict(zip(RANKS, map(float, means), strict=True)), 0.0)
    assert f"{side} a straight line" in m.norm_grows_like_log_rank(norms, RANKS).why


def test_figures_have_a_true_minus_and_names_keep_their_hyphens():
    found = m.full_reshapes_more(_runs({"r-4": 0.5, "full": 0.3}), "full")
    assert "full − r-4 −0." in found.why


def test_arms_of_one_seed_are_named():
    runs = _runs({"r4": 1.0, "r16": 1.0, "r64": 1.0})
    one = {arm: {0: seeds[0]} if arm != "r64" else seeds for arm, seeds in runs.items()}
    assert "r4 and r16 have one seed" in m.change_grows_upward(one).why
    assert "; r4 has one seed" in m.change_grows_upward(runs | {"r4": {0: 1.0}}).why


@pytest.mark.parametrize("value", [5.0, 0.3, 1 / 3])
def test_equal_numbers_have_no_slope_but_that_of_rounding(value):
    same = {arm: {seed: value for seed in range(3)} for arm in RANKS}
    assert m.grows_upward_with_rank(same, RANKS).answer == "undecided"
    found = m.norm_grows_like_log_rank(same, RANKS)
    assert found.answer == "does not hold" and "a rise of +0 [+0, +0]" in found.why and "straight" not in found.why
