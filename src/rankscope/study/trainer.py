"""The runner's step that trains. In: one model's runs, a store. Out: runs and their weights in the store.

Runs are trained in cohorts; what is missing decides what is trained, never how it is packed. Knows nothing about
scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from rankscope.models.base import OUT_OF_MEMORY, Base
from rankscope.models.locate import shape
from rankscope.provenance import content_key
from rankscope.records import ModelRef, RunResult, RunSpec, TaskRef
from rankscope.study.packing import cut
from rankscope.study.plan import run_key
from rankscope.study.rates import arm_rates
from rankscope.study.scoring import ticker
from rankscope.study.standing import standing
from rankscope.tasks import task as tasks
from rankscope.training.cohort import TrainSet, encode_train_set
from rankscope.training.probe import Probe
from rankscope.worker import Trained, train, where


def cohort_name(specs: Iterable[RunSpec]) -> str:
    """What the checkpoint of a cohort is called."""
    return content_key(sorted(run_key(s) for s in specs))


def halves(specs: list[RunSpec]) -> tuple[list[RunSpec], list[RunSpec]]:
    """A cohort that doesn't fit into memory as two."""
    return specs[: len(specs) // 2], specs[len(specs) // 2 :]


class Trainer:
    """Trains runs of one model. ``base`` gives the Base when it is needed, ``has_time`` says whether new work may
    start, ``tried`` are the keys of the runs that this command made."""

    def __init__(self, study: Any, store: Any, model: ModelRef, progress: Any, base: Callable[[], Base],
                 has_time: Callable[[], bool]):  # fmt: skip
        self.study, self.store, self.model, self.progress = study, store, model, progress
        self.base, self.has_time = base, has_time
        self.tried: set[str] = set()
        self._sets: dict[TaskRef, TrainSet] = {}

    def find(self, keys: Iterable[str]) -> dict[str, RunResult]:
        """Stored runs. One that ran out of memory is tried once more by every new command: settings may be others."""
        found = self.store.runs(keys)
        return {k: r for k, r in found.items() if k in self.tried or not r.message.startswith(OUT_OF_MEMORY)}

    def settle_rates(self, ref: TaskRef) -> None:
        """Run the trials that choose each arm's rate; an ``auto`` grid may ask for more, hence the loop."""
        while self.has_time():
            declared = self.study.arm_trials(self.model, ref)
            declared = [specs for specs in declared if len(specs) > 1 or specs[0].arm.lr_auto]
            drops = standing(self.study, self.find, self.store, self.model, ref).drops
            rates = [arm_rates(self.find, specs, drops) for specs in declared]
            first = [spec for specs in declared for spec in specs]
            added = [t for r in rates for t in r.trials if t not in first]
            missing = {spec for r in rates for spec in r.missing}
            if not missing:
                return
            # All of the declared grid before any extension of it: whatever is done already, the packing is the same.
            self.train(first if missing & set(first) else added, missing, ref, "rates")

    def train(self, specs: list[RunSpec], missing: set[RunSpec], ref: TaskRef, what: str) -> None:
        """Train what is missing of ``specs``, in the cohorts that ``specs`` as a whole is cut into."""
        for group in self.cohorts(specs, ref) if missing else ():
            left = list({run_key(s): s for s in group if s in missing}.values())
            if left and self.has_time():
                self.cohort(left, ref, what)

    def cohorts(self, specs: list[RunSpec], ref: TaskRef) -> list[list[RunSpec]]:
        """What trains side by side: as many as memory holds, the fewest that are fast."""

        def probe() -> Probe:
            return Probe(self.base(), self.set(ref), where(self.base()))

        return cut(specs, shape(self.model), self.store.cache, probe)

    def cohort(self, specs: list[RunSpec], ref: TaskRef, what: str, name: str = "") -> None:
        """Train runs side by side and store all of them at once: a kill can't leave a part of a cohort behind.

        ``name``: of the cohort whose checkpoint they go on from, if it isn't their own.
        """
        name = name or cohort_name(specs)
        trained = self.start(specs, ref, what, name)
        done = []
        if self.is_too_large(trained, name):
            for half in halves(specs):
                self.cohort(half, ref, what)
            return
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

    def start(self, specs: list[RunSpec], ref: TaskRef, what: str, name: str, until: int | None = None) -> Trained:
        """Train runs side by side, to the end or for ``until`` steps, from the checkpoint of that name if it is there.

        Nothing is stored of them; close what comes back.
        """
        label = f"{ref.name}, {what}: {', '.join(dict.fromkeys(s.arm.name for s in specs))}"
        folder, every = self.store.checkpoint_folder(name), self.study.config.training.checkpoint_seconds
        runs, tick = [(run_key(s), s) for s in specs], ticker(self.progress, label, "steps")
        base, data = self.base(), self.set(ref)
        self.progress.about(key for key, _ in runs)
        with self.store.clock.stage("training"):
            return train(base, runs, data, folder, tick, every, until, self.store.clock)

    def is_too_large(self, trained: Trained, name: str) -> bool:
        """Whether a cohort of several didn't fit into memory; it is then closed, and its checkpoint is no use."""
        runs = trained.trainees
        # One that has diverged before is no reason to call the others failed.
        if len(runs) < 2 or not any((t.failed or "").startswith(OUT_OF_MEMORY) for t in runs):
            return False
        trained.close()
        self.store.drop_checkpoint(name)
        self.note(f"{len(runs)} runs side by side don't fit into memory; going on with half as many")
        return True

    def note(self, text: str) -> None:
        self.progress.note(text)

    def set(self, ref: TaskRef) -> TrainSet:
        """A train task's rows as tokens, with the validation rows carved from them."""
        if ref not in self._sets:
            base = self.base()
            with self.store.clock.stage("tokenising"):
                samples = tasks.train_samples(ref, self.study.data_dir)
                self._sets[ref] = encode_train_set(base, samples, self.study.config.recipe())
        return self._sets[ref]
