"""Miniatures of benchmarks/simulate.py: what a careful interval covers, a careless one must miss by far.

Bands are wide enough for the seeds drawn here; beside each stands a method that ignores seeds, passages or the family.
"""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar
from statsmodels.stats.proportion import proportion_confint

from rankscope.records import Contrast, Estimate
from rankscope.stats import contrast, estimate, retention
from rankscope.stats.contrast import Pair, contrasts, mcnemar
from rankscope.stats.estimate import Spread, mean_estimate, parts, rate_estimate, shared
from reference.crossed import clustered_sum, two_way
from reference.worlds import BASE_RATE, World, pairs, tables

CHANCE = 0.25


@pytest.fixture(autouse=True)
def only_intervals(monkeypatch):
    """What more data would bring is tested elsewhere, and takes longer than all the rest."""
    monkeypatch.setattr(contrast, "needed", lambda *_: None)


def _all(world: World, draws: int, seed: int = 0) -> list[tuple[list[Pair], list[Contrast]]]:
    rng = np.random.default_rng(seed)
    families = [pairs(world, rng) for _ in range(draws)]
    return [(family, contrasts(family, 0.03)) for family in families]


def _covers(found: Estimate, truth: float = 0.0) -> bool:
    return found.low <= truth <= found.high


def _errs(found: list[Contrast]) -> bool:
    return any(c.verdict in ("better", "worse") for c in found)


@pytest.mark.parametrize("is_binary", [True, False])
def test_intervals_cover_and_those_that_ignore_seeds_do_not(is_binary):
    """Three seeds that move the mean by 2 points: counting every score as an item of its own covers two in three."""
    drawn = _all(World(3, 300, 0.02, is_binary, discordant=(0.1,)), 60)
    shared_ = np.mean([[_covers(c.estimate) for c in found] for _, found in drawn])
    alone = np.mean([[_covers(mean_estimate(p.signed, changed=p.changed)) for p in family] for family, _ in drawn])
    naive = np.mean([[_covers(mean_estimate(p.signed.reshape(1, -1))) for p in family] for family, _ in drawn])
    assert 0.92 <= shared_ <= 0.99 and 0.91 <= alone <= 0.99
    assert naive < 0.85


@pytest.mark.parametrize("is_binary", [True, False])
def test_intervals_cover_with_passages_and_those_that_ignore_them_do_not(is_binary):
    drawn = _all(World(1, 300, 0.0, is_binary, is_clustered=True, discordant=(0.3,)), 60)
    careful = np.mean([[_covers(c.estimate) for c in found] for _, found in drawn])
    naive = np.mean([[_covers(mean_estimate(p.signed)) for p in family] for family, _ in drawn])
    assert 0.92 <= careful <= 0.99
    assert naive < 0.88


def test_families_err_rarely_and_without_the_family_they_err_often():
    """Ten arms of which none differs: with each arm's own 95 % interval, a quarter of the studies name one."""
    drawn = _all(World(3, 200, 0.01, arms=10), 80)
    assert np.mean([_errs(found) for _, found in drawn]) <= 0.1
    assert np.mean([not all(_covers(c.estimate) for c in found) for _, found in drawn]) > 0.16


def test_families_whose_arms_do_not_share_what_they_know_of_seeds_err_often_if_that_is_guessed():
    """With each arm's seed part taken as if it were known for sure (normal quantiles), far more than 5 % err."""
    drawn = _all(World(3, 1000, 0.02, is_binary=False), 60)
    assert np.mean([_errs(found) for _, found in drawn]) <= 0.1
    sure = [any(abs(p.signed.mean()) > 2.58 * parts(p.signed).spread.se for p in family) for family, _ in drawn]
    assert np.mean(sure) > 0.2


def test_a_loss_of_the_margin_is_hardly_ever_called_equivalent():
    lost = World(3, 1500, 0.0, discordant=(0.1,), effect=-0.03)
    words = [{c.verdict for c in found} for _, found in _all(lost, 40)]
    assert np.mean(["equivalent" in w for w in words]) <= 0.125
    kept = [c.verdict for _, found in _all(replace(lost, effect=0.0), 10) for c in found]
    assert np.mean([w == "equivalent" for w in kept]) > 0.5  # it can be said, where it is true


def test_an_arm_three_times_as_loud_errs_less_with_its_own_degrees_of_freedom():
    scale = (1.0, 1.0, 1.0, 1.0, 3.0)
    drawn, missed, before = _all(World(3, 1000, 0.02, is_binary=False, scale=scale), 100), 0, 0
    for family, found in drawn:
        missed += not _covers(found[-1].estimate)
        own = [parts(p.signed) for p in family]
        common = replace(shared(own)[-1], seed_df=sum(p.seed_df for p in own)).spread
        mean = float(family[-1].signed.mean())
        before += not _covers(replace(found[-1].estimate, low=mean - estimate.half_width(common, 0.05),
                                      high=mean + estimate.half_width(common, 0.05)))  # fmt: skip
    assert missed < before and missed / 100 <= 0.16


def test_pooled_retention_covers_the_share_that_is_left():
    rng, hits, world = np.random.default_rng(0), [], World(3, 500, 0.01, effect=-0.07)
    truth = (BASE_RATE + world.effect - CHANCE) / (BASE_RATE - CHANCE)
    for _ in range(50):
        both = [tables(w, rng) for w in (world, replace(world, items=300))]
        arms = [[retention.Kept(str(k), t[0][arm], t[1], CHANCE) for k, t in enumerate(both)] for arm in range(5)]
        hits += [_covers(r.estimate, truth) for r in retention.retentions(arms)]
    assert 0.92 <= np.mean(hits) <= 0.995


def test_wilson_is_that_of_statsmodels():
    for count, total in ((1, 20), (7, 30), (250, 1000), (999, 1000)):
        found = rate_estimate(np.repeat([1.0, 0.0], [count, total - count]))
        assert (found.low, found.high) == pytest.approx(proportion_confint(count, total, 0.05, "wilson"), abs=1e-12)


def test_mcnemar_is_that_of_statsmodels():
    rng = np.random.default_rng(1)
    for _ in range(5):
        before, after = rng.random((2, 80)) < 0.6
        table = [[np.sum(before & after), np.sum(before & ~after)], [np.sum(~before & after), np.sum(~before & ~after)]]
        expected = exact_mcnemar(np.array(table), exact=True).pvalue
        assert mcnemar(after.astype(float) - before) == pytest.approx(expected)


def test_parts_are_those_of_a_plain_analysis_of_variance():
    table = np.random.default_rng(2).standard_normal((3, 11)) + np.arange(3)[:, None]
    found = parts(table)
    assert (found.item, found.seed, found.rest) == pytest.approx(two_way(table.tolist()))


@pytest.mark.parametrize("sizes", [(4, 4, 4, 4), (1, 2, 3, 9, 5), (1, 1, 30)])
def test_clustered_parts_are_bell_and_mccaffreys_from_their_matrices(sizes):
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    values = np.random.default_rng(3).standard_normal(len(clusters))
    variance, df = clustered_sum(values, clusters.tolist())
    found = parts(values[None], clusters)
    assert (found.item * len(values) ** 2, found.item_df) == pytest.approx((variance, df))
    if len(set(sizes)) == 1:
        assert df == pytest.approx(len(sizes) - 1)


def _one_seed() -> dict:
    """An estimate of one seed from every public function of ``stats`` that gives one."""
    rng = np.random.default_rng(4)
    table, base = (rng.random((1, 80)) < 0.5).astype(float), (rng.random(80) < 0.7).astype(float)
    kept = [retention.Kept("t", table, base, 0.1)]
    return {
        "mean_estimate": mean_estimate(table),
        "mean_estimates": estimate.mean_estimates([(table, None)])[0],
        "estimate_from": estimate.estimate_from(table, Spread(0.1, 79.0), None, 0.95),
        "rate_estimate": rate_estimate(table[0]),
        "contrasts": contrasts([Pair("a", "base", "t", table - base)])[0].estimate,
        "retention": retention.retention(kept).estimate,
        "retentions": retention.retentions([kept])[0].estimate,
    }


def test_every_estimate_of_one_seed_says_this_seed_only():
    found = _one_seed()
    assert found.pop("rate_estimate").scope == "items"  # one fixed model: there is no seed to speak of
    assert {name: e.scope for name, e in found.items()} == dict.fromkeys(found, "this seed only")


def test_no_public_function_that_gives_an_estimate_is_forgotten_there():
    names = set()
    for module in (estimate, contrast, retention):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            given = str(inspect.signature(function).return_annotation)
            if function.__module__ == module.__name__ and not name.startswith("_"):
                names |= {name} if any(w in given for w in ("Estimate", "Contrast", "Retention")) else set()
    assert names == set(_one_seed())
