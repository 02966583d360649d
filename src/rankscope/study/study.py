"""The facade: ``Study`` and ``StudyResult``. In: a study file and a store. Out: runs done, a report."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankscope.config import StudyConfig, from_dict, load
from rankscope.provenance import content_key, environment
from rankscope.records import EvalResult, RunResult, RunSpec, TaskRef
from rankscope.report import render
from rankscope.stats.tuning import Trial, choose_lr
from rankscope.storage.store import Store
from rankscope.study.plan import Plan, base_spec, candidates, run_key, task_key
from rankscope.tasks import task as tasks


class Study:
    """One question, as declared by one YAML file."""

    def __init__(self, config: StudyConfig, data_dir: str | None = None):
        self.config, self.data_dir = config, data_dir or config.data_dir
        self._resolved: tuple | None = None

    @classmethod
    def load(cls, source: str | Path | dict, overrides: tuple[str, ...] = (), data_dir: str | None = None) -> Study:
        config = from_dict(source, overrides) if isinstance(source, dict) else load(source, overrides)
        return cls(config, data_dir)

    @classmethod
    def demo(cls) -> Study:
        return cls.load(Path(__file__).parent.parent / "demo" / "study.yaml")

    def resolve(self) -> tuple:
        """Models and train tasks with their content keys; raises for any that is missing. No weights are read."""
        from rankscope.models.locate import resolve

        if self._resolved is None:
            models = [resolve(m) for m in self.config.models()]
            train = [tasks.resolve(r, self.data_dir, "train") for r in self.config.train_refs()]
            for ref, _ in self.config.evaluations(None):
                self._task(ref)
            self._resolved = (models, list(zip(self.config.train_refs(), train, strict=True)))
        return self._resolved

    def _task(self, ref: TaskRef) -> TaskRef:
        return tasks.resolve(ref, self.data_dir, "test")

    def plan(self, store: str | Path | None = None) -> Plan:
        models, train = self.resolve()
        specs = [s for m in models for _, t in train for seed in self.config.seeds for s in self._of_seed(m, t, seed)]
        if store is None or not (Path(store) / "rankscope.db").is_file():
            return Plan(tuple((s.name, False) for s in specs))
        with Store.open(store, write=False) as opened:
            done = opened.runs(run_key(s) for s in specs)
        return Plan(tuple((s.name, run_key(s) in done) for s in specs))

    def _of_seed(self, model, train: TaskRef, seed: int) -> list[RunSpec]:
        found = candidates(self.config, model, train, seed)
        names = dict.fromkeys(s.arm.name for s in found)
        return found if seed == self.config.seeds[0] else [next(s for s in found if s.arm.name == n) for n in names]

    def run(self, store: str | Path = "runs/", progress: Any = None, budget_seconds: float | None = None) -> StudyResult:
        """Do what isn't done. Finished work is kept whatever happens."""
        models, train = self.resolve()
        until = time.monotonic() + budget_seconds if budget_seconds else float("inf")
        with Store.open(store) as opened:
            key = content_key(self.config.as_dict())
            opened.save_study(self.config.name, key, self.config.as_dict(), environment())
            from rankscope.study.runner import Runner

            for model in models:
                Runner(self, opened, model, progress, until).go(train)
        return self.result(store)

    def finals(self, store: Store, model, train: TaskRef, seed: int) -> list[RunSpec]:
        """The run of each arm at the rate its first-seed trials chose; arms whose trials aren't all there are left out."""
        first = candidates(self.config, model, train, self.config.seeds[0])
        chosen = []
        for name in dict.fromkeys(s.arm.name for s in first):
            mine = [s for s in first if s.arm.name == name]
            if len(mine) > 1:
                found = store.runs(run_key(s) for s in mine)
                if len(found) < len(mine):
                    continue
                trials = [Trial(s.lr, r.validation_loss, r.validation_se, r.validation_items)
                          for s, r in ((s, found[run_key(s)]) for s in mine)]  # fmt: skip
                choice = choose_lr(trials)
                mine = [s for s in mine if choice is None or s.lr == choice.lr]
            chosen.append(replace(mine[0], seed=seed))
        return chosen

    def result(self, store: str | Path = "runs/") -> StudyResult:
        from rankscope.report.view import Evidence, build

        models, train = self.resolve()
        runs: list[tuple[RunSpec, str, RunResult, str]] = []
        evals: dict[tuple[str, str], EvalResult] = {}
        with Store.open(store, write=False) as opened:
            def add(spec: RunSpec, role: str, refs) -> None:
                key = run_key(spec)
                found = opened.run(key)
                if found is None:
                    return
                runs.append((spec, key, found, role))
                for ref, _ in refs if role == "final" else ():
                    if (scored := opened.eval(key, task_key(self._task(ref)))) is not None:
                        evals[key, ref.name] = scored

            for model in models:
                add(base_spec(model), "final", self.config.evaluations(None))
                for raw, ref in train:
                    for seed in self.config.seeds:
                        finals = self.finals(opened, model, ref, seed)
                        for spec in self._of_seed(model, ref, seed) if seed == self.config.seeds[0] else finals:
                            keys = {run_key(s) for s in finals}
                            add(spec, "final" if run_key(spec) in keys else "trial", self.config.evaluations(raw))
        evidence = Evidence(self.config.name, self.config.title, self.config.seeds, self.config.arms(),
                            tuple(r.name for r, _ in train),
                            {r.name: tuple((e.name, role) for e, role in self.config.evaluations(r)) for r, _ in train},
                            tuple(runs), evals, environment(), (), self.config.recommend.margin, tuple(models))  # fmt: skip
        return StudyResult(build(evidence), evidence)


class StudyResult:
    """What a study has measured so far."""

    def __init__(self, view: Any, evidence: Any):
        self._view, self.evidence = view, evidence

    def view(self) -> Any:
        return self._view

    @property
    def verdict(self) -> str:
        return self._view.verdict

    @property
    def failed(self) -> list[tuple[str, str]]:
        return [(spec.name, found.message) for spec, _, found, _ in self.evidence.runs if found.status == "failed"]

    @property
    def is_complete(self) -> bool:
        return not self._view.missing

    def table(self) -> list[dict[str, Any]]:
        def shown(e: Any) -> str:
            return "" if e is None else f"{e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]"

        return [{"train": h.train, "arm": h.arm, "gain": shown(h.gain and h.gain.contrast.estimate),
                 "retention": shown(h.retention), "forgotten": shown(h.forgotten), "kept": h.kept,
                 "seeds": h.num_seeds} for h in self._view.headlines]  # fmt: skip

    def report(self, path: str | Path, format: str = "html") -> Path:
        path = Path(path)
        new = path.with_name(path.name + ".new")
        new.write_text(render(self._view, format), encoding="utf-8")
        os.replace(new, path)
        return path


def collect_garbage(store: str | Path, dry_run: bool = True) -> dict[str, Any]:
    """What takes space in a store; without ``dry_run`` checkpoints and weights that belong to no run go."""
    with Store.open(store) as opened:
        return opened.gc(set(opened.runs(opened.blobs.keys())), not dry_run)


def score(model: str, names: list[str], adapter: str | None = None, shots: int = 0, limit: int | None = None,
          form: str = "default", data_dir: str | None = None, dtype: str = "auto", progress: Any = None) -> list[dict]:  # fmt: skip
    """Score a model on tasks, with or without a PEFT adapter."""
    from rankscope.study.runner import score_model

    refs = [TaskRef(n, form, shots, limit) for n in names]
    return score_model(model, refs, adapter, data_dir, dtype, progress)
