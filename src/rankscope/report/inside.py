"""The inside of the model as rows, and the sentence that opens its section. In: an evidence `Index`. Out: `Inside`.

The sentence is written from the numbers: where in depth the arm changed most, and whether that is where its gain or its
forgetting sits. What was not measured, or can't be told apart, is said so.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rankscope.report import causes, cut_ranks, depth, inside_questions
from rankscope.report import wording as w
from rankscope.report.answer_rows import Advice
from rankscope.report.depth import CHANGE, Readings, in_order
from rankscope.report.effects import negated
from rankscope.report.evidence import Index
from rankscope.report.inside_rows import Inside, Seat
from rankscope.report.rows import BaseRow
from rankscope.report.tables import blocks
from rankscope.stats.mechanism import over_seeds


class Stretch(NamedTuple):
    """Some neighbouring layers, the first and the last of them."""

    first: int
    last: int

    @property
    def words(self) -> str:
        return f"layer {self.first}" if self.first == self.last else f"layers {self.first}–{self.last}"


def inside(index: Index, base: tuple[BaseRow, ...], advice: tuple[Advice, ...]) -> Inside:
    """Everything that diagnostics told of the study's runs."""
    if not index.evidence.diagnoses:
        return Inside()
    readings = Readings(index)
    status = {(row.model, row.task): row.is_above_chance for row in base}
    seats = causes.seats(readings, status)
    points = inside_questions.points(readings, base)
    # Nothing can be forgotten that the base couldn't do.
    able = tuple(s for s in seats if s.role != "retention" or status.get((s.model, s.task)) is not False)
    leads = [(model, train, said) for model, train in blocks(index) if (said := _lead(readings, model, train, able,
                                                                                     advice))]  # fmt: skip
    return Inside(
        leads=tuple(leads),
        rows=depth.rows(readings),
        spectra=depth.spectra(readings),
        reach=depth.reach(readings),
        carried=causes.carried(readings, status),
        seats=seats,
        kept=cut_ranks.kept(readings),
        truncated=cut_ranks.truncated(readings),
        points=points,
        questions=inside_questions.questions(readings),
        findings=inside_questions.findings(readings, points, advice),
        unread=depth.unread(readings),
    )


def _lead(readings: Readings, model: str, train: str, seats: tuple[Seat, ...], advice: tuple[Advice, ...]) -> str:
    """One sentence or a few about one arm: the recommended one if it was measured; else one with causes, high rank."""
    chosen = next((a.choice.arm for a in advice if (a.model, a.train) == (model, train)), None)
    mine = [s for s in seats if (s.model, s.train) == (model, train)]
    tables = {arm.name: _by_layer(readings, model, train, arm.name) for arm in in_order(readings.index.tuned_arms)}
    known = [arm for arm, runs in tables.items() if runs]
    if not known:
        return ""
    trained = [arm.name for arm in readings.index.trained_arms if arm.kind == "lora"]
    placed = {s.arm for s in mine}
    arm = max(known, key=lambda name: (name in placed, name == chosen, name in trained, known.index(name)))
    runs, places = tables[arm], [s for s in mine if s.arm == arm]
    found, top = _changed(arm, runs, _stretches(readings, model, train, arm, runs))
    return " ".join([found, *_placed(places, top)])


def _by_layer(readings: Readings, model: str, train: str, arm: str) -> list[dict[int, float]]:
    """Each run's relative change by layer; runs without one are left out."""
    tables = [{p.layer: v for p, v in readings.numbers(run).items() if p.name == CHANGE and p.layer is not None}
              for run in readings.index.finals(model, train, arm)]  # fmt: skip
    return [table for table in tables if table]


def _stretches(readings: Readings, model: str, train: str, arm: str, runs: list[dict[int, float]]) -> list[Stretch]:
    """The blocks that the arm's update was switched off by, if it was; else thirds of the layers."""
    rows = [r for run in readings.index.finals(model, train, arm) for r in readings.of(run, "attribution", "score")]
    found = {place[1][:2] for r in rows if (place := causes.place_of(r.variant)) and place[1][0] is not None}
    if found:
        return [Stretch(*pair) for pair in sorted(found)]
    layers = sorted(runs[0])
    edges = [round(i * len(layers) / 3) for i in range(4)]
    return [Stretch(layers[a], layers[b - 1]) for a, b in pairwise(edges) if b > a]


def _changed(arm: str, runs: list[dict[int, float]], stretches: list[Stretch]) -> tuple[str, Stretch | None]:
    """Where the weights moved most, relative to their size, and whether seeds tell that from the next."""
    means = np.array([[_mean(run, s) for s in stretches] for run in runs])  # (seeds, stretches)
    if not means.size or not np.isfinite(means).all() or means.max() == 0:
        return f"In {arm} no weight is recorded to have changed.", None
    order = np.argsort(-means.mean(axis=0))
    top, least = stretches[order[0]], stretches[order[-1]]
    if len(stretches) == 1:
        return f"In {arm} {top.words} alone were measured.", top
    gaps = [over_seeds(list(means[:, order[0]] - means[:, j]), 1 - 0.05 / (len(order) - 1)) for j in order[1:]]
    near = [stretches[j].words for j, gap in zip(order[1:], gaps, strict=True) if not gap.low > 0]
    mean, seeds = means.mean(axis=0), w.plural(len(runs), "seed")
    most, fewest = (w.portion(float(mean[order[i]])) for i in (0, -1))
    if len(near) == len(gaps) and len(runs) > 1:
        said = (
            f"In {arm} no part of the depth is shown to have changed more than the rest: the weights moved by {fewest}"
        )
        return f"{said} of their norm ({least.words}) to {most} ({top.words}; {seeds}).", None
    said = (
        f"In {arm} the weights of {top.words} moved most, by {most} of their norm, those of {least.words} by {fewest}"
    )
    if len(runs) == 1:
        return f"{said} (one seed: no interval).", top
    return f"{said}{'; not told apart from ' + w.listing(near) if near else ''} ({seeds}).", top


def _mean(run: dict[int, float], stretch: Stretch) -> float:
    found = [value for layer, value in run.items() if stretch.first <= layer <= stretch.last]
    return float(np.mean(found)) if found else float("nan")


def _placed(seats: list[Seat], top: Stretch | None) -> list[str]:
    """Whether the gain and the forgetting sit where most changed."""
    if not seats:
        return ["Which layers carry the gain or the forgetting was not measured."]
    gain = next((s for s in seats if s.role == "in_domain"), None)
    pooled = [s for s in seats if s.role == "retention"]
    loss = min(pooled, key=lambda s: (s.task != causes.POOLED, w.is_nats(s.metric)), default=None)
    texts = (s for s in pooled if w.is_nats(s.metric) and s is not loss and s.whole.high < 0)
    rise = next(texts, None)
    found = []
    if gain is not None:
        is_there = gain.whole.low > 0
        found.append(_said("gain", gain, top) if is_there else f"No gain on {gain.task} is shown on the items asked.")
    if loss is not None:
        is_there = loss.whole.high < 0
        nothing = f"No forgetting ({loss.task}) is shown on the items asked."
        found.append(_said("forgetting", loss, top) if is_there else nothing)
    if rise is not None:
        found.append(_said("rise of cross-entropy", rise, top))
    if any(seat is not None and seat.whole.num_seeds == 1 for seat in (gain, loss)):
        found.append("Scores without a block are of one seed.")
    return found or ["Which layers carry the gain or the forgetting was not measured."]


def _said(what: str, seat: Seat, top: Stretch | None) -> str:
    on = f"The {what} ({seat.task})"
    places = [_stretch(place) for place in seat.places]
    if not seat.is_shown:
        return f"{on} is not shown to hang on any one block of layers."
    if len(places) == seat.num_places:
        return f"{on} is not told apart between the blocks of layers."
    if len(places) > 1:
        return f"{on} sits in {' or '.join(p.words for p in places)}, which are not told apart."
    where = f"{'' if top is None else 'elsewhere, '}in {places[0].words}"
    where = "there too" if places[0] == top else where
    verb, amount = ("costs", seat.largest) if what == "gain" else ("gives back", negated(seat.largest))
    said = f"{w.change(amount, seat.metric).replace('+', '')} {w.unit(seat.metric)}"
    return f"{on} sits {where}: switching their update off {verb} {said}."


def _stretch(place: str) -> Stretch:
    return Stretch(*causes.place_of(f"only {place}")[1][:2])
