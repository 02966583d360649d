"""Verdicts on planted truth: the family's intervals hold together, words mean what they say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from rankscope.stats import contrast
from rankscope.stats.contrast import Pair, contrasts, mcnemar
from rankscope.stats.estimate import flips, mean_estimate, spread


@pytest.fixture(autouse=True)
def only_intervals(monkeypatch):
    """What more data would bring is tested in test_power.py, and takes longer than all the rest."""
    monkeypatch.setattr(contrast, "needed", lambda *_: None)


def _family(rng, members=8, items=150, seeds=3, means=0.0, shared=0.2):
    common = shared * rng.standard_normal(items)
    means = np.broadcast_to(means, members)
    noise = [0.2 * rng.standard_normal((seeds, items)) for _ in means]
    return [
        Pair(f"a{i}", "base", "t", m + common + x, group=str(i))
        for i, (m, x) in enumerate(zip(means, noise, strict=True))
    ]


def test_all_intervals_of_a_family_hold_together():
    rng = np.random.default_rng(0)
    together = apart = 0
    for _ in range(200):
        found = contrasts(_family(rng))
        together += all(c.low <= 0 <= c.high for c in found)
        apart += all(c.estimate.low <= 0 <= c.estimate.high for c in found)
    assert together / 200 >= 0.91 and apart < together


def test_never_wider_than_bonferroni_and_never_narrower_than_one():
    family = _family(np.random.default_rng(1))
    for pair, found in zip(family, contrasts(family), strict=True):
        single = contrasts([pair])[0]
        assert single.high - single.low <= found.high - found.low
        (bonferroni,) = contrasts([pair], level=1 - 0.05 / len(family))
        assert found.high - found.low <= (bonferroni.high - bonferroni.low) * (1 + 1e-9)


@pytest.mark.parametrize(("mean", "word"), [(0.2, "better"), (-0.2, "worse"), (0.0, "equivalent")])
def test_planted_differences_get_their_word(mean, word):
    rng = np.random.default_rng(2)
    (found,) = contrasts([Pair("a", "b", "t", mean + 0.05 * rng.standard_normal((3, 400)))], margin=0.02)
    assert found.verdict == word


def test_too_little_data_is_undecided_and_says_what_could_be_seen():
    rng = np.random.default_rng(3)
    (found,) = contrasts([Pair("a", "b", "t", 0.03 + 0.5 * rng.standard_normal((3, 40)))])
    assert found.verdict == "undecided" and found.detectable > found.margin


def test_equivalent_comes_before_better():
    rng = np.random.default_rng(4)
    (found,) = contrasts([Pair("a", "b", "t", 0.005 + 0.001 * rng.standard_normal((3, 400)))], margin=0.02)
    assert found.low > 0 and found.verdict == "equivalent"


def test_for_losses_less_is_better():
    rng = np.random.default_rng(5)
    (found,) = contrasts([Pair("a", "b", "ce", 0.3 + 0.05 * rng.standard_normal((3, 100)), higher_is_better=False)])
    assert found.verdict == "worse" and found.estimate.value == pytest.approx(-0.3, abs=0.02)


def test_the_detectable_effect_is_detected_eight_times_in_ten():
    def judge(rng, effect):
        return contrasts([Pair("a", "b", "t", effect + rng.standard_normal((1, 200)))])[0]

    rng, probe = np.random.default_rng(6), judge(np.random.default_rng(6), 0.0)
    hits = sum(judge(rng, probe.detectable).verdict == "better" for _ in range(400))
    assert 0.72 <= hits / 400 <= 0.88


@pytest.mark.parametrize(
    ("seeds", "items", "item_sd", "seed_sd"),
    [(2, 200, 0.1, 0.02), (2, 1000, 0.1, 0.02), (2, 200, 0.3, 0.0), (3, 200, 0.3, 0.02), (3, 200, 0.1, 0.0)],
)
def test_a_family_of_few_seeds_holds_together_because_its_arms_share_what_seeds_do(seeds, items, item_sd, seed_sd):
    """Five arms on three tasks, nothing true in any: with each arm's own two seeds, half of all families err."""
    rng, missed, covered = np.random.default_rng(1), 0, []
    for _ in range(250):
        family = []
        for task, arm in itertools.product("abc", range(5)):
            table = item_sd * rng.standard_normal(items) + seed_sd * rng.standard_normal((seeds, 1))
            family.append(Pair(f"a{arm}", "base", task, table + 0.3 * rng.standard_normal((seeds, items))))
        found = contrasts(family)
        missed += any(c.verdict in ("better", "worse") or c.low > 0 or c.high < 0 for c in found)
        covered.append([c.estimate.low <= 0 <= c.estimate.high for c in found])
    assert missed / 250 <= 0.08
    assert 0.92 <= np.mean(covered) <= 0.98


def test_arms_of_one_group_share_their_seed_part_and_others_do_not():
    rng = np.random.default_rng(13)
    tables = [0.05 * rng.standard_normal((2, 1)) + 0.1 * rng.standard_normal((2, 300)) for _ in range(5)]
    quiet = min(tables, key=lambda t: abs(t[0].mean() - t[1].mean()))

    def error(groups):
        family = [Pair(str(i), "base", "t", t, group=g) for i, (t, g) in enumerate(zip(tables, groups, strict=True))]
        return next(c.estimate.se for c, t in zip(contrasts(family), tables, strict=True) if t is quiet)

    assert error("abcde") == pytest.approx(spread(quiet).se)
    assert error("aaaaa") > 2 * error("abcde")
    (alone,) = contrasts([Pair("a", "base", "t", quiet)])
    assert (alone.estimate.low, alone.estimate.high) == pytest.approx(
        (mean_estimate(quiet).low, mean_estimate(quiet).high)
    )


def test_an_arm_that_lacks_a_seed_or_has_one_only_does_not_break_its_group():
    rng = np.random.default_rng(14)
    family = [Pair(str(s), "base", "t", 0.05 * rng.standard_normal((s, 1)) + 0.1 * rng.standard_normal((s, 300)))
              for s in (3, 3, 2, 1)]  # fmt: skip
    *_, two, one = (c.estimate for c in contrasts(family))
    assert (one.scope, one.se) == ("this seed only", pytest.approx(spread(family[3].difference).se))
    assert two.se > 3 * mean_estimate(family[2].difference).se  # its two seeds happen to agree


@pytest.mark.parametrize(("items", "word"), [(60, "undecided"), (2000, "equivalent")])
def test_no_flip_among_few_items_is_no_evidence_of_no_change(items, word):
    table = np.zeros((3, items))
    (found,) = contrasts([Pair("a", "base", "t", table, changed=flips(table))], margin=0.02)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / items)) and found.low == -found.high
    assert found.verdict == word and found.p_value == 1.0
    assert found.detectable > found.high


@pytest.mark.parametrize("loss", [0.01, 0.03])
def test_a_small_loss_among_sixty_items_is_covered_and_never_called_equivalent(loss):
    rng, hits, words = np.random.default_rng(15), 0, set()
    for _ in range(800):
        change = -(rng.random((1, 60)) < loss).astype(float)
        (found,) = contrasts([Pair("a", "base", "t", change, changed=flips(change))], margin=0.02)
        hits += found.estimate.low <= -loss <= found.estimate.high
        words.add(found.verdict)
    assert hits / 800 >= 0.94 and "equivalent" not in words


def test_many_flips_leave_the_interval_as_it_is():
    change = np.random.default_rng(16).choice([-1.0, 0.0, 1.0], (3, 800), p=[0.1, 0.8, 0.1])
    wide, plain = (contrasts([Pair("a", "base", "t", change, changed=f)])[0] for f in (flips(change), None))
    assert (wide.low, wide.high) == (plain.low, plain.high)


def test_clusters_that_may_flip_as_a_whole_count_once():
    clusters = np.repeat(np.arange(40), 50)
    many, few = np.zeros((1, 2000)), np.zeros((1, 40))
    (found,) = contrasts([Pair("a", "base", "t", many, clusters=clusters, changed=flips(many, clusters))])
    (few,) = contrasts([Pair("a", "base", "t", few, changed=flips(few))])
    assert (found.high, found.verdict) == (pytest.approx(few.high), "undecided")


def test_mcnemar_is_the_binomial_test_of_the_items_that_changed():
    change = np.array([-1, -1, -1, 1, 0, 0.0])
    assert mcnemar(change) == pytest.approx(stats.binomtest(1, 4, 0.5).pvalue)
    assert mcnemar(np.zeros(6)) == 1.0


def test_an_empty_family_is_refused():
    with pytest.raises(ValueError):
        contrasts([])
