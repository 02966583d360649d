"""How much of what the base knew is left. In: scores of arm and base on retention tasks. Out: one pooled share.

Per task (arm - c) / (base - c) with chance c; tasks are averaged with equal weight. The interval is by linearisation:
d[share] = (d[arm] - share d[base]) / (base - c), paired by item, so the errors of arm and base on the same items cancel
as they should. A task whose base isn't above chance can't show anything and is left out, by name.

Legend: S seeds, N items, K tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rankscope.records import Estimate
from rankscope.stats.estimate import spread


@dataclass(frozen=True)
class Kept:
    """One retention task: ``arm`` (S, N) and ``base`` (N,) on the same items, and the chance level."""

    task: str
    arm: np.ndarray
    base: np.ndarray
    chance: float
    clusters: np.ndarray | None = None


@dataclass(frozen=True)
class Retention:
    """The pooled share with its interval (None if no task could be used), and the tasks that were left out."""

    estimate: Estimate | None
    used: tuple[str, ...]
    left_out: tuple[str, ...]


def retention(tasks: Sequence[Kept], level: float = 0.95) -> Retention:
    """Pooled chance-corrected retention. Seeds are shared by the tasks, so task shares are averaged seed by seed."""
    used = [t for t in tasks if is_above_chance(t.base, t.chance, t.clusters)]
    left_out = tuple(t.task for t in tasks if t not in used)
    if not used:
        return Retention(None, (), left_out)
    shares, parts = [], []
    for task in used:
        room = float(task.base.mean()) - task.chance
        share = (float(task.arm.mean()) - task.chance) / room
        influence = (np.atleast_2d(task.arm) - share * np.asarray(task.base)[None]) / room  # (S, N)
        shares.append(share)
        parts.append((influence, task.clusters))
    # Items differ between tasks (independent); the seed part is that of the pooled seed means.
    item_variance = sum(spread(p.mean(axis=0)[None], c).se ** 2 for p, c in parts) / len(parts) ** 2
    seeds = parts[0][0].shape[0]
    item_df = min(p.shape[1] for p, _ in parts) - 1
    variance, df = item_variance, float(item_df)
    if seeds > 1:
        pooled = np.mean([p.mean(axis=1) for p, _ in parts], axis=0)  # (S,)
        noise = sum(float(_rest(p)) / p.shape[1] for p, _ in parts) / len(parts) ** 2
        raw = float(pooled.var(ddof=1))
        seed_variance = (raw - noise) / seeds
        if seed_variance > 0:
            variance = item_variance + seed_variance
            df = variance**2 / (item_variance**2 / item_df + (raw / seeds) ** 2 / (seeds - 1))
    value, se = float(np.mean(shares)), math.sqrt(variance)
    half = se * float(stats.t.isf((1 - level) / 2, df))
    items = sum(p.shape[1] for p, _ in parts)
    method = "chance-corrected, linearised, two-way"
    scope = "seeds and items" if seeds > 1 else "this seed only"
    estimate = Estimate(value, value - half, value + half, se, items, seeds, level, method, scope)
    return Retention(estimate, tuple(t.task for t in used), left_out)


def is_above_chance(base: np.ndarray, chance: float, clusters: np.ndarray | None = None) -> bool:
    """Whether the base's whole 95 % interval lies above chance."""
    values = np.asarray(base, dtype=float)[None]
    found = spread(values, clusters)
    return bool(math.isfinite(found.se) and values.mean() - found.se * stats.t.isf(0.025, found.df) > chance)


def _rest(values: np.ndarray) -> float:
    """Mean square of what neither seed nor item explains, of a table (S, N)."""
    centred = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return (centred**2).sum() / ((values.shape[0] - 1) * (values.shape[1] - 1))
