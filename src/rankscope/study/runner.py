"""Doing a study's work, run by run, into the store. In: a study, a store, a model. Out: rows. The only place with a clock."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankscope.evaluation.suite import evaluate
from rankscope.models import adapter as adapters
from rankscope.models.base import load
from rankscope.models.lora import AdapterBank
from rankscope.provenance import content_key
from rankscope.records import ModelRef, RunResult, RunSpec, TaskRef
from rankscope.stats.estimate import mean_estimate
from rankscope.study.plan import base_spec, candidates, run_key, task_key
from rankscope.tasks import task as tasks
from rankscope.training.cohort import encode_train_set
from rankscope.worker import train


class Runner:
    """All work of one model. The weights are read only if something is left to do."""

    def __init__(self, study: Any, store: Any, model: ModelRef, progress: Any, until: float):
        self.study, self.store, self.model, self.progress, self.until = study, store, model, progress, until
        self._base, self._prepared, self._sets = None, {}, {}

    @property
    def base(self):
        if self._base is None:
            self._base = load(self.model)
        return self._base

    def go(self, pairs: list) -> None:
        spec = base_spec(self.model)
        if self.store.run(run_key(spec)) is None:
            self.store.put_run(spec, run_key(spec), RunResult(run_key(spec), "done"))
        self._evaluate(run_key(spec), "base", self.study.config.evaluations(None), lambda: self.base)
        config = self.study.config
        for seed in config.seeds:
            for raw, ref in pairs:
                specs = candidates(config, self.model, ref, seed) if seed == config.seeds[0] else []
                # Trials first: the final runs of every seed stand at the rate they choose.
                self._cohorts([s for s in specs if sum(o.arm.name == s.arm.name for o in specs) > 1], raw, ref, False)
                self._cohorts(self.study.finals(self.store, self.model, ref, seed), raw, ref, True)

    def _cohorts(self, specs: list[RunSpec], raw: TaskRef, ref: TaskRef, is_final: bool) -> None:
        evaluations = self.study.config.evaluations(raw)
        left = [s for s in specs if self._is_left(s, evaluations if is_final else ())]
        lora = [s for s in left if s.arm.kind == "lora"]
        for group in [lora[i : i + 8] for i in range(0, len(lora), 8)] + [[s] for s in left if s.arm.kind == "full"]:
            if time.monotonic() < self.until:
                self._cohort(group, ref, evaluations if is_final else ())

    def _is_left(self, spec: RunSpec, evaluations) -> bool:
        found = self.store.run(run_key(spec))
        if found is None:
            return True
        return found.status == "done" and any(
            self.store.eval_status(run_key(spec), self._key(e)) is None for e, _ in evaluations
        )

    def _key(self, ref: TaskRef) -> str:
        return task_key(self.study._task(ref))

    def _cohort(self, specs: list[RunSpec], ref: TaskRef, evaluations) -> None:
        runs = [(run_key(s), s) for s in specs]
        if ref not in self._sets:
            samples = tasks.train_samples(ref, self.study.data_dir)
            self._sets[ref] = encode_train_set(self.base, samples, specs[0].recipe)
        name = content_key(sorted(k for k, _ in runs))
        label = f"{ref.name}: {', '.join(s.arm.name for s in specs)}, seed {specs[0].seed}"
        tick = self._ticker(label)
        trained = train(self.base, runs, self._sets[ref], self.store.checkpoint_folder(name), tick)
        try:
            for trainee in trained.trainees:
                result = trained.result(trainee)
                if result.status == "done":
                    with self.store.blobs.writing(trainee.key) as path:
                        trained.write(trainee, path)
                    size = self.store.blobs.size(trainee.key)
                    result = replace(result, ledger=replace(result.ledger, blob_bytes=size))
                self.store.put_run(trainee.spec, trainee.key, result)
                if result.status == "done":
                    with trained.using(trainee.key) as base:
                        self._evaluate(trainee.key, trainee.spec.arm.name, evaluations, lambda base=base: base)
                if self.study.config.keep != "all" and trainee.spec.arm.kind == "full":
                    self.store.blobs.remove(trainee.key)
        finally:
            trained.close()
        self.store.drop_checkpoint(name)

    def _evaluate(self, key: str, label: str, evaluations, base) -> None:
        for ref, _ in evaluations:
            resolved = self.study._task(ref)
            if self.store.eval_status(key, task_key(resolved)) is not None:
                continue
            if resolved not in self._prepared:
                self._prepared[resolved] = tasks.prepare(resolved, self.study.data_dir)
            if self.progress:
                self.progress.note(f"scoring {label} on {ref.name}")
            self.store.put_eval(evaluate(base(), self._prepared[resolved], key, task_key(resolved)), resolved,
                                task_key(resolved))  # fmt: skip

    def _ticker(self, label: str):
        progress, started = self.progress, []

        def tick(step: int, total: int, loss: float) -> None:
            if progress is None:
                return
            if not started:
                progress.start(label, total, "steps")
                started.append(step)
            progress.advance(label, 1, loss=loss)
            if step == total:
                progress.finish(label)

        return tick


def score_model(model: str, refs: list[TaskRef], adapter: str | None, data_dir, dtype: str, progress) -> list[dict]:
    """Scores of one model on tasks, with items. Raises InputError for a missing model, adapter or task."""
    prepared = [tasks.prepare(r, data_dir) for r in refs]
    base = load(ModelRef(model, dtype=dtype))
    bank = AdapterBank(base)
    if adapter:
        tensors, arm = adapters.read_adapter_folder(Path(adapter))
        bank.add("given", arm, 0)
        bank.load("given", tensors)
    rows = []
    for ref, task in zip(refs, prepared, strict=True):
        with bank.use("given" if adapter else None):
            found = evaluate(base, task, "", "")
        import numpy as np

        estimate = mean_estimate(np.array([[s.value for s in found.scores]]))
        above = None if found.chance is None else estimate.low > found.chance
        rows.append({"task": ref.name, "metric": found.metric, "value": estimate.value, "low": estimate.low,
                     "high": estimate.high, "n": len(found.scores), "chance": found.chance, "above_chance": above,
                     "items": [s.__dict__ for s in found.scores]})  # fmt: skip
    return rows
