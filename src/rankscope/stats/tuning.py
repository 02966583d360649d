"""Which learning rate an arm gets. In: validation losses of its trials. Out: one rate and the reason.

The one-standard-error rule toward the lower rate (Breiman et al. 1984): among the rates not worse than the best by more
than one standard error of their paired difference, the lowest. Choosing on gain alone would inflate forgetting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trial:
    """One rate: mean validation loss in nats per token (None or NaN: failed) and its items' losses (N,), if kept."""

    lr: float
    loss: float | None
    se: float | None = None
    items: tuple[float, ...] = ()


@dataclass(frozen=True)
class Choice:
    """The rate chosen, why, and which edge of the grid the best trial lies on ('low', 'high' or '')."""

    lr: float
    reason: str
    edge: str


def choose_lr(trials: Sequence[Trial]) -> Choice | None:
    """The chosen rate; None if every trial failed."""
    usable = sorted((t for t in trials if t.loss is not None and math.isfinite(t.loss)), key=lambda t: t.lr)
    if not usable:
        return None
    best = min(usable, key=lambda t: t.loss)
    edge = ""
    if len(trials) > 1:
        edge = "low" if best.lr == min(t.lr for t in trials) else "high" if best.lr == max(t.lr for t in trials) else ""
    chosen = next(t for t in usable if t.loss - best.loss <= _tolerance(t, best))
    reason = "lowest validation loss" if chosen is best else f"within one standard error of lr {best.lr:g}, and lower"
    return Choice(chosen.lr, reason, edge)


def _tolerance(trial: Trial, best: Trial) -> float:
    if trial is best:
        return 0.0
    if trial.items and len(trial.items) == len(best.items):
        difference = np.subtract(trial.items, best.items)
        return float(difference.std(ddof=1)) / math.sqrt(len(difference)) if len(difference) > 1 else 0.0
    return best.se or 0.0
