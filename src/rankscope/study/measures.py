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
from rankscope.study.plan import run_key, task_key
from rankscope.tasks import task as tasks

MOST_TEXTS = 100
"""Texts whose divergence is measured: as many as PEFT's published comparison scores."""
NOISE_ITEMS = {"generate": 50}
"""Items of a task that the base answers twice, by kind; generating takes long, so that fewer must do."""
MOST_NOISE_ITEMS = 200
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


@dataclass
class Found:
    """What a store holds of a study's runs: records by (run key, task name), as ``report.evidence`` describes them.

    ``arms`` and ``trials`` count what can't be measured any more, by model and train task.
    """

    store: Any
    runs: list[tuple[RunSpec, str, RunResult, str]] = field(default_factory=list)
    evals: dict[tuple[str, str], EvalResult] = field(default_factory=dict)
    divergences: dict[tuple[str, str], EvalResult] = field(default_factory=dict)
    noise: dict[tuple[str, str], EvalResult] = field(default_factory=dict)
    arms: dict[str, list[str]] = field(default_factory=dict)
    trials: dict[str, int] = field(default_factory=dict)

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
        more, have = (scores, self.evals) if role == "trial" else (divergences, self.divergences)
        is_whole = spec.train is None or all((key, m.ref.name) in have for m in more)
        if found.status == "done" and not is_whole and not self.store.blobs.has(key):
            where = f"{spec.model.name} on {spec.train.name}"
            if role == "trial":
                self.trials[where] = self.trials.get(where, 0) + 1
            elif spec.arm.name not in self.arms.setdefault(where, []):
                self.arms[where].append(spec.arm.name)

    def notes(self) -> list[str]:
        """What is not measured beside the scores, in sentences: it failed, or the weights are gone for good."""
        names = {key: spec.name for spec, key, _, _ in self.runs}
        extras = (("KL divergence from the base", self.divergences), ("second scoring", self.noise))
        failed = [
            f"{names[key]}: the {what} on {task} failed: {result.message}."
            for what, results in extras
            for (key, task), result in results.items()
            if result.status == "failed"
        ]
        told = [
            f"{where}: the KL divergence from the base was not measured for {', '.join(names)}, whose weights are no "
            "longer stored."
            for where, names in self.arms.items()
        ]
        for where, num in self.trials.items():
            runs = "1 learning-rate trial that lost has" if num == 1 else f"{num} learning-rate trials that lost have"
            told.append(f"{where}: {runs} no scores; the weights are no longer stored.")
        return failed + told


def losing(finals: Sequence[RunSpec], trials: Iterable[RunSpec]) -> list[RunSpec]:
    """The trials that are no final run of this study."""
    return [spec for spec in trials if spec not in finals]
