"""Races on planted losses: who is stopped, why, and who never is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rankscope.stats.racing import LIMITS, LOOKS, NEVER, Look, Racer, order, race

ROWS = 60
START = tuple(4.0 + 0.5 * np.sin(np.arange(ROWS)))
QUIET = replace(LIMITS, slow=(0.3,) * len(LOOKS), fast=(0.3,) * len(LOOKS), gain=(0.3,) * len(LOOKS),
                drift=(3.0,) * len(LOOKS), tie=(-NEVER,) * len(LOOKS), z=1.0)  # fmt: skip


def look(arm: str, lr: float, loss: float, share: float = LOOKS[1], drift: float = 1.0, noise: float = 0.02) -> Look:
    """A run whose rows are the base's, scaled down to this mean loss."""
    rank = int(arm.removeprefix("lora-r")) if arm.startswith("lora-r") else None
    rows = np.random.default_rng([round(1e6 * lr), rank or 0]).normal(1, noise, ROWS)
    losses = np.array(START) * rows * loss / np.mean(np.array(START) * rows)
    return Look(Racer(arm, "lora" if rank else "full", rank, lr), share, tuple(losses.tolist()), (drift,) * ROWS)


def stopped(drops) -> dict[tuple[str, float], str]:
    return {(d.racer.arm, d.racer.lr): d.reason for d in drops}


def test_a_hopeless_rate_is_stopped_and_one_close_behind_is_not():
    runs = [look("lora-r4", 1e-5, 3.9), look("lora-r4", 1e-3, 1.2), look("lora-r4", 3e-3, 1.0)]
    (drop,) = race(runs, LOOKS[1], START, limits=QUIET)
    assert (drop.racer.lr, drop.reason, drop.by.lr) == (1e-5, "rate", 3e-3)


def test_lag_is_the_share_of_log_progress_that_is_lacking():
    """The base at 4, the leader at 1, the run at 2: it has made half of the way down on a logarithmic scale."""
    four = tuple(4.0 for _ in range(ROWS))
    runs = [Look(Racer("lora-r4", "lora", 4, lr), LOOKS[1], (loss,) * ROWS, (1.0,) * ROWS)
            for lr, loss in ((1e-4, 2.0), (1e-3, 1.0))]  # fmt: skip
    (drop,) = race(runs, LOOKS[1], four, limits=QUIET)
    assert drop.lag == pytest.approx(0.5, abs=0.03) and drop.limit == 0.3


def test_a_high_rate_may_lag_where_a_low_one_may_not():
    patient = replace(QUIET, fast=(0.8,) * len(LOOKS))
    low = [look("lora-r4", 1e-4, 2.2), look("lora-r4", 1e-3, 1.0)]
    high = [look("lora-r4", 1e-3, 1.0), look("lora-r4", 1e-2, 2.2)]
    assert stopped(race(low, LOOKS[1], START, limits=patient)) == {("lora-r4", 1e-4): "rate"}
    assert race(high, LOOKS[1], START, limits=patient) == ()


def test_an_arm_far_behind_takes_all_its_rates_with_it():
    runs = [look("lora-r1", 1e-3, 3.6), look("lora-r1", 3e-3, 3.5), look("lora-r16", 1e-3, 1.0)]
    drops = race(runs, LOOKS[1], START, limits=QUIET)
    assert stopped(drops) == {("lora-r1", 1e-3): "gain", ("lora-r1", 3e-3): "gain"}
    assert {d.by.arm for d in drops} == {"lora-r16"}


def test_what_noise_can_explain_stops_nobody():
    """The same mean losses: with rows that vary a lot, the difference is within the errors."""
    runs = [look("lora-r4", 1e-4, 1.75), look("lora-r4", 1e-3, 1.0)]
    noisy = [look("lora-r4", 1e-4, 1.75, noise=2.5), look("lora-r4", 1e-3, 1.0, noise=2.5)]
    assert len(race(runs, LOOKS[1], START, limits=QUIET)) == 1
    assert race(noisy, LOOKS[1], START, limits=QUIET) == ()


def test_the_best_full_sft_is_never_stopped_however_far_behind():
    runs = [look("full", 1e-4, 3.9), look("full", 1e-3, 3.0), look("lora-r4", 1e-3, 0.5)]
    assert stopped(race(runs, LOOKS[1], START, limits=QUIET)) == {("full", 1e-4): "rate"}


def test_full_sft_stops_no_rank():
    """It may gain most by far: the ranks are compared with each other."""
    runs = [look("full", 1e-3, 0.1), look("lora-r4", 1e-3, 1.9), look("lora-r8", 1e-3, 2.0)]
    assert race(runs, LOOKS[1], START, limits=QUIET) == ()


@pytest.mark.parametrize("losses", [(3.9, 3.8), (1.0, 1.0), (4.5, 6.0)])
def test_somebody_of_the_ranks_always_goes_on(losses):
    runs = [look("lora-r1", 1e-3, losses[0]), look("lora-r16", 1e-3, losses[1])]
    zero = replace(QUIET, **{name: (0.0,) * len(LOOKS) for name in ("slow", "fast", "gain", "drift")}, z=0.0)
    assert len(race(runs, LOOKS[-1], START, limits=zero)) < 2


def test_an_arm_that_gains_no_more_and_moves_much_further_is_stopped_for_retention():
    runs = [look("lora-r16", 1e-3, 1.02, drift=8.0), look("lora-r4", 1e-3, 1.0, drift=1.0)]
    (drop,) = race(runs, LOOKS[1], START, limits=QUIET)
    assert (drop.racer.arm, drop.reason, drop.by.arm) == ("lora-r16", "retention", "lora-r4")
    assert drop.lag == pytest.approx(8.0) and drop.limit == 3.0
    # It gains more for it: neither it nor the leader is stopped for a calmer arm that gains less.
    further = [look("lora-r16", 1e-3, 0.95, drift=8.0), look("lora-r8", 1e-3, 0.9, drift=7.0), runs[1]]
    assert race(further, LOOKS[1], START, limits=QUIET) == ()


def test_ties_stop_the_dearer_rank_only_if_cost_is_preferred_and_a_limit_is_set():
    tied = replace(QUIET, tie=(0.1,) * len(LOOKS))
    runs = [look("lora-r16", 1e-3, 1.001), look("lora-r4", 1e-3, 1.0)]
    assert stopped(race(runs, LOOKS[-1], START, limits=tied)) == {("lora-r16", 1e-3): "tie"}
    assert race(runs, LOOKS[-1], START, "gain", tied) == ()
    assert race(runs, LOOKS[-1], START, limits=QUIET) == ()


def test_a_run_that_is_not_finite_is_no_racer():
    broken = replace(look("lora-r4", 1e-2, 1.0), losses=(math.nan,) * ROWS)
    runs = [broken, look("lora-r4", 1e-3, 1.0), look("lora-r4", 1e-5, 3.9)]
    assert stopped(race(runs, LOOKS[1], START, limits=QUIET)) == {("lora-r4", 1e-5): "rate"}
    assert race([broken], LOOKS[1], START) == ()


def test_where_nobody_has_learned_nobody_is_stopped():
    runs = [look("lora-r4", 1e-5, 4.1), look("lora-r8", 1e-3, 4.2), look("full", 1e-3, 4.05)]
    assert race(runs, LOOKS[0], tuple(x * 0.9 for x in START), limits=QUIET) == ()


def test_the_order_of_the_runs_changes_nothing():
    runs = [look("lora-r1", 1e-3, 3.6), look("lora-r4", 1e-4, 3.0), look("lora-r4", 1e-3, 1.0), look("full", 1e-3, 0.9)]
    assert stopped(race(runs, LOOKS[1], START)) == stopped(race(runs[::-1], LOOKS[1], START))


def test_unequal_rows_and_shares_that_are_no_look_are_errors():
    runs = [look("lora-r4", 1e-3, 1.0)]
    with pytest.raises(ValueError, match="same rows"):
        race(runs, LOOKS[1], START[:-1])
    with pytest.raises(ValueError, match="no look"):
        race(runs, 0.9, START)


def test_every_limit_is_given_at_every_look():
    assert all(len(getattr(LIMITS, name)) == len(LOOKS) for name in ("slow", "fast", "gain", "drift", "tie"))


def test_ranks_are_raced_from_the_smallest_that_keeps_enough_outward():
    kept = {1: 0.30, 2: 0.70, 4: 0.96, 8: 0.99, 16: 1.0}
    assert order([16, 8, 4, 2, 1], kept) == (4, 2, 8, 1, 16)


def test_a_planted_truncation_puts_its_rank_first():
    """An update of true rank 3: what its truncation keeps is the share of its energy, so 4 of these ranks."""
    values = np.array([3.0, 2.5, 2.0, 0.05, 0.05, 0.05, 0.05, 0.05])
    kept = {r: float((values[:r] ** 2).sum() / (values**2).sum()) for r in (1, 2, 4, 8)}
    assert order([1, 2, 4, 8], kept)[0] == 4


def test_without_a_rank_that_keeps_enough_the_highest_comes_first():
    assert order([1, 2, 4], {1: 0.1, 2: 0.2, 4: 0.5}) == (4, 2, 1)
    assert order([1, 2, 4], {}) == (4, 2, 1)
    assert order([1, 2, 4], {1: math.nan, 2: math.nan}) == (4, 2, 1)
