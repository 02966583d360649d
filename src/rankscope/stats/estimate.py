"""The mean of a table seeds x items with an honest interval. In: an array (S, N). Out: ``Estimate``.

Items are crossed with seeds, not nested in them, so Var(mean) = v_item/N + v_seed/S + v_rest/(N S), each part
estimated by two-way analysis of variance (Searle, Casella & McCulloch, Variance Components, 1992). Items that share a
passage or template are clustered (Miller 2411.00640), with Bell and McCaffrey's (2002) correction for few clusters or
unequal ones; items of several strata (tasks of a pool) vary within their stratum only. Two or three seeds tell little
about how seeds vary, so tables that are alike can share what they say about it (``shared``).

Where few right or wrong answers flipped, the variance seen says little: without any flip it is zero. So an interval
reaches at least as far from the mean as Clopper and Pearson's (1934) limit leaves open for the share of items that flip
that way under every seed; without any flip that is the rule of three (Hanley & Lippman-Hand 1983). Clustered items
count for as many as their flips show (Korn & Graubard 1998).

Knows nothing about arms or tasks.

Legend: S seeds, N items, C clusters, H strata.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from rankscope.records import Estimate


@dataclass(frozen=True)
class Spread:
    """Standard error of a mean and its degrees of freedom; both NaN where one item can't tell."""

    se: float
    df: float


@dataclass(frozen=True)
class Flips:
    """Items that were wrong and became right under every seed, and the reverse, of ``items`` that could have."""

    items: float
    gained: float
    lost: float


@dataclass(frozen=True)
class Parts:
    """What a mean's variance is made of: item + (seed - rest) / S, each with its degrees of freedom.

    ``item`` is the variance of the mean over items (v_item/N + v_rest/(N S)), ``seed`` that of one seed's mean (v_seed
    + v_rest/N), ``rest`` what of it neither seed nor item explains (v_rest/N). With one seed the last two are unknown.
    """

    num_seeds: int
    item: float
    item_df: float
    seed: float = math.nan
    seed_df: float = 0.0
    rest: float = math.nan
    rest_df: float = 0.0

    @property
    def spread(self) -> Spread:
        """The standard error; a seed part estimated below zero counts as none.

        Degrees of freedom are the parts' own, averaged harmonically with their shares in the variance as weights.
        Satterthwaite's formula squares the shares; but where few seeds happen to agree, their share looks small just
        when it is underestimated, and then 95 % intervals of three seeds cover 92 %. Weights linear in the shares are
        Cochran's idea (1964), who averages the t values.
        """
        if not math.isfinite(self.item):
            return Spread(math.nan, math.nan)
        if not self.seed > self.rest:
            return Spread(math.sqrt(self.item), self.item_df)
        variance = self.item + (self.seed - self.rest) / self.num_seeds
        share = min(self.seed / self.num_seeds / variance, 1.0)
        return Spread(math.sqrt(variance), 1 / (share / self.seed_df + (1 - share) / self.item_df))


def parts(values: np.ndarray, clusters: np.ndarray | None = None, strata: np.ndarray | None = None) -> Parts:
    """The variance of the grand mean of ``values`` (S, N), in parts; ``clusters`` and ``strata`` are (N,) labels.

    Raises ValueError on an empty table or a value that is not finite.
    """
    values = _table(values)
    num_seeds, num_items = values.shape
    groups = _groups(strata, num_items)
    labels = None if clusters is None else np.asarray(clusters)
    item, item_df = total([_sum_variance(values[:, g].mean(axis=0), labels if labels is None else labels[g])
                           for g in groups])  # fmt: skip
    item /= num_items**2
    if num_seeds == 1:
        return Parts(1, item, item_df)
    seed = float(values.mean(axis=1).var(ddof=1))
    rest, rest_df = total([_rest_part(values[:, g]) for g in groups])
    return Parts(num_seeds, item, item_df, seed, num_seeds - 1.0, rest / num_items**2, rest_df)


def shared(found: Sequence[Parts]) -> list[Parts]:
    """The same parts with one seed part and one rest for all tables that have them, and their degrees of freedom added.

    A table whose own seed part is larger than the common one keeps it: it must not borrow the quiet of the others. What
    it has more than they is known with its own few degrees of freedom only, so its own and the common ones are averaged
    (harmonically), weighted by the shares of the two in its seed part. What it buys: ``benchmarks/simulate.py``.
    """
    able = [p for p in found if p.num_seeds > 1]
    if len(able) < 2:
        return list(found)
    seed_df, rest_df = sum(p.seed_df for p in able), sum(p.rest_df for p in able)
    seed = sum(p.seed * p.seed_df for p in able) / seed_df
    rest = sum(p.rest * p.rest_df for p in able) / rest_df if rest_df else math.nan
    common = [p if p.num_seeds == 1 else replace(p, seed=seed, seed_df=seed_df, rest=rest, rest_df=rest_df)
              for p in found]  # fmt: skip
    return [_louder(p, c) if p.num_seeds > 1 and p.seed > seed else c for p, c in zip(found, common, strict=True)]


def _louder(own: Parts, common: Parts) -> Parts:
    """A table that varies more than the others together: its own seed part, its degrees of freedom between the two."""
    others = (common.seed * common.seed_df - own.seed * own.seed_df) / (common.seed_df - own.seed_df)
    excess = 1 - max(others, 0.0) / own.seed
    return replace(common, seed=own.seed, seed_df=1 / ((1 - excess) / common.seed_df + excess / own.seed_df))


def total(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The sum of independent variances given as (variance, degrees of freedom), with Satterthwaite's (1946)."""
    variance, noise = sum(v for v, _ in found), sum(v**2 / df if df else math.nan for v, df in found)
    return variance, variance**2 / noise if noise else sum(df for _, df in found)


def spread(values: np.ndarray, clusters: np.ndarray | None = None, strata: np.ndarray | None = None) -> Spread:
    """Standard error of the grand mean of ``values`` (S, N). Raises ValueError as ``parts`` does."""
    return parts(values, clusters, strata).spread


def mean_estimate(
    values: np.ndarray, clusters: np.ndarray | None = None, level: float = 0.95, changed: Flips | None = None
) -> Estimate:
    """Mean of ``values`` (S, N) with a t interval. One seed: the seed part can't be seen, and ``scope`` says so.

    ``changed`` goes with differences of 0/1 scores. One item, or items of one cluster: the interval is infinite. Raises
    ValueError as ``parts`` does.
    """
    return estimate_from(_table(values), spread(values, clusters), clusters, level, changed)


def mean_estimates(
    tables: Sequence[tuple[np.ndarray, np.ndarray | None]], level: float = 0.95, is_score: bool = True
) -> list[Estimate]:
    """Means of tables that are alike, given as (values, clusters): their seed part is shared.

    ``is_score``: values that are all 0 or 1 are right and wrong answers. Of nats they are just numbers.
    """
    found = shared([parts(values, clusters) for values, clusters in tables])
    if not is_score:
        return [estimate_from(_table(v), p.spread, c, level) for (v, c), p in zip(tables, found, strict=True)]
    return [_rate(v, estimate_from(v, p.spread, c, level), c) for (v, c), p in zip(tables, found, strict=True)]


def estimate_from(
    values: np.ndarray, found: Spread, clusters: np.ndarray | None, level: float, changed: Flips | None = None
) -> Estimate:
    """The mean of ``values`` (S, N) with the interval that its spread gives."""
    (num_seeds, num_items), mean = values.shape, float(values.mean())
    scope = "this seed only" if num_seeds == 1 else "seeds and items"
    method = "two-way variance components, t" + ("" if clusters is None else ", clustered")
    low, high = interval(mean, found, 1 - level, changed)
    return Estimate(mean, low, high, found.se, num_items, num_seeds, level, method, scope)


def interval(mean: float, found: Spread, alpha: float, changed: Flips | None = None) -> tuple[float, float]:
    """The two-sided t interval at ``1 - alpha``; with 0/1 scores within [-1, 1], and as wide as unseen flips demand."""
    half = half_width(found, alpha)
    if changed is None:
        return mean - half, mean + half
    below, above = unseen(changed.lost, changed.items, alpha), unseen(changed.gained, changed.items, alpha)
    return max(mean - max(half, below), -1.0), min(mean + max(half, above), 1.0)


def half_width(found: Spread, alpha: float) -> float:
    """Half of the two-sided interval at ``1 - alpha``; infinite where there is no standard error."""
    if not math.isfinite(found.se):
        return math.inf
    return found.se * float(special.stdtrit(found.df, 1 - alpha / 2))


def rate_estimate(values: np.ndarray, clusters: np.ndarray | None = None, level: float = 0.95) -> Estimate:
    """Mean over the items (N,) of one fixed model; Wilson's interval (1927) for 0/1 scores without clusters, else t."""
    values = _table(np.asarray(values, dtype=float)[None])[0]
    if clusters is not None or not is_binary(values):
        return replace(_rate(values, mean_estimate(values[None], clusters, level), clusters), scope="items")
    n, p, z = len(values), float(values.mean()), float(special.ndtri((1 + level) / 2))
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (0.0 if p == 0 else middle - half), (1.0 if p == 1 else middle + half)  # exact there, but for rounding
    return Estimate(p, low, high, math.sqrt(p * (1 - p) / n), n, 1, level, "Wilson", "items")


def _rate(values: np.ndarray, estimate: Estimate, clusters: np.ndarray | None) -> Estimate:
    """The same estimate of right or wrong answers within 0 and 1; if all are alike, with Clopper and Pearson's limit.

    Such scores show no variance, and yet the next item may be another. Items of one cluster count as one.
    """
    if not is_binary(values):
        return estimate
    if estimate.se != 0:
        return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))
    count = values.shape[-1] if clusters is None else len(np.unique(clusters))
    edge = ((1 - estimate.level) / 2) ** (1 / count)
    return replace(estimate, low=edge) if estimate.value > 0.5 else replace(estimate, high=1 - edge)


def is_binary(values: np.ndarray) -> bool:
    """Whether all values are 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def unseen(count: float, num_items: float, alpha: float) -> float:
    """How far Clopper and Pearson's upper limit of a share lies above the share seen, ``count`` of ``num_items``."""
    if count >= num_items:
        return 0.0
    return float(special.betaincinv(count + 1, num_items - count, 1 - alpha / 2)) - count / num_items


def flips(difference: np.ndarray, clusters: np.ndarray | None = None) -> Flips:
    """What flipped in differences (S, N) of 0/1 scores.

    Clustered items count for N / design effect, the ratio of the variances with and without clusters of what flipped
    (Korn & Graubard 1998). Where nothing flipped it can't be seen: then clusters may flip as a whole (Kish 1965).
    """
    num_items = difference.shape[1]
    agreed = [(sign * difference > 0.5).all(axis=0).astype(float) for sign in (1, -1)]  # each (N,)
    items = float(num_items)
    if clusters is not None:
        sizes = np.unique(clusters, return_counts=True)[1]
        fewest = float(num_items**2 / (sizes**2).sum())
        alone, together = (sum(_sum_variance(x, c)[0] for x in agreed) for c in (None, clusters))
        items = min(max(items * alone / together, fewest), items) if together > 0 else fewest
    gained, lost = (float(x.mean()) * items for x in agreed)
    return Flips(items, gained, lost)


def pooled_flips(tasks: Sequence[Flips]) -> Flips:
    """Those of the tasks' mean with equal weights; the smallest task limits what is known of it."""
    items = len(tasks) * min(t.items for t in tasks)
    gained, lost = (float(np.mean([getattr(t, name) / t.items for t in tasks])) for name in ("gained", "lost"))
    return Flips(items, gained * items, lost * items)


def _groups(strata: np.ndarray | None, num_items: int) -> list[np.ndarray]:
    """The places of each stratum's items."""
    if strata is None:
        return [np.arange(num_items)]
    return [np.flatnonzero(strata == name) for name in np.unique(strata)]


def _sum_variance(values: np.ndarray, clusters: np.ndarray | None) -> tuple[float, float]:
    """Variance of the sum of values (N,) of independent items or clusters, and its degrees of freedom.

    Clusters of n_c items: Bell and McCaffrey's (2002) for a mean. Equal ones have C - 1 degrees of freedom.
    """
    residual = values - values.mean()
    if clusters is None:
        count = len(values)
        return (float((residual**2).sum()) * count / (count - 1), count - 1.0) if count > 1 else (math.nan, math.nan)
    _, which, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return math.nan, math.nan
    left = 1 - sizes / len(values)  # of a cluster's residual, what the mean leaves
    weights = sizes**2 / left
    noise = (sizes**2).sum() + (weights.sum() ** 2 - (weights**2).sum()) / len(values) ** 2
    return float((np.bincount(which, residual) ** 2 / left).sum()), float(len(values) ** 2 / noise)


def _rest_part(values: np.ndarray) -> tuple[float, float]:
    """Variance that neither seed nor item explains, of the sum of one stratum's items under one seed."""
    num_seeds, count = values.shape
    if count < 2:
        return math.nan, 0.0
    rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    df = (num_seeds - 1.0) * (count - 1.0)
    return count * float((rest**2).sum()) / df, df


def _table(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"expected a table seeds x items, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite: a failed item must be left out, not averaged")
    return values
