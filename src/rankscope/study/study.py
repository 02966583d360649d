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
from rankscope.storage.store import Store
from rankscope.study.plan import Plan, base_spec, candidates, run_key, task_key
from rankscope.study.rates import Rates, arm_rates
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
                self.test_task(ref)
            self._resolved = (models, list(zip(self.config.train_refs(), train, strict=True)))
        return self._resolved

    def test_task(self, ref: TaskRef) -> TaskRef:
        return tasks.resolve(ref, self.data_dir, "test")

    def plan(self, store: str | Path | None = None) -> Plan:
        """Every run there is to do, as far as known: rates still to be chosen show as trials of the first seed."""
        models, train = self.resolve()
        if store is None or not (Path(store) / "rankscope.db").is_file():
            return self._plan(models, train, lambda keys: {})
        with Store.open(store, write=False) as opened:
            return self._plan(models, train, opened.runs)

    def _plan(self, models, train, find) -> Plan:
        specs = []
        for model in models:
            for _, ref in train:
                rates = [arm_rates(find, trials) for trials in self.arm_trials(model, ref)]
                specs += [trial for r in rates for trial in r.trials]
                specs += [replace(r.chosen, seed=seed) for seed in self.config.seeds[1:] for r in rates]
        done = find(run_key(s) for s in specs)
        return Plan(tuple((s.name, run_key(s) in done) for s in specs))

    def arm_trials(self, model, train: TaskRef) -> list[list[RunSpec]]:
        """The first seed's run of every trained arm at each rate its declaration names, arm by arm."""
        found: dict[str, list[RunSpec]] = {}
        for spec in candidates(self.config, model, train, self.config.seeds[0]):
            found.setdefault(spec.arm.name, []).append(spec)
        return list(found.values())

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
        """The run of each arm at the rate its trials chose; arms whose trials aren't all there are left out."""
        rates = [arm_rates(store.runs, trials) for trials in self.arm_trials(model, train)]
        return [replace(r.chosen, seed=seed) for r in rates if r.is_settled]

    def result(self, store: str | Path = "runs/") -> StudyResult:
        from rankscope.report.view import Evidence, build

        models, train = self.resolve()
        runs: list[tuple[RunSpec, str, RunResult, str]] = []
        evals: dict[tuple[str, str], EvalResult] = {}
        notes: list[str] = []
        with Store.open(store, write=False) as opened:
            def add(spec: RunSpec, role: str, refs) -> None:
                key = run_key(spec)
                found = opened.run(key)
                if found is None:
                    return
                runs.append((spec, key, found, role))
                for ref, _ in refs if role == "final" else ():
                    if (scored := opened.eval(key, task_key(self.test_task(ref)))) is not None:
                        evals[key, ref.name] = scored

            for model in models:
                add(base_spec(model), "final", self.config.evaluations(None))
                for raw, ref in train:
                    rates = [arm_rates(opened.runs, trials) for trials in self.arm_trials(model, ref)]
                    notes += _edges(model, raw, rates)
                    finals = [replace(r.chosen, seed=seed) for seed in self.config.seeds for r in rates if r.is_settled]
                    losing = [t for r in rates for t in r.trials if t not in finals]
                    for specs, role in ((finals, "final"), (losing, "trial")):
                        for spec in specs:
                            add(spec, role, self.config.evaluations(raw))
        evidence = Evidence(self.config.name, self.config.title, self.config.seeds, self.config.arms(),
                            tuple(r.name for r, _ in train),
                            {r.name: tuple((e.name, role) for e, role in self.config.evaluations(r)) for r, _ in train},
                            tuple(runs), evals, environment(), tuple(notes), self.config.recommend.margin, tuple(models))  # fmt: skip
        return StudyResult(build(evidence), evidence)


def _edges(model, train: TaskRef, rates: list[Rates]) -> list[str]:
    """What a reader must know of rates whose best trial lies at the end of the grid: a better one may lie beyond."""
    told = []
    for end, words in (("low", "lowest"), ("high", "highest")):
        names = [r.trials[0].arm.name for r in rates if r.choice is not None and r.choice.edge == end]
        if names:
            told.append(f"{model.name} on {train.name}: the best learning rate tried is the {words} one for "
                        f"{', '.join(names)}; a better one may lie beyond.")  # fmt: skip
    return told


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
