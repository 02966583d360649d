"""Families of paired differences with simultaneous intervals and verdicts. In: tables of differences. Out: Contrast.

The critical value is that of the largest |t| over the family. Members on the same items are correlated as their item
means are; others count as independent, which is the careful side. Each member keeps its own t distribution, joined by a
Gaussian copula and simulated with a fixed seed. Never wider than Bonferroni. Comparisons that a race left out count by
their number (``together``).

Two or three seeds of one arm say next to nothing about how seeds vary, so the arms of one group (same model, train
task, items and other side) share their seed part: M arms give it M (S - 1) degrees of freedom.
``benchmarks/simulate.py`` measures how well the intervals hold.

Legend: S seeds, N items, M members of the family.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special, stats

from rankscope.records import Contrast
from rankscope.stats.estimate import Flips, Parts, Spread, estimate_from, interval, parts, shared
from rankscope.stats.power import default_margin, detectable, needed
from rankscope.stats.together import each_alpha

_DRAWS = 20_000
__all__ = ["Pair", "contrasts", "default_margin", "family_alpha", "mcnemar", "variances"]


@dataclass(frozen=True)
class Pair:
    """One comparison: ``difference`` (S, N) is arm - other, item by item and seed by seed.

    Pairs of equal ``group``, ``other``, ``task`` and N share their seed part. ``strata`` names each item's task in a
    pool; ``changed`` goes with 0/1 scores. ``margin``: this pair's own, in units of its score (None: the family's).
    """

    arm: str
    other: str
    task: str
    difference: np.ndarray
    higher_is_better: bool = True
    clusters: np.ndarray | None = None
    strata: np.ndarray | None = None
    group: str = ""
    changed: Flips | None = None
    margin: float | None = None

    @property
    def signed(self) -> np.ndarray:
        """The difference with positive meaning better."""
        values = np.atleast_2d(np.asarray(self.difference, dtype=float))
        return values if self.higher_is_better else -values


def contrasts(family: Sequence[Pair], margin: float = 0.02, level: float = 0.95, absent: int = 0) -> list[Contrast]:
    """Judge all members together, and with ``absent`` more that were never made; positive is better.

    Raises ValueError on an empty family or values that aren't finite.
    """
    if not family:
        raise ValueError("a family of no comparisons")
    found = variances(family)
    alpha = family_alpha(family, [p.spread for p in found], 1 - level, absent)
    return [_judge(pair, p, margin if pair.margin is None else pair.margin, level, alpha)
            for pair, p in zip(family, found, strict=True)]  # fmt: skip


def family_alpha(family: Sequence[Pair], found: Sequence[Spread], alpha: float, absent: int = 0) -> float:
    """The per-member error rate at which all M intervals and absent ones hold together with probability 1 - alpha."""
    usable = [i for i, s in enumerate(found) if math.isfinite(s.se) and (s.se > 0 or family[i].changed is not None)]
    if len(usable) < 2:
        return alpha / (1 + absent)
    correlation = np.eye(len(usable))
    groups: dict[tuple[str, int], list[int]] = {}
    for place, i in enumerate(usable):
        groups.setdefault((family[i].task, family[i].signed.shape[1]), []).append(place)
    for (_, num_items), places in groups.items():
        means = np.array([family[usable[place]].signed.mean(axis=0) for place in places])  # (members, N)
        errors = np.array([found[usable[place]].se or math.inf for place in places])  # no flip seen: independent
        joint = np.atleast_2d(np.cov(means)) / num_items / np.outer(errors, errors)
        np.fill_diagonal(joint, 1.0)
        correlation[np.ix_(places, places)] = joint
    largest = np.abs(_root(correlation) @ _normal(len(usable))).max(axis=0)
    return each_alpha(largest, alpha, len(usable), 2, absent)


def mcnemar(difference: np.ndarray) -> float:
    """Exact two-sided p of McNemar's test (1947) for differences (N,) of 0/1 scores: a cross-check of the interval."""
    gained, lost = int((difference > 0.5).sum()), int((difference < -0.5).sum())
    return 1.0 if gained + lost == 0 else float(stats.binomtest(gained, gained + lost, 0.5).pvalue)


def variances(family: Sequence[Pair]) -> list[Parts]:
    """Each pair's variance in parts, the seed part shared within its group."""
    found = [parts(pair.signed, pair.clusters, pair.strata) for pair in family]
    groups: dict[tuple, list[int]] = {}
    for place, pair in enumerate(family):
        key = (pair.group, pair.other, pair.task, pair.signed.shape[1], pair.higher_is_better)
        groups.setdefault(key, []).append(place)
    for places in groups.values():
        for place, common in zip(places, shared([found[p] for p in places]), strict=True):
            found[place] = common
    return found


def _judge(pair: Pair, variance: Parts, margin: float, level: float, alpha: float) -> Contrast:
    found, changed = variance.spread, pair.changed
    estimate = estimate_from(pair.signed, found, pair.clusters, level, changed)
    low, high = interval(estimate.value, found, alpha, changed)
    if -margin < low and high < margin:
        verdict = "equivalent"
    elif low > 0 or high < 0:
        verdict = "better" if low > 0 else "worse"
    else:
        verdict = "undecided"
    more = None
    if verdict == "undecided":
        more = needed(estimate.value, variance, estimate.num_items, alpha, margin, changed)
    return Contrast(pair.arm, pair.other, pair.task, estimate, low, high, _p_value(estimate.value, found), margin,
                    verdict, detectable(found, alpha, changed), more)  # fmt: skip


def _p_value(mean: float, found: Spread) -> float:
    if not math.isfinite(found.se):
        return math.nan
    if found.se == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * float(special.stdtr(found.df, -abs(mean) / found.se))


@lru_cache(maxsize=1)
def _normal(members: int) -> np.ndarray:
    """The same draws (M, draws) for every family of one size."""
    return np.ascontiguousarray(np.random.default_rng(0).standard_normal((_DRAWS, members)).T)


def _root(correlation: np.ndarray) -> np.ndarray:
    """A square root of the nearest correlation matrix: estimates joined pair by pair may miss being one by a little."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    return root / np.sqrt((root**2).sum(axis=1, keepdims=True))
