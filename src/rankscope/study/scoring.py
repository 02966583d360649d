"""Scoring models on tasks, without a study; and the tick that tells people how far any scoring or training is.

In: ModelRefs and tasks. Out: rows with intervals and items; of several models what differs, on the same items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rankscope.errors import InputError, RunFailed
from rankscope.evaluation.suite import evaluate
from rankscope.models import locate
from rankscope.models.base import Base, load
from rankscope.provenance import content_key
from rankscope.records import Arm, EvalResult, ModelRef, Score, TaskRef
from rankscope.stats import beside
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


@dataclass(frozen=True)
class SideBySide:
    """Several models on the same items. ``models``: their names, the first is what the others are set against.

    ``scores`` are rows as ``score_model`` has them, with 'model'; a row that failed has 'failed', a message, in place
    of its values. ``notes``: what could not be compared.
    """

    models: tuple[str, ...]
    scores: tuple[dict[str, Any], ...]
    found: beside.Beside
    notes: tuple[str, ...] = ()


def score_model(model: ModelRef, refs: list[TaskRef], adapter: str | None, data_dir, progress) -> list[dict]:
    """Scores of one model on tasks, with items. Raises InputError for a missing model, adapter or task; RunFailed."""
    prepared = [tasks.prepare(r, data_dir) for r in refs]
    base = load(model)
    rows = []
    for ref, task in zip(refs, prepared, strict=True):
        found = _evaluate(base, task, ref.name, adapter, progress)
        if found.status == "failed":
            raise RunFailed(f"{ref.name} can't be scored: {found.message}", stage="score")
        rows.append(_row(ref.name, found))
    return rows


def score_models(models: Sequence[ModelRef], refs: Sequence[TaskRef], adapter: str | None = None,
                 data_dir: str | None = None, progress: Any = None) -> SideBySide:  # fmt: skip
    """Scores of several models on the same items, one model in memory at a time. ``adapter`` goes on the first.

    Raises InputError for a missing model, adapter or task, and for a model that is listed twice, before any is loaded.
    What can't be scored is a failed row, and the rest goes on.
    """
    prepared = [tasks.prepare(r, data_dir) for r in refs]
    for model in models:
        locate.place(model)
    names = _names(models, adapter)
    rows: list[dict[str, Any]] = []
    words: set[str] = set()
    for name, model in zip(names, models, strict=True):
        base = load(model)
        words.add(_vocabulary(base))
        worn = adapter if name == names[0] else None
        for ref, task in zip(refs, prepared, strict=True):
            found = _evaluate(base, task, ref.name, worn, progress, name)
            told = {"task": ref.name, "failed": found.message} if found.status == "failed" else _row(ref.name, found)
            rows.append({"model": name, **told})
        del base
    compared = [_task(ref.name, [r for r in rows if r["task"] == ref.name], len(words) == 1) for ref in refs]
    texts = [task.name for task in compared if not task.is_comparable]
    notes = [f"{', '.join(texts)}: nats per token of different vocabularies can't be compared"] if texts else []
    return SideBySide(names, tuple(rows), beside.beside(names, compared), tuple(notes))


def _evaluate(base: Base, task: tasks.Prepared, name: str, adapter: str | None, progress: Any, model: str = ""
              ) -> EvalResult:  # fmt: skip
    tick = ticker(progress, f"scoring {name}" + (f" with {model}" if model else ""), "items", len(task.samples))
    with as_given(base, Arm("given", "adapter", path=adapter)) if adapter else nullcontext(base) as worn:
        return evaluate(worn, task, "", "", tick)


def _row(name: str, found: EvalResult) -> dict[str, Any]:
    """One model's score on one task, with its interval and items."""
    estimate = rate_estimate(np.array([s.value for s in found.scores]), _clusters(found.scores))
    above = None if found.chance is None else estimate.low > found.chance
    return {"task": name, "metric": found.metric, "value": estimate.value, "low": estimate.low,
            "high": estimate.high, "n": len(found.scores), "chance": found.chance, "above_chance": above,
            "items": [s.__dict__ for s in found.scores]}  # fmt: skip


def _clusters(scores: Sequence[Any]) -> np.ndarray | None:
    return np.array([s.cluster or s.item for s in scores]) if any(s.cluster for s in scores) else None


def _task(name: str, rows: list[dict[str, Any]], is_one_vocabulary: bool) -> beside.Task:
    """What the models that could be scored have on one task. All were asked the same samples in the same order."""
    done = [row for row in rows if "failed" not in row]
    if not done:
        return beside.Task(name, "accuracy", {})
    items = [Score(**item) for item in done[0]["items"]]
    found = beside.Task(
        name,
        done[0]["metric"],
        {row["model"]: np.array([item["value"] for item in row["items"]]) for row in done},
        _clusters(items),
        done[0]["chance"],
        tuple(row["model"] for row in done if row["above_chance"]),
    )
    return replace(found, is_comparable=is_one_vocabulary or not found.is_text)


def _names(models: Sequence[ModelRef], adapter: str | None) -> tuple[str, ...]:
    """What the models are called: the last part of the id, or all of it where two end alike."""
    ids, short = [model.id for model in models], [model.name for model in models]
    compared = ids[1:] if adapter else ids  # the first under its adapter is another model than by itself
    for place, one in enumerate(compared):
        if one in compared[:place]:
            raise InputError("this model is listed twice", got=one, hint="List each model once")
    names = [name if short.count(name) == 1 or adapter and i == 0 else ids[i] for i, name in enumerate(short)]
    if adapter:
        names[0] += f" + {adapter.rstrip('/').rsplit('/', 1)[-1]}"
    return tuple(names)


def _vocabulary(base: Base) -> str:
    return content_key(sorted(base.tokenizer.get_vocab().items()))
