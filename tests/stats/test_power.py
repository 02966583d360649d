"""Power on planted truth: what is predicted is what happens, and more data brings the verdict it is said to bring."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from rankscope.records import Needed
from rankscope.stats.contrast import Pair, contrasts, default_margin
from rankscope.stats.estimate import Flips, Parts, Spread, flips
from rankscope.stats.power import detectable, needed, power, scaled

ITEM, SEED, REST = 0.2, 0.02, 0.3


def _table(rng, seeds, items, effect=0.0, item=ITEM, seed=SEED, rest=REST):
    return (effect + item * rng.standard_normal(items) + seed * rng.standard_normal((seeds, 1))
            + rest * rng.standard_normal((seeds, items)))  # fmt: skip


def _truth(seeds, items, item=ITEM, seed=SEED, rest=REST) -> Parts:
    """The parts as they are, with the degrees of freedom that a table of this size has."""
    noise = rest**2 / items
    return Parts(seeds, item**2 / items + noise / seeds, items - 1.0, seed**2 + noise, seeds - 1.0, noise,
                 (seeds - 1.0) * (items - 1.0))  # fmt: skip


@pytest.mark.parametrize("items", [5, 20, 200])
def test_power_for_better_or_worse_is_that_of_the_t_test(items):
    found = Spread(1 / math.sqrt(items), items - 1.0)
    for effect in (0.1, 0.3, 0.8):
        expected = TTestPower().power(effect, items, 0.05)
        assert power(effect, found, 0.05) == pytest.approx(expected, abs=3e-3)
    seen = TTestPower().solve_power(nobs=items, alpha=0.05, power=0.8)
    assert detectable(found, 0.05) == pytest.approx(seen, rel=1e-3)


def test_power_for_any_verdict_is_how_often_one_is_reached():
    rng, margin, words = np.random.default_rng(0), 0.03, []
    for _ in range(600):
        (found,) = contrasts([Pair("a", "b", "t", 0.01 + 0.3 * rng.standard_normal((1, 1000)))], margin)
        words.append(found.verdict)
    predicted = power(0.01, Spread(0.3 / math.sqrt(1000), 999.0), 0.05, margin)
    assert np.mean([w != "undecided" for w in words]) == pytest.approx(predicted, abs=0.06)
    assert power(0.01, Spread(0.3 / math.sqrt(1000), 999.0), 0.05) < predicted - 0.2  # better alone is rarer


def test_a_wider_margin_and_more_certainty_never_make_a_verdict_rarer():
    for se in (0.001, 0.005, 0.02):
        chances = [power(0.01, Spread(se, 20.0), 0.05, margin) for margin in (0.02, 0.03, 0.06)]
        assert chances == sorted(chances)
    assert power(0.01, Spread(1e-5, 20.0), 0.05, 0.02) == pytest.approx(1.0)
    assert math.isnan(power(0.1, Spread(math.nan, math.nan), 0.05))


@pytest.mark.parametrize(("items", "seeds"), [(3.0, None), (1.0, 9), (0.5, 5)])
def test_parts_scale_as_those_of_the_larger_table_do(items, seeds):
    expected = _truth(seeds or 3, int(400 * items))
    found = scaled(_truth(3, 400), items, seeds)
    for name in ("item", "seed", "rest", "num_seeds", "seed_df"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name))
    assert found.item_df == pytest.approx(expected.item_df, rel=0.02)
    with pytest.raises(ValueError):
        scaled(Parts(1, 0.1, 9.0), seeds=2)


def test_so_many_items_or_seeds_bring_the_verdict_eight_times_in_ten():
    """One arm with three seeds of 150 items: a truth of 5 points with the margin at 3 calls for better."""
    rng, truth, effect = np.random.default_rng(1), _truth(5, 150), 0.05
    more = needed(effect, truth, 150, 0.05, 0.03)
    assert more.items > 150 and more.seeds > 5
    for items, seeds in ((more.items, 5), (150, more.seeds)):
        hits = [contrasts([Pair("a", "b", "t", _table(rng, seeds, items, effect))], 0.03)[0].verdict == "better"
                for _ in range(250)]  # fmt: skip
        assert 0.7 <= np.mean(hits) <= 0.92


def test_fewer_would_not_do():
    truth = _truth(5, 150)
    more = needed(0.05, truth, 150, 0.05, 0.03)

    def chance(items, seeds):
        return power(0.05, scaled(truth, items / 150, seeds).spread, 0.05)

    assert chance(more.items, 5) >= 0.8 > chance(0.98 * more.items, 5)
    assert chance(150, more.seeds) >= 0.8 > chance(150, more.seeds - 1)


def test_a_small_difference_is_decided_by_equivalence_if_that_is_sooner():
    truth = _truth(1, 300, seed=0.0)
    assert needed(0.0, truth, 300, 0.05, 0.03).items < needed(0.02, truth, 300, 0.05, 0.03).items
    assert needed(0.029, truth, 300, 0.05, 0.03).items == pytest.approx(
        needed(0.031, truth, 300, 0.05, 0.03).items, rel=0.2
    )


def test_no_number_is_named_where_none_would_do():
    loud = _truth(3, 200, item=0.05, seed=0.05)
    assert needed(0.04, loud, 200, 0.05, 0.02).items is None  # items can't quiet the seeds
    few = _truth(3, 20, item=0.3, seed=0.0)
    assert needed(0.04, few, 20, 0.05, 0.02).seeds is None  # nor seeds the items
    assert needed(0.04, Parts(1, math.nan, math.nan), 1, 0.05, 0.02) == Needed(None, None)


def test_with_one_seed_only_items_are_named():
    (found,) = contrasts([Pair("a", "b", "t", _table(np.random.default_rng(2), 1, 60, 0.04))])
    assert found.verdict == "undecided" and found.needed.items > 60 and found.needed.seeds is None


def test_what_is_needed_stands_beside_the_undecided_and_only_there():
    rng = np.random.default_rng(3)
    family = [Pair(str(e), "b", "t", _table(rng, 3, 800, e, seed=0.0)) for e in (0.0, 0.04, 0.5)]
    for found in contrasts(family, margin=0.03):
        assert (found.needed is not None) == (found.verdict == "undecided")
    assert {c.verdict for c in contrasts(family, margin=0.03)} >= {"undecided", "better"}


def test_unflipped_answers_need_the_rule_of_three():
    table = np.zeros((1, 60))
    (found,) = contrasts([Pair("a", "b", "t", table, changed=flips(table))], margin=0.02)
    assert found.needed.items == pytest.approx(math.log(0.025) / math.log(0.98), abs=1.5)
    assert power(0.0, Spread(0.0, 59.0), 0.05, 0.02, Flips(60.0, 0.0, 0.0)) == 0.0


def test_each_pair_may_have_its_own_margin():
    table = 0.03 + 0.05 * np.random.default_rng(4).standard_normal((3, 400))
    wide, own = contrasts([Pair("a", "b", "t", table), Pair("a", "b", "u", table, margin=0.1)], margin=0.02)
    assert (wide.margin, wide.verdict) == (0.02, "better") and (own.margin, own.verdict) == (0.1, "equivalent")
    assert (own.low, own.high) == (wide.low, wide.high)


def test_non_inferior_means_that_a_loss_of_the_margin_is_excluded():
    rng = np.random.default_rng(5)
    found = {e: contrasts([Pair("a", "b", "t", e + 0.05 * rng.standard_normal((3, 400)))], margin=0.02)[0]
             for e in (0.2, 0.0, -0.2)}  # fmt: skip
    assert [found[e].is_non_inferior for e in (0.2, 0.0, -0.2)] == [True, True, False]


def test_few_items_get_a_margin_they_can_reach():
    assert [default_margin(n) for n in (100, 1999, 2000, 50_000)] == [0.03, 0.03, 0.02, 0.02]


def test_the_detectable_difference_of_few_degrees_of_freedom_is_the_noncentral_one():
    found = Spread(1.0, 3.0)
    limit = stats.t.isf(0.01, 3)
    assert stats.nct.sf(limit, 3, detectable(found, 0.02)) == pytest.approx(0.8, abs=1e-4)
    assert stats.nct.sf(limit, 3, limit + stats.t.ppf(0.8, 3)) < 0.78  # adding two central quantiles is too little
