"""Multiple comparisons with the best. In: tables of scores, one per arm, on the same items. Out: ``Best``.

Hsu's method (Annals of Statistics 1984): an arm taken as control is a possible best unless its one-sided simultaneous
upper limits against all others exclude it; so the true best is excluded with probability 1 - level at most, whichever
it is. Every arm gets a constrained interval for theta_i - max theta_j over the others; its lower end tells which arms
are shown to be within a margin of the best. Arms share items, so each control has limits of its own, from paired
differences (the unequal case: Edwards & Hsu, JASA 1983). "p > 0.05 against the winner" is no such evidence: it takes
silence for a tie and suffers the winner's curse.

A difference's variance is that of items crossed with seeds (``estimate.parts``). All pairs share their seed part, and k
arms tell about it with (k - 1)(S - 1) degrees of freedom, not with those of k (k - 1)/2 pairs. The control's critical
value is that of the largest one-sided t over the others: each pair keeps its own t distribution, joined by a Gaussian
copula that is simulated with a fixed seed. Pairs are correlated as their item means are; what their seeds share is left
out, which is the careful side. Never wider than Bonferroni. Arms that a race left out count by their number
(``together``).

Knows nothing about ranks, retention or tasks.

Legend: S seeds, N items, k arms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations

import numpy as np

from rankscope.stats.estimate import Flips, Parts, flips, interval, is_binary, parts, pooled_flips, shared
from rankscope.stats.together import each_alpha

_DRAWS = 20_000


@dataclass(frozen=True)
class Scores:
    """One arm's scores (S, N), more is better, and the labels of its S seeds (none: 0, 1, ...).

    ``tasks`` are the scores of each task as they were, (S, n) with the clusters of its items, where ``values`` are
    several tasks pooled: right and wrong answers can't be seen from those any more.
    """

    arm: str
    values: np.ndarray
    seeds: tuple[int, ...] = ()
    tasks: tuple[tuple[np.ndarray, np.ndarray | None], ...] = ()

    @property
    def table(self) -> np.ndarray:
        """The scores as (S, N) also where one seed came as (N,)."""
        return np.atleast_2d(np.asarray(self.values, dtype=float))

    @property
    def labels(self) -> tuple[int, ...]:
        return self.seeds or tuple(range(len(self.table)))

    @property
    def is_binary(self) -> bool:
        return all(is_binary(table) for table, _ in self.tasks) if self.tasks else is_binary(self.table)


@dataclass(frozen=True)
class Gap:
    """``arm`` taken as the best against one ``other``: their paired difference and its one-sided upper limit.

    ``alpha`` is the one-sided error rate of this limit alone; ``parts`` what the difference's variance is made of.
    """

    arm: str
    other: str
    difference: float
    upper: float
    alpha: float
    parts: Parts
    changed: Flips | None


@dataclass(frozen=True)
class Best:
    """Which arms can be the best. ``estimate``, ``low`` and ``high`` are of arm - the best of the others, by arm.

    ``possible``: not excluded as best. ``within``: shown to be within ``margin`` of the best. ``scope`` says what the
    intervals speak for: 'seeds and items' or 'this seed only'.
    """

    arms: tuple[str, ...]
    estimate: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    possible: tuple[str, ...]
    within: tuple[str, ...]
    margin: float
    level: float
    num_items: int
    num_seeds: int
    scope: str
    gaps: tuple[Gap, ...]

    def gap(self, arm: str, other: str) -> Gap:
        """The comparison of ``arm``, taken as the best, with ``other``."""
        return next(g for g in self.gaps if (g.arm, g.other) == (arm, other))

    def rival(self, arm: str) -> Gap | None:
        """The comparison that speaks most against ``arm`` as the best: the lowest upper limit. None for one arm."""
        return min((g for g in self.gaps if g.arm == arm), key=lambda g: g.upper, default=None)

    def lower(self, arm: str) -> float:
        """The lower end of the arm's interval: it is at most this much (as a negative number) below the best."""
        return self.low[self.arms.index(arm)]


class Pair:
    """The paired differences (S, N) of two arms and what they say alone, whoever else is compared."""

    def __init__(self, a: Scores, b: Scores, clusters: np.ndarray | None, strata: np.ndarray | None):
        rows = _common(a, b)
        difference = a.table[rows[0]] - b.table[rows[1]]
        own = zip(a.tasks, b.tasks, strict=True) if a.tasks and b.tasks else (((a.table, clusters), (b.table, None)),)
        self._by_task = [(one[rows[0]] - other[rows[1]], groups) for (one, groups), (other, _) in own]
        self.num_seeds, self.value, self.mean = len(difference), float(difference.mean()), difference.mean(axis=0)
        self.parts = parts(difference, clusters, strata)

    @cached_property
    def changed(self) -> Flips:
        """What flipped, for 0/1 scores."""
        found = [flips(difference, clusters) for difference, clusters in self._by_task]
        return found[0] if len(found) == 1 else pooled_flips(found)

    def seen_from(self, is_first: bool, is_binary: bool) -> tuple[float, Flips | None]:
        """The difference and what flipped, as the first of the two sees it or the other."""
        changed = self.changed if is_binary else None
        if is_first:
            return self.value, changed
        return 0.0 - self.value, changed and Flips(changed.items, changed.lost, changed.gained)


class Remembered:
    """``best`` for one set after another of the same arms, on the same items: what was worked out once is kept."""

    def __init__(self) -> None:
        self._found: dict[tuple, tuple[tuple[Scores, ...], Best]] = {}
        self._pairs: dict[tuple[int, int], Pair] = {}

    def __call__(
        self,
        arms: Sequence[Scores],
        margin: float,
        clusters: np.ndarray | None = None,
        strata: np.ndarray | None = None,
        level: float = 0.95,
        absent: int = 0,
    ) -> Best:
        key = (tuple(map(id, arms)), margin, level, absent)
        if key not in self._found:  # the arms are kept too, so that no other takes over an identity
            self._found[key] = tuple(arms), best(arms, margin, clusters, strata, level, absent, self._pairs)
        return self._found[key][1]


def best(
    arms: Sequence[Scores],
    margin: float,
    clusters: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    level: float = 0.95,
    absent: int = 0,
    known: dict[tuple[int, int], Pair] | None = None,
) -> Best:
    """Compare all arms with the best of the others; ``clusters`` and ``strata`` are (N,) labels of the items.

    Limits hold as if each were compared with ``absent`` more arms, which were never scored. ``known`` is for
    ``Remembered``.

    Arms are compared over the seeds that both have; two that share none are paired in order. The result doesn't depend
    on the arms' order. Raises ValueError without arms, for two of one name, tables of unequal items or seeds without
    label, and values that aren't finite.
    """
    _check(arms)
    ordered = sorted(arms, key=lambda a: a.arm)
    known, pairs = {} if known is None else known, {}
    for a, b in combinations(ordered, 2):
        if (id(a), id(b)) not in known:
            known[id(a), id(b)] = Pair(a, b, clusters, strata)
        pairs[a.arm, b.arm] = known[id(a), id(b)]
    found = dict(zip(pairs, _shared([p.parts for p in pairs.values()], len(arms)), strict=True))
    binary = all(a.is_binary for a in arms)
    gaps = [g for a in ordered for g in _gaps(a.arm, pairs, found, clusters, strata,
                                              1 - level, binary, absent)]  # fmt: skip
    names = tuple(a.arm for a in arms)
    upper = {name: min((g.upper for g in gaps if g.arm == name), default=0.0) for name in names}
    estimate = {name: min((g.difference for g in gaps if g.arm == name), default=0.0) for name in names}
    # Differences over unequal seeds may go in a circle; then the best estimate stays.
    able = {n for n in names if upper[n] >= 0} or {max(sorted(names), key=estimate.__getitem__)}
    low = {n: 0.0 if able == {n} else min(0.0, *(-g.upper for g in gaps if g.other == n and g.arm in able))
           for n in names}  # fmt: skip
    num_seeds = min((p.num_seeds for p in pairs.values()), default=len(arms[0].table))
    return Best(
        arms=names,
        estimate=tuple(estimate[n] for n in names),
        low=tuple(low[n] for n in names),
        high=tuple(max(0.0, upper[n]) for n in names),
        possible=tuple(n for n in names if n in able),
        within=tuple(n for n in names if low[n] > -margin),
        margin=margin,
        level=level,
        num_items=arms[0].table.shape[1],
        num_seeds=num_seeds,
        scope="seeds and items" if num_seeds > 1 else "this seed only",
        gaps=tuple(gaps),
    )


def _check(arms: Sequence[Scores]) -> None:
    if not arms:
        raise ValueError("no arms to compare")
    if len({a.arm for a in arms}) < len(arms):
        raise ValueError("two arms of one name")
    if len({a.table.shape[1] for a in arms}) > 1 or not arms[0].table.size:
        raise ValueError("the arms must be scored on the same items, and on some")
    for arm in arms:
        if len(arm.labels) != len(arm.table) or len(set(arm.labels)) < len(arm.labels):
            raise ValueError(f"{arm.arm}: expected one label for each of {len(arm.table)} seeds, got {arm.labels}")
        if not np.isfinite(arm.table).all():
            raise ValueError(f"{arm.arm}: a value is not finite")


def _common(a: Scores, b: Scores) -> tuple[list[int], list[int]]:
    """Which rows of both are compared: those of the seeds that both have; if none, in order."""
    common = sorted(set(a.labels) & set(b.labels))
    if not common:
        count = min(len(a.table), len(b.table))
        return list(range(count)), list(range(count))
    rows, others = ([x.labels.index(seed) for seed in common] for x in (a, b))
    return rows, others


def _shared(found: Sequence[Parts], num_arms: int) -> list[Parts]:
    """The pairs' parts with a common seed part, known as well as ``num_arms`` arms can tell.

    A pair that varies more than the others has degrees of freedom between its own and the common ones (``shared``): the
    weight of its own stays as it is, and the common ones shrink.
    """
    able = [p for p in found if p.num_seeds > 1]
    if len(able) < 2:
        return list(found)
    claimed = sum(p.seed_df for p in able)
    told, out = claimed * 2 / num_arms, []
    for own, common in zip(found, shared(found), strict=True):
        if own.num_seeds > 1:
            weight = (1 / common.seed_df - 1 / claimed) / (1 / own.seed_df - 1 / claimed)
            freedom = 1 / ((1 - weight) / max(told, own.seed_df) + weight / own.seed_df)
            common = replace(common, seed_df=freedom, rest_df=max(own.rest_df, common.rest_df * 2 / num_arms))
        out.append(common)
    return out


def _gaps(
    arm: str,
    pairs: dict[tuple[str, str], Pair],
    found: dict[tuple[str, str], Parts],
    clusters: np.ndarray | None,
    strata: np.ndarray | None,
    alpha: float,
    binary: bool,
    absent: int,
) -> list[Gap]:
    """The arm as control against each of the others, with limits that hold together."""
    keys = [key for key in pairs if arm in key]
    means = [pairs[key].mean if key[0] == arm else -pairs[key].mean for key in keys]
    each = _one_sided(means, [found[k] for k in keys], clusters, strata, alpha, absent)
    gaps = []
    for key in keys:
        is_first = key[0] == arm
        value, changed = pairs[key].seen_from(is_first, binary)
        _, upper = interval(value, found[key].spread, 2 * each, changed)
        gaps.append(Gap(arm, key[is_first], value, upper, each, found[key], changed))
    return gaps


def _one_sided(
    means: Sequence[np.ndarray],
    found: Sequence[Parts],
    clusters: np.ndarray | None,
    strata: np.ndarray | None,
    alpha: float,
    absent: int,
) -> float:
    """The error rate of each limit at which all, absent ones too, hold with 1 - alpha; ``means`` are (N,) each."""
    errors = np.array([p.spread.se for p in found])
    usable = [i for i, se in enumerate(errors) if math.isfinite(se)]
    if len(usable) < 2:
        return alpha / (1 + absent)
    residuals = _residuals(np.array([means[i] for i in usable]), clusters, strata)  # (members, units)
    errors = np.where(errors[usable] > 0, errors[usable], math.inf)  # no variance seen: independent
    joint = residuals @ residuals.T / len(means[0]) ** 2 / np.outer(errors, errors)
    np.fill_diagonal(joint, 1.0)
    values, vectors = np.linalg.eigh(joint)  # pairs estimated one by one may miss being a correlation by a little
    root = vectors * np.sqrt(np.clip(values, 0, None))
    root /= np.sqrt((root**2).sum(axis=1, keepdims=True))
    largest = (root @ _normal(len(usable))).max(axis=0)
    return each_alpha(largest, alpha, len(usable), 1, absent)


def _residuals(means: np.ndarray, clusters: np.ndarray | None, strata: np.ndarray | None) -> np.ndarray:
    """Item means (members, N) around their stratum's mean, summed over each cluster within its stratum."""
    sums = []
    for name in np.unique(strata) if strata is not None else [None]:
        group = np.flatnonzero(strata == name) if strata is not None else np.arange(means.shape[1])
        residual = means[:, group] - means[:, group].mean(axis=1, keepdims=True)
        if clusters is not None:
            _, which = np.unique(np.asarray(clusters)[group], return_inverse=True)
            residual = np.array([np.bincount(which, row) for row in residual])
        sums.append(residual)
    return np.concatenate(sums, axis=1)


@lru_cache(maxsize=4)
def _normal(members: int) -> np.ndarray:
    """The same draws (members, draws) for every family of one size."""
    return np.random.default_rng(0).standard_normal((members, _DRAWS))
