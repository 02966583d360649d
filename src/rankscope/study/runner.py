"""Doing a study's work, run by run, into the store. In: a study, a store, a model. Out: rows.

The only place with a clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rankscope.errors import ModelError, RunFailed, StoreError
from rankscope.evaluation.suite import evaluate
from rankscope.models import adapter as adapters
from rankscope.models.base import OUT_OF_MEMORY, Base, load
from rankscope.models.given import checkpoint, read_given, wearing
from rankscope.models.locate import ADAPTER_FILES, adapter_folder, check_safetensors
from rankscope.models.lora import AdapterBank
from rankscope.provenance import content_key, environment
from rankscope.records import Arm, Ledger, ModelRef, RunResult, RunSpec, TaskRef
from rankscope.report.tables import public_name
from rankscope.stats.estimate import rate_estimate
from rankscope.storage.blobs import FULL, full_disk
from rankscope.study.plan import base_spec, cohorts, given_spec, run_key, task_key
from rankscope.study.rates import arm_rates
from rankscope.tasks import task as tasks
from rankscope.training.cohort import encode_train_set
from rankscope.worker import train, where


class Runner:
    """All work of one model. The weights are read only if something is left to do."""

    def __init__(self, study: Any, store: Any, model: ModelRef, progress: Any, until: float):
        self.study, self.store, self.model, self.progress, self.until = study, store, model, progress, until
        self._base, self._prepared, self._sets = None, {}, {}
        self._tried: set[str] = set()

    @property
    def base(self):
        if self._base is None:
            self._base = load(self.model)
            self._refuse_other_numerics()
        return self._base

    def _refuse_other_numerics(self) -> None:
        """Scores in one number format must not be set against a base's in another.

        ``dtype: auto`` depends on the device.
        """
        found, now = self.store.run(run_key(base_spec(self.model))), where(self._base)
        if found is None or not found.environment:
            return
        for name in ("device", "dtype"):
            if found.environment.get(name) != now[name]:
                what = f"the base was scored here with {name} {found.environment.get(name)}, and now it is {now[name]}"
                hint = "Give another --store, or the machine and dtype of the first run"
                raise StoreError(what, where=str(self.store.folder), hint=hint)

    def _find(self, keys: Iterable[str]) -> dict[str, RunResult]:
        """Stored runs. One that ran out of memory is tried once more by every new command: settings may be others."""
        found = self.store.runs(keys)
        return {k: r for k, r in found.items() if k in self._tried or not r.message.startswith(OUT_OF_MEMORY)}

    def go(self, pairs: list) -> None:
        """Score the base, then seed by seed: choose rates (first seed only), train, score.

        Raises StoreError on a full disk.
        """
        try:
            self._score_base()
            for arm in self.study.given():
                self._score_given(arm)
            for seed in self.study.config.seeds:
                for raw, ref in pairs:
                    self._settle_rates(ref)
                    self._finals(raw, ref, seed)
            for raw, _ in pairs:
                self._tidy(raw)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise full_disk(self.store.folder) from error

    def _score_base(self) -> None:
        key = run_key(base_spec(self.model))
        if self.store.run(key) is None:
            self.store.put_run(
                base_spec(self.model), key, RunResult(key, "done", environment=environment(where(self.base)))
            )
        self._evaluate(key, "base", self.study.config.evaluations(None), nullcontext)

    def _score_given(self, arm: Arm) -> None:
        """Score an adapter or checkpoint that exists already."""
        spec, evaluations = given_spec(self.model, arm), self.study.config.judged()
        key = run_key(spec)
        if not self._has_time():
            return
        if self.store.run(key) is None:
            origin = environment(where(self.base))
            ledger, notes = given_facts(arm)
            self.store.put_run(spec, key, RunResult(key, "done", ledger=ledger, environment=origin, notes=notes))
        self._evaluate(key, arm.name, evaluations, lambda base: as_given(base, arm))

    def _settle_rates(self, ref: TaskRef) -> None:
        """Run the trials that choose each arm's rate; an ``auto`` grid may ask for more, hence the loop."""
        while self._has_time():
            declared = self.study.arm_trials(self.model, ref)
            declared = [specs for specs in declared if len(specs) > 1 or specs[0].arm.lr_auto]
            rates = [arm_rates(self._find, specs) for specs in declared]
            first = [spec for specs in declared for spec in specs]
            added = [t for r in rates for t in r.trials if t not in first]
            missing = {spec for r in rates for spec in r.missing}
            if not missing:
                return
            # All of the declared grid before any extension of it: whatever is done already, the packing is the same.
            self._train(first if missing & set(first) else added, missing, ref, "rates")

    def _finals(self, raw: TaskRef, ref: TaskRef, seed: int) -> None:
        specs = self.study.finals(self._find, self.model, ref, seed)
        evaluations = self.study.config.evaluations(raw)
        left = [s for s in specs if not self._is_scored(s, evaluations)]
        for group in cohorts(specs):
            if not self._has_time():
                return
            # Without stored weights the run must be trained again to be scored; with them it isn't.
            self._train(group, {s for s in group if s in left and self._must_train(s)}, ref, f"seed {seed}")
            for spec in group:
                if spec in left:
                    self._score_stored(spec, evaluations)
        if left and self.progress:
            self.progress.table([r for r in self.study.result(self.store.folder).table() if r["train"] == raw.name])

    def _has_time(self) -> bool:
        return time.monotonic() < self.until

    def _must_train(self, spec: RunSpec) -> bool:
        found = self._find([run_key(spec)]).get(run_key(spec))
        return found is None or (found.status == "done" and not self._has_weights(spec))

    def _has_weights(self, spec: RunSpec) -> bool:
        """Whether a run's weights are stored and whole. A damaged file is removed, so that the run is trained again."""
        blobs, key = self.store.blobs, run_key(spec)
        if not blobs.has(key):
            return False
        try:
            check_safetensors(blobs.path(key))
        except ModelError as error:
            blobs.remove(key)
            if self.progress:
                self.progress.note(f"{spec.name} is trained again: {error.what} ({error.where})")
            return False
        return True

    def _is_scored(self, spec: RunSpec, evaluations) -> bool:
        found = self._find([run_key(spec)]).get(run_key(spec))
        if found is None or found.status != "done":
            return found is not None
        return all(self._is_evaluated(run_key(spec), self.study.test_task(e)) for e, _ in evaluations)

    def _is_evaluated(self, key: str, ref: TaskRef) -> bool:
        """Whether there is a row; one that says out of memory counts only if this very command made it."""
        found = self.store.eval_outcome(key, task_key(ref))
        return found is not None and (key + task_key(ref) in self._tried or not found[1].startswith(OUT_OF_MEMORY))

    def _train(self, specs: list[RunSpec], missing: set[RunSpec], ref: TaskRef, what: str) -> None:
        """Train what is missing of ``specs``, in the cohorts that ``specs`` as a whole is cut into."""
        for group in cohorts(specs):
            left = list({run_key(s): s for s in group if s in missing}.values())
            if left and self._has_time():
                self._cohort(left, ref, what)

    def _cohort(self, specs: list[RunSpec], ref: TaskRef, what: str) -> None:
        """Train runs side by side and store all of them at once: a kill can't leave a part of a cohort behind."""
        runs = [(run_key(s), s) for s in specs]
        if ref not in self._sets:
            samples = tasks.train_samples(ref, self.study.data_dir)
            self._sets[ref] = encode_train_set(self.base, samples, specs[0].recipe)
        name = content_key(sorted(k for k, _ in runs))
        label = f"{ref.name}, {what}: {', '.join(dict.fromkeys(s.arm.name for s in specs))}"
        folder, every = self.store.checkpoint_folder(name), self.study.config.training.checkpoint_seconds
        trained = train(self.base, runs, self._sets[ref], folder, ticker(self.progress, label, "steps"), every)
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
        self._tried |= {key for _, key, _ in done}
        self.store.put_runs(done)
        self.store.drop_checkpoint(name)

    def _halves(self, specs: list[RunSpec], ref: TaskRef, what: str) -> None:
        """A cohort that doesn't fit into memory as two."""
        if self.progress:
            self.progress.note(f"{len(specs)} runs side by side don't fit into memory; going on with half as many")
        middle = len(specs) // 2
        self._cohort(specs[:middle], ref, what)
        self._cohort(specs[middle:], ref, what)

    def _score_stored(self, spec: RunSpec, evaluations) -> None:
        key = run_key(spec)
        found = self.store.run(key)
        if found is None or found.status != "done" or not self.store.blobs.has(key):
            return
        weights = lambda base: applied(base, spec, self.store.blobs.path(key))  # noqa: E731
        self._evaluate(key, spec.arm.name, evaluations, weights)
        # Large, and not wanted: gone at once, not only when the whole train task is done.
        is_wanted = self.study.config.keep != "adapters" or key in self.store.wanted_by_others(self.study.key)
        if spec.arm.kind == "full" and not is_wanted:
            self.store.blobs.remove(key)

    def _evaluate(self, key: str, label: str, evaluations, weights) -> None:
        """Score the base under ``weights`` on every task that has no score yet."""
        refs = [self.study.test_task(ref) for ref, _ in evaluations]
        refs = [ref for ref in refs if not self._is_evaluated(key, ref)]
        if not refs:
            return
        for ref in refs:
            if ref not in self._prepared:
                self._prepared[ref] = self.study.prepared(ref)
        tick = ticker(self.progress, f"scoring {label}", "items", sum(len(self._prepared[ref].samples) for ref in refs))
        with weights(self.base) as base:
            for ref in refs:
                result = evaluate(base, self._prepared[ref], key, task_key(ref), tick)
                self.store.put_eval(result, ref, task_key(ref))
                self._tried.add(key + task_key(ref))

    def _tidy(self, raw: TaskRef) -> None:
        """Drop the weights that ``keep`` doesn't name, once all runs of a train task are scored."""
        config, ref = self.study.config, dict(self.study.resolve()[1])[raw]
        finals = [s for seed in config.seeds for s in self.study.finals(self._find, self.model, ref, seed)]
        if not all(self._is_scored(s, config.evaluations(raw)) for s in finals):
            return
        wanted = {run_key(s) for s in finals if s.arm.kind == "lora"}
        if config.keep == "best":
            rows = [h for h in self.study.result(self.store.folder).view().headlines
                    if (h.model, h.train) == (self.model.name, raw.name) and h.gain is not None]  # fmt: skip
            best = max(rows, key=lambda h: h.gain.contrast.estimate.value, default=None)
            wanted = {run_key(s) for s in finals if best is not None and s.arm.name == best.arm}
        trials = [s for specs in self.study.arm_trials(self.model, ref) for s in arm_rates(self._find, specs).trials]
        mine = {run_key(s) for s in [*finals, *trials]}
        wanted = mine if config.keep == "all" else wanted
        self.store.want(self.study.key, mine, wanted)
        for key in mine - wanted - self.store.wanted_by_others(self.study.key):
            self.store.blobs.remove(key)


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


@contextmanager
def applied(base: Base, spec: RunSpec, path: Path) -> Iterator[Base]:
    """The base under a run's stored weights. Raises ModelError if the file is damaged or doesn't fit."""
    if spec.arm.kind == "full":
        copy = base.trainable_copy()
        adapters.load_full(copy.model, path)
        yield copy
        return
    bank = AdapterBank(base)
    bank.add("stored", spec.arm, spec.seed)
    try:
        bank.load("stored", adapters.read_tensors(path)[0])
        with bank.use("stored"):
            yield base
    finally:
        bank.remove("stored")


def merge(spec: RunSpec, path: Path, folder: Path) -> None:
    """Write a run's base with its stored adapter added to the weights, and the tokenizer."""
    base = load(spec.model)
    bank = AdapterBank(base)
    bank.add("stored", spec.arm, spec.seed)
    bank.load("stored", adapters.read_tensors(path)[0])
    bank.merge("stored")
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)


@contextmanager
def as_given(base: Base, arm: Arm) -> Iterator[Base]:
    """The base as an adapter or checkpoint that exists already makes it. Raises ModelError if it doesn't fit."""
    if arm.kind == "checkpoint":
        yield checkpoint(base, arm)
        return
    with wearing(base, read_given(adapter_folder(arm.path))) as worn:
        yield worn


def given_facts(arm: Arm) -> tuple[Ledger, tuple[str, ...]]:
    """An adapter's size, and what its own config says of its base; whether that is this one only the user knows."""
    if arm.kind == "checkpoint":
        return Ledger(), ()
    folder = adapter_folder(arm.path)
    given = read_given(folder)
    size = sum((folder / name).stat().st_size for name in ADAPTER_FILES)
    base = public_name(given.made_for) if given.made_for else "a model that its config does not name"
    whole = f", {len(given.whole)} tensors saved whole" if given.whole else ""
    ledger = Ledger(trainable=given.num_params, blob_bytes=size)
    return ledger, (f"made for {base}, {len(given.pieces)} modules{whole}",)


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
