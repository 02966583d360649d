"""Plain twin of ``rankscope.stats.mcb`` for one seed: paired t by hand, the critical value by exact integration."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, stats


def compare(tables: dict[str, np.ndarray], level: float = 0.95) -> dict[str, tuple[float, float, float]]:
    """(estimate, low, high) of each arm against the best of the others, from scores (N,)."""
    upper = {}
    for i in tables:
        others = [j for j in tables if j != i]
        differences = [tables[i] - tables[j] for j in others]
        z = _critical(np.corrcoef(differences) if len(others) > 1 else np.eye(1), level)
        for j, d in zip(others, differences, strict=True):
            t = stats.t.ppf(stats.norm.cdf(z), len(d) - 1)
            upper[i, j] = d.mean() + t * d.std(ddof=1) / math.sqrt(len(d))
    able = [i for i in tables if all(upper[i, j] >= 0 for j in tables if j != i)]
    found = {}
    for i in tables:
        gaps = [tables[i].mean() - tables[j].mean() for j in tables if j != i]
        high = max(0.0, min(upper[i, j] for j in tables if j != i))
        low = 0.0 if able == [i] else min(0.0, min(-upper[j, i] for j in able if j != i))
        found[i] = (min(gaps), low, high)
    return found


def _critical(correlation: np.ndarray, level: float) -> float:
    if len(correlation) == 1:
        return float(stats.norm.ppf(level))
    joint = stats.multivariate_normal(np.zeros(len(correlation)), correlation, allow_singular=True, seed=1)
    return optimize.brentq(lambda z: joint.cdf(np.full(len(correlation), z)) - level, 1.0, 4.0, xtol=1e-4)
