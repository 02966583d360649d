"""The facade: ``Study`` and ``StudyResult``. In: a study file and a store. Out: runs done, a report."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankscope.clock import Clock
from rankscope.config import StudyConfig, from_dict, load
from rankscope.errors import InputError, StoreError
from rankscope.plugins import did_you_mean
from rankscope.provenance import content_key, environment, public_name
from rankscope.records import Arm, Contrast, Dropped, ModelRef, RunSpec, TaskRef
from rankscope.report import UNTRAINED, render
from rankscope.storage.blobs import Blobs
from rankscope.storage.store import Store
from rankscope.study import measures, preflight, rows
from rankscope.study.diagnosis import Diagnosed
from rankscope.study.plan import Plan, base_spec, candidates, given_spec
from rankscope.study.rates import Find, Rates, arm_rates, counting, edge_notes
from rankscope.study.standing import Standing, standing
from rankscope.study.stored import StoredAdapter
from rankscope.tasks import task as tasks


class Study:
    """One question, as declared by one YAML file."""

    def __init__(self, config: StudyConfig, data_dir: str | None = None):
        self.config, self.data_dir = config, data_dir or config.data_dir
        self._resolved: tuple | None = None
        self._given: list[Arm] | None = None
        self.source: str | Path | None = None
        self.overrides: tuple[str, ...] = ()
        self._rows: dict[TaskRef, Any] = {}
        self.row_facts: dict[str, dict[str, Any]] = {}  # what ``study.rows`` counted, kept for the next question

    @classmethod
    def load(cls, source: str | Path | dict, overrides: tuple[str, ...] = (), data_dir: str | None = None) -> Study:
        config = from_dict(source, overrides) if isinstance(source, dict) else load(source, overrides)
        study = cls(config, data_dir)
        study.source, study.overrides = None if isinstance(source, dict) else source, tuple(overrides)
        return study

    @classmethod
    def demo(cls) -> Study:
        return cls.load(Path(__file__).parent.parent / "demo" / "study.yaml")

    def resolve(self) -> tuple:
        """Models and train tasks with their content keys; raises for any that is missing. No weights are read."""
        if self._resolved is None:
            self._resolved = preflight.resolve(self)
        return self._resolved

    def given(self) -> list[Arm]:
        """The arms that exist already (adapters, checkpoints), with their content keys."""
        if self._given is None:
            self._given = preflight.given(self)
        return self._given

    def check(self) -> list[str]:
        """What could not be checked. Raises InputError for what is wrong: models, targets, the rows that lie here.

        Reads no weights.
        """
        return preflight.check(self, is_offline=True)

    def test_task(self, ref: TaskRef) -> TaskRef:
        """A task with its form and the key of its test rows."""
        return tasks.resolve(ref, self.data_dir, tasks.get_task(ref.task).test_split)

    def prepared(self, ref: TaskRef) -> tasks.Prepared:
        """The questions of a resolved test task, read once."""
        if ref not in self._rows:
            self._rows[ref] = tasks.prepare(ref, self.data_dir)
        return self._rows[ref]

    def samples(self, ref: TaskRef) -> tuple[tasks.Sample, ...]:
        """The training samples of a resolved train task."""
        return tasks.train_samples(ref, self.data_dir)

    def plan(self, store: str | Path | None = None) -> Plan:
        """Every run there is to do, and what the rest will take. Reads no weights."""
        from rankscope.study.planning import make_plan

        if store is None or not (Path(store) / "rankscope.db").is_file():
            return make_plan(self, None)
        with Store.open(store, write=False) as opened:
            return make_plan(self, opened)

    def arm_trials(self, model, train: TaskRef) -> list[list[RunSpec]]:
        """The first seed's run of every trained arm at each rate its declaration names, arm by arm."""
        found: dict[str, list[RunSpec]] = {}
        for spec in candidates(self.config, model, train, self.config.seeds[0]):
            found.setdefault(spec.arm.name, []).append(spec)
        return list(found.values())

    def run(self, store: str | Path = "runs/", progress: Any = None, budget_seconds: float | None = None,
            clock: Clock | None = None) -> StudyResult:  # fmt: skip
        """Do what isn't done. Finished work is kept whatever happens. ``clock`` is told where the time goes."""
        clock = clock or Clock()
        with clock.stage("checking"):
            models, train = self.resolve()
            is_new = not (Path(store) / "rankscope.db").is_file()
            if is_unfinished := is_new or not self.result(store).is_complete:
                preflight.check(self)
        until = time.monotonic() + budget_seconds if budget_seconds else float("inf")
        with Store.open(store, clock=clock) as opened:
            opened.save_study(self.config.name, self.key, self.config.as_dict(), environment())
            if is_unfinished:  # the rows are read anyway; a finished study reads none
                with clock.stage("checking"):
                    rows.measure(self, opened)
            with clock.stage("loading"):
                from rankscope.study.runner import Runner

            for model in models:
                Runner(self, opened, model, progress, until).go(train)
        with clock.stage("statistics"):
            return self.result(store)

    @property
    def key(self) -> str:
        """Content hash of the whole declaration."""
        return content_key(self.config.as_dict())

    def rates(self, find: Find, model, train: TaskRef, store: Any = None) -> list[Rates]:
        """How far the choice of each arm's rate has come; with the open store, as a race has it."""
        drops = standing(self, find, store, model, train).drops
        return [arm_rates(find, trials, drops) for trials in self.arm_trials(model, train)]

    def finals(self, find: Find, model, train: TaskRef, seed: int, store: Any = None) -> list[RunSpec]:
        """The run of each arm at the rate its trials chose; arms whose trials aren't all there are left out, and so
        are those that a race has stopped (which only the open store knows)."""
        return counting(self.rates(find, model, train, store), [seed])

    def result(self, store: str | Path = "runs/") -> StudyResult:
        from rankscope.report.evidence import Evidence, with_margin
        from rankscope.report.view import build

        models, train = self.resolve()
        notes: list[str] = []
        dropped: list[Dropped] = []
        raced: list[Standing] = []
        with Store.open(store, write=False) as opened:
            facts, found, judged = rows.known(self, opened), measures.Found(opened), self.config.judged()
            inside = Diagnosed(opened)
            for model in models:
                scores = measures.scores(self, self.config.evaluations(None))
                found.add(base_spec(model), "final", scores, noise=measures.noise(self))
                for arm in self.given():
                    more = measures.divergences(self, [ref for _, ref in train], judged)
                    found.add(given_spec(model, arm), "final", measures.scores(self, judged), more)
                    inside.add(self, given_spec(model, arm), train[0][1] if train else None, judged)
                for raw, ref in train:
                    rates = self.rates(opened.runs, model, ref, opened)
                    raced.append(standing(self, opened.runs, opened, model, ref))
                    dropped += raced[-1].rows(self.arm_trials(model, ref))
                    notes += edge_notes(model, raw, rates)
                    finals = counting(rates, self.config.seeds)
                    scores = measures.scores(self, self.config.evaluations(raw))
                    more = measures.divergences(self, [ref], self.config.evaluations(raw))
                    for spec in finals:
                        found.add(spec, "final", scores, more)
                        inside.add(self, spec, ref, self.config.evaluations(raw))
                    scores = measures.trial_scores(self, raw)
                    for spec in measures.losing(finals, [t for r in rates for t in r.trials]):
                        found.add(spec, "trial", scores)
            day = opened.last_day(key for _, key, *_ in found.runs)
        notes += found.notes() + inside.notes()
        evidence = Evidence(
            self.config.name,
            self.config.title,
            self.config.seeds,
            _public(self.config.arms(), self.given()),
            tuple(r.name for r, _ in train) or (UNTRAINED,),
            {r.name: tuple((e.name, role) for e, role in self.config.evaluations(r)) for r, _ in train}
            or {UNTRAINED: tuple((e.name, role) for e, role in self.config.evaluations(None))},
            tuple(found.runs),
            found.evals,
            environment(),
            tuple(notes),
            self.config.recommend.margin,
            tuple(models),
            facts.counts,
            facts.overlaps,
            divergences=found.divergences,
            noise=found.noise,
            retain=self.config.recommend.retain,
            prefer=self.config.recommend.prefer,
            alarm=self.config.evaluate.alarm,
            skills=self.skills(),
            date=day,
            diagnoses=inside.found,
            dropped=tuple(dropped),
            previews=tuple(preview for race in raced for preview in race.previews),
        )
        evidence = with_margin(evidence)
        return StudyResult(
            build(evidence), evidence, Path(store), has_more_to_measure=found.has_more or bool(inside.pending)
        )

    def skills(self) -> dict[str, str]:
        """What each task of the study mainly asks for, by name: as the study says, else as the task says ('': neither).

        Raises PluginError for an unknown task.
        """
        refs = (*self.config.train_refs(), *(ref for ref, _ in self.config.evaluations(None)))
        return {ref.name: tasks.get_task(ref.task).skill for ref in refs} | self.config.skills()


def _public(arms: tuple[Arm, ...], given: list[Arm]) -> tuple[Arm, ...]:
    """The arms as a report may show them: with keys, and without the paths of this machine."""
    known = {arm.name: arm for arm in given}
    return tuple(replace(known.get(a.name, a), path=a.path and public_name(a.path)) for a in arms)


class StudyResult:
    """What a study has measured so far.

    ``has_more_to_measure``: ``run`` would still measure divergences, noise or lost trials; no verdict waits for it.
    """

    def __init__(self, view: Any, evidence: Any, store: Path, has_more_to_measure: bool = False):
        self._view, self.evidence, self._store = view, evidence, store
        self.has_more_to_measure = has_more_to_measure

    def view(self) -> Any:
        return self._view

    @property
    def verdict(self) -> str:
        return self._view.verdict

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """The first-seed runs that a race stopped early, with why. What they showed is partial and in no estimate."""
        return self.evidence.dropped

    @property
    def failed(self) -> list[tuple[str, str]]:
        """Runs and scorings that failed, by name, with what they said.

        A trial that lost counts for its training alone: no verdict needs its scores, and the notes say which failed.
        """
        runs = [(spec.name, found.message) for spec, _, found, _ in self.evidence.runs if found.status == "failed"]
        names = {key: spec.name for spec, key, _, role in self.evidence.runs if role == "final"}
        return runs + [(f"{names[key]} on {task}", found.message) for (key, task), found in self.evidence.evals.items()
                       if found.status == "failed" and key in names]  # fmt: skip

    @property
    def is_complete(self) -> bool:
        return not self._view.missing

    def table(self) -> list[dict[str, Any]]:
        def shown(e: Any) -> str:
            return "" if e is None else f"{e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]"

        several = len(self._view.models) > 1
        return [
            {
                **({"model": h.model} if several else {}),
                "train": h.train,
                "arm": h.arm,
                "gain": shown(h.gain and h.gain.contrast.estimate),
                "retention": shown(h.retention),
                "forgotten": shown(h.forgotten),
                "kept": h.kept,
                "seeds": h.num_seeds,
            }
            for h in self._view.headlines
        ]

    def transfer(self) -> tuple[Any, ...]:
        """Every cell train task x eval task of every arm; a cell's ``effect`` is None where nothing was measured."""
        return self._view.transfer

    def contrast(self, arm: str, other: str, task: str, train: str | None = None) -> Contrast:
        """The paired difference ``arm - other`` on one task; positive is better.

        ``train`` is needed if there are several.

        Raises InputError, with the nearest name, if this study doesn't compare the two there.
        """
        found = self._view.effects
        asked = (
            ("arm", arm, lambda e: e.contrast.arm),
            ("arm", other, lambda e: e.contrast.other),
            ("task", task, lambda e: e.task),
            ("train task", train, lambda e: e.train),
        )
        for what, wanted, of in asked:
            names = list(dict.fromkeys(map(of, found)))
            found = [e for e in found if wanted in (None, of(e))]
            if not found:
                raise InputError(f"no comparison with the {what} {wanted!r}{did_you_mean(str(wanted), names)}",
                                 hint=f"There is: {', '.join(names)}")  # fmt: skip
        if len(found) > 1:
            names = ", ".join(dict.fromkeys(e.train for e in found))
            raise InputError("several train tasks (or models) have this comparison; name one", hint=f"train: {names}")
        return found[0].contrast

    def recommend(
        self,
        retain: float | None = None,
        prefer: str | None = None,
        train: str | None = None,
        model: str | None = None,
    ) -> Any:
        """A ``stats.recommend.Recommendation``: the ranks that can be the best in domain, one arm, why, what then.

        ``retain`` (a share of what the base could do) and ``prefer`` (cost, retention or gain) stand in for those of
        the study file. ``train`` and ``model`` are needed if there are several. Raises InputError if there is no such
        recommendation.
        """
        from rankscope.report.advice import check_terms, under_terms

        check_terms(retain, prefer)
        found = [a for a in self._view.advice if train in (None, a.train) and model in (None, a.model)]
        if len(found) != 1:
            names = "; ".join(f"train {a.train}, model {a.model}" for a in self._view.advice) or "none"
            what = "several recommendations; name the train task or the model" if found else "no such recommendation"
            raise InputError(what, hint=". ".join([f"There are: {names}", *self.without_recommendation()]))
        if retain is None and prefer is None:
            return found[0].choice
        return under_terms(self.evidence, self._view.headlines, self._view.base, found[0], (retain, prefer))

    def diagnostic(self, name: str) -> Any:
        """What one diagnostic said of all runs; ``frame()`` gives it as a tidy table.

        Raises InputError, with the nearest name, if nothing was measured by it.
        """
        from rankscope.study.frames import of_study

        return of_study(self.evidence, name)

    def without_recommendation(self) -> list[str]:
        """Why there is no recommendation, for each model and train task that has none."""
        from rankscope.report.advice import silences

        return silences(self.evidence, self._view.advice)

    def adapter(self, arm: str, seed: int, train: str | None = None) -> StoredAdapter:
        """The stored LoRA adapter of one run. Raises InputError if there is no such run or its weights are gone."""
        found = [(spec, key) for spec, key, _, role in self.evidence.runs if role == "final" and spec.train is not None
                 and (spec.arm.name, spec.seed) == (arm, seed) and train in (None, spec.train.name)]  # fmt: skip
        if len(found) != 1:
            names = list(dict.fromkeys(s.name for s, *_ in self.evidence.runs))
            what = "several train tasks have this run; name one" if found else f"no run of arm {arm!r} with seed {seed}"
            raise InputError(what, hint=f"There are: {', '.join(names)}")
        spec, key = found[0]
        path = Blobs(self._store / "blobs").path(key)
        if spec.arm.kind != "lora" or not path.is_file():
            raise InputError(f"no stored weights of an adapter for {spec.name}", hint="See keep: in docs/config.md")
        return StoredAdapter(path, spec)

    def report(self, path: str | Path, format: str = "html") -> Path:
        """Write the report; what was there before stays until the new one is whole.

        Raises InputError if it can't be.
        """
        path, text = Path(path), render(self._view, format)
        new = path.with_name(path.name + ".new")
        try:
            new.write_text(text, encoding="utf-8")
            os.replace(new, path)
        except OSError as error:
            raise InputError(f"can't be written: {error.strerror}", where=str(path)) from error
        finally:
            with suppress(OSError):
                new.unlink(missing_ok=True)
        return path


def collect_garbage(store: str | Path, dry_run: bool = True) -> dict[str, Any]:
    """What takes space in a store; without ``dry_run`` checkpoints and weights that belong to no run go."""
    if not (Path(store) / "rankscope.db").is_file():
        raise StoreError("no store here", got=str(store), hint="Name its folder: rankscope gc DIR")
    with Store.open(store) as opened:
        return opened.gc(set(opened.runs(opened.blobs.keys())), not dry_run)


def score(
    model: str,
    names: list[str],
    adapter: str | None = None,
    shots: int = 0,
    limit: int | None = None,
    form: str = "default",
    data_dir: str | None = None,
    dtype: str = "auto",
    progress: Any = None,
    trust_remote_code: bool = False,
) -> list[dict]:
    """Score a model on tasks, with or without a PEFT adapter (a folder or a hub id)."""
    from rankscope.study.scoring import score_model

    refs = [TaskRef(n, form, shots, limit) for n in names]
    ref = ModelRef(model, dtype=dtype, trust_remote_code=trust_remote_code)
    return score_model(ref, refs, adapter, data_dir, progress)
