"""Forgetting at matched gain, over all learning rates tried. In: gain and forgetting of each arm at each rate. Out:
``Matched`` rows.

An arm that learns less forgets less, so arms are compared where they have learned equally much; this needs no choice of
a learning rate. Each arm's points (gain, forgetting), with the base among them (rate zero: no gain, nothing forgotten),
are joined by straight lines into its curve: the least forgetting at which the arm gained at least that much. A point
that a higher gain with less forgetting beats takes that forgetting (the running minimum from the highest gain down), so
the curve never falls; with noisy points this favours arms with many rates, so give all arms as many. Curves are read at
fractions of the smallest of the arms' largest gains and never beyond an arm's largest gain.

The interval is the percentile bootstrap over items (Efron 1979): items (or clusters) are drawn within each task, the
same for all arms and rates, and the curves drawn anew; the levels of gain stay. Seeds are taken as they are, so the
interval speaks for these seeds only: bootstrapping two or three of them would be too narrow by construction.

Knows nothing about ranks or how a rate was chosen.

Legend: S seeds, N items, K retention tasks, P points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rankscope.records import Estimate

FRACTIONS = (0.5, 0.75, 0.9)
_CHUNK = 100
_REACHED = 0.95


@dataclass(frozen=True)
class Point:
    """One arm at one rate: ``gain`` (S, N), and what was forgotten, (S, N_k) for each of K retention tasks.

    Both are paired to the base item by item: gain is arm - base, forgetting base - arm (for losses, with the sign
    turned), in the same unit for all tasks.
    """

    lr: float
    gain: np.ndarray
    forgotten: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Matched:
    """One arm at one level of gain: what it forgot, or ``why`` there is no number; ``rates`` enclose the level.

    A rate of 0 is the base. ``fraction`` is that of the smallest of the arms' largest gains.
    """

    arm: str
    fraction: float
    gain: float
    forgetting: Estimate | None
    why: str = ""
    rates: tuple[float, float] | None = None


def matched(
    arms: Mapping[str, Sequence[Point]],
    fractions: Sequence[float] = FRACTIONS,
    gain_clusters: np.ndarray | None = None,
    clusters: Sequence[np.ndarray | None] | None = None,
    level: float = 0.95,
    draws: int = 2000,
) -> list[Matched]:
    """What each arm forgot at the common levels of gain, arm by arm; tasks of retention count equally.

    ``gain_clusters`` (N,) and ``clusters`` (one per retention task) label items that belong together. Raises ValueError
    on tables of unequal items, of unequal tasks, without items, or with values that aren't finite.
    """
    points = [(arm, p) for arm, found in arms.items() for p in found]
    if not points:
        return [Matched(arm, f, 0.0, None, "no learning rate was scored") for arm in arms for f in fractions]
    tables = _tables([p for _, p in points])
    labels = [gain_clusters, *(clusters or [None] * (len(tables) - 1))]
    means = np.array([t.mean(axis=1) for t in tables])  # (1 + K, P)
    places = {arm: [i for i, (name, _) in enumerate(points) if name == arm] for arm in arms}
    largest = {arm: max((float(means[0, i]) for i in own), default=0.0) for arm, own in places.items()}
    reach = min((g for g in largest.values() if g > 0), default=0.0)
    drawn = _draw(tables, labels, draws)  # (1 + K, P, draws)
    rows = []
    for arm, own in places.items():
        for fraction in fractions:
            if largest[arm] <= 0:
                why = "gained nothing at any rate" if own else "no learning rate was scored"
                rows.append(Matched(arm, fraction, fraction * reach, None, why))
                continue
            rates = [p.lr for name, p in points if name == arm]
            seeds = min(len(np.atleast_2d(p.gain)) for name, p in points if name == arm)
            num_items = sum(t.shape[1] for t in tables[1:])
            rows.append(_row(arm, fraction, fraction * reach, means[:, own], drawn[:, own], rates, level,
                             (num_items, seeds)))  # fmt: skip
    return rows


def curve(gain: np.ndarray, forgotten: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The arm's curve as its corners: gains (P + 1,) in order and least forgetting (P + 1,) at which each was reached.

    The base, (0, 0), is one of the points. In: (P,) each.
    """
    gain, forgotten = np.append(gain, 0.0), np.append(forgotten, 0.0)
    order = np.lexsort((-forgotten, gain))
    return gain[order], np.minimum.accumulate(forgotten[order][::-1])[::-1]


def _row(
    arm: str,
    fraction: float,
    gain: float,
    means: np.ndarray,
    drawn: np.ndarray,
    rates: Sequence[float],
    level: float,
    sizes: tuple[int, int],
) -> Matched:
    """One cell from the arm's means (1 + K, P) and their bootstrap draws (1 + K, P, draws)."""
    gains, losses = curve(means[0], means[1:].mean(axis=0))
    if gain > gains[-1]:
        return Matched(arm, fraction, gain, None, "not reached at any rate")
    value = float(np.interp(gain, gains, losses))
    reached = drawn[0].max(axis=0) >= gain
    if reached.mean() < _REACHED:
        why = f"its largest gain is too uncertain: reached in {reached.mean():.0%} of the draws"
        return Matched(arm, fraction, gain, None, why)
    again = [np.interp(gain, *curve(g, f)) for g, f in zip(drawn[0].T, drawn[1:].mean(axis=0).T, strict=True)]
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(np.array(again)[reached], [tail, 100 - tail])
    (num_items, num_seeds), se = sizes, float(np.std(np.array(again)[reached], ddof=1))
    scope = "this seed only" if num_seeds == 1 else "items"
    method = "bootstrap over items, percentiles; seeds as they are"
    order = sorted([*zip(means[0], rates, strict=True), (0.0, 0.0)])
    after = next(i for i, (g, _) in enumerate(order) if g >= gain)
    between = (order[max(after - 1, 0)][1], order[after][1])
    estimate = Estimate(value, float(low), float(high), se, num_items, num_seeds, level, method, scope)
    return Matched(arm, fraction, gain, estimate, "", between)


def _tables(points: Sequence[Point]) -> list[np.ndarray]:
    """Seed means of the gain and of each retention task, (P, N) each."""
    if len({len(p.forgotten) for p in points}) > 1 or not points[0].forgotten:
        raise ValueError("every point needs the same retention tasks, and one at least")
    tables = []
    for task in range(1 + len(points[0].forgotten)):
        found = [np.atleast_2d(np.asarray((p.gain, *p.forgotten)[task], dtype=float)) for p in points]
        if len({v.shape[1] for v in found}) > 1 or any(not v.size for v in found):
            raise ValueError("all points must be scored on the same items, and on some")
        if not all(np.isfinite(v).all() for v in found):
            raise ValueError("a value is not finite: a failed item must be left out, not averaged")
        tables.append(np.array([v.mean(axis=0) for v in found]))
    return tables


def _draw(tables: Sequence[np.ndarray], labels: Sequence[np.ndarray | None], draws: int) -> np.ndarray:
    """Means of all points under the same draws of each task's items, (tasks, P, draws). Fixed seed."""
    rng, found = np.random.default_rng(0), []
    for table, label in zip(tables, labels, strict=True):
        _, which = np.unique(np.arange(table.shape[1]) if label is None else label, return_inverse=True)
        units = int(which.max()) + 1
        sums = np.array([np.bincount(which, row, units) for row in table])  # (P, units)
        sizes, chunks = np.bincount(which, minlength=units), []
        for start in range(0, draws, _CHUNK):
            picked = rng.integers(units, size=(min(_CHUNK, draws - start), units))
            times = np.array([np.bincount(row, minlength=units) for row in picked], dtype=float)  # (chunk, units)
            chunks.append((times @ sums.T).T / (times @ sizes))
        found.append(np.concatenate(chunks, axis=1))
    return np.array(found)
