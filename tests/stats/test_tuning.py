"""The choice of a learning rate."""

from __future__ import annotations

import math

import pytest

from rankscope.stats.cost import adapter_params, flops_per_token, model_params
from rankscope.stats.tuning import Trial, choose_lr


def test_the_lowest_rate_within_one_standard_error_of_the_best():
    trials = [Trial(1e-4, 1.00, 0.1), Trial(3e-4, 0.55, 0.1), Trial(1e-3, 0.50, 0.1), Trial(3e-3, 0.9, 0.1)]
    found = choose_lr(trials)
    assert found.lr == 3e-4 and "one standard error" in found.reason and found.edge == ""


def test_differences_are_paired_by_item():
    """Items differ a lot, rates by a constant: the pairs show it though the plain errors overlap."""
    items = tuple(float(i) for i in range(20))
    worse = tuple(x + 0.2 + 0.001 * (i % 2) for i, x in enumerate(items))
    found = choose_lr([Trial(1e-4, 9.7005, 1.3, worse), Trial(1e-3, 9.5, 1.3, items)])
    assert found.lr == 1e-3


@pytest.mark.parametrize(
    ("losses", "edge"), [((1.0, 2.0, 3.0), "low"), ((3.0, 2.0, 1.0), "high"), ((2.0, 1.0, 2.0), "")]
)
def test_a_best_trial_at_the_edge_is_told(losses, edge):
    assert choose_lr([Trial(10.0**-i, x, 0.0) for i, x in zip((5, 4, 3), losses, strict=True)]).edge == edge


def test_failed_trials_take_no_part_and_all_failed_is_none():
    found = choose_lr([Trial(1e-4, 2.0, 0.0), Trial(1e-3, None), Trial(1e-2, math.nan)])
    assert found.lr == 1e-4
    assert choose_lr([Trial(1e-3, None)]) is None


def test_costs_by_count():
    assert flops_per_token("full", 1000, 1000) == 6000 and flops_per_token("lora", 1000, 10) == 4060
    shape = {"hidden": 8, "inner": 16, "layers": 2, "q": 8, "kv": 4, "vocab": 32}
    linear = [(8, 8), (4, 8), (4, 8), (8, 8), (16, 8), (16, 8), (8, 16)]
    assert model_params(shape) == 32 * 8 + 2 * sum(a * b for a, b in linear)
    assert adapter_params(3, shape) == 2 * sum(3 * (a + b) for a, b in linear)
