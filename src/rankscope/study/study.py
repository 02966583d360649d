"""The facade: ``Study``. In: a study file and a store. Out: runs done, and a ``StudyResult``."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankscope.clock import Clock
from rankscope.config import StudyConfig, from_dict, load
from rankscope.data.dataset import VARIABLE
from rankscope.errors import NoStore, StoreError
from rankscope.provenance import content_key, environment, public_name
from rankscope.records import Arm, Dropped, ModelRef, RunSpec, TaskRef
from rankscope.report import UNTRAINED
from rankscope.storage.store import Store
from rankscope.storage.watching import StoredStudy
from rankscope.study import measures, preflight, rows
from rankscope.study.diagnosis import Diagnosed
from rankscope.study.plan import Plan, base_spec, candidates, given_spec
from rankscope.study.rates import Find, Rates, arm_rates, counting, edge_notes
from rankscope.study.result import StudyResult
from rankscope.study.standing import Standing, standing
from rankscope.study.tally import Tally, tally
from rankscope.study.telling import Teller
from rankscope.study.texts import item_texts
from rankscope.tasks import task as tasks

if TYPE_CHECKING:
    from rankscope.study.reach import Reach


class Study:
    """One question, as declared by one YAML file."""

    def __init__(self, config: StudyConfig, data_dir: str | None = None):
        self.config, self.data_dir = config, data_dir or config.data_dir
        self._resolved: tuple | None = None
        self._given: list[Arm] | None = None
        self.source: str | Path | None = None
        self.overrides: tuple[str, ...] = ()
        self._rows: dict[TaskRef, Any] = {}
        self._tests: dict[TaskRef, TaskRef] = {}
        self._samples: dict[TaskRef, tuple[tasks.Sample, ...]] = {}
        self.row_facts: dict[str, dict[str, Any]] = {}  # what ``study.rows`` counted, kept for the next question

    @classmethod
    def load(cls, source: str | Path | dict, overrides: tuple[str, ...] = (), data_dir: str | None = None) -> Study:
        config = from_dict(source, overrides) if isinstance(source, dict) else load(source, overrides)
        study = cls(config, data_dir)
        study.source, study.overrides = None if isinstance(source, dict) else source, tuple(overrides)
        return study

    def like(self, config: StudyConfig) -> Study:
        """A study that asks something a little different of the same data: what was read of rows is shared."""
        other = Study(config, self.data_dir)
        other._rows, other.row_facts = self._rows, self.row_facts
        other._tests, other._samples = self._tests, self._samples
        return other

    @classmethod
    def demo(cls) -> Study:
        return cls.load(Path(__file__).parent.parent / "demo" / "study.yaml")

    @classmethod
    def stored(cls, row: StoredStudy) -> Study:
        """A study as it was last run, found again from where it was run. Raises InputError for files that moved."""
        folder = row.place.get("folder") or ""
        return cls(from_dict(row.config, folder=folder), row.place.get("data_dir"))

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
        """A task with its form and the key of its test rows, looked up once."""
        if ref not in self._tests:
            self._tests[ref] = tasks.resolve(ref, self.data_dir, tasks.get_task(ref.task).test_split)
        return self._tests[ref]

    def prepared(self, ref: TaskRef) -> tasks.Prepared:
        """The questions of a resolved test task, read once."""
        if ref not in self._rows:
            self._rows[ref] = tasks.prepare(ref, self.data_dir)
        return self._rows[ref]

    def has_prepared(self, ref: TaskRef) -> bool:
        """Whether the questions of a resolved test task have been read already."""
        return ref in self._rows

    def samples(self, ref: TaskRef) -> tuple[tasks.Sample, ...]:
        """The training samples of a resolved train task, read once."""
        if ref not in self._samples:
            self._samples[ref] = tasks.train_samples(ref, self.data_dir)
        return self._samples[ref]

    def plan(self, store: str | Path | None = None, on: str | None = None, price_per_hour: float | None = None,
             currency: str = "USD") -> Plan:  # fmt: skip
        """Every run there is to do, and what the rest will take, here or on a GPU named ``on``. Reads no weights."""
        from rankscope.study.host import named
        from rankscope.study.planning import Price, make_plan

        host = None if on is None else named(on)
        price = None if price_per_hour is None else Price(price_per_hour, currency)
        try:
            known = None if store is None else Store.open(store, write=False)
        except NoStore:
            known = None
        with known or contextlib.nullcontext():
            return make_plan(self, known, host, price, store)

    def tally(self, store: str | Path) -> Tally:
        """How far each arm has come, seed by seed, and what is left. Reads no weights."""
        with Store.open(store, write=False) as opened:
            return tally(self, opened)

    def reach(self, store: str | Path, budget_seconds: float) -> Reach:
        """How far a time budget comes, before it is spent. Reads no weights."""
        from rankscope.study.reach import reach

        return reach(self, store, budget_seconds)

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
            try:
                is_unfinished = not self.result(store).is_complete
            except NoStore:
                is_unfinished = True
            if is_unfinished:
                preflight.check(self)
        until = time.monotonic() + budget_seconds if budget_seconds else float("inf")
        with Store.open(store, clock=clock) as opened:
            place = {"folder": os.getcwd(), "data_dir": _absolute(self.data_dir or os.environ.get(VARIABLE))}
            opened.save_study(self.config.name, self.key, self.config.as_dict(), environment({"place": place}))
            if is_unfinished:  # the rows are read anyway; a finished study reads none
                with clock.stage("checking"):
                    rows.measure(self, opened)
            with clock.stage("loading"):
                from rankscope.study.runner import Runner

            with Teller(progress, opened.cache, self.key) as teller:
                for model in models:
                    Runner(self, opened, model, teller, until).go(train)
                    if model != models[-1]:
                        gc.collect()  # a runner and its parts know each other: its model would lie beside the next one
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
        has_more = found.has_more or bool(inside.pending)
        return StudyResult(build(evidence), evidence, Path(store), has_more, lambda: item_texts(self))

    def skills(self) -> dict[str, str]:
        """What each task of the study mainly asks for, by name: as the study says, else as the task says ('': neither).

        Raises PluginError for an unknown task.
        """
        refs = (*self.config.train_refs(), *(ref for ref, _ in self.config.evaluations(None)))
        return {ref.name: tasks.get_task(ref.task).skill for ref in refs} | self.config.skills()


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def _public(arms: tuple[Arm, ...], given: list[Arm]) -> tuple[Arm, ...]:
    """The arms as a report may show them: with keys, and without the paths of this machine."""
    known = {arm.name: arm for arm in given}
    return tuple(replace(known.get(a.name, a), path=a.path and public_name(a.path)) for a in arms)


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
