"""The runner's step that looks inside trained runs. In: a run with weights that are stored. Out: rows of the store.

Last of all work, so that no verdict waits for it; only full SFT's weights, which are dropped at once, are looked at
first. Nothing is trained for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rankscope.models.base import OUT_OF_MEMORY, Base
from rankscope.models.delta import Update
from rankscope.models.given import read_given
from rankscope.models.locate import adapter_folder
from rankscope.models.update import checkpoint_update, given_update, stored_update, tensors_of
from rankscope.records import Role, RunSpec, TaskRef
from rankscope.study.diagnosis import Wanted, wanted
from rankscope.study.plan import run_key
from rankscope.study.subjects import Subjects, diagnose
from rankscope.study.weights import checked, refuse_unfinite

Evaluations = Sequence[tuple[TaskRef, Role]]


class Diagnoser:
    """Does what ``diagnose`` asks of one model's runs. ``base`` and ``rows`` give the Base and a train task's
    validation rows when they are needed."""

    def __init__(self, study: Any, store: Any, base: Callable[[], Base], rows: Callable[[TaskRef], tuple],
                 progress: Any):  # fmt: skip
        self.study, self.store, self._base, self._rows, self.progress = study, store, base, rows, progress
        self._tried: set[str] = set()
        self._subjects: Subjects | None = None

    def left(self, spec: RunSpec, train: TaskRef | None, evaluations: Evaluations) -> list[Wanted]:
        """What has no row yet; one that says out of memory counts only if this very command made it."""

        def is_there(want: Wanted) -> bool:
            key = run_key(spec)
            found = self.store.diagnosis_outcome(key, want.key)
            return found is not None and (key + want.key in self._tried or not found[1].startswith(OUT_OF_MEMORY))

        return [want for want in wanted(self.study, spec, train, evaluations) if not is_there(want)]

    def diagnose(self, spec: RunSpec, train: TaskRef | None, evaluations: Evaluations,
                 has_time: Callable[[], bool]) -> None:  # fmt: skip
        """Make what is left for one run. Raises DamagedWeights as ``weights.applied``."""
        left = self.left(spec, train, evaluations)
        if not left or not has_time():
            return
        base = self._base()
        with self.store.clock.stage("diagnosing"):
            self._diagnose(base, spec, train, left, has_time)

    def _diagnose(self, base: Base, spec: RunSpec, train: TaskRef | None, left: list[Wanted],
                  has_time: Callable[[], bool]) -> None:  # fmt: skip
        if self._subjects is None:
            self._subjects = Subjects(self.study, base, self.store.cache)
        update, label = self._update(base, spec), f"looking inside {spec.arm.name}"
        self.progress.about([run_key(spec)])
        self.progress.start(label, len(left), "diagnostics")
        for want in left:
            if not has_time():
                return
            rows = self._rows(train) if train is not None and {"texts", "validation"} & set(want.reads) else ()
            self.store.put_diagnosis(diagnose(self._subjects.subject(update, want, rows), want, run_key(spec)))
            self._tried.add(run_key(spec) + want.key)
            self.progress.advance(label, 1)
        self.progress.finish(label)

    def _update(self, base: Base, spec: RunSpec) -> Update:
        if spec.arm.kind == "adapter":
            return given_update(read_given(adapter_folder(spec.arm.path)))
        if spec.arm.kind == "checkpoint":
            return checkpoint_update(base, spec.arm)
        path = self.store.blobs.path(run_key(spec))
        with checked(path):
            update = stored_update(base, spec, path)
            refuse_unfinite(tensors_of(update))
        return update
