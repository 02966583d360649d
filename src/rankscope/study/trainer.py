"""The runner's step that trains. In: one model's runs, a store. Out: runs and their weights in the store.

Runs are trained in cohorts; what is missing decides what is trained, never how it is packed. Knows nothing about
scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from rankscope.models.base import OUT_OF_MEMORY, Base
from rankscope.provenance import content_key
from rankscope.records import ModelRef, RunResult, RunSpec, TaskRef
from rankscope.study.plan import cohorts, run_key
from rankscope.study.rates import arm_rates
from rankscope.study.scoring import ticker
from rankscope.tasks import task as tasks
from rankscope.training.cohort import TrainSet, encode_train_set
from rankscope.worker import train


class Trainer:
    """Trains runs of one model. ``base`` gives the Base when it is needed, ``tried`` are the keys of the runs that
    this command made."""

    def __init__(self, study: Any, store: Any, model: ModelRef, progress: Any, base: Callable[[], Base],
                 has_time: Callable[[], bool]):  # fmt: skip
        self.study, self.store, self.model, self.progress = study, store, model, progress
        self._base, self._has_time = base, has_time
        self.tried: set[str] = set()
        self._sets: dict[TaskRef, TrainSet] = {}

    def find(self, keys: Iterable[str]) -> dict[str, RunResult]:
        """Stored runs. One that ran out of memory is tried once more by every new command: settings may be others."""
        found = self.store.runs(keys)
        return {k: r for k, r in found.items() if k in self.tried or not r.message.startswith(OUT_OF_MEMORY)}

    def settle_rates(self, ref: TaskRef) -> None:
        """Run the trials that choose each arm's rate; an ``auto`` grid may ask for more, hence the loop."""
        while self._has_time():
            declared = self.study.arm_trials(self.model, ref)
            declared = [specs for specs in declared if len(specs) > 1 or specs[0].arm.lr_auto]
            rates = [arm_rates(self.find, specs) for specs in declared]
            first = [spec for specs in declared for spec in specs]
            added = [t for r in rates for t in r.trials if t not in first]
            missing = {spec for r in rates for spec in r.missing}
            if not missing:
                return
            # All of the declared grid before any extension of it: whatever is done already, the packing is the same.
            self.train(first if missing & set(first) else added, missing, ref, "rates")

    def train(self, specs: list[RunSpec], missing: set[RunSpec], ref: TaskRef, what: str) -> None:
        """Train what is missing of ``specs``, in the cohorts that ``specs`` as a whole is cut into."""
        for group in cohorts(specs):
            left = list({run_key(s): s for s in group if s in missing}.values())
            if left and self._has_time():
                self._cohort(left, ref, what)

    def _cohort(self, specs: list[RunSpec], ref: TaskRef, what: str) -> None:
        """Train runs side by side and store all of them at once: a kill can't leave a part of a cohort behind."""
        runs = [(run_key(s), s) for s in specs]
        name = content_key(sorted(k for k, _ in runs))
        label = f"{ref.name}, {what}: {', '.join(dict.fromkeys(s.arm.name for s in specs))}"
        folder, every = self.store.checkpoint_folder(name), self.study.config.training.checkpoint_seconds
        tick = ticker(self.progress, label, "steps")
        with self.store.clock.stage("training"):
            trained = train(self._base(), runs, self.set(ref), folder, tick, every, self.store.clock)
        done = []
        if len(specs) > 1 and all((t.failed or "").startswith(OUT_OF_MEMORY) for t in trained.trainees):
            trained.close()
            self.store.drop_checkpoint(name)
            return self._halves(specs, ref, what)
        try:
            for trainee in trained.trainees:
                result = trained.result(trainee)
                if result.status == "done":
                    with self.store.blobs.writing(trainee.key) as path:
                        trained.write(trainee, path)
                    size = self.store.blobs.size(trainee.key)
                    result = replace(result, ledger=replace(result.ledger, blob_bytes=size))
                done.append((trainee.spec, trainee.key, result))
        finally:
            trained.close()
        self.tried |= {key for _, key, _ in done}
        self.store.put_runs(done)
        self.store.drop_checkpoint(name)

    def _halves(self, specs: list[RunSpec], ref: TaskRef, what: str) -> None:
        """A cohort that doesn't fit into memory as two."""
        if self.progress:
            self.progress.note(f"{len(specs)} runs side by side don't fit into memory; going on with half as many")
        middle = len(specs) // 2
        self._cohort(specs[:middle], ref, what)
        self._cohort(specs[middle:], ref, what)

    def set(self, ref: TaskRef) -> TrainSet:
        """A train task's rows as tokens, with the validation rows carved from them."""
        if ref not in self._sets:
            base = self._base()
            with self.store.clock.stage("tokenising"):
                samples = tasks.train_samples(ref, self.study.data_dir)
                self._sets[ref] = encode_train_set(base, samples, self.study.config.recipe())
        return self._sets[ref]
