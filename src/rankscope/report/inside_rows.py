"""The rows about the inside of the model: what changed where, and which part carries what. As in `rows`.

Estimates of one number a run are over seeds (scope 'seeds', or 'this seed only'); those of scores over items too.
"""

from __future__ import annotations

from dataclasses import dataclass

from rankscope.records import Estimate
from rankscope.report.answer_rows import Question


@dataclass(frozen=True)
class InsideRow:
    """One quantity of one arm at one place, over seeds. ``layer`` and ``kind`` empty: the whole model.

    ``name`` is that of a quantity in `rankscope.report.depth`; ``part`` the set of prompts it was read on. Without an
    estimate ``is_read`` tells what is not defined there (the rank of a zero update) from what was not measured.
    """

    model: str
    train: str
    arm: str
    name: str
    part: str
    layer: int | None
    kind: str
    estimate: Estimate | None
    is_read: bool


@dataclass(frozen=True)
class Spectrum:
    """Singular values of one kind of module, relative to the largest, at some ``positions`` (1 is the largest).

    Each of ``shares`` is the median over layers and seeds; ``num_matrices`` went into it.
    """

    model: str
    train: str
    arm: str
    kind: str
    positions: tuple[int, ...]
    shares: tuple[float, ...]
    num_matrices: int


@dataclass(frozen=True)
class Reach:
    """KL to the base by position in the text, on one set of prompts: ``buckets`` are ranges of positions from 1."""

    model: str
    train: str
    arm: str
    part: str
    buckets: tuple[tuple[int, int], ...]
    estimates: tuple[Estimate | None, ...]


@dataclass(frozen=True)
class Carried:
    """What one part of the update carries on one task: layers ``first`` to ``last``, or the modules of one ``kind``.

    ``lost``: whole update minus the update without this part; ``gained``: this part alone minus the base. Both are
    signed so that positive is better; a mark says that the interval which holds together over all parts excludes 0.
    """

    model: str
    train: str
    arm: str
    place: str
    first: int | None
    last: int | None
    kind: str
    task: str
    role: str
    metric: str
    lost: Estimate | None
    gained: Estimate | None
    lost_mark: str = ""
    gained_mark: str = ""


@dataclass(frozen=True)
class Seat:
    """Where in depth the arm's change on a task sits: ``places`` can't be told apart from the one with the largest.

    ``whole`` is the paired difference of the whole update to the base on the same items; ``largest`` what the block
    that carries most loses when off. ``is_shown``: that block's interval excludes 0 on the side in question.
    """

    model: str
    train: str
    arm: str
    task: str
    role: str
    metric: str
    whole: Estimate
    places: tuple[str, ...]
    num_places: int
    largest: Estimate | None
    is_shown: bool


@dataclass(frozen=True)
class Kept:
    """One step of the search for layers to adapt: ``layers`` kept and the share of the validation gain they keep.

    ``variant`` is 'kept 1', 'kept 2', ... or 'proposal'; ``why`` says why there is no share.
    """

    model: str
    train: str
    arm: str
    variant: str
    layers: tuple[int, ...]
    kind_ranks: tuple[tuple[str, int], ...]
    share: Estimate | None
    why: str


@dataclass(frozen=True)
class Truncated:
    """The score of an arm's update cut to ``rank`` (None: whole), beside the arm really trained at that rank.

    All on the same items. ``gap``: truncated minus trained, paired; positive is better.
    """

    model: str
    train: str
    arm: str
    task: str
    role: str
    metric: str
    rank: int | None
    score: Estimate
    trained_arm: str
    trained: Estimate | None
    gap: Estimate | None


@dataclass(frozen=True)
class RunPoint:
    """One run: how many intruders and how much KL on train prompts it has, and what it forgot (in ``metric``)."""

    model: str
    train: str
    arm: str
    seed: int
    intruders: float | None
    divergence: float | None
    forgotten: float
    metric: str


@dataclass(frozen=True)
class Finding:
    """An exploratory result in words: nothing is concluded from it."""

    model: str
    train: str
    name: str
    value: str
    why: str


@dataclass(frozen=True)
class Unread:
    """A diagnostic that said nothing of an arm's runs, and why."""

    model: str
    train: str
    arm: str
    name: str
    why: str


@dataclass(frozen=True)
class Inside:
    """All about the inside of the model; empty where no diagnostic was run. ``leads``: (model, train, sentence)."""

    leads: tuple[tuple[str, str, str], ...] = ()
    rows: tuple[InsideRow, ...] = ()
    spectra: tuple[Spectrum, ...] = ()
    reach: tuple[Reach, ...] = ()
    carried: tuple[Carried, ...] = ()
    seats: tuple[Seat, ...] = ()
    kept: tuple[Kept, ...] = ()
    truncated: tuple[Truncated, ...] = ()
    points: tuple[RunPoint, ...] = ()
    questions: tuple[Question, ...] = ()
    findings: tuple[Finding, ...] = ()
    unread: tuple[Unread, ...] = ()
