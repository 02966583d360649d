"""Scores and losses of a model under parts of its update. In: a ``Subject`` and updates by name. Out: one ``Outcome``
for each, and the parts themselves: blocks of layers and kinds of modules.

All variants are asked the same questions in the same chunks, one chunk at a time: what the base and the whole update
gave at the starts of blocks is kept for that long, and a variant that agrees with one of them below a start goes on
from there. Updates that hold the same deltas are asked once. Knows nothing about which variants make sense.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from rankscope.analysis.replay import Tape, can_replay, recording, replaying
from rankscope.analysis.subject import Subject
from rankscope.data.batching import Example
from rankscope.models.base import Base
from rankscope.models.delta import DenseDelta, Update
from rankscope.models.names import kind_of, layer_of
from rankscope.records import Reading
from rankscope.tasks.task import Prepared

CHUNK = 32  # items asked of every variant before the next ones: what bounds the memory that recordings take
OUTSIDE = "embeddings"
"""What lies outside the layers: embeddings, the last norm, the head."""
NORMS = "norms"
VALIDATION = "validation"


@dataclass(frozen=True)
class Part:
    """Some of an update: the full names of the modules and parameters that it holds, and the layers it spans."""

    name: str
    names: frozenset[str]
    layers: tuple[int, ...] = ()


@dataclass
class Outcome:
    """What one variant got: by task the score of every item, and the loss of every validation row."""

    scores: dict[str, list[float]] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)

    def readings(self, variant: str) -> Iterator[Reading]:
        """``score`` of every task and ``loss``; a number that isn't finite is missing."""
        for task, values in self.scores.items():
            yield Reading("score", _finite(values), part=task, variant=variant)
        if self.losses:
            yield Reading("loss", _finite(self.losses), part=VALIDATION, variant=variant)


def names_of(update: Update) -> frozenset[str]:
    """Full names of all modules and parameters that an update changes."""
    return frozenset((*update.deltas, *update.whole))


def blocks(update: Update, num_layers: int, num: int) -> tuple[Part, ...]:
    """``num`` contiguous blocks of layers, equal up to one layer, and, if anything of the update lies outside the
    layers, that. A block may hold nothing of the update."""
    num, names = min(num, num_layers), names_of(update)
    found = []
    for i in range(num):
        layers = tuple(range(i * num_layers // num, (i + 1) * num_layers // num))
        inside = frozenset(name for name in names if layer_of(name) in layers)
        found.append(Part(f"layers {layers[0]}-{layers[-1]}", inside, layers))
    outside = frozenset(name for name in names if layer_of(name) is None)
    return (*found, Part(OUTSIDE, outside)) if outside else tuple(found)


def kinds(base: Base, update: Update) -> tuple[Part, ...]:
    """What of the update lies inside the layers, by kind of module, in the order in which a layer has them. All norms
    are one kind."""
    modules = dict(base.model.named_modules())
    order = {name: i for i, name in enumerate(modules)}
    owners = {name: name if name in modules else name.rpartition(".")[0] for name in names_of(update)}
    found: dict[str, set[str]] = {}
    for name, owner in sorted(owners.items(), key=lambda pair: (order[pair[1]], pair[0])):
        if layer_of(name) is not None:
            is_norm = "norm" in type(modules[owner]).__name__.lower()
            found.setdefault(NORMS if is_norm else kind_of(name), set()).add(name)
    return tuple(Part(kind, frozenset(names)) for kind, names in found.items())


def agreement(one: Update, other: Update, num_layers: int) -> int:
    """The layer below which two updates do the same, at most ``num_layers``; 0 if they differ outside the layers."""
    mine, theirs = one.deltas | one.whole, other.deltas | other.whole
    differ = [layer_of(name) for name in mine.keys() | theirs.keys() if mine.get(name) is not theirs.get(name)]
    return 0 if None in differ else min(differ, default=num_layers)


def at_home(subject: Subject) -> Subject:
    """The subject on a base that wears every part of its update in one precision: that of a full update is float32."""
    update = subject.update
    is_full = update.ties or any(isinstance(delta, DenseDelta) for delta in update.deltas.values())
    if not is_full or subject.base.dtype == torch.float32:
        return subject
    return replace(subject, base=subject.base.trainable_copy())


def outcomes(subject: Subject, variants: Mapping[str, Update], items: int | None = None,
             starts: Sequence[int] = ()) -> dict[str, Outcome]:  # fmt: skip
    """Ask every variant all there is: the first ``items`` questions of every task, and all validation rows.

    ``starts`` are the layers that a pass may begin at; without any, every pass is computed whole. The subject is at
    home already. Takes one tick for each chunk that a variant was asked.
    """
    unique = {_signature(update): update for update in variants.values()}
    ends = (subject.update.only(lambda name: False), subject.update)
    first = [signature for signature in map(_signature, ends) if signature in unique]
    order = list(dict.fromkeys([*first, *unique]))
    starts = tuple(start for start in starts if start > 0)
    if starts and not can_replay(subject.base, starts):
        starts = ()
    found = {signature: Outcome() for signature in unique}
    for sheet in _sheets(subject, items):
        tapes: list[tuple[Update, Tape]] = []
        for signature in order:
            keep = starts if sheet.has_replay and signature in first else ()
            with _pass(subject, unique[signature], tapes, keep) as base:
                sheet.file(found[signature], base)
            subject.tick(1)
    return {name: found[_signature(update)] for name, update in variants.items()}


@contextmanager
def _pass(subject: Subject, update: Update, tapes: list[tuple[Update, Tape]], keep: tuple[int, ...]) -> Iterator[Base]:
    """The base under an update, from as far up as some tape allows; or, to ``keep`` something, a new tape running."""
    with subject.worn(update) as base:
        if keep:
            with recording(base, keep) as tape:
                yield base
            tapes.append((update, tape))
            return
        most = [(agreement(update, other, max(tape.starts) + 1), tape) for other, tape in tapes]
        usable = [(start, i) for i, (far, tape) in enumerate(most) for start in tape.starts if start <= far]
        start, i = max(usable, default=(0, 0))
        if not start:
            yield base
            return
        with replaying(base, tapes[i][1], start):
            yield base


@dataclass(frozen=True)
class _Sheet:
    """One chunk of questions: a task's, or (``task`` None) validation rows. Generated texts differ from variant to
    variant, so there nothing can be replayed."""

    task: str | None
    ask: Callable[[Base], Sequence[float]]
    has_replay: bool

    def file(self, outcome: Outcome, base: Base) -> None:
        """Ask, and put the answers behind those of the chunks before."""
        place = outcome.losses if self.task is None else outcome.scores.setdefault(self.task, [])
        place.extend(self.ask(base))


def _sheets(subject: Subject, items: int | None) -> Iterator[_Sheet]:
    for asked in subject.tasks if subject.score is not None else ():
        samples = asked.task.samples[:items]
        for i in range(0, len(samples), CHUNK):
            chunk = replace(asked.task, samples=samples[i : i + CHUNK])
            yield _Sheet(asked.name, partial(_scores, subject, chunk), chunk.kind != "generate")
    for i in range(0, len(subject.validation) if subject.losses is not None else 0, CHUNK):
        yield _Sheet(None, partial(_losses, subject, subject.validation[i : i + CHUNK]), True)


def _scores(subject: Subject, task: Prepared, base: Base) -> Sequence[float]:
    return [score.value for score in subject.score(base, task)]


def _losses(subject: Subject, rows: Sequence[Example], base: Base) -> Sequence[float]:
    return subject.losses(base, rows)


def _signature(update: Update) -> frozenset[tuple[str, int]]:
    """Equal for updates that hold the very same deltas and parameters."""
    return frozenset((name, id(value)) for name, value in (update.deltas | update.whole).items())


def _finite(values: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(value if math.isfinite(value) else None for value in values)
