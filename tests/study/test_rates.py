"""How an arm's learning rate is found, on planted validation losses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rankscope.records import Arm, ModelRef, Recipe, RunResult, RunSpec, TaskRef
from rankscope.study.plan import run_key
from rankscope.study.rates import EXTENSIONS, arm_rates, counting, next_rate


def _specs(*rates: float, auto: bool = True) -> list[RunSpec]:
    arm = Arm("lora-r4", "lora", lr_auto=auto, rank=4, alpha=32.0)
    return [RunSpec(ModelRef("m", key="m"), arm, lr, TaskRef("demo_people", data_key="d"), Recipe(), 0) for lr in rates]


def _settle(specs: list[RunSpec], loss) -> tuple[list[float], object]:
    """Run what is missing until nothing is; the loss of a rate is ``loss(lr)``. Gives the rates tried, in order."""
    done: dict[str, RunResult] = {}
    tried: list[float] = []
    for _ in range(10):
        found = arm_rates(lambda keys: {k: done[k] for k in keys if k in done}, specs)
        if found.is_settled:
            return tried, found
        for spec in found.missing:
            tried.append(spec.lr)
            key, value = run_key(spec), loss(spec.lr)
            failed = not math.isfinite(value)
            done[key] = RunResult(key, "failed" if failed else "done", validation_loss=None if failed else value,
                                  validation_se=0.001)  # fmt: skip
    raise AssertionError("never settled")


def _bowl(best: float):
    return lambda lr: abs(math.log10(lr / best))


def test_a_best_rate_inside_the_grid_needs_no_more():
    tried, found = _settle(_specs(1e-4, 3e-4, 1e-3), _bowl(3e-4))
    assert tried == [1e-4, 3e-4, 1e-3] and found.chosen.lr == 3e-4 and found.choice.edge == ""


@pytest.mark.parametrize("best, added", [(3e-3, [3e-3, 1e-2]), (3e-5, [3e-5, 1e-5])])
def test_a_best_rate_at_the_end_is_followed(best, added):
    tried, found = _settle(_specs(1e-4, 3e-4, 1e-3), _bowl(best))
    assert tried[3:] == added and found.chosen.lr == best and found.choice.edge == ""


def test_it_is_followed_twice_at_most_and_the_edge_is_told():
    tried, found = _settle(_specs(1e-4, 3e-4, 1e-3), _bowl(1.0))
    assert len(tried) == 3 + EXTENSIONS and found.chosen.lr == 1e-2 and found.choice.edge == "high"


def test_a_grid_that_was_given_is_never_left():
    tried, found = _settle(_specs(1e-4, 3e-4, auto=False), _bowl(1.0))
    assert tried == [1e-4, 3e-4] and found.choice.edge == "high"


def test_a_diverged_trial_is_never_chosen_and_one_fixed_rate_needs_no_trial():
    _, found = _settle(_specs(1e-4, 3e-4, 1e-3), lambda lr: math.nan if lr > 2e-4 else 1.0)
    assert found.chosen.lr in (1e-4, 3e-5, 1e-5)
    assert arm_rates(lambda keys: {}, _specs(1e-3, auto=False)).is_settled


def _planted(truth, spread: float = 0.2, num: int = 60):
    """Items' losses at a rate: ``truth(lr)`` plus what an item is by itself, and a little that hangs on both."""

    def items(lr: float) -> tuple[float, ...]:
        noise = np.random.default_rng(round(1e7 * lr))
        own = np.random.default_rng(0).normal(0, 1.0, num)
        return tuple(float(x) for x in truth(lr) + own + noise.normal(0, spread, num))

    return items


def _settle_items(specs: list[RunSpec], items) -> tuple[list[float], object]:
    """``_settle`` with validation losses item by item, as a run stores them."""
    done: dict[str, RunResult] = {}
    tried: list[float] = []
    while not (found := arm_rates(lambda keys: {k: done[k] for k in keys if k in done}, specs)).is_settled:
        for spec in found.missing:
            tried.append(spec.lr)
            key, losses = run_key(spec), items(spec.lr)
            se = float(np.std(losses, ddof=1)) / math.sqrt(len(losses))
            done[key] = RunResult(key, "done", validation_loss=float(np.mean(losses)), validation_se=se,
                                  validation_items=losses)  # fmt: skip
    return tried, found


def test_among_rates_that_cannot_be_told_apart_the_lowest_is_taken_and_the_best_is_not():
    def truth(lr):
        return {1e-4: 2.0, 3e-4: 1.003, 1e-3: 1.0, 3e-3: 1.4}[lr]

    tried, found = _settle_items(_specs(1e-4, 3e-4, 1e-3, 3e-3, auto=False), _planted(truth, spread=0.2))
    assert tried == [1e-4, 3e-4, 1e-3, 3e-3] and found.chosen.lr == 3e-4


def test_a_difference_that_the_pairs_show_is_not_given_away_though_items_differ_much_more():
    """0.1 nats apart, items 1 nat apart: unpaired, one standard error (0.13) would take the lower rate."""

    def truth(lr):
        return {1e-4: 1.1, 3e-4: 1.0, 1e-3: 1.3}[lr]

    _, found = _settle_items(_specs(1e-4, 3e-4, 1e-3), _planted(truth, spread=0.02))
    assert found.chosen.lr == 3e-4 and found.choice.edge == ""


def test_a_flat_curve_goes_no_further_than_two_rates_beyond_its_grid_and_never_above_its_best():
    for level in range(8):
        items = _planted(lambda lr, level=level: float(level), spread=0.2)
        tried, found = _settle_items(_specs(1e-4, 3e-4, 1e-3), items)
        means = {lr: float(np.mean(items(lr))) for lr in tried}
        assert len(tried) <= 3 + EXTENSIONS and found.chosen.lr <= min(means, key=means.get)


def test_the_chosen_rate_of_an_extended_grid_may_lie_inside_it_again():
    """The best lies beyond the top; the lower rate within one standard error of it is taken, and the edge is clear."""

    def truth(lr):
        return {1e-4: 2.0, 3e-4: 1.5, 1e-3: 1.002, 3e-3: 1.0, 1e-2: 1.5}[lr]

    tried, found = _settle_items(_specs(1e-4, 3e-4, 1e-3), _planted(truth, spread=0.3))
    assert set(tried) >= {1e-4, 3e-4, 1e-3} and found.chosen.lr == 1e-3 and found.choice.edge == ""


def test_rates_beyond_one_that_diverged_are_not_tried():
    tried, found = _settle(_specs(1e-4, 3e-4, 1e-3), lambda lr: math.nan if lr > 5e-4 else _bowl(1.0)(lr))
    assert tried == [1e-4, 3e-4, 1e-3] and found.chosen.lr == 3e-4 and found.choice.edge == ""


def test_an_extension_is_judged_against_the_whole_grid_and_not_against_its_neighbour_alone():
    losses = {1e-5: 3.0, 3e-5: 0.9, 1e-4: 1.0, 3e-4: 1.1, 1e-3: 1.2}
    tried, found = _settle(_specs(1e-4, 3e-4, 1e-3), losses.__getitem__)
    assert tried[3:] == [3e-5, 1e-5] and found.chosen.lr == 3e-5


def test_where_every_trial_failed_the_arm_is_a_failed_row_at_its_lowest_rate():
    _, found = _settle(_specs(1e-4, 3e-4, auto=False), lambda lr: math.nan)
    assert found.choice is None and found.chosen.lr == 1e-4


def test_neighbours_go_by_one_and_three():
    up = [1e-5]
    for _ in range(4):
        up.append(next_rate(up[-1], True))
    assert up == [1e-5, 3e-5, 1e-4, 3e-4, 1e-3]
    assert [next_rate(r, False) for r in (1e-3, 3e-4)] == [3e-4, 1e-4]


def test_a_rate_that_a_race_stopped_has_lost_and_is_not_waited_for():
    specs = _specs(1e-4, 3e-4, 1e-3)
    low, middle, high = (run_key(s) for s in specs)
    done = {middle: RunResult(middle, "done", validation_loss=1.0), high: RunResult(high, "done", validation_loss=2.0)}
    found = arm_rates(lambda keys: {k: done[k] for k in keys if k in done}, specs, {low})
    assert found.is_settled and found.chosen.lr == 3e-4 and found.choice.edge == ""  # a rate was tried on either side
    assert [s.lr for s in found.dropped] == [1e-4] and not found.is_out
    waiting = arm_rates(lambda keys: {}, specs, {low})
    assert [s.lr for s in waiting.missing] == [3e-4, 1e-3] and waiting.chosen.lr == 3e-4


def test_an_arm_without_a_rate_left_is_settled_and_has_no_run_that_counts():
    specs = _specs(1e-4, 3e-4)
    out = arm_rates(lambda keys: {}, specs, {run_key(s) for s in specs})
    single = arm_rates(lambda keys: {}, _specs(1e-3, auto=False), {run_key(_specs(1e-3, auto=False)[0])})
    assert out.is_out and out.is_settled and single.is_out and counting([out, single], [0, 1]) == []
    alone = arm_rates(lambda keys: {}, _specs(1e-3, auto=False))
    assert [(s.lr, s.seed) for s in counting([out, alone], [0, 1])] == [(1e-3, 0), (1e-3, 1)]
