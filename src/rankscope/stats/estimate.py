"""The mean of a table seeds x items with an honest interval. In: an array (S, N). Out: ``Estimate``.

Items are crossed with seeds, not nested in them, so Var(mean) = v_item/N + v_seed/S + v_rest/(N S), each part
estimated by two-way analysis of variance (Searle, Casella & McCulloch, Variance Components, 1992), with Satterthwaite's
degrees of freedom. Items that share a passage or template are clustered (Miller 2411.00640). Knows nothing about arms
or tasks.

Legend: S seeds, N items, C clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rankscope.records import Estimate


@dataclass(frozen=True)
class Spread:
    """Standard error of a mean and its degrees of freedom; both NaN where one item can't tell."""

    se: float
    df: float


def spread(values: np.ndarray, clusters: np.ndarray | None = None) -> Spread:
    """Standard error of the grand mean of ``values`` (S, N).

    Raises ValueError on an empty table or a value that is not finite.
    """
    values = _table(values)
    seeds, items = values.shape
    item_part, item_df = _item_part(values.mean(axis=0), clusters)
    if seeds == 1 or not math.isfinite(item_part):
        return Spread(math.sqrt(item_part) if math.isfinite(item_part) else math.nan, item_df)
    centred = values - values.mean()
    rest = centred - centred.mean(axis=0) - centred.mean(axis=1, keepdims=True)
    ms_seed = items * float((centred.mean(axis=1) ** 2).sum()) / (seeds - 1)
    ms_rest = float((rest**2).sum()) / ((seeds - 1) * (items - 1))
    seed_part = (ms_seed - ms_rest) / (items * seeds)
    if seed_part <= 0:
        return Spread(math.sqrt(item_part), item_df)
    variance = item_part + seed_part
    noise = item_part**2 / item_df
    noise += (ms_seed / (items * seeds)) ** 2 / (seeds - 1)
    noise += (ms_rest / (items * seeds)) ** 2 / ((seeds - 1) * (items - 1))
    return Spread(math.sqrt(variance), variance**2 / noise)


def mean_estimate(values: np.ndarray, clusters: np.ndarray | None = None, level: float = 0.95) -> Estimate:
    """Mean of ``values`` (S, N) with a t interval. One seed: the seed part can't be seen, and ``scope`` says so.

    One item, or items of one cluster: the interval is infinite. Raises ValueError as ``spread`` does.
    """
    values = _table(values)
    found = spread(values, clusters)
    mean = float(values.mean())
    half = half_width(found, 1 - level)
    scope = "this seed only" if len(values) == 1 else "seeds and items"
    return Estimate(mean, mean - half, mean + half, found.se, values.shape[1], len(values), level,
                    "two-way variance components, t" + ("" if clusters is None else ", clustered"), scope)  # fmt: skip


def half_width(found: Spread, alpha: float) -> float:
    """Half of the two-sided interval at ``1 - alpha``; infinite where there is no standard error."""
    if not math.isfinite(found.se):
        return math.inf
    return found.se * float(stats.t.isf(alpha / 2, found.df))


def rate_estimate(values: np.ndarray, level: float = 0.95) -> Estimate:
    """Wilson's score interval for a single rate: ``values`` (N,) of zeros and ones (Wilson 1927)."""
    values = _table(np.asarray(values)[None])[0]
    n, p = len(values), float(values.mean())
    z = float(stats.norm.isf((1 - level) / 2))
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Estimate(p, middle - half, middle + half, math.sqrt(p * (1 - p) / n), n, 1, level, "Wilson", "items")


def _item_part(means: np.ndarray, clusters: np.ndarray | None) -> tuple[float, float]:
    residual, n = means - means.mean(), len(means)
    if clusters is not None:
        _, which = np.unique(np.asarray(clusters), return_inverse=True)
        residual = np.bincount(which, residual)
    count = len(residual)
    if count < 2:
        return math.nan, math.nan
    return float((residual**2).sum()) * count / (count - 1) / n**2, float(count - 1)


def _table(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"expected a table seeds x items, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite: a failed item must be left out, not averaged")
    return values
