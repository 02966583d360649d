"""The rows a report's view is made of: frozen, JSON-ready, no behaviour. Knows nothing about how they are computed
or drawn.

Scores are fractions (0.25 = 25 %) or nats per token; the view never rounds. ``None`` means "not there", never zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from rankscope.records import Contrast, Estimate, Overlap, RowCounts


@dataclass(frozen=True)
class ScoreRow:
    """The score of one arm on one task. ``arm`` is 'base' and ``train`` empty for the untouched model."""

    model: str
    train: str
    arm: str
    rank: int | None
    task: str
    role: str
    metric: str
    estimate: Estimate | None
    chance: float | None
    is_above_chance: bool | None
    missing: str = ""


@dataclass(frozen=True)
class Effect:
    """A paired difference of the study's family. ``contrast`` is signed so that positive is better, also for
    cross-entropy.

    ``is_above_chance`` is about the base on this task; ``is_large`` marks a shown drop estimated beyond the stated
    number of points, ``is_alarm`` one whose whole simultaneous interval lies beyond it. ``exact_p`` is McNemar's, for
    one seed of 0/1 scores.
    """

    model: str
    train: str
    task: str
    role: str
    metric: str
    contrast: Contrast
    is_above_chance: bool | None = None
    mark: str = ""
    is_large: bool = False
    is_alarm: bool = False
    exact_p: float | None = None


@dataclass(frozen=True)
class Headline:
    """One arm of one train task: what it learned, what it kept, what it cost.

    ``seconds`` is a run's share of the steps of its cohort, ``peak_bytes`` that of the whole cohort; ``side_by_side``
    holds the sizes of the cohorts.
    """

    model: str
    train: str
    arm: str
    kind: str
    rank: int | None
    lr: float | None
    gain: Effect | None
    retention: Estimate | None
    forgotten: Estimate | None
    kept: str
    kept_reason: str
    ce_rise: Estimate | None
    ce_effect: Effect | None
    trainable: int | None
    seconds: float | None
    peak_bytes: int | None
    blob_bytes: int | None
    num_seeds: int
    num_seeds_planned: int
    num_failed: int
    gain_is_above_chance: bool | None = None
    side_by_side: tuple[int, ...] = ()


@dataclass(frozen=True)
class Transfer:
    """One cell of an arm's transfer matrix; ``effect`` is None where it has not been measured."""

    model: str
    arm: str
    train: str
    task: str
    role: str
    effect: Effect | None


@dataclass(frozen=True)
class FewShot:
    """The base with examples in the prompt; ``lift`` is its paired difference to the base without."""

    task: str
    shots: int
    estimate: Estimate
    lift: Estimate | None


@dataclass(frozen=True)
class BaseRow:
    """The untouched model on one task."""

    model: str
    task: str
    roles: tuple[str, ...]
    metric: str
    estimate: Estimate | None
    chance: float | None
    is_above_chance: bool | None
    few_shot: tuple[FewShot, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One learning rate tried at the first seed; the loss is in nats per label token on a split carved from train."""

    model: str
    train: str
    arm: str
    lr: float
    seed: int
    status: str
    validation_loss: float | None
    validation_se: float | None
    is_chosen: bool
    message: str = ""


@dataclass(frozen=True)
class Curve:
    """Training loss of one run (nats per label token), averaged within at most a few dozen stretches of steps."""

    model: str
    train: str
    arm: str
    lr: float
    seed: int
    steps: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Flips:
    """Answers that changed against the base, counted over items and seeds; only for right/wrong scores."""

    model: str
    train: str
    arm: str
    task: str
    role: str
    lost: int
    won: int
    num_items: int
    num_seeds: int
    is_above_chance: bool | None = None


@dataclass(frozen=True)
class SubjectFlips:
    """Answers of one subject of a task that changed against the base, counted over ``num_items`` items and seeds.

    ``change`` is the mean change of its scores; the intervals of one arm and task hold for all its subjects together.
    """

    model: str
    train: str
    arm: str
    task: str
    role: str
    subject: str
    lost: int
    won: int
    num_items: int
    num_seeds: int
    change: Estimate | None = None


@dataclass(frozen=True)
class Scale:
    """The factor on a LoRA arm's update B A; ``relative`` is to that of rank ``lowest`` under the same ``rule``."""

    arm: str
    rank: int
    alpha: float
    rule: str
    scale: float
    relative: float
    lowest: int


@dataclass(frozen=True)
class RunRow:
    """One run as it ended. Numbers are None where the run did not get that far; ``seconds`` are its share of its
    cohort's steps.
    """

    name: str
    model: str
    train: str
    arm: str
    role: str
    seed: int | None
    lr: float | None
    status: str
    stage: str
    message: str
    steps: int | None
    seconds: float | None
    tokens_per_second: float | None
    peak_bytes: int | None
    validation_loss: float | None
    notes: tuple[str, ...]
    key: str
    side_by_side: int | None = None


@dataclass(frozen=True)
class RowsUsed:
    """What the rows of a train task hold; ``missing`` says why ``counts`` is None."""

    train: str
    counts: RowCounts | None
    missing: str = ""


@dataclass(frozen=True)
class Shared:
    """How many of a task's test items stand in the training rows; ``missing`` says why ``overlap`` is None."""

    train: str
    task: str
    role: str
    overlap: Overlap | None
    missing: str = ""


@dataclass(frozen=True)
class Cut:
    """Rows or items that were cut or dropped, as ``num_runs`` runs noted it in the same words."""

    model: str
    what: str
    note: str
    num_runs: int


@dataclass(frozen=True)
class Failure:
    """A run or an evaluation that ended without a result."""

    what: str
    stage: str
    message: str


@dataclass(frozen=True)
class Measured:
    """A sum over pieces of work: ``value`` of those that were measured (None: of none), and how many were not."""

    value: float | None
    num_unknown: int = 0


@dataclass(frozen=True)
class Cost:
    """Measured cost of one part of the study. Seconds are wall clock; ``share`` is of all measured seconds."""

    part: str
    num_runs: int
    seconds: Measured
    tokens: Measured
    flops: Measured
    share: float | None


@dataclass(frozen=True)
class Fact:
    """One line of provenance."""

    name: str
    value: str


@dataclass(frozen=True)
class Method:
    """One entry of the glossary, with where the definition comes from."""

    term: str
    meaning: str
    source: str


@dataclass(frozen=True)
class Verdict:
    """What one train task's arms showed. ``lead`` is the sentence to quote; ``points`` are labelled details."""

    model: str
    train: str
    lead: str
    points: tuple[tuple[str, str], ...]
