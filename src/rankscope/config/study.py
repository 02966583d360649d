"""The root of a study file as a typed object: plain data in, the records the engine works with out.

Every key of the file is a field here, so what the file may say and what the program understands can't differ. Knows
the names of the tasks on the shelf; knows nothing about YAML, line numbers, weights or rows.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rankscope import plugins
from rankscope.config.arms import (
    ArmEntry,
    Name,
    Natural,
    Number,
    Positive,
    Section,
    Whole,
    empty_if_none,
    filled,
    unique,
    word_or_list,
)
from rankscope.config.diagnose import DiagnoseEntry
from rankscope.config.models import ModelEntry, Text, near_file
from rankscope.config.places import is_same_task
from rankscope.config.task_entry import TaskEntry
from rankscope.records import ALARM, GIVEN, Arm, ModelRef, Recipe, Role, Skill, TaskRef

_LISTS = ("in_domain", "cross_domain", "retention")


class Misplaced(ValueError):
    """A rule between parts of the file is broken. ``loc`` is the part to blame, from the root."""

    def __init__(self, message: str, *loc: str | int):
        self.loc = loc
        super().__init__(message)


Tasks = tuple[TaskEntry, ...]


class Training(Section):
    """How every arm is trained: the fields of ``Recipe``, the seeds, how much work a kill may cost, and whether runs
    that can't win are stopped."""

    epochs: Annotated[Number, Field(gt=0)] = 1.0
    max_steps: Positive | None = None
    batch_tokens: Positive = 4096
    accumulate: Positive = 1
    max_length: Annotated[Whole, Field(ge=8)] = 1024
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Annotated[Number, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[Number, Field(ge=0)] = 0.0
    betas: tuple[Annotated[Number, Field(ge=0, lt=1)], Annotated[Number, Field(ge=0, lt=1)]] = (0.9, 0.999)
    clip: Annotated[Number, Field(gt=0)] = 1.0
    validation: Annotated[Number, Field(gt=0, le=0.5)] = 0.1
    validation_max: Positive = 200
    gradient_checkpointing: Annotated[bool, Strict()] = False
    checkpoint_seconds: Annotated[Number, Field(ge=0)] = 60.0
    race: Annotated[bool, Strict()] = False
    seeds: Annotated[tuple[Natural, ...], AfterValidator(filled), AfterValidator(unique)] = (0, 1, 2)

    def record(self) -> Recipe:
        return Recipe(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Recipe)})


class Evaluate(Section):
    """What every arm is judged on. ``limit`` is the default for every task's test rows.

    ``divergence``, ``trials`` and ``noise_floor`` switch further measurements; ``alarm`` is a drop in score.
    """

    in_domain: Annotated[
        Annotated[Literal["same"], Tag("word")] | Annotated[Tasks, AfterValidator(filled), Tag("list")],
        Discriminator(word_or_list),
    ] = "same"
    cross_domain: Annotated[
        Annotated[Literal["all", "none"], Tag("word")] | Annotated[Tasks, AfterValidator(filled), Tag("list")],
        Discriminator(word_or_list),
    ] = "all"
    retention: Tasks = ()
    limit: Positive | None = None
    base_shots: Natural = 0
    divergence: Annotated[bool, Strict()] = True
    trials: Annotated[bool, Strict()] = True
    noise_floor: Annotated[bool, Strict()] = True
    alarm: Annotated[Number, Field(gt=0, lt=1)] = ALARM

    def listed(self, key: str) -> tuple[TaskEntry, ...]:
        """The tasks written out under ``key``; none where a word such as ``all`` stands instead."""
        value = getattr(self, key)
        return value if isinstance(value, tuple) else ()


class Recommend(Section):
    """When an arm is good enough: the margin that counts as equal, and which of the good ones is preferred."""

    margin: Annotated[Number, Field(gt=0, lt=1)] | None = None
    retain: Annotated[Number, Field(gt=0, le=1)] | None = None
    prefer: Literal["cost", "retention", "gain"] = "cost"


class StudyConfig(Section):
    """One question: models x train tasks x arms x seeds, evaluated the same way."""

    name: Name
    title: Text | None = None
    model_entries: Annotated[tuple[ModelEntry, ...], AfterValidator(filled), Field(alias="models")]
    train: Tasks = ()
    arm_entries: Annotated[tuple[ArmEntry, ...], AfterValidator(filled), Field(alias="arms")]
    training: Annotated[Training, BeforeValidator(empty_if_none)] = Training()
    evaluate: Annotated[Evaluate, BeforeValidator(empty_if_none)] = Evaluate()
    diagnose: tuple[DiagnoseEntry, ...] = ()
    recommend: Annotated[Recommend, BeforeValidator(empty_if_none)] = Recommend()
    keep: Literal["adapters", "best", "all"] = "adapters"
    data_dir: Text | None = None

    @field_validator("data_dir")
    @classmethod
    def _data_beside_the_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        path = near_file(value, info)
        if not os.path.isdir(path):
            raise ValueError(f"no such folder of data (got {value!r})")
        return path

    @model_validator(mode="after")
    def _one_name_is_one_task(self) -> StudyConfig:
        first: dict[str, TaskRef] = {}
        entries: list[tuple[tuple[str, ...], Tasks]] = [(("train",), self.train)]
        for loc, tasks in [*entries, *((("evaluate", key), self.evaluate.listed(key)) for key in _LISTS)]:
            for index, entry in enumerate(tasks):
                ref = entry.record()
                label = ref.label or ref.task
                if not is_same_task(first.setdefault(label, ref), ref):
                    raise Misplaced(f"two different tasks are called {label!r}; give one of them a 'name'", *loc, index)
        return self

    @model_validator(mode="after")
    def _one_task_has_one_skill(self) -> StudyConfig:
        first: dict[str, Skill] = {}
        entries: list[tuple[tuple[str, ...], Tasks]] = [(("train",), self.train)]
        for loc, tasks in [*entries, *((("evaluate", key), self.evaluate.listed(key)) for key in _LISTS)]:
            for index, entry in enumerate(tasks):
                name, skill = entry.record().name, entry.skill
                if skill is not None and first.setdefault(name, skill) != skill:
                    what = f"{name!r} has the skill {first[name]!r} above and {skill!r} here; a task has one"
                    raise Misplaced(what, *loc, index, "skill")
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> StudyConfig:
        for key, entries in (("models", self.models()), ("train", self.train_refs())):
            seen: set[str] = set()
            for index, entry in enumerate(entries):
                if entry.name in seen:
                    way_out = "label" if key == "models" else "name"
                    raise Misplaced(f"{entry.name!r} is listed twice; give one of them a {way_out!r}", key, index)
                seen.add(entry.name)
        arms: set[str] = set()
        for index, entry in enumerate(self.arm_entries):
            for arm in entry.arms():
                if arm.name in arms:
                    raise Misplaced(f"there is an arm {arm.name!r} already; give one of them a 'name'", "arms", index)
                arms.add(arm.name)
            if entry.base is None and any(arm.name == "base" for arm in entry.arms()):
                raise Misplaced("the name 'base' belongs to the untouched model", "arms", index)
        return self

    @model_validator(mode="after")
    def _something_is_trained_and_asked(self) -> StudyConfig:
        trained = any(arm.kind not in ("base", *GIVEN) for arm in self.arms())
        if trained and not self.train:
            raise Misplaced("an arm is to be trained, but train is missing. For example: train: [gsm8k]", "train")
        if self.train and not trained:
            raise Misplaced("no arm is trained; list the tasks under evaluate.in_domain instead", "train")
        if self.evaluate.base_shots and not self.train:
            what = "base_shots is for tasks that are trained on; list {task: NAME, shots: N} under evaluate.in_domain"
            raise Misplaced(what, "evaluate", "base_shots")
        if not self.evaluations(None):
            raise Misplaced("nothing to score: list tasks under evaluate.in_domain or evaluate.retention", "evaluate")
        return self

    @model_validator(mode="after")
    def _each_task_has_one_role(self) -> StudyConfig:
        trained = {ref.name for ref in self.train_refs()}
        seen: dict[str, str] = {}
        for key in _LISTS:
            for index, name in enumerate(_names(self.evaluate.listed(key))):
                if name in seen:
                    what = f"{name!r} is already in {seen[name]}; a task is listed once"
                    raise Misplaced(what, "evaluate", key, index)
                if key == "retention" and name in trained:
                    what = f"{name!r} is trained on, so it can't measure what is retained"
                    raise Misplaced(what, "evaluate", key, index)
                seen[name] = f"evaluate.{key}"
        return self

    @model_validator(mode="after")
    def _diagnostics_are_of_these_arms(self) -> StudyConfig:
        arms, seen = [arm.name for arm in self.arms() if arm.kind != "base"], set()
        for index, entry in enumerate(self.diagnose):
            if entry.label in seen:
                raise Misplaced(f"{entry.label!r} is listed twice", "diagnose", index)
            seen.add(entry.label)
            for arm in entry.arms or ():
                if arm not in arms:
                    what = f"no arm named {arm!r}{plugins.did_you_mean(arm, arms) or '. Arms: ' + ', '.join(arms)}"
                    raise Misplaced(what, "diagnose", index)
        return self

    # ---- the records

    def models(self) -> tuple[ModelRef, ...]:
        """The models, keys not yet filled in."""
        return tuple(entry.record() for entry in self.model_entries)

    def arms(self) -> tuple[Arm, ...]:
        """All arms, sweeps spelled out; ``base`` first, listed or not."""
        arms = [arm for entry in self.arm_entries for arm in entry.arms()]
        return Arm(name="base", kind="base"), *(arm for arm in arms if arm.kind != "base")

    def train_refs(self) -> tuple[TaskRef, ...]:
        """What is trained on; ``limit`` counts train rows. Data keys are not yet filled in."""
        return tuple(entry.record() for entry in self.train)

    def recipe(self) -> Recipe:
        """How every arm is trained."""
        return self.training.record()

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.training.seeds

    def evaluations(self, train: TaskRef | None) -> tuple[tuple[TaskRef, Role], ...]:
        """What a run is evaluated on: test rows with their role, in-domain first, no task twice.

        ``train``: one of ``train_refs()``, known by its name. ``None`` stands for the base: the union over all train
        tasks, each with the first role it has, and the few-shot variants of the train tasks. Raises KeyError on a
        stranger.
        """
        if train is not None:
            return _once(self._evaluations_of(train.name))
        if not self.train:
            return _once(self._evaluations_of(None))
        found = [pair for ref in self.train_refs() for pair in self._evaluations_of(ref.name)]
        if self.evaluate.base_shots:
            tests = self._tests()
            shots = self.evaluate.base_shots
            found += [(dataclasses.replace(tests[r.name], shots=shots), "in_domain") for r in self.train_refs()]
        roles = ("in_domain", "cross_domain", "retention")
        return _once(sorted(found, key=lambda pair: roles.index(pair[1])))

    def judged(self) -> tuple[tuple[TaskRef, Role], ...]:
        """What arms that exist already are scored on: the base's tasks without its few-shot variants."""
        if not self.train:
            return self.evaluations(None)
        return _once([pair for ref in self.train_refs() for pair in self._evaluations_of(ref.name)])

    def skills(self) -> dict[str, Skill]:
        """What tasks ask for, by name, where the study itself says so."""
        listed = [entry for key in _LISTS for entry in self.evaluate.listed(key)]
        found: dict[str, Skill] = {}
        for entry in (*self.train, *listed):
            if entry.skill is not None:
                found.setdefault(entry.record().name, entry.skill)
        return found

    def _evaluations_of(self, name: str | None) -> list[tuple[TaskRef, Role]]:
        """What runs trained on ``name`` are judged on. A listed in-domain task of another train task is skipped.

        ``None``: nothing is trained, and what is listed is all.
        """
        tests, trained = self._tests(), [ref.name for ref in self.train_refs()]
        others = [other for other in trained if other != name]
        listed = [] if self.evaluate.in_domain == "same" else _names(self.evaluate.in_domain)
        in_domain = [tests[task] for task in listed if task not in others] or ([] if name is None else [tests[name]])
        match self.evaluate.cross_domain:
            case "all":
                cross = others
            case "none":
                cross = []
            case entries:
                cross = [task for task in _names(entries) if task != name]
        return (
            [(ref, "in_domain") for ref in in_domain]
            + [(tests[task], "cross_domain") for task in cross]
            + [(tests[task], "retention") for task in _names(self.evaluate.retention)]
        )

    def _tests(self) -> dict[str, TaskRef]:
        """Every evaluated task by name, one setting each: as listed under ``evaluate``, else as the train entry says.

        A train entry's ``limit`` counts train rows, so it doesn't reach its test.
        """
        default = self.evaluate.limit
        tests = {ref.name: dataclasses.replace(ref, limit=default) for ref in self.train_refs()}
        for key in _LISTS:
            for entry in self.evaluate.listed(key):
                ref = entry.record()
                tests[ref.name] = dataclasses.replace(ref, limit=ref.limit or default)
        return tests

    def as_dict(self) -> dict[str, Any]:
        """The whole study, defaults spelled out, as JSON-ready data that ``from_dict`` reads back.

        An empty ``diagnose`` and a ``race`` that isn't run are left out, so that a study from before there was one
        keeps its key.
        """
        plain = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        if not self.training.race:
            del plain["training"]["race"]
        return plain if self.diagnose else {key: value for key, value in plain.items() if key != "diagnose"}


def _names(entries: tuple[TaskEntry, ...]) -> list[str]:
    return [entry.record().name for entry in entries]


def _once(pairs: list[tuple[TaskRef, Role]]) -> tuple[tuple[TaskRef, Role], ...]:
    """The pairs without those whose task came before."""
    first: dict[str, tuple[TaskRef, Role]] = {}
    for ref, role in pairs:
        first.setdefault(ref.name, (ref, role))
    return tuple(first.values())
