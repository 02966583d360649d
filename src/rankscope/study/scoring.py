"""Scoring one model on tasks, without a study; and the tick that tells people how far any scoring or training is.

In: a ModelRef and tasks. Out: rows with intervals and items.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from rankscope.errors import RunFailed
from rankscope.evaluation.suite import evaluate
from rankscope.models.base import load
from rankscope.records import Arm, ModelRef, TaskRef
from rankscope.stats.estimate import rate_estimate
from rankscope.study.weights import as_given
from rankscope.tasks import task as tasks


def ticker(progress: Any, label: str, unit: str, total: int = 0) -> Callable[..., None]:
    """For training: called with (step, total, loss). For scoring: with the number of items done."""
    seen = [0]

    def tick(step: int, of: int = 0, loss: float | None = None) -> None:
        if progress is None:
            return
        if not seen[0]:
            progress.start(label, of or total, unit)
        now = step if of else seen[0] + step
        progress.advance(label, now - seen[0], **({} if loss is None else {"loss": loss}))
        seen[0] = now
        if now == (of or total):
            progress.finish(label)

    return tick


def score_model(model: ModelRef, refs: list[TaskRef], adapter: str | None, data_dir, progress) -> list[dict]:
    """Scores of one model on tasks, with items. Raises InputError for a missing model, adapter or task."""
    prepared = [tasks.prepare(r, data_dir) for r in refs]
    base = load(model)
    rows = []
    for ref, task in zip(refs, prepared, strict=True):
        tick = ticker(progress, f"scoring {ref.name}", "items", len(task.samples))
        with as_given(base, Arm("given", "adapter", path=adapter)) if adapter else nullcontext(base) as worn:
            found = evaluate(worn, task, "", "", tick)
        if found.status == "failed":
            raise RunFailed(f"{ref.name} can't be scored: {found.message}", stage="score")
        clusters = np.array([s.cluster or s.item for s in found.scores])
        shared = clusters if any(s.cluster for s in found.scores) else None
        estimate = rate_estimate(np.array([s.value for s in found.scores]), shared)
        above = None if found.chance is None else estimate.low > found.chance
        rows.append({"task": ref.name, "metric": found.metric, "value": estimate.value, "low": estimate.low,
                     "high": estimate.high, "n": len(found.scores), "chance": found.chance, "above_chance": above,
                     "items": [s.__dict__ for s in found.scores]})  # fmt: skip
    return rows
