"""The rows of what the study answers: recommendation, claims, matched gain, distance from the base. As in `rows`."""

from __future__ import annotations

from dataclasses import dataclass, field

from rankscope.records import Estimate
from rankscope.report.rows import Effect
from rankscope.stats.recommend import Recommendation
from rankscope.stats.thresholds import Piece


@dataclass(frozen=True)
class Aspect:
    """One point of the recommended arm against full SFT: a comparison of scores, or two measured amounts of ``unit``.

    All of ``effect``, ``ours`` and ``theirs`` are None where the study has nothing to compare.
    """

    name: str
    what: str
    arm: str
    other: str
    effect: Effect | None
    ours: float | int | None
    theirs: float | int | None
    unit: str


@dataclass(frozen=True)
class Advice:
    """What is recommended for one model and train task, under which terms, and how it stands against full SFT.

    ``pieces``: what would be recommended under other terms. ``shares``: what each arm kept of the base's
    chance-corrected retention, with the interval that a share asked for is set against (all arms together).
    """

    model: str
    train: str
    metric: str
    prefer: str
    retain: float | None
    choice: Recommendation
    aspects: tuple[Aspect, ...]
    pieces: tuple[Piece, ...] = ()
    shares: dict[str, Estimate | None] = field(default_factory=dict)


@dataclass(frozen=True)
class FrontierRow:
    """Whether another arm gains as much, forgets no more and costs no more (None: a number is missing); estimates."""

    model: str
    train: str
    arm: str
    gain: float | None
    forgotten: float | None
    cost: float | None
    is_on: bool | None
    dominated_by: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A published claim asked of this study: ``answer`` is holds, does not hold, undecided or not asked."""

    model: str
    train: str
    claim: str
    answer: str
    test: str
    why: str
    source: str


@dataclass(frozen=True)
class MatchedRow:
    """What an arm forgot where it had gained ``gain``, in the unit of ``metric`` (``taught``: that of the gain).

    ``fraction`` is that of the smallest of the arms' largest gains; ``rates`` enclose the level, 0 stands for the base.
    """

    model: str
    train: str
    arm: str
    metric: str
    taught: str
    fraction: float
    gain: float
    forgetting: Estimate | None
    why: str
    rates: tuple[float, float] | None


@dataclass(frozen=True)
class MatchedPoint:
    """Gain and forgetting of one arm at one learning rate, first seed."""

    model: str
    train: str
    arm: str
    metric: str
    lr: float
    gain: float
    forgotten: float
    is_chosen: bool


@dataclass(frozen=True)
class Divergence:
    """KL(base || arm) in nats per token: ``on`` rows like the training rows (kept out of them) or ``on`` text."""

    model: str
    train: str
    arm: str
    name: str
    on: str
    estimate: Estimate | None


@dataclass(frozen=True)
class Noise:
    """The base scored twice with other batches: mean and largest change of an item, and answers that flipped.

    ``changed`` is None for scores that aren't right or wrong.
    """

    model: str
    task: str
    metric: str
    num_items: int
    shift: float
    largest: float
    changed: int | None


@dataclass(frozen=True)
class Across:
    """What one arm changed on the cross-domain tasks, pooled: arm minus base, ordinary interval, no verdict.

    ``tasks`` are those pooled; without any, ``estimate`` is None and ``why`` says what is missing.
    """

    model: str
    train: str
    arm: str
    tasks: tuple[str, ...]
    estimate: Estimate | None
    why: str
