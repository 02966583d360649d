"""The frontier of gain, forgetting and cost."""

from __future__ import annotations

import itertools

import numpy as np

from rankscope.stats.frontier import LABEL, Spot, frontier


def test_a_dominated_arm_says_by_whom_and_a_trade_is_no_domination():
    small, big, poor = Spot("r4", 0.1, 0.01, 1.0), Spot("r64", 0.2, 0.05, 2.0), Spot("r128", 0.15, 0.06, 3.0)
    found = {p.spot.arm: p for p in frontier([small, big, poor])}
    assert found["r4"].is_on and found["r64"].is_on
    assert found["r128"].is_on is False and found["r128"].dominated_by == ("r64",)


def test_equal_arms_do_not_dominate_each_other_but_a_cheaper_twin_does():
    a, b, dear = Spot("a", 0.1, 0.0, 1.0), Spot("b", 0.1, 0.0, 1.0), Spot("c", 0.1, 0.0, 1.5)
    assert [p.dominated_by for p in frontier([a, b, dear])] == [(), (), ("a", "b")]


def test_an_arm_without_a_number_is_nowhere_and_beats_nobody():
    found = frontier([Spot("a", 0.9, None, 0.0), Spot("b", 0.1, 0.0, 1.0), Spot("c", 0.9, float("nan"), 0.0)])
    assert [p.is_on for p in found] == [None, True, None] and not any(p.dominated_by for p in found)


def test_it_is_what_comparing_every_two_gives():
    numbers = np.random.default_rng(0).integers(0, 4, (40, 3)).astype(float)
    spots = [Spot(str(i), *row) for i, row in enumerate(numbers)]
    beaten = {str(i): [] for i in range(40)}
    for i, j in itertools.permutations(range(40), 2):
        better = [numbers[j, 0] - numbers[i, 0], numbers[i, 1] - numbers[j, 1], numbers[i, 2] - numbers[j, 2]]
        if min(better) >= 0 and max(better) > 0:
            beaten[str(i)].append(str(j))
    assert {p.spot.arm: list(p.dominated_by) for p in frontier(spots)} == beaten
    assert frontier([]) == [] and "point estimates" in LABEL
