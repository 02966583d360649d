"""Comparisons that were never made count by their number: the rest is judged no more boldly for their absence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from rankscope.stats import contrast
from rankscope.stats.choice import Candidate
from rankscope.stats.contrast import Pair, contrasts
from rankscope.stats.mcb import Scores, best
from rankscope.stats.recommend import recommend
from rankscope.stats.together import each_alpha


@pytest.fixture(autouse=True)
def only_intervals(monkeypatch):
    monkeypatch.setattr(contrast, "needed", lambda *_: None)


def _largest(correlation, tails, made=None):
    """Draws of the largest statistic over the first ``made`` members."""
    draws = np.random.default_rng(3).multivariate_normal(np.zeros(len(correlation)), correlation, 60_000)[:, :made]
    return (np.abs(draws) if tails == 2 else draws).max(axis=1)


def _alike(members, rho):
    return np.full((members, members), rho) + (1 - rho) * np.eye(members)


@pytest.mark.parametrize("tails", [1, 2])
def test_with_none_absent_the_critical_value_is_the_quantile_to_the_last_bit(tails):
    largest = _largest(_alike(5, 0.3), tails)
    assert each_alpha(largest, 0.05, 5, tails) == tails * float(special.ndtr(-np.quantile(largest, 0.95)))


@pytest.mark.parametrize("tails", [1, 2])
@pytest.mark.parametrize("correlation", [np.eye(6), _alike(6, 0.8), _alike(6, -0.19)])
def test_the_critical_value_with_absent_ones_holds_for_all_whatever_their_correlation(correlation, tails):
    made, found = _largest(correlation, tails, made=4), []
    for absent in (0, 2):
        found.append(each_alpha(made, 0.05, 4, tails, absent))
        z = -special.ndtri(found[-1] / tails)
        covered = np.mean(_largest(correlation, tails) <= z)
        if absent:
            assert covered >= 0.95 - 0.001  # as much as two quantiles of the same draws differ
    assert 0.05 / 6 <= found[1] < found[0]


def test_each_absent_one_raises_it_and_without_end_it_is_bonferronis():
    largest = _largest(_alike(4, 0.9), 2)
    found = [each_alpha(largest, 0.05, 4, 2, absent) for absent in (0, 1, 2, 5, 20, 10**6)]
    assert found == sorted(found, reverse=True) and len(set(found)) == len(found)
    assert found[-1] == pytest.approx(0.05 / (10**6 + 4))


def _arms(rng, members, items=200):
    hard = 0.2 * rng.standard_normal(items)
    return [Pair(f"a{i}", "base", "t", hard + 0.3 * rng.standard_normal((1, items))) for i in range(members)]


def test_arms_left_after_the_worst_were_stopped_are_covered_only_if_those_count():
    rng, counted, forgotten = np.random.default_rng(5), 0, 0
    for _ in range(300):  # no arm has an effect; the six of eight that look worst are stopped
        left = sorted(_arms(rng, 8), key=lambda pair: pair.difference.mean())[6:]
        wide, bold = contrasts(left, absent=6), contrasts(left)
        assert all(w.low < b.low and b.high < w.high for w, b in zip(wide, bold, strict=True))
        counted += all(c.low <= 0 <= c.high for c in wide)
        forgotten += all(c.low <= 0 <= c.high for c in bold)
    assert counted / 300 >= 0.95 and forgotten / 300 < 0.93


def test_one_arm_left_of_three_has_bonferronis_interval():
    (pair,) = _arms(np.random.default_rng(6), 1)
    (counted,), (alone,) = contrasts([pair], absent=2), contrasts([pair], level=1 - 0.05 / 3)
    assert (counted.low, counted.high) == pytest.approx((alone.low, alone.high))


def test_limits_against_the_best_are_wider_for_absent_arms_and_no_narrower_than_with_them():
    rng = np.random.default_rng(7)
    arms = [Scores(f"a{i}", rng.standard_normal((1, 400))) for i in range(5)]
    few, counted, whole = best(arms[:3], 0.1), best(arms[:3], 0.1, absent=2), best(arms, 0.1)
    for gap in few.gaps:
        wide = counted.gap(gap.arm, gap.other)
        assert gap.upper < wide.upper and 0.05 / 4 <= wide.alpha <= whole.gap(gap.arm, gap.other).alpha < gap.alpha
    assert best(arms[:3], 0.1, absent=0) == few
    pair = best(arms[:2], 0.1, absent=2)
    assert [gap.alpha for gap in pair.gaps] == pytest.approx([0.05 / 3] * 2)


@pytest.mark.parametrize("kept", ["shown", "not shown"])
def test_a_stopped_candidate_is_told_of_and_counts_but_is_never_chosen(kept):
    rng = np.random.default_rng(8)
    arms = [Candidate(f"r{r}", r, kept, None, float(r), Scores(f"r{r}", rng.standard_normal((1, 300))),
                      kept_scores=Scores(f"r{r}", rng.standard_normal((1, 300)))) for r in (4, 8, 16)]  # fmt: skip
    gone = Candidate("r2", 2, "no data", None, np.inf, None, stopped="was stopped")
    found, alone = recommend([*arms, gone], 0.1), recommend(arms, 0.1)
    assert found.compared.rival("r4").alpha < alone.compared.rival("r4").alpha
    assert [(e.arm, e.why) for e in found.excluded if e not in alone.excluded][-1] == ("r2", "was stopped")
    assert "r2" not in {found.arm, *found.possible, *(r.arm for r in found.runners_up), *found.awaited}
