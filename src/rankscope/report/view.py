"""Every number the report shows, as plain data. In: `Evidence`. Out: a `View`, JSON-ready. No HTML, no drawing, no
rounding.

``build`` works on unfinished studies too: what is not there is listed in ``missing`` and is None in its row, never
zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rankscope.provenance import plain
from rankscope.records import Arm, Dropped, Preview
from rankscope.report import distance, scaling, tables
from rankscope.report import effects as fx
from rankscope.report.across import across
from rankscope.report.advice import advices, frontiers
from rankscope.report.answer_rows import (
    Across,
    Advice,
    Divergence,
    FrontierRow,
    MatchedPoint,
    MatchedRow,
    Noise,
    Question,
)
from rankscope.report.evidence import Evidence, Index
from rankscope.report.family import family
from rankscope.report.flip_choice import flipped
from rankscope.report.flip_rows import Flipped
from rankscope.report.inside import inside
from rankscope.report.inside_rows import Inside
from rankscope.report.matching import matchings
from rankscope.report.methods import METHODS
from rankscope.report.questions import questions
from rankscope.report.roi import cases
from rankscope.report.rows import (
    BaseRow,
    Cost,
    Curve,
    Cut,
    Effect,
    Fact,
    Failure,
    Flips,
    Headline,
    Method,
    RowsUsed,
    RunRow,
    Scale,
    ScoreRow,
    Shared,
    SubjectFlips,
    Transfer,
    Trial,
    Verdict,
)
from rankscope.report.subjects import subject_flips
from rankscope.report.verdict import Block, judge
from rankscope.stats.roi import Case

__all__ = ["Evidence", "View", "build"]


@dataclass(frozen=True)
class View:
    """A report as data; the rows are described in `rankscope.report.rows`. ``verdict`` is the lead sentences of all
    verdicts. ``date`` is the day of the newest run, as 2026-01-31; empty where it isn't known.
    """

    name: str
    title: str
    verdict: str
    verdicts: tuple[Verdict, ...]
    models: tuple[str, ...]
    train: tuple[str, ...]
    seeds: tuple[int, ...]
    margin: float
    alarm: float
    arms: tuple[Arm, ...]
    evaluations: dict[str, tuple[tuple[str, str], ...]]
    headlines: tuple[Headline, ...]
    scores: tuple[ScoreRow, ...]
    effects: tuple[Effect, ...]
    transfer: tuple[Transfer, ...]
    advice: tuple[Advice, ...]
    frontier: tuple[FrontierRow, ...]
    questions: tuple[Question, ...]
    matched: tuple[MatchedRow, ...]
    matched_points: tuple[MatchedPoint, ...]
    divergences: tuple[Divergence, ...]
    noise: tuple[Noise, ...]
    base: tuple[BaseRow, ...]
    trials: tuple[Trial, ...]
    curves: tuple[Curve, ...]
    flips: tuple[Flips, ...]
    subject_flips: tuple[SubjectFlips, ...]
    scales: tuple[Scale, ...]
    rows: tuple[RowsUsed, ...]
    shared: tuple[Shared, ...]
    cuts: tuple[Cut, ...]
    runs: tuple[RunRow, ...]
    failures: tuple[Failure, ...]
    missing: tuple[str, ...]
    costs: tuple[Cost, ...]
    provenance: tuple[Fact, ...]
    notes: tuple[str, ...]
    methods: tuple[Method, ...]
    date: str = ""
    inside: Inside = Inside()
    dropped: tuple[Dropped, ...] = ()
    previews: tuple[Preview, ...] = ()
    cases: tuple[Case, ...] = ()
    flipped: Flipped = Flipped()
    across: tuple[Across, ...] = ()

    @property
    def blocks(self) -> tuple[tuple[str, str], ...]:
        """(model, train task) pairs, in reading order."""
        return tuple((model, train) for model in self.models for train in self.train)

    @property
    def counted(self) -> tuple[RunRow, ...]:
        """The runs as a plan counts them: those that are trained; all where the study trains nothing."""
        return tuple(r for r in self.runs if r.train) or self.runs

    def tasks_of(self, train: str) -> tuple[str, ...]:
        """Tasks that the arms of a train task are judged on: in domain, then cross-domain, then retention."""
        order = ("in_domain", "cross_domain", "retention")
        return tuple(task for task, _ in sorted(self.evaluations.get(train, ()), key=lambda pair: order.index(pair[1])))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready data; a number that is not finite becomes None."""
        return _finite(plain(self))


def build(evidence: Evidence) -> View:
    """Compute the view. Deterministic: the same evidence gives the same view."""
    index = Index(evidence)
    base = fx.base_rows(index)
    effects = family(index, base)
    headlines = fx.headlines(index, effects, base)
    advice = advices(index, headlines, effects, base)
    matched, points = matchings(index, base)
    verdicts = tuple(
        judge(
            Block(
                model,
                train,
                tuple(h for h in headlines if (h.model, h.train) == (model, train)),
                tuple(e for e in effects if (e.model, e.train) == (model, train)),
                tuple(b for b in base if b.model == model),
                evidence.margin,
                evidence.alarm,
                len(index.models) > 1,
                next((a.choice for a in advice if (a.model, a.train) == (model, train)), None),
            )
        )
        for model, train in tables.blocks(index)
    )
    missing, costs = tables.missing(index), tables.costs(index)
    return View(
        name=evidence.name,
        title=evidence.title or evidence.name,
        verdict=" ".join(v.lead for v in verdicts) or next(iter(missing), "This study declares no train task."),
        verdicts=verdicts,
        models=index.models,
        train=evidence.train,
        seeds=evidence.seeds,
        margin=evidence.margin,
        alarm=evidence.alarm,
        arms=evidence.arms,
        evaluations=evidence.evaluations,
        headlines=headlines,
        scores=fx.scores(index, base),
        effects=effects,
        transfer=fx.transfers(index, effects),
        advice=advice,
        frontier=frontiers(index, headlines),
        questions=questions(index, base, evidence.margin),
        matched=matched,
        matched_points=points,
        divergences=distance.divergences(index),
        noise=distance.noise(index),
        base=base,
        trials=tables.trials(index),
        curves=tables.curves(index),
        flips=tables.flips(index, base),
        subject_flips=subject_flips(index),
        scales=scaling.scales(index),
        rows=tables.rows_used(index),
        shared=tables.shared(index),
        cuts=tables.cuts(index),
        runs=tables.run_rows(index),
        failures=tables.failures(index),
        missing=missing,
        costs=costs,
        provenance=tables.provenance(index),
        notes=evidence.notes,
        methods=METHODS,
        date=evidence.date,
        inside=inside(index, base, advice),
        dropped=evidence.dropped,
        previews=evidence.previews,
        cases=cases(index, headlines, effects, advice, costs),
        flipped=flipped(index, advice),
        across=across(index, base),
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
