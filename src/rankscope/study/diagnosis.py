"""Which diagnostics a study wants of a run, and under which key. In: a study and a run. Out: ``Wanted``s. No torch.

Like KL and the scores of lost trials these need weights that are there anyway: nothing is trained again for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rankscope import plugins
from rankscope.provenance import content_key
from rankscope.records import Diagnosis, Role, RunSpec, TaskRef
from rankscope.study.measures import rows_key
from rankscope.study.plan import run_key, task_key
from rankscope.tasks import task as tasks
from rankscope.tasks.origin import code_name


@dataclass(frozen=True)
class Wanted:
    """One diagnostic of one run. ``plugin`` names it in ``plugins``, ``name`` on the page; ``key`` is the store's.

    ``train``: the train task whose validation rows are read (None: there is none); ``tested``: the tasks the arm is
    judged on, resolved. ``prompts``: rows in each set of prompts.
    """

    plugin: str
    name: str
    key: str
    options: dict[str, Any] = field(hash=False)
    reads: tuple[str, ...]
    prompts: int
    train: TaskRef | None
    tested: tuple[tuple[TaskRef, Role], ...]


def wanted(
    study: Any, spec: RunSpec, train: TaskRef | None, evaluations: Sequence[tuple[TaskRef, Role]]
) -> list[Wanted]:
    """What ``diagnose`` asks of a run; of costly diagnostics the first seed alone, unless the study says otherwise."""
    found = []
    for entry in study.config.diagnose if spec.arm.kind != "base" else ():
        plugin = plugins.get("diagnostics", entry.name)
        seeds = entry.seeds or ("first" if plugin.is_costly else "all")
        is_first = spec.train is None or spec.seed == study.config.seeds[0]
        if (entry.arms and spec.arm.name not in entry.arms) or (seeds == "first" and not is_first):
            continue
        tested = tuple((study.test_task(ref), role) for ref, role in evaluations)
        key = content_key({"diagnostic": code_name("diagnostics", entry.name), "version": plugin.version,
                           "options": entry.options(), **_read(study, entry, plugin.reads, train, tested)})  # fmt: skip
        found.append(Wanted(entry.name, entry.label, key, entry.options(), plugin.reads, entry.prompts, train, tested))
    return found


def _read(study: Any, entry: Any, reads: Sequence[str], train: TaskRef | None, tested: Sequence) -> dict[str, Any]:
    """What of the study's rows and tasks a diagnostic sees, for its key."""
    parts: dict[str, Any] = {}
    if train is not None and {"texts", "validation"} & set(reads):
        parts["train"] = rows_key(train, study.config.recipe())
    if {"texts", "tasks"} & set(reads):
        parts["tested"] = [[task_key(ref), role] for ref, role in tested]
    if "texts" in reads:
        parts["prompts"] = entry.prompts
    return parts


def is_text(ref: TaskRef) -> bool:
    return tasks.KINDS.get(ref.form) == "text"


@dataclass
class Diagnosed:
    """What a store holds of the wanted diagnoses, by (run key, name), and what it lacks: (run's name, diagnostic)."""

    store: Any
    found: dict[tuple[str, str], Diagnosis] = field(default_factory=dict)
    pending: list[tuple[str, str]] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, study: Any, spec: RunSpec, train: TaskRef | None, evaluations: Sequence) -> None:
        """Look up all that is wanted of a finished run."""
        key = run_key(spec)
        run = self.store.run(key)
        if run is None or run.status != "done":
            return
        for want in wanted(study, spec, train, evaluations):
            diagnosis = self.store.diagnosis(key, want.key)
            if diagnosis is None:
                is_there = spec.train is None or self.store.blobs.has(key)
                (self.pending if is_there else self.lost).append((spec.name, want.name))
                continue
            self.found[key, want.name] = diagnosis
            if diagnosis.status == "failed":
                self.failed.append((spec.name, want.name, diagnosis.message))

    def notes(self) -> list[str]:
        """What is not there, in sentences."""
        told = [f"{run}: the diagnostic {name} failed: {why}." for run, name, why in self.failed]
        for lacking, why in ((self.pending, "is still to be measured; rankscope run goes on with it"),
                             (self.lost, "was not measured, and the weights are no longer stored")):  # fmt: skip
            for name in dict.fromkeys(name for _, name in lacking):
                runs = [run for run, own in lacking if own == name]
                more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
                told.append(f"The diagnostic {name} {why}: {', '.join(runs[:3])}{more}.")
        return told
