"""Doing a study's work, run by run, into the store. In: a study, a store, a model. Out: rows.

The only place with a clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from rankscope.errors import DamagedWeights, ModelError, StoreError
from rankscope.evaluation import divergence
from rankscope.evaluation.suite import BATCH_TOKENS, evaluate, text_rows
from rankscope.models.base import OUT_OF_MEMORY, is_out_of_memory, load
from rankscope.models.locate import check_safetensors
from rankscope.provenance import environment
from rankscope.records import Arm, EvalResult, Ledger, ModelRef, RunResult, RunSpec, Score, TaskRef
from rankscope.storage.blobs import FULL, full_disk
from rankscope.study import measures
from rankscope.study.diagnosing import Diagnoser
from rankscope.study.measures import NOISE_TOKENS, Measure
from rankscope.study.plan import base_spec, cohorts, given_spec, run_key
from rankscope.study.racing import Racing
from rankscope.study.scoring import ticker
from rankscope.study.trainer import Trainer
from rankscope.study.weights import applied, as_given, given_facts
from rankscope.tasks import task as tasks
from rankscope.training.cohort import TrainSet
from rankscope.worker import where


class Runner:
    """All work of one model. The weights are read only if something is left to do."""

    def __init__(self, study: Any, store: Any, model: ModelRef, progress: Any, until: float):
        self.study, self.store, self.model, self.progress, self.until = study, store, model, progress, until
        self._base, self._prepared, self._references = None, {}, {}
        self._trainer = Trainer(study, store, model, progress, lambda: self.base, self._has_time)
        self._racing = Racing(study, store, model, self._trainer, self._rows_reference)
        self._inside = Diagnoser(study, store, lambda: self.base, lambda ref: self._set(ref).validation, progress)
        self._has_skipped = False

    @property
    def base(self):
        """The base. Raises StoreError if its scores in the store were made in another number format."""
        if other := self._other_numerics():
            hint = "Give another --store, or the machine and dtype of the first run"
            raise StoreError(other, where=str(self.store.folder), hint=hint)
        return self._base

    def _other_numerics(self) -> str:
        """How the base's number format differs from that of its stored scores; empty if it doesn't.

        Scores in one must not be set against a base's in another. ``dtype: auto`` depends on the device.
        """
        if self._base is None:
            with self.store.clock.stage("loading"):
                self._base = load(self.model)
        found, now = self.store.run(run_key(base_spec(self.model))), where(self._base)
        before = found.environment if found is not None else {}
        for name in ("device", "dtype", "buffers") if before else ():
            if before.get(name) != now.get(name):
                return f"the base was scored here with {name} {before.get(name)}, and now it is {now.get(name)}"
        return ""

    def _skips_extras(self) -> bool:
        """Whether the base here is of another number format, so that what no verdict waits for is left out; says so."""
        other = self._other_numerics()
        if other and not self._has_skipped:
            self._note(f"what is measured beside the scores is left out: {other}")
            self._has_skipped = True
        return bool(other)

    def _find(self, keys: Iterable[str]) -> dict[str, RunResult]:
        return self._trainer.find(keys)

    def go(self, pairs: list) -> None:
        """Score the base, then seed by seed: race if asked, choose rates (first seed only), train, score.

        Raises StoreError on a full disk.
        """
        try:
            self._score_base()
            for arm in self.study.given():
                self._score_given(arm)
            for seed in self.study.config.seeds:
                for raw, ref in pairs:
                    self._racing.race(ref)
                    self._trainer.settle_rates(ref)
                    self._finals(raw, ref, seed)
            for raw, ref in pairs:  # last: no verdict waits for them
                self._score_trials(raw, ref)
            self._diagnose_given()
            for raw, ref in pairs:
                self._diagnose_finals(raw, ref)
                self._tidy(raw, ref)
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
        wanted = measures.scores(self.study, self.study.config.evaluations(None))
        self._measure(key, "base", [*wanted, *measures.noise(self.study)], nullcontext)

    def _score_given(self, arm: Arm) -> None:
        """Score an adapter or checkpoint that exists already."""
        spec, evaluations = given_spec(self.model, arm), self.study.config.judged()
        trained = [ref for _, ref in self.study.resolve()[1]]
        key = run_key(spec)
        if not self._has_time():
            return
        if self.store.run(key) is None:
            origin = environment(where(self.base))
            ledger, notes = given_facts(arm)
            self.store.put_run(spec, key, RunResult(key, "done", ledger=ledger, environment=origin, notes=notes))
        wanted = measures.scores(self.study, evaluations)
        wanted += measures.divergences(self.study, trained, evaluations)
        self._measure(key, arm.name, wanted, lambda base: as_given(base, arm))

    def _finals(self, raw: TaskRef, ref: TaskRef, seed: int) -> None:
        specs = self._counting(ref, seed)
        evaluations = self.study.config.evaluations(raw)
        scores = measures.scores(self.study, evaluations)
        more = measures.divergences(self.study, [ref], evaluations)
        left = [s for s in specs if not self._is_scored(s, scores)]
        for group in cohorts(specs):
            for _ in range(2):  # once more for weights that turn out to be damaged when they are put on the base
                if not self._has_time():
                    return
                # Without stored weights the run must be trained again to be scored; with them it isn't.
                todo = {s for s in group if s in left and not self._is_scored(s, scores) and self._must_train(s)}
                self._trainer.train(group, todo, ref, f"seed {seed}")
                if all([self._measure_stored(spec, [*scores, *more]) for spec in group]):
                    break
            for spec in group:
                if spec.arm.kind == "full":
                    self._diagnose(spec, ref, evaluations)
                    self._drop_large(spec, [*scores, *more], self._inside.left(spec, ref, evaluations))
        if left and self.progress.is_read:
            with self.store.clock.stage("statistics"):
                rows = [r for r in self.study.result(self.store.folder).table() if r["train"] == raw.name]
            self.progress.table(rows)

    def _score_trials(self, raw: TaskRef, ref: TaskRef) -> None:
        """Score the trials that lost, where their weights are still there: forgetting at every rate tried."""
        wanted = measures.trial_scores(self.study, raw)
        for spec in self._losing(ref) if wanted else ():
            if not self._has_time():
                return
            self._measure_stored(spec, wanted, is_extra=True)
            self._drop_large(spec, wanted)

    def _diagnose_given(self) -> None:
        judged, train = self.study.config.judged(), next((ref for _, ref in self.study.resolve()[1]), None)
        for arm in self.study.given():
            spec = given_spec(self.model, arm)
            is_left = self.store.run(run_key(spec)) is not None and self._inside.left(spec, train, judged)
            if is_left and not self._skips_extras():
                self._inside.diagnose(spec, train, judged, self._has_time)

    def _diagnose_finals(self, raw: TaskRef, ref: TaskRef) -> None:
        evaluations = self.study.config.evaluations(raw)
        for seed in self.study.config.seeds:
            for spec in self._counting(ref, seed):
                self._diagnose(spec, ref, evaluations)

    def _diagnose(self, spec: RunSpec, ref: TaskRef, evaluations: Sequence) -> None:
        """Look inside a finished run, if its weights are stored."""
        found = self.store.run(run_key(spec))
        is_left = found is not None and found.status == "done" and self._inside.left(spec, ref, evaluations)
        then = "can't be measured any more"
        if is_left and self._has_weights(spec, then) and not self._skips_extras():
            try:
                self._inside.diagnose(spec, ref, evaluations, self._has_time)
            except DamagedWeights as error:
                self._drop_damaged(spec, error, then)

    def _losing(self, ref: TaskRef) -> list[RunSpec]:
        return measures.losing(self._counting(ref, self.study.config.seeds[0]), self._trials(ref))

    def _counting(self, ref: TaskRef, seed: int) -> list[RunSpec]:
        return self.study.finals(self._find, self.model, ref, seed, self.store)

    def _trials(self, ref: TaskRef) -> list[RunSpec]:
        return [spec for r in self.study.rates(self._find, self.model, ref, self.store) for spec in r.trials]

    def _set(self, ref: TaskRef) -> TrainSet:
        return self._trainer.set(ref)

    def _has_time(self) -> bool:
        return time.monotonic() < self.until

    def _must_train(self, spec: RunSpec) -> bool:
        found = self._find([run_key(spec)]).get(run_key(spec))
        return found is None or (found.status == "done" and not self._has_weights(spec))

    def _has_weights(self, spec: RunSpec, then: str = "is trained again") -> bool:
        """Whether a run's weights are stored and whole. A damaged file is removed: it counts as none from then on."""
        blobs, key = self.store.blobs, run_key(spec)
        if not blobs.has(key):
            return False
        try:
            check_safetensors(blobs.path(key))
        except ModelError as error:
            self._drop_damaged(spec, error, then)
            return False
        return True

    def _drop_damaged(self, spec: RunSpec, error: ModelError, then: str) -> None:
        path = self.store.blobs.path(run_key(spec))
        self.store.blobs.remove(run_key(spec))
        self._note(f"{spec.name} {then}: {error.what} ({path})")

    def _note(self, text: str) -> None:
        self.progress.note(text)

    def _is_scored(self, spec: RunSpec, scores: Sequence[Measure]) -> bool:
        found = self._find([run_key(spec)]).get(run_key(spec))
        if found is None or found.status != "done":
            return found is not None
        return not self._left(run_key(spec), scores)

    def _left(self, key: str, wanted: Sequence[Measure]) -> list[Measure]:
        """What has no row yet; one that says out of memory counts only if this very command made it."""
        return [m for m in self._open(key, wanted) if key + m.key not in self._trainer.tried]

    def _open(self, key: str, wanted: Sequence[Measure]) -> list[Measure]:
        """What this command or, where memory ended, the next one has to measure."""
        found = {m: self.store.eval_outcome(key, m.key) for m in wanted}
        return [m for m, row in found.items() if row is None or row[1].startswith(OUT_OF_MEMORY)]

    def _measure_stored(self, spec: RunSpec, wanted: Sequence[Measure], is_extra: bool = False) -> bool:
        """Measure what is left of a finished run, if its weights are stored. Nothing is trained for it.

        False if its weights were there, but damaged: they are removed, and count as none from then on.
        """
        key, blobs = run_key(spec), self.store.blobs
        found = self.store.run(key)
        if found is None or found.status != "done" or not blobs.has(key):
            return True
        if left := self._left(key, wanted):
            is_needed = not is_extra and any(m.kind == "score" for m in left)
            then = "is trained again" if is_needed else "can't be measured any more"
            if not self._has_weights(spec, then):
                return False
            try:
                self._measure(key, spec.arm.name, wanted, lambda base: applied(base, spec, blobs.path(key)), is_extra)
            except DamagedWeights as error:
                self._drop_damaged(spec, error, then)
                return False
        return True

    def _drop_large(self, spec: RunSpec, wanted: Sequence[Measure], inside: Sequence = ()) -> None:
        """Full SFT's weights, if nobody wants them, are gone at once, not only when the whole train task is done.

        ``inside``: diagnoses that are left to make.
        """
        key = run_key(spec)
        is_wanted = self.study.config.keep != "adapters" or key in self.store.wanted_by_others(self.study.key)
        if spec.arm.kind == "full" and not is_wanted and not inside and not self._open(key, wanted):
            self.store.blobs.remove(key)

    def _measure(self, key: str, label: str, wanted: Sequence[Measure], weights, is_extra: bool = False) -> None:
        """Measure the base under ``weights`` in every way that has no row yet.

        ``is_extra``: no verdict waits for any of it, as none does for divergences and noise.
        """
        left = self._left(key, wanted)
        is_extra = is_extra or all(measure.kind != "score" for measure in left)
        if not left or (is_extra and self._skips_extras()):
            return
        jobs = []
        for measure in left:
            with self._memory(key, [measure], "in reading what the base says"):
                jobs.append((measure, *self._job(measure)))
        self.progress.about([key])
        tick = ticker(self.progress, f"scoring {label}", "items", sum(size for _, size, _ in jobs))
        own = self.base
        with ExitStack() as stack:
            base = None
            with self._memory(key, [measure for measure, *_ in jobs], "in loading"), self.store.clock.stage("loading"):
                base = stack.enter_context(weights(own))
            for measure, _, job in jobs if base is not None else ():
                self.store.put_eval(job(base, key, tick), measure.ref, measure.key)
                self._trainer.tried.add(key + measure.key)

    @contextmanager
    def _memory(self, key: str, wanted: Sequence[Measure], when: str) -> Iterator[None]:
        """Inside, memory that ends is a failed row for each of ``wanted``, as in scoring itself."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            for measure in wanted:
                metric = "kl" if measure.kind in ("rows", "text") else self._questions(measure.ref).metric
                row = EvalResult(key, measure.key, "failed", f"{OUT_OF_MEMORY} {when}", metric, None, (), Ledger())
                self.store.put_eval(row, measure.ref, measure.key)
                self._trainer.tried.add(key + measure.key)

    def _job(self, measure: Measure) -> tuple[int, Callable[..., EvalResult]]:
        """How many items a measure has, and what to do with a base under weights. The base itself is untouched yet."""
        own, clock = measure.key, self.store.clock
        if measure.kind in ("rows", "text"):
            known = self._reference(measure)
            return len(known.rows), lambda base, key, tick: divergence.measure(base, known, key, own, tick, clock)
        task = measure.part(self._questions(measure.ref))
        size = NOISE_TOKENS if measure.kind == "noise" else BATCH_TOKENS
        return len(task.samples), lambda base, key, tick: evaluate(base, task, key, own, tick, size, clock)

    def _questions(self, ref: TaskRef) -> tasks.Prepared:
        if ref not in self._prepared:
            self._prepared[ref] = self.study.prepared(ref)
        return self._prepared[ref]

    def _reference(self, measure: Measure) -> divergence.Reference:
        """What the untouched base says of a divergence's rows, read once."""
        if measure.key not in self._references:
            if measure.kind == "rows":
                rows = self._set(measure.ref).validation
                items = [Score(f"validation row {i}", 0.0) for i in range(len(rows))]
            else:
                task = measure.part(self._questions(measure.ref))
                rows = text_rows(self.base, task)
                items = [Score(s.id, 0.0, s.subject, s.cluster) for s in task.samples]
            with self.store.clock.stage("divergence"):
                self._references[measure.key] = divergence.reference(self.base, rows, items)
        return self._references[measure.key]

    def _rows_reference(self, ref: TaskRef) -> divergence.Reference:
        return self._reference(Measure("rows", ref, measures.rows_key(ref, self.study.config.recipe())))

    def _tidy(self, raw: TaskRef, ref: TaskRef) -> None:
        """Drop the weights that ``keep`` doesn't name, once all that needs them is measured."""
        config, evaluations = self.study.config, self.study.config.evaluations(raw)
        finals = [s for seed in config.seeds for s in self._counting(ref, seed)]
        mine = {run_key(s) for s in [*finals, *self._trials(ref)]}
        scores = measures.scores(self.study, evaluations)
        every = [*scores, *measures.divergences(self.study, [ref], evaluations)]
        trial = measures.trial_scores(self.study, raw)
        wait = [(s, every) for s in finals] + [(s, trial) for s in self._losing(ref)]
        is_waiting = any(self.store.blobs.has(run_key(s)) and self._open(run_key(s), wanted) for s, wanted in wait)
        is_waiting |= any(self.store.blobs.has(run_key(s)) and self._inside.left(s, ref, evaluations) for s in finals)
        if is_waiting or not all(self._is_scored(s, scores) for s in finals):
            self.store.want(self.study.key, mine, mine)  # nor may another study of this store drop them
            return
        wanted = {run_key(s) for s in finals if s.arm.kind == "lora"}
        if config.keep == "best":
            rows = [h for h in self.study.result(self.store.folder).view().headlines
                    if (h.model, h.train) == (self.model.name, raw.name) and h.gain is not None]  # fmt: skip
            best = max(rows, key=lambda h: h.gain.contrast.estimate.value, default=None)
            wanted = {run_key(s) for s in finals if best is not None and s.arm.name == best.arm}
        wanted = mine if config.keep == "all" else wanted
        self.store.want(self.study.key, mine, wanted)
        for key in mine - wanted - self.store.wanted_by_others(self.study.key):
            self.store.blobs.remove(key)
