"""A run made into the ``Subject`` that diagnostics look at, and one diagnostic applied to it.

In: a Base, an update, the study's rows and tasks. Out: a ``Diagnosis``; one that can't be made says why.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rankscope import plugins
from rankscope.analysis.subject import Asked, Subject
from rankscope.data.batching import Example
from rankscope.errors import ModelError, RunFailed
from rankscope.evaluation.suite import evaluate, text_rows
from rankscope.models.base import OUT_OF_MEMORY, Base, is_out_of_memory
from rankscope.models.delta import Update
from rankscope.records import Diagnosis, Ledger, Reading, Score, TaskRef
from rankscope.study.diagnosis import Wanted, is_text
from rankscope.tasks.task import Prepared
from rankscope.training.cohort import encode_sample
from rankscope.worker import validation_losses


@dataclass
class Subjects:
    """Makes subjects of one base. ``study`` gives prepared tasks, ``cache`` is kept between commands."""

    study: Any
    base: Base
    cache: Path | None = None
    _texts: dict[tuple, dict[str, tuple[Example, ...]]] = field(default_factory=dict)

    def subject(self, update: Update, want: Wanted, validation: tuple[Example, ...]) -> Subject:
        """What the wanted diagnostic may look at. ``validation``: rows kept out of the run's training."""
        texts = self._sets(want, validation) if "texts" in want.reads else {}
        asked = ()
        if "tasks" in want.reads:
            chosen = ((ref, role, self.study.prepared(ref)) for ref, role in want.tested if role != "cross_domain")
            asked = tuple(Asked(ref.name, role, task) for ref, role, task in chosen)
        rows = validation if "validation" in want.reads else ()
        return Subject(update, self.base, texts, asked, rows, score, losses, self.cache)

    def _sets(self, want: Wanted, validation: tuple[Example, ...]) -> dict[str, tuple[Example, ...]]:
        """The sets of fixed prompts: rows like the training rows, questions of the tests, and text; empty ones out."""
        key = (want.train, want.tested, want.prompts)
        if key not in self._texts:
            questions = [ref for ref, _ in want.tested if not is_text(ref)]
            texts = [ref for ref, _ in want.tested if is_text(ref)]
            sets = {
                "train": validation[: want.prompts],
                "evaluation": self._rows(questions, want.prompts),
                "neutral": self._rows(texts, want.prompts),
            }
            self._texts[key] = {name: rows for name, rows in sets.items() if rows}
        return self._texts[key]

    def _rows(self, refs: Sequence[TaskRef], most: int) -> tuple[Example, ...]:
        """The first rows of each task with the right answer, as many of each."""
        rows: list[Example] = []
        for ref in refs:
            task = self.study.prepared(ref)
            part = task.samples[: math.ceil(most / len(refs))]
            if is_text(ref):
                rows += text_rows(self.base, replace(task, samples=part))
                continue
            encoded = (encode_sample(self.base, sample, self.base.max_length)[0] for sample in part)
            rows += [row for row in encoded if row is not None]
        return tuple(rows[:most])


def diagnose(subject: Subject, want: Wanted, run_key: str) -> Diagnosis:
    """Apply one diagnostic. What it can't do on this run, and memory that ends, make a failed row with the reason."""
    began = time.monotonic()
    try:
        readings = tuple(plugins.get("diagnostics", want.plugin).measure(subject, want.options))
        message = _strange(readings)
    except (RunFailed, ModelError) as error:
        readings, message = (), str(error)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        readings, message = (), f"{OUT_OF_MEMORY} in the diagnostic"
    ledger = Ledger(seconds=time.monotonic() - began)
    if message:
        return Diagnosis(run_key, want.key, want.name, "failed", message, (), ledger)
    return Diagnosis(run_key, want.key, want.name, "done", "", readings, ledger)


def _strange(readings: tuple[Reading, ...]) -> str:
    """Why these readings can't be kept: a number that is not finite stands for nothing."""
    for reading in readings:
        if any(value is not None and not math.isfinite(value) for value in reading.values):
            where = reading.module or f"layer {reading.layer}"
            return f"{reading.name} of {where} is not finite"
    return ""


def score(base: Base, task: Prepared) -> tuple[Score, ...]:
    """Judge a task's questions. Raises RunFailed where the scoring engine gives a failed row."""
    found = evaluate(base, task, "", "")
    if found.status == "failed":
        raise RunFailed(f"{task.ref.name} can't be scored: {found.message}", stage="diagnose")
    return found.scores


def losses(base: Base, rows: Sequence[Example]) -> tuple[float, ...]:
    """Nats per label token of every row."""
    return validation_losses(base, rows, 4096)
