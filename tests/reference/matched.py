"""Plain twin of ``rankscope.stats.matched``: one draw of items at a time, the curve read by looking along it."""

from __future__ import annotations

import numpy as np


def read(points: list[tuple[float, float]], level: float) -> float | None:
    """Least forgotten for a gain of at least ``level``, on the lines between points (gain, forgetting) and the base."""
    points = sorted([*points, (0.0, 0.0)])
    least = [min(f for g, f in points if g >= own) for own, _ in points]
    for (before, _), f0, (after, _), f1 in zip(points, least, points[1:], least[1:], strict=False):
        if before <= level <= after:
            return f0 + (f1 - f0) * (level - before) / (after - before)
    return None


def bootstrap(arm, level: float, draws: int, seed: int) -> np.ndarray:
    """Forgetting of one arm, given as (gain (N,), forgetting (M,)) by rate, at ``level`` under drawn items."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        a, b = (rng.integers(len(x), size=len(x)) for x in arm[0])
        found.append(read([(g[a].mean(), f[b].mean()) for g, f in arm], level))
    return np.array([f for f in found if f is not None])
