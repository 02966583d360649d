"""What a study has to do and what is done. In: a config with resolved models and tasks. Out: keys, Plan. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from rankscope.provenance import content_key, plain
from rankscope.records import GIVEN, Arm, ModelRef, RunSpec, TaskRef
from rankscope.study.forecast import Forecast
from rankscope.study.span import NOTHING, Span
from rankscope.tasks.task import identity, scorer_identity

_TRAINER = 2  # raised whenever training gives other weights for the same spec
_SCORER = 2  # raised whenever a prompt, scorer or the engine gives other scores for the same task
_GENERATION = 3  # the same for generated answers: since 3 they end at all end tokens of the model's own settings
_NEVER = ("name", "lr", "lr_auto", "path", "key")  # what an arm is called and where it lies
_LATER = ("layers", "rank_pattern", "alpha_pattern")  # hashed only where they say something, as older keys know none


def run_key(spec: RunSpec) -> str:
    """Identity of a run: all that can change its weights; never its name, label or place."""
    body: dict[str, Any] = {"model": spec.model.key, "dtype": spec.model.dtype, "kind": spec.arm.kind}
    if spec.model.quantization:
        body["quantization"] = spec.model.quantization
    if spec.arm.kind in GIVEN:
        body["given"] = spec.arm.key
    if spec.train is not None:
        recipe = {k: v for k, v in plain(spec.recipe).items() if k != "gradient_checkpointing"}
        if spec.recipe.max_steps is not None:
            del recipe["epochs"]  # data is repeated as often as the steps need
        arm = {k: v for k, v in plain(spec.arm).items() if k not in _NEVER and (v or k not in _LATER)}
        body |= {"arm": arm, "lr": spec.lr, "train": identity(spec.train, is_training=True), "recipe": recipe,
                 "seed": spec.seed, "trainer": _TRAINER}  # fmt: skip
    return content_key(body)


def task_key(ref: TaskRef) -> str:
    """Identity of an evaluation task: all that can change its scores."""
    foreign, version = scorer_identity(ref), _GENERATION if ref.form == "generate" else _SCORER
    return content_key({"task": identity(ref), "scorer": version if foreign is None else [version, foreign]})


def base_spec(model: ModelRef) -> RunSpec:
    return given_spec(model, Arm("base", "base"))


def given_spec(model: ModelRef, arm: Arm) -> RunSpec:
    """The run of what is scored and never trained: the base, or an arm that exists already."""
    return RunSpec(model, arm, 0.0, None, None, 0)


@dataclass(frozen=True)
class ArmPlan:
    """What one arm of one model takes: runs in all and done, the rest by count and as predicted.

    ``tokens`` are to be trained on, ``score_tokens`` to be read or written when scoring. ``peak`` is the memory of one
    run alone, None for an arm of which nothing is left. ``fits``: 'yes', 'no', or 'perhaps' where only a range is
    known; empty where there is nothing to fit. ``remedies``: settings that together would make it fit.
    """

    model: str
    arm: str
    kind: str
    runs: int
    done: int
    tokens: int = 0
    score_tokens: int = 0
    flops: float = 0.0
    seconds: Span = NOTHING
    peak: Span | None = None
    fits: str = ""
    remedies: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        found = {field.name: plain(getattr(self, field.name)) for field in fields(self)}
        found["peak_bytes"] = found.pop("peak")
        return found


@dataclass(frozen=True)
class Smallest:
    """The smallest true difference from the base that would be shown with 80 % power: from ``low`` to ``high``.

    In points of score (0 to 1). ``is_measured``: from how answers of this model flipped in runs of this store.
    ``supports_margin``: whether equality within the margin would be shown with that power where there is no difference
    at all, seeds being alike unless they were seen not to be; ``items_needed`` for that, None where no number would do.
    """

    model: str
    train: str
    task: str
    role: str
    items: int
    seeds: int
    low: float
    high: float
    margin: float
    is_measured: bool
    supports_margin: bool
    items_needed: int | None


@dataclass(frozen=True)
class Plan:
    """Runs to train, and arms given to score, by name, with whether they're done; what the rest will take.

    Trials are listed for the first seed. ``forecast`` is None where a model's sizes can't be known without reading its
    weights. ``notes``: what to know first. ``stopped``: runs of those that count as done, since a race stopped them;
    ``is_at_most``: a race is still to decide which of the runs are left out. ``host``: what it is planned for.
    ``cohorts``: pieces of training left, of as many runs as are likely to train side by side. ``disk_bytes``: what will
    be written. ``cost``: money for the rest, in ``currency``, where a price was given. ``effects``: what the study can
    show at all.
    """

    runs: tuple[tuple[str, bool], ...]
    forecast: Forecast | None = None
    notes: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    is_at_most: bool = False
    arms: tuple[ArmPlan, ...] = ()
    host: str = ""
    cohorts: int = 0
    disk_bytes: int | None = None
    cost: Span | None = None
    currency: str = ""
    effects: tuple[Smallest, ...] = ()

    @property
    def num_done(self) -> int:
        return sum(is_done for _, is_done in self.runs)

    @property
    def is_done(self) -> bool:
        return self.num_done == len(self.runs)

    def as_dict(self) -> dict[str, Any]:
        return {
            "total": len(self.runs),
            "done": self.num_done,
            "at_most": self.is_at_most,
            "stopped": list(self.stopped),
            "runs": [{"run": n, "done": d} for n, d in self.runs],
            "forecast": None if self.forecast is None else self.forecast.as_dict(),
            "notes": list(self.notes),
            "arms": [arm.as_dict() for arm in self.arms],
            "host": self.host,
            "cohorts": self.cohorts,
            "disk_bytes": self.disk_bytes,
            "cost": None if self.cost is None else {**plain(self.cost), "currency": self.currency},
            "effects": plain(self.effects),
        }

    def __str__(self) -> str:
        from rankscope.study.plan_text import text

        return text(self)


def candidates(config: Any, model: ModelRef, train: TaskRef, seed: int) -> list[RunSpec]:
    """Every trained run of one seed: each arm at each of its learning rates."""
    return [RunSpec(model, replace(arm, lr=()), lr, train, config.recipe(), seed)
            for arm in config.arms() if arm.kind in ("lora", "full") for lr in arm.lr]  # fmt: skip


COHORT = 8
"""Most LoRA runs side by side: beyond this, memory grows and speed no longer does."""


def cohorts(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """LoRA runs side by side, at most ``COHORT``; full runs alone."""
    lora = [s for s in specs if s.arm.kind == "lora"]
    groups = [lora[i : i + COHORT] for i in range(0, len(lora), COHORT)]
    return groups + [[s] for s in specs if s.arm.kind == "full"]
