"""Which part of an update carries what. In: the readings of an evidence `Index`. Out: rows with paired intervals.

The same questions were scored under parts of the update: without a block of layers, with that block alone, and the
same by kind of module. Both differences are shown; they don't add up to the whole, so there are no shares. Losses on
validation rows and cross-entropy have the sign turned: positive is better everywhere.

Legend: S seeds, N items.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations

import numpy as np

from rankscope.records import Arm, Estimate, EvalResult, Reading
from rankscope.report.depth import Readings, in_order
from rankscope.report.evidence import Panel, Run, difference
from rankscope.report.family import POOLED
from rankscope.report.inside_rows import Carried, Seat
from rankscope.report.pooling import pool
from rankscope.report.tables import blocks
from rankscope.stats.estimate import estimate_from, is_binary, spread

VALIDATION = "validation"
WHOLE, NONE = "", "none"
_PART = re.compile(r"^(?:without|only) (?P<place>layers? (?P<first>\d+)(?:-(?P<last>\d+))?|.+)$")
_SAME = 0.1
"""Mean absolute difference up to which stored scores and readings are of the same items: batches differ a little."""

Variants = dict[str, Panel]


def carried(readings: Readings, status: dict[tuple[str, str], bool | None]) -> tuple[Carried, ...]:
    """Every part of every arm's update on every task, on pooled retention, and on validation rows."""
    found = []
    for model, train, arm in _arms(readings):
        for task, role, changes in changes_of(readings, model, train, arm, status):
            parts = {name: where for name in changes if (where := place_of(name))}
            for is_layer in (True, False):
                mine = {place: where for place, where in parts.values() if (where[0] is not None) == is_layer}
                level = 1 - 0.05 / max(len(mine), 1)
                for place, (first, last, kind) in mine.items():
                    lost, gained = (changes.get(f"{side} {place}") for side in ("without", "only"))
                    metric = next(p.metric for p in (lost, gained) if p is not None)
                    marks = _mark(lost, level), _mark(gained, level)
                    found.append(Carried(model, train, arm, place, first, last, kind, task, role, metric,
                                         _mean(lost), _mean(gained), *marks))  # fmt: skip
    return tuple(found)


def seats(readings: Readings, status: dict[tuple[str, str], bool | None]) -> tuple[Seat, ...]:
    """For each arm and task the blocks of layers that may carry most of the whole update's effect there.

    A block is left out if another is shown to carry more, all pairs compared together at 95 % (Bonferroni).
    """
    found = []
    for model, train, arm in _arms(readings):
        for task, role, changes in changes_of(readings, model, train, arm, status):
            off = {name: place_of(name) for name in changes if name.startswith("without")}
            lost = {where[0]: changes[name] for name, where in off.items() if where and where[1][0] is not None}
            if len(lost) < 2 or "whole" not in changes:
                continue
            whole = _mean(changes["whole"])
            sign = 1.0 if whole.value >= 0 else -1.0
            level = 1 - 0.05 / (len(lost) * (len(lost) - 1) / 2)
            less = set()
            for one, other in combinations(lost, 2):
                gap = difference(lost[one], lost[other], against_base=False)
                word = _mark(gap, level)
                if word:
                    less.add(other if (word == "positive") == (sign > 0) else one)
            largest = max(lost, key=lambda place: sign * lost[place].values.mean())
            shown = _mark(lost[largest], 1 - 0.05 / len(lost)) == ("positive" if sign > 0 else "negative")
            places = tuple(p for p in lost if p not in less)
            found.append(Seat(model, train, arm, task, role, changes["whole"].metric, whole, places, len(lost),
                              _mean(lost[largest]), shown))  # fmt: skip
    return tuple(found)


def changes_of(
    readings: Readings, model: str, train: str, arm: str, status: dict[tuple[str, str], bool | None]
) -> list[tuple[str, str, dict[str, Panel]]]:
    """(task, role, differences): 'whole' minus none, and 'without X' and 'only X' as their own paired changes."""
    found = []
    for task, role in asked(readings, model, train):
        variants = variants_of(readings, model, train, arm, task, "attribution")
        if changes := _changes(variants):
            found.append((task, role, changes))
    usable = [changes for task, role, changes in found
              if role == "retention" and _metric(changes) != "cross_entropy"
              and status.get((model, task)) is not False]  # fmt: skip
    if len(usable) > 1:
        names = [name for name in usable[0] if all(name in changes for changes in usable)]
        pools = {name: pool({str(i): changes[name] for i, changes in enumerate(usable)}) for name in names}
        found.append((POOLED, "retention", {name: panel for name, panel in pools.items() if panel is not None}))
    return found


def _metric(changes: dict[str, Panel]) -> str:
    return next(iter(changes.values())).metric


def asked(readings: Readings, model: str, train: str) -> list[tuple[str, str]]:
    """The tasks of a train task with their roles, and the validation rows."""
    return [*readings.index.tasks(train), (VALIDATION, VALIDATION)]


def variants_of(readings: Readings, model: str, train: str, arm: str, task: str, diagnostic: str) -> Variants:
    """Scores (S, N) of the same items by part of the update; losses and cross-entropy with the sign turned."""
    index = readings.index
    by_variant: dict[str, list[tuple[Run, Reading]]] = {}
    for run in index.finals(model, train, arm):
        for reading in readings.of(run, diagnostic, "loss" if task == VALIDATION else "score"):
            if reading.part == task:
                by_variant.setdefault(reading.variant, []).append((run, reading))
    stored = None if task == VALIDATION else index.evaluation(index.base(model), task)
    metric = "cross_entropy" if task == VALIDATION else stored.metric if stored else "accuracy"
    items, clusters = _items(readings, by_variant.get(WHOLE, []), task, stored)
    return {variant: panel for variant, pairs in by_variant.items()
            if (panel := _panel(pairs, items, clusters, metric)) is not None}  # fmt: skip


def _changes(variants: Variants) -> dict[str, Panel]:
    whole, none, found = variants.get(WHOLE), variants.get(NONE), {}
    for name, panel in variants.items():
        pair = (whole, panel) if name.startswith("without ") else (panel, none) if name.startswith("only ") else None
        change = difference(*pair, against_base=False) if pair else None
        if change is not None:
            found[name] = change
    change = difference(whole, none, against_base=False)
    return found | ({"whole": change} if change is not None else {})


def _panel(
    pairs: list[tuple[Run, Reading]], items: tuple[str, ...], clusters: np.ndarray | None, metric: str
) -> Panel | None:
    """The items that every seed has a number for."""
    count = len(pairs[0][1].values)
    pairs = [(run, reading) for run, reading in pairs if len(reading.values) == count]
    table = np.array([[np.nan if v is None else v for v in reading.values] for _, reading in pairs], dtype=float)
    known = np.flatnonzero(np.isfinite(table).all(axis=0))
    if not len(known):
        return None
    names = items if len(items) == count else tuple(f"place {i}" for i in range(count))  # no stored item's name
    labels = clusters[known] if clusters is not None and len(clusters) == count else None
    values, is_nats = table[:, known], metric == "cross_entropy"
    return Panel(-values if is_nats else values, tuple(names[i] for i in known), tuple(r.spec.seed for r, _ in pairs),
                 labels, metric, not is_nats and is_binary(values))  # fmt: skip


def _items(
    readings: Readings, whole: list[tuple[Run, Reading]], task: str, stored: EvalResult | None
) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Names and clusters of the first items as the base's stored scores have them; nothing where they don't fit."""
    if not whole or stored is None:
        return (), None
    count = len(whole[0][1].values)
    first = stored.scores[:count]
    own = readings.index.evaluation(whole[0][0], task)
    known = {s.item: s.value for s in own.scores} if own else {}
    gaps = [abs(known[s.item] - v) for s, v in zip(first, whole[0][1].values, strict=False)
            if s.item in known and v is not None]  # fmt: skip
    if len(first) < count or (gaps and float(np.mean(gaps)) > _SAME):
        return (), None
    labels = np.array([s.cluster or f"item {s.item}" for s in first]) if any(s.cluster for s in first) else None
    return tuple(s.item for s in first), labels


def _arms(readings: Readings) -> list[tuple[str, str, str]]:
    index = readings.index
    return [(model, train, arm.name) for model, train in blocks(index) for arm in _measured(readings, model, train)]


def _measured(readings: Readings, model: str, train: str) -> list[Arm]:
    index = readings.index
    return [arm for arm in in_order(index.tuned_arms)
            if any(readings.has(run, "attribution") for run in index.finals(model, train, arm.name))]  # fmt: skip


def place_words(place: str) -> str:
    """A place as people read it: ``layer 3`` for ``layers 3-3``."""
    found = _PART.match(f"only {place}")
    if found is None or found["first"] is None or found["first"] != (found["last"] or found["first"]):
        return place.replace("-", "–")
    return f"layer {found['first']}"


def place_of(variant: str) -> tuple[str, tuple[int | None, int | None, str]] | None:
    """('layers 0-5', (0, 5, '')) or ('q_proj', (None, None, 'q_proj')); None for other variants."""
    found = _PART.match(variant)
    if not found:
        return None
    if found["first"] is None:
        return found["place"], (None, None, found["place"])
    return found["place"], (int(found["first"]), int(found["last"] or found["first"]), "")


def _mean(change: Panel | None, level: float = 0.95) -> Estimate | None:
    """The mean over seeds and items. The tasks of a pool are strata: items vary within their own."""
    if change is None:
        return None
    found = spread(change.values, change.clusters, change.strata)
    return estimate_from(change.values, found, change.clusters, level, change.changed)


def _mark(change: Panel | None, level: float) -> str:
    found = _mean(change, level)
    return "" if found is None else "positive" if found.low > 0 else "negative" if found.high < 0 else ""


def lower_is_turned(panel: Panel) -> Panel:
    """Scores as they were before the sign was turned."""
    return replace(panel, values=-panel.values) if panel.metric == "cross_entropy" else panel
