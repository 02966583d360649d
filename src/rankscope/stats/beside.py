"""Several fixed models on the same items: which one to start from. In: their scores. Out: differences, who can be best.

Differences are those of every other model to the first, judged together as one family. Who can be the best is asked of
all models, not of the one that happened to score highest: multiple comparisons with the best (``mcb``) on the mean over
the tasks, each with equal weight. Nothing is drawn but items, so every interval is over items. Nats per token count
tokens of the model's own vocabulary: they are compared only where ``Task.is_comparable``.

Knows nothing about how models were scored.

Legend: N items, M models, T tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rankscope.records import Contrast
from rankscope.stats import mcb
from rankscope.stats.contrast import Pair, contrasts, default_margin
from rankscope.stats.estimate import flips, is_binary
from rankscope.stats.wording import amount, listed, number

ITEMS = "items"
_TEXTS = ("cross_entropy",)


@dataclass(frozen=True)
class Task:
    """One task's scores by model, (N,) each in one order of items; models that could not be scored are left out.

    ``chance``: what guessing gets (None: no such thing). ``is_comparable``: the numbers mean the same for all models.
    """

    name: str
    metric: str
    scores: dict[str, np.ndarray]
    clusters: np.ndarray | None = None
    chance: float | None = None
    above_chance: tuple[str, ...] = ()
    is_comparable: bool = True

    @property
    def is_text(self) -> bool:
        return self.metric in _TEXTS

    @property
    def upward(self) -> dict[str, np.ndarray]:
        """The scores with more being better."""
        return {model: -values if self.is_text else values for model, values in self.scores.items()}


@dataclass(frozen=True)
class Beside:
    """What was found. ``contrasts``: other - first by task, more is better; ``best``: None where nothing decides.

    ``tasks``: those whose mean decides. ``reason``: why nothing does, or what the tasks left out are.
    """

    contrasts: tuple[Contrast, ...]
    best: mcb.Best | None
    tasks: tuple[str, ...]
    unit: str
    reason: str = ""
    level: float = 0.95

    @property
    def choice(self) -> str | None:
        """The one model to start from; None where several can be the best, or nothing decides."""
        return self.best.possible[0] if self.best is not None and len(self.best.possible) == 1 else None

    @property
    def sentence(self) -> str:
        """Which model to start from, or that they can't be told apart, in one sentence."""
        best = self.best
        if best is None:
            return f"Nothing here says which model to start from: {self.reason}."
        on = f"on {self.tasks[0]}" if len(self.tasks) == 1 else f"on the mean of {listed(self.tasks)}"
        where = f"{on} ({number(best.num_items, 'item')}, {100 * self.level:.0f} % for all together)"
        unit = "nats" if self.unit == "nats" else "points"
        if self.choice is not None:
            least = -max(best.gap(other, self.choice).upper for other in best.arms if other != self.choice)
            by = f", by at least {amount(least, unit)}" if least > 0 else ""  # another one may be what excluded a model
            return f"Start from {self.choice}: {where} it is above every other model{by}."
        out = [name for name in best.arms if name not in best.possible]
        tail = f"; {listed(out)} can't be the best" if out else ""
        widest = max(best.gap(a, b).upper for a in best.possible for b in best.possible if a != b)
        far = (
            f"one may be up to {amount(widest, unit)} above another" if math.isfinite(widest) else "anything may be so"
        )
        names = listed(best.possible)
        rest = f"{where} {far}{tail}. Take the one that costs least, or score more items."
        return f"{names} can't be told apart as the best: {rest}"


def beside(models: Sequence[str], tasks: Sequence[Task], level: float = 0.95) -> Beside:
    """Compare all models with the first, and with the best. ``models``: at least two names.

    Tasks that decide are the scores (right or wrong, 0 to 1) on which some model is above chance; where there is none,
    the texts. Raises ValueError for fewer models or scores of unequal items.
    """
    if len(models) < 2:
        raise ValueError("one model has nothing beside it")
    usable = [t for t in tasks if t.is_comparable]
    pairs = [_pair(task, other, models[0]) for task in usable for other in models[1:]
             if {other, models[0]} <= set(task.scores)]  # fmt: skip
    margin = default_margin(min((p.signed.shape[1] for p in pairs), default=1))
    found = contrasts(pairs, margin, level) if pairs else []
    found = [replace(c, estimate=replace(c.estimate, scope=ITEMS)) for c in found]
    whole = [t for t in usable if set(models) <= set(t.scores)]
    telling = [t for t in whole if not t.is_text and (t.chance is None or t.above_chance)]
    deciding = telling or [t for t in whole if t.is_text]
    if not deciding:
        why = "on no task is any model above chance" if whole else "no task has comparable scores of all models"
        return Beside(tuple(found), None, (), "points", why, level)
    # Limits of the method are one-sided, and of two equal models either may be excluded: both sides share the error.
    best = replace(_best(models, deciding, margin, (1 + level) / 2), scope=ITEMS)
    unit = "nats" if deciding[0].is_text else "points"
    left = [t.name for t in tasks if t not in deciding]
    reason = f"not in the mean: {listed(left)}" if left else ""
    return Beside(tuple(found), best, tuple(t.name for t in deciding), unit, reason, level)


def _pair(task: Task, model: str, first: str) -> Pair:
    difference = (task.scores[model] - task.scores[first])[None]
    changed = flips(difference, task.clusters) if _is_binary(task) else None
    return Pair(model, first, task.name, difference, not task.is_text, task.clusters, changed=changed)


def _best(models: Sequence[str], tasks: Sequence[Task], margin: float, level: float) -> mcb.Best:
    """On one task as it is; on the mean of several as ``report.pooling`` has it: centred, weighted, its stratum."""
    if len(tasks) == 1:
        arms = [mcb.Scores(model, tasks[0].upward[model][None]) for model in models]
        return mcb.best(arms, margin, tasks[0].clusters, level=level)
    sizes = [len(task.scores[models[0]]) for task in tasks]
    total, arms = sum(sizes), []
    for model in models:
        parts = [task.upward[model] for task in tasks]
        middle = float(np.mean([part.mean() for part in parts]))
        pooled = [(part - part.mean()) * total / (len(parts) * len(part)) + middle for part in parts]
        raw = tuple((part[None], task.clusters) for part, task in zip(parts, tasks, strict=True))
        arms.append(mcb.Scores(model, np.concatenate(pooled)[None], tasks=raw))
    strata = np.repeat([task.name for task in tasks], sizes)
    clusters = None
    if any(task.clusters is not None for task in tasks):
        labels = [np.arange(n) if t.clusters is None else t.clusters for t, n in zip(tasks, sizes, strict=True)]
        clusters = np.array([f"{name}/{label}" for name, label in zip(strata, np.concatenate(labels), strict=True)])
    return mcb.best(arms, margin, clusters, strata, level)


def _is_binary(task: Task) -> bool:
    return all(is_binary(values) for values in task.scores.values())
