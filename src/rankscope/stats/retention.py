"""How much of what the base knew is left. In: scores of arm and base on retention tasks. Out: one pooled share.

Per task (arm - c) / (base - c) with chance c; tasks are averaged with equal weight. The interval is by linearisation:
d[share] = (d[arm] - share d[base]) / (base - c), paired by item, so the errors of arm and base on the same items cancel
as they should. Tasks are strata: each brings its own items (or clusters) and its own degrees of freedom. A task whose
base isn't above chance can't show anything and is left out, by name.

Legend: S seeds, N items, K tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankscope.records import Estimate
from rankscope.stats.estimate import (
    Flips,
    Parts,
    flips,
    interval,
    is_binary,
    parts,
    pooled_flips,
    rate_estimate,
    shared,
    total,
    unseen,
)


@dataclass(frozen=True)
class Kept:
    """One retention task: ``arm`` (S, N) and ``base`` (N,) on the same items, and the chance level."""

    task: str
    arm: np.ndarray
    base: np.ndarray
    chance: float
    clusters: np.ndarray | None = None

    @property
    def room(self) -> float:
        """How far the base is above chance."""
        return float(self.base.mean()) - self.chance

    @property
    def share(self) -> float:
        return (float(self.arm.mean()) - self.chance) / self.room

    @property
    def changed(self) -> Flips | None:
        """What flipped, for 0/1 scores."""
        if not (is_binary(self.arm) and is_binary(self.base)):
            return None
        return flips(np.atleast_2d(self.arm) - self.base, self.clusters)


@dataclass(frozen=True)
class Retention:
    """The pooled share with its interval (None if no task could be used), and the tasks that were left out."""

    estimate: Estimate | None
    used: tuple[str, ...]
    left_out: tuple[str, ...]


def retention(tasks: Sequence[Kept], level: float = 0.95) -> Retention:
    """Pooled chance-corrected retention of one arm."""
    return retentions([tasks], level)[0]


def retentions(arms: Sequence[Sequence[Kept]], level: float = 0.95) -> list[Retention]:
    """Pooled chance-corrected retention of each arm; arms judged on the same tasks share their seed part.

    Seeds are shared by the tasks of an arm, so task shares are averaged seed by seed.
    """
    used = [tuple(t for t in tasks if is_above_chance(t.base, t.chance, t.clusters)) for tasks in arms]
    groups: dict[tuple, list[int]] = {}
    for place, kept in enumerate(used):
        groups.setdefault(tuple((t.task, len(t.base)) for t in kept), []).append(place)
    estimates: list[Estimate | None] = [None] * len(arms)
    for names, places in groups.items():
        if names:
            for place, found in zip(places, shared([_parts(used[p]) for p in places]), strict=True):
                estimates[place] = _estimate(used[place], found, level)
    return [
        Retention(e, tuple(t.task for t in kept), tuple(t.task for t in tasks if t.task not in {k.task for k in kept}))
        for e, kept, tasks in zip(estimates, used, arms, strict=True)
    ]


def is_above_chance(base: np.ndarray, chance: float, clusters: np.ndarray | None = None) -> bool:
    """Whether the base's whole 95 % interval lies above chance."""
    return bool(rate_estimate(base, clusters).low > chance)


def _parts(tasks: Sequence[Kept]) -> Parts:
    """The variance of the mean share in parts."""
    values = [(np.atleast_2d(t.arm) - t.share * np.asarray(t.base)[None]) / t.room for t in tasks]  # each (S, N)
    found = [parts(v, t.clusters) for v, t in zip(values, tasks, strict=True)]
    # Items differ between tasks (independent); the seed part is that of the pooled seed means.
    item, item_df = total([(f.item, f.item_df) for f in found])
    item, num_seeds = item / len(tasks) ** 2, len(values[0])
    if num_seeds == 1:
        return Parts(1, item, item_df)
    rest, rest_df = total([(f.rest, f.rest_df) for f in found])
    seed = float(np.mean([v.mean(axis=1) for v in values], axis=0).var(ddof=1))
    return Parts(num_seeds, item, item_df, seed, num_seeds - 1.0, rest / len(tasks) ** 2, rest_df)


def _estimate(tasks: Sequence[Kept], found: Parts, level: float) -> Estimate:
    value = float(np.mean([t.share for t in tasks]))
    low, high = interval(value, found.spread, 1 - level)
    changed = [t.changed for t in tasks]
    if None not in changed:  # 0/1 scores: flips that weren't seen, in units of the share
        pool, scale = pooled_flips(changed), float(np.mean([1 / t.room for t in tasks]))
        low = min(low, value - scale * unseen(pool.lost, pool.items, 1 - level))
        high = max(high, value + scale * unseen(pool.gained, pool.items, 1 - level))
    scope = "seeds and items" if found.num_seeds > 1 else "this seed only"
    method = "chance-corrected, linearised, two-way"
    num_items = sum(len(t.base) for t in tasks)
    return Estimate(value, low, high, found.spread.se, num_items, found.num_seeds, level, method, scope)
