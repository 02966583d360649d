"""Families of paired differences with simultaneous intervals and verdicts. In: tables of differences. Out: Contrast.

The critical value is that of the largest |t| over the family. Members on the same items are correlated as their item
means are; others count as independent, which is the careful side. Each member keeps its own t distribution, joined by a
Gaussian copula and simulated with a fixed seed. Never wider than Bonferroni.

Legend: S seeds, N items, M members of the family.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rankscope.records import Contrast
from rankscope.stats.estimate import Spread, half_width, mean_estimate, spread

_DRAWS = 20_000
_POWER = 0.8


@dataclass(frozen=True)
class Pair:
    """One comparison: ``difference`` (S, N) is arm - other, item by item and seed by seed."""

    arm: str
    other: str
    task: str
    difference: np.ndarray
    higher_is_better: bool = True
    clusters: np.ndarray | None = None

    @property
    def signed(self) -> np.ndarray:
        """The difference with positive meaning better."""
        values = np.atleast_2d(np.asarray(self.difference, dtype=float))
        return values if self.higher_is_better else -values


def contrasts(family: Sequence[Pair], margin: float = 0.02, level: float = 0.95) -> list[Contrast]:
    """Judge all members together; positive is better.

    Raises ValueError on an empty family or values that aren't finite.
    """
    if not family:
        raise ValueError("a family of no comparisons")
    found = [spread(pair.signed, pair.clusters) for pair in family]
    alpha = family_alpha(family, found, 1 - level)
    return [_judge(pair, s, margin, level, alpha) for pair, s in zip(family, found, strict=True)]


def family_alpha(family: Sequence[Pair], found: Sequence[Spread], alpha: float) -> float:
    """The per-member error rate at which all M intervals hold together with probability 1 - alpha."""
    usable = [i for i, s in enumerate(found) if math.isfinite(s.se) and s.se > 0]
    if len(usable) < 2:
        return alpha
    correlation = np.eye(len(usable))
    means = [family[i].signed.mean(axis=0) for i in usable]
    for a in range(len(usable)):
        for b in range(a):
            if family[usable[a]].task == family[usable[b]].task and len(means[a]) == len(means[b]):
                shared = float(np.cov(means[a], means[b])[0, 1]) / len(means[a])
                correlation[a, b] = correlation[b, a] = shared / (found[usable[a]].se * found[usable[b]].se)
    root = _root(correlation)
    draws = np.random.default_rng(0).standard_normal((_DRAWS, len(usable))) @ root.T
    largest = np.abs(draws).max(axis=1)
    simulated = 2 * float(stats.norm.sf(np.quantile(largest, 1 - alpha)))
    return max(simulated, alpha / len(usable))


def mcnemar(before: np.ndarray, after: np.ndarray) -> float:
    """Exact two-sided p of McNemar's test for 0/1 scores of one seed: a cross-check of the interval (McNemar 1947)."""
    gained, lost = int(((before < 0.5) & (after > 0.5)).sum()), int(((before > 0.5) & (after < 0.5)).sum())
    return 1.0 if gained + lost == 0 else float(stats.binomtest(gained, gained + lost, 0.5).pvalue)


def _judge(pair: Pair, found: Spread, margin: float, level: float, alpha: float) -> Contrast:
    estimate = mean_estimate(pair.signed, pair.clusters, level)
    half = half_width(found, alpha)
    low, high = estimate.value - half, estimate.value + half
    if -margin < low and high < margin:
        verdict = "equivalent"
    elif low > 0 or high < 0:
        verdict = "better" if low > 0 else "worse"
    else:
        verdict = "undecided"
    if not math.isfinite(found.se):
        p_value, detectable = math.nan, math.inf
    elif found.se == 0:
        p_value, detectable = (1.0 if estimate.value == 0 else 0.0), 0.0
    else:
        p_value = 2 * float(stats.t.sf(abs(estimate.value) / found.se, found.df))
        detectable = half + found.se * float(stats.t.ppf(_POWER, found.df))
    return Contrast(pair.arm, pair.other, pair.task, estimate, low, high, p_value, margin, verdict, detectable)


def _root(correlation: np.ndarray) -> np.ndarray:
    """A square root of the nearest correlation matrix: estimates joined pair by pair may miss being one by a little."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    return root / np.sqrt((root**2).sum(axis=1, keepdims=True))
