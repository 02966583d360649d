"""What is measured of a run, and under which key. In: a study. Out: ``Measure``s; what a store holds of them. No torch.

Scores carry the verdicts. Beside them stand the KL divergence from the base (on validation rows of the train task and
on texts), the scores of learning-rate trials that lost, and a second scoring of the base in other batches. These need
weights that are there anyway: where those are gone nothing is trained again for them, and ``Found.notes`` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rankscope.provenance import content_key
from rankscope.records import EvalResult, Recipe, RunResult, RunSpec, TaskRef
from rankscope.stats.wording import listed, number
from rankscope.study.plan import run_key, task_key
from rankscope.tasks import task as tasks

MOST_TEXTS = 100
"""Texts whose divergence is measured: as many as PEFT's published comparison scores."""
NOISE_ITEMS = {"generate": 50}
"""Items of a task that the base answers twice, by kind; generating takes long, so that fewer must do."""
MOST_NOISE_ITEMS = 200
KL, NOISE, TRIAL = "KL divergence from the base", "second scoring", "score"
NOISE_TOKENS = 1024
"""Batch of the second scoring, a quarter of the usual one: other rows side by side, other padding."""


@dataclass(frozen=True)
class Measure:
    """``kind``: a task's 'score', 'rows' or 'text' (KL on validation rows of a train task, on texts), or 'noise'.

    ``ref`` is resolved, ``key`` the measure's own in the store.
    """

    kind: Literal["score", "rows", "text", "noise"]
    ref: TaskRef
    key: str

    def part(self, task: tasks.Prepared) -> tasks.Prepared:
        """The questions of the task that this measure asks."""
        most = {"text": MOST_TEXTS, "noise": NOISE_ITEMS.get(task.kind, MOST_NOISE_ITEMS)}.get(self.kind)
        return task if most is None else replace(task, samples=task.samples[:most])


def rows_key(ref: TaskRef, recipe: Recipe) -> str:
    """KL on the validation rows that a recipe carves from a train task's rows."""
    chosen_by = [recipe.validation, recipe.validation_max, recipe.max_length]
    return content_key({"task": tasks.identity(ref, is_training=True), "kl": 1, "validation": chosen_by})


def text_key(ref: TaskRef) -> str:
    """KL on the first ``MOST_TEXTS`` texts of a task."""
    return content_key({"task": tasks.identity(ref), "kl": 1})


def noise_key(ref: TaskRef) -> str:
    """The second scoring of a task's first items."""
    return content_key({"task": task_key(ref), "noise": 1})


def scores(study: Any, evaluations: Iterable[tuple[TaskRef, str]]) -> list[Measure]:
    """The scores that these evaluations ask for."""
    refs = [study.test_task(ref) for ref, _ in evaluations]
    return [Measure("score", ref, task_key(ref)) for ref in refs]


def trial_scores(study: Any, raw: TaskRef) -> list[Measure]:
    """What the trials of a train task that lost are scored on, too: gain and forgetting, no transfer."""
    if not study.config.evaluate.trials:
        return []
    wanted = [pair for pair in study.config.evaluations(raw) if pair[1] != "cross_domain"]
    return scores(study, wanted)


def divergences(study: Any, trained: Iterable[TaskRef], evaluations: Iterable[tuple[TaskRef, str]]) -> list[Measure]:
    """KL from the base: on validation rows of the (resolved) train tasks, and on every text that tests retention."""
    if not study.config.evaluate.divergence:
        return []
    recipe = study.config.recipe()
    found = [Measure("rows", ref, rows_key(ref, recipe)) for ref in trained]
    texts = [study.test_task(ref) for ref, role in evaluations if role == "retention"]
    return found + [Measure("text", ref, text_key(ref)) for ref in texts if tasks.KINDS.get(ref.form) == "text"]


def noise(study: Any) -> list[Measure]:
    """The second scoring of the base on all that arms are judged on."""
    if not study.config.evaluate.noise_floor:
        return []
    refs = [study.test_task(ref) for ref, _ in study.config.judged()]
    return [Measure("noise", ref, noise_key(ref)) for ref in refs]


@dataclass(frozen=True)
class Gap:
    """What is not measured of one run beside its scores: ``what`` kind of thing, on which ``tasks``.

    ``is_all``: none of it is. ``is_lost``: the weights are gone, so that it never will be.
    """

    spec: RunSpec
    what: str
    tasks: tuple[str, ...]
    is_all: bool
    is_lost: bool

    @property
    def where(self) -> str:
        return self.spec.model.name if self.spec.train is None else f"{self.spec.model.name} on {self.spec.train.name}"

    @property
    def part(self) -> str:
        return self.what if self.is_all else f"{self.what} on {listed(self.tasks)}"


@dataclass
class Found:
    """What a store holds of a study's runs: records by (run key, task name), as ``report.evidence`` describes them."""

    store: Any
    runs: list[tuple[RunSpec, str, RunResult, str]] = field(default_factory=list)
    evals: dict[tuple[str, str], EvalResult] = field(default_factory=dict)
    divergences: dict[tuple[str, str], EvalResult] = field(default_factory=dict)
    noise: dict[tuple[str, str], EvalResult] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)

    def add(
        self,
        spec: RunSpec,
        role: str,
        scores: Sequence[Measure] = (),
        divergences: Sequence[Measure] = (),
        noise: Sequence[Measure] = (),
    ) -> None:
        """Look up a run, if there is one, and all that is wanted of it."""
        key = run_key(spec)
        if (found := self.store.run(key)) is None:
            return
        self.runs.append((spec, key, found, role))
        for wanted, into in ((scores, self.evals), (divergences, self.divergences), (noise, self.noise)):
            results = ((m.ref.name, self.store.eval(key, m.key)) for m in wanted)
            into.update({(key, name): result for name, result in results if result is not None})
        if found.status != "done":
            return
        extras = [(KL, divergences, self.divergences), (NOISE, noise, self.noise)]
        for what, wanted, into in [*extras, (TRIAL, scores, self.evals)] if role == "trial" else extras:
            left = tuple(dict.fromkeys(m.ref.name for m in wanted if (key, m.ref.name) not in into))
            if left:
                is_lost = spec.train is not None and not self.store.blobs.has(key)
                self.gaps.append(Gap(spec, what, left, len(left) == len({m.ref.name for m in wanted}), is_lost))

    @property
    def has_more(self) -> bool:
        """Whether something is not measured yet whose weights are there."""
        return any(not gap.is_lost for gap in self.gaps)

    def notes(self) -> list[str]:
        """What is not measured beside the scores, in sentences: it failed, its weights are gone, or it is to do yet."""
        return [*self._failed(), *self._lost(), *self._open()]

    def _failed(self) -> list[str]:
        names = {key: spec.name for spec, key, _, _ in self.runs}
        trials = {key for _, key, _, role in self.runs if role == "trial"}
        scores = {own: result for own, result in self.evals.items() if own[0] in trials}
        return [
            f"{names[key]}: the {what} on {task} failed: {result.message}."
            for what, results in ((KL, self.divergences), (NOISE, self.noise), ("scoring", scores))
            for (key, task), result in results.items()
            if result.status == "failed"
        ]

    def _lost(self) -> list[str]:
        told = []
        for (where, part), gaps in self._grouped(is_lost=True).items():
            if gaps[0].what == TRIAL:
                tasks = "" if gaps[0].is_all else f" on {listed(gaps[0].tasks)}"
                runs = f"{number(len(gaps), 'learning-rate trial')} that lost {'has' if len(gaps) == 1 else 'have'}"
                told.append(f"{where}: {runs} no scores{tasks}; the weights are no longer stored.")
            else:
                told.append(f"{where}: the {part} was not measured for {self._arms(gaps)}, whose weights are no longer "
                            "stored.")  # fmt: skip
        return told

    def _open(self) -> list[str]:
        told = []
        for (where, part), gaps in self._grouped(is_lost=False).items():
            of = number(len(gaps), "learning-rate trial") + " that lost" if gaps[0].what == TRIAL else self._arms(gaps)
            told.append(f"{where}: the {part} is still to be measured for {of}.")
        return told

    def _grouped(self, is_lost: bool) -> dict[tuple[str, str], list[Gap]]:
        """Gaps that one sentence can tell, by where and what."""
        found: dict[tuple[str, str], list[Gap]] = {}
        for gap in self.gaps:
            if gap.is_lost == is_lost:
                found.setdefault((gap.where, gap.part), []).append(gap)
        return found

    def _arms(self, gaps: Sequence[Gap]) -> str:
        """The arms, with the seeds in question where an arm has others that are not."""
        seeds: dict[str, list[int]] = {}
        for gap in gaps:
            seeds.setdefault(gap.spec.arm.name, []).append(gap.spec.seed)
        place = (gaps[0].spec.model.name, gaps[0].spec.train)
        has = [s.arm.name for s, _, r, role in self.runs
               if (s.model.name, s.train) == place and role == "final" and r.status == "done"]  # fmt: skip
        return ", ".join(name if len(own) == has.count(name) else f"{name} (seed {', '.join(map(str, own))})"
                         for name, own in seeds.items())  # fmt: skip


def losing(finals: Sequence[RunSpec], trials: Iterable[RunSpec]) -> list[RunSpec]:
    """The trials that are no final run of this study."""
    return [spec for spec in trials if spec not in finals]
