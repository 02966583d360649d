"""What changed where in the network. In: the readings of an evidence `Index`. Out: rows, over seeds.

A run gives one number for every place: a layer, a kind of module, the whole model. Numbers of matrices are put
together within the run, and only then averaged over seeds with an interval. What a diagnostic could not define (the
rank of a zero update) is left out, never zero.

Knows nothing about scores and drawing.

Legend: K singular values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from rankscope.records import Arm, Reading
from rankscope.report.evidence import Index, Run
from rankscope.report.inside_rows import InsideRow, Reach, Spectrum, Unread
from rankscope.report.tables import blocks
from rankscope.stats.mechanism import over_seeds

CHANGE, RANK, INTRUDERS, CKA, ATTENTION = "relative change", "effective rank", "intruders", "CKA distance", "attention"
EMBEDDING = "embedding"
PARTS = ("train", "evaluation", "neutral")
_POSITIONS = sorted({factor * 2**i for i in range(16) for factor in (1, 3)})


@dataclass(frozen=True)
class Quantity:
    """What is made of a reading: its ``reduce`` over matrices, layers and heads; ``minus``: another to subtract."""

    name: str
    title: str
    diagnostic: str
    reading: str
    how: str
    reduce: Literal["mean", "sum", "change", "read"] = "mean"
    minus: str = ""
    is_by_layer: bool = False

    @property
    def scale(self) -> float:
        """What a number is multiplied with to be in the title's unit."""
        return 100.0 if self.title.endswith("%") else 1.0

    @property
    def is_signed(self) -> bool:
        """Whether it can be below 0: a change. Sizes and distances can't."""
        return bool(self.minus) or self.reading.endswith("_change")


QUANTITIES = (
    Quantity(CHANGE, "Relative change, %", "spectrum", "relative_frobenius",
             "||dW||_F over ||W||_F of all matrices together (root of the sum of squares).", "change",
             is_by_layer=True),
    Quantity(RANK, "Effective rank", "spectrum", "effective_rank",
             "exp of the entropy of the singular values of dW as shares of their sum (Roy and Vetterli 2007), mean "
             "over matrices.", is_by_layer=True),
    Quantity(INTRUDERS, "Intruders", "intruders", "intruders",
             "Among the top left singular vectors of W + dW those with no near counterpart in W (largest cosine below "
             "the threshold; arXiv 2410.21228), summed over matrices.", "sum", is_by_layer=True),
    Quantity(CKA, "CKA distance", "drift", "cka_distance",
             "1 minus debiased linear CKA of base and tuned hidden states after the layer, without position 0 "
             "(Kornblith et al. 2019), mean over layers.", is_by_layer=True),
    Quantity(ATTENTION, "Attention JS, nats", "attention", "attention_js",
             "Jensen-Shannon divergence of the attention rows of base and tuned, mean over heads and layers.",
             is_by_layer=True),
    Quantity("total norm", "||dW||_F", "spectrum", "total_frobenius",
             "Root of the sum of squares of all changed weights.", "read"),
    Quantity("stable rank", "Stable rank", "spectrum", "stable_rank",
             "Sum of the squared singular values over the square of the largest, mean over matrices."),
    Quantity("energy rank 90", "Energy rank .9", "spectrum", "energy_rank_90",
             "Least number of singular values that hold 90 % of the squared ||dW||_F, mean over matrices."),
    Quantity("energy rank 99", "Energy rank .99", "spectrum", "energy_rank_99",
             "Least number of singular values that hold 99 % of the squared ||dW||_F, mean over matrices."),
    Quantity("utilisation", "Utilisation, %", "spectrum", "utilisation",
             "Stable rank divided by the rank given, mean over matrices; for LoRA only."),
    Quantity("interference", "Interference, %", "intruders", "interference",
             "Share of the squared ||dW||_F in the top singular subspaces of W (OPLoRA, arXiv 2510.13003), mean over "
             "matrices."),
    Quantity("cosine distance", "Cosine distance", "drift", "cosine_distance",
             "1 minus the cosine of base and tuned hidden states of a token, mean over tokens and layers, without "
             "position 0."),
    Quantity("sink", "Cosine distance, first token", "drift", "sink_cosine_distance",
             "The same for position 0 alone, an attention sink."),
    Quantity("hidden rank", "Change of hidden rank", "drift", "effective_rank_tuned",
             "Effective rank of the tuned hidden states minus that of the base's, mean over layers.",
             minus="effective_rank_base"),
    Quantity("entropy", "Attention entropy, nats", "attention", "entropy_change",
             "Entropy of the tuned attention rows minus the base's, mean over heads and layers."),
    Quantity("distance", "Attention distance, tokens", "attention", "distance_change",
             "How far back attention looks on average, tuned minus base, mean over heads and layers."),
    Quantity("first token", "Weight on first token, %", "attention", "first_token_change",
             "Attention paid to the first token, tuned minus base, mean over heads and layers."),
)  # fmt: skip


class Place(NamedTuple):
    """Where a number belongs; ``layer`` None and ``kind`` empty: the whole model."""

    name: str
    part: str
    layer: int | None
    kind: str


class Readings:
    """Lookups over the diagnoses of an `Index`, and the numbers of a run place by place."""

    def __init__(self, index: Index):
        self.index = index
        self._read: dict[tuple[str, str], dict[str, list[Reading]]] = {}
        self._numbers: dict[str, dict[Place, float]] = {}

    def of(self, run: Run, diagnostic: str, name: str) -> list[Reading]:
        """All readings of one name; none if the diagnostic failed or was not run."""
        if (run.key, diagnostic) not in self._read:
            found = self.index.evidence.diagnoses.get((run.key, diagnostic))
            by_name: dict[str, list[Reading]] = {}
            for reading in found.readings if found is not None and found.status == "done" else ():
                by_name.setdefault(reading.name, []).append(reading)
            self._read[run.key, diagnostic] = by_name
        return self._read[run.key, diagnostic].get(name, [])

    def has(self, run: Run, diagnostic: str) -> bool:
        found = self.index.evidence.diagnoses.get((run.key, diagnostic))
        return found is not None and found.status == "done"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Diagnostics that were run on something."""
        return tuple(dict.fromkeys(name for _, name in self.index.evidence.diagnoses))

    @cached_property
    def weights(self) -> dict[tuple[str, str], float]:
        """||W||_F by model and module. A run that left a module as it was can't tell it, but the others can."""
        known: dict[tuple[str, str], float] = {}
        for run in self.index.runs:
            shares = {r.module: _one(r) for r in self.of(run, "spectrum", "relative_frobenius")}
            for reading in self.of(run, "spectrum", "frobenius"):
                norm, share = _one(reading), shares.get(reading.module)
                if norm and share:
                    known.setdefault((run.spec.model.name, reading.module), norm / share)
        return known

    def numbers(self, run: Run) -> dict[Place, float]:
        """Every quantity of the run, by layer, by kind of module and for the whole model."""
        if run.key not in self._numbers:
            found: dict[Place, float] = {}
            for quantity in QUANTITIES:
                found |= self._changes(run) if quantity.reduce == "change" else self._reduced(run, quantity)
            self._numbers[run.key] = found
        return self._numbers[run.key]

    def _reduced(self, run: Run, quantity: Quantity) -> dict[Place, float]:
        less = {_where(r): _one(r) for r in self.of(run, quantity.diagnostic, quantity.minus)} if quantity.minus else {}
        groups: dict[Place, list[float]] = {}
        for reading in self.of(run, quantity.diagnostic, quantity.reading):
            value = _one(reading)
            if quantity.minus and value is not None:
                before = less.get(_where(reading))
                value = None if before is None else value - before
            for place in _places(quantity, reading) if value is not None else ():
                groups.setdefault(place, []).append(value)
        return {place: float(np.sum(v) if quantity.reduce == "sum" else np.mean(v)) for place, v in groups.items()}

    def _changes(self, run: Run) -> dict[Place, float]:
        """Relative change. Parameters that are no matrices of a layer have only their own, and count by kind alone."""
        moved: dict[Place, list[tuple[float, float]]] = {}
        norms = {r.module: _one(r) for r in self.of(run, "spectrum", "frobenius")}
        for reading in self.of(run, "spectrum", "relative_frobenius"):
            share, norm = _one(reading), norms.get(reading.module)
            weight = self.weights.get((run.spec.model.name, reading.module), 0.0)
            kind = kind_of(reading.module)
            if norm is not None and (weight or norm == 0):  # 0 of an unknown size is still no change
                for place in {(reading.layer, ""), (None, kind), (None, "")}:  # a head has no layer of its own
                    moved.setdefault(Place(CHANGE, "", *place), []).append((norm, weight))
            elif norm is None and share is not None:
                moved.setdefault(Place(CHANGE, "", None, kind), []).append((share, 1.0))
        return {place: _ratio(pairs) for place, pairs in moved.items()}


def _ratio(pairs: list[tuple[float, float]]) -> float:
    """Root of the sum of squared changes over that of squared sizes."""
    change = math.sqrt(sum(d * d for d, _ in pairs))
    return change / math.sqrt(sum(w * w for _, w in pairs)) if change else 0.0


def kind_of(module: str) -> str:
    """The kind of a module or parameter: the last part of the module's full name."""
    return module.removesuffix(".weight").removesuffix(".bias").rsplit(".", 1)[-1]


def in_order(arms: Iterable[Arm]) -> list[Arm]:
    """LoRA by rank, then what existed already, full SFT last."""
    return sorted(arms, key=lambda a: ({"lora": 0, "full": 2}.get(a.kind, 1), a.rank or 0, a.name))


def rows(readings: Readings) -> tuple[InsideRow, ...]:
    """Every quantity over seeds. By layer those that are charted; a place that some arm has, every measured arm has."""
    index, found = readings.index, []
    by_layer = {q.name for q in QUANTITIES if q.is_by_layer}
    known = {q.name: q for q in QUANTITIES}
    for model, train in blocks(index):
        tables = {arm.name: [readings.numbers(run) for run in index.finals(model, train, arm.name)]
                  for arm in in_order(index.tuned_arms)}  # fmt: skip
        tables = {arm: numbers for arm, numbers in tables.items() if any(numbers)}
        places = dict.fromkeys(p for numbers in tables.values() for n in numbers for p in n)
        kept = [p for p in places if p.layer is None or p.name in by_layer]
        for place in sorted(kept, key=_sorted):
            for arm, numbers in tables.items():
                values = [n[place] for n in numbers if place in n]
                quantity = known[place.name]
                is_read = any(readings.has(run, quantity.diagnostic) for run in index.finals(model, train, arm))
                estimate = over_seeds(values) if values else None
                if estimate is not None and not quantity.is_signed:  # never below 0, whatever a symmetric interval says
                    estimate = replace(estimate, low=max(estimate.low, 0.0))
                found.append(InsideRow(model, train, arm, *place, estimate, is_read))
    return tuple(found)


def spectra(readings: Readings) -> tuple[Spectrum, ...]:
    """By kind of module the singular values relative to the largest: medians over layers and seeds."""
    index, found = readings.index, []
    for model, train in blocks(index):
        for arm in in_order(index.tuned_arms):
            curves: dict[str, list[np.ndarray]] = {}
            for run in index.finals(model, train, arm.name):
                for reading in readings.of(run, "spectrum", "singular_values"):
                    values = np.array([v for v in reading.values if v is not None and math.isfinite(v)])
                    if len(values) and values[0] > 0:
                        curves.setdefault(kind_of(reading.module), []).append(values / values[0])
            for kind, many in sorted(curves.items()):
                length = min(map(len, many))
                places = np.array([p for p in _POSITIONS if p < length] + [length])
                middle = np.median([curve[places - 1] for curve in many], axis=0)
                found.append(Spectrum(model, train, arm.name, kind, tuple(map(int, places)),
                                      tuple(map(float, middle)), len(many)))  # fmt: skip
    return tuple(found)


def reach(readings: Readings) -> tuple[Reach, ...]:
    """KL to the base by position in the text, in buckets that double."""
    index, found = readings.index, []
    for model, train in blocks(index):
        for arm in in_order(index.tuned_arms):
            vectors: dict[str, list[tuple[float | None, ...]]] = {}
            for run in index.finals(model, train, arm.name):
                for reading in readings.of(run, "drift", "kl_by_position"):
                    vectors.setdefault(reading.part, []).append(reading.values)
            for part, many in sorted(vectors.items(), key=lambda pair: _part(pair[0])):
                ends = bucket_ends(max(map(len, many)))
                columns = [[v[i] for v in many if i < len(v) and _is_number(v[i])] for i in range(len(ends))]
                estimates = tuple(over_seeds(column) if column else None for column in columns)
                found.append(Reach(model, train, arm.name, part, ends, estimates))
    return tuple(found)


def bucket_ends(count: int) -> tuple[tuple[int, int], ...]:
    """The first ``count`` ranges of positions 1, 2, 3 to 4, 5 to 8, ..."""
    return ((1, 1), *((2 ** (i - 1) + 1, 2**i) for i in range(1, count)))[:count]


def unread(readings: Readings) -> tuple[Unread, ...]:
    """Diagnostics that were run on some arm and have nothing of another, with what they said."""
    index, found = readings.index, []
    for model, train in blocks(index):
        for arm in in_order(index.tuned_arms):
            finals = index.finals(model, train, arm.name)
            for name in readings.names if finals else ():
                if not any(readings.has(run, name) for run in finals):
                    said = [d.message for run in finals if (d := index.evidence.diagnoses.get((run.key, name)))]
                    found.append(Unread(model, train, arm.name, name, next(filter(None, said), "not measured")))
    return tuple(found)


def _places(quantity: Quantity, reading: Reading) -> list[Place]:
    """The places that a reading counts for. What comes out of the embedding is no layer, and in no mean over layers."""
    name, part = quantity.name, reading.part
    if quantity.reduce == "read":
        return [Place(name, part, None, "")]
    if reading.module == EMBEDDING:
        return [Place(name, part, None, EMBEDDING)]
    kinds = [Place(name, part, None, kind_of(reading.module))] if reading.module else []
    layers = [Place(name, part, reading.layer, "")] if reading.layer is not None else []
    return [*layers, *kinds, Place(name, part, None, "")]


def _where(reading: Reading) -> tuple[int | None, str, str]:
    return reading.layer, reading.module, reading.part


def _one(reading: Reading) -> float | None:
    """The reading as one number: the mean of what is defined in it."""
    known = [v for v in reading.values if _is_number(v)]
    return float(np.mean(known)) if known else None


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _part(part: str) -> tuple[int, str]:
    return (PARTS.index(part) if part in PARTS else len(PARTS), part)


def _sorted(place: Place) -> tuple:
    order = [q.name for q in QUANTITIES]
    return order.index(place.name), _part(place.part), place.kind, -1 if place.layer is None else place.layer
