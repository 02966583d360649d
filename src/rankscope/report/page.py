"""The report as parts of sections of tables with finished text. In: a `View`. Out: `Part`s, in reading order.

HTML and markdown are both written from these, so they can't disagree. A part answers one question of the reader; a new
section is one more name in the part's tuple here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rankscope.report import (
    answers,
    calculator,
    cause_sections,
    changes,
    findings,
    flipped,
    inside_sections,
    logbook,
    moved,
    openings,
    roadmap,
)
from rankscope.report.cells import Part, Section
from rankscope.report.view import View

Maker = Callable[[View], Section | None]

_VERDICT: tuple[Maker, ...] = (answers.recommendation, findings.headline)
_PERFORMANCE: tuple[Maker, ...] = (
    findings.ranks,
    logbook.curves,
    answers.frontier,
    answers.against_full,
    answers.claims,
    findings.comparisons,
)
_FORGETTING: tuple[Maker, ...] = (
    roadmap.process,
    findings.transfer,
    moved.matched,
    changes.subjects,
    flipped.browser,
    logbook.flips,
    moved.divergence,
    moved.noise,
    findings.base,
)
_WITHIN: tuple[Maker, ...] = (
    inside_sections.inside,
    cause_sections.attribution,
    cause_sections.truncation,
    inside_sections.kinds,
    inside_sections.reach,
    cause_sections.mechanism,
    changes.scales,
)
_ROI: tuple[Maker, ...] = (calculator.calculator,)
_ROADMAP: tuple[Maker, ...] = (roadmap.roadmap,)
_METHOD: tuple[Maker, ...] = (
    logbook.data,
    logbook.rates,
    logbook.stopped,
    logbook.runs,
    logbook.gaps,
    logbook.cost,
    logbook.provenance,
    logbook.methods,
)
_PARTS: tuple[tuple[str, str, str, Callable[[View], str], tuple[Maker, ...]], ...] = (
    ("verdict", "Verdict", "Verdict", openings.verdict, _VERDICT),
    ("performance", "Performance trade-offs", "Performance", openings.performance, _PERFORMANCE),
    ("forgetting", "Generalisation and forgetting", "Forgetting", openings.forgetting, _FORGETTING),
    ("within", "Inside the model", "Inside", openings.within, _WITHIN),
    ("money", "ROI calculator", "ROI", openings.money, _ROI),
    ("next", "Roadmap", "Roadmap", roadmap.opening, _ROADMAP),
    ("method", "Method and provenance", "Method", openings.method, _METHOD),
)
_SHOWN = frozenset({"recommendation", "headline", "against-full", "claims", "mechanism", "gaps", "roadmap"})
"""Sections whose tables stand open; those of the others are opened by a click, so that charts are seen first."""


def parts(view: View) -> tuple[Part, ...]:
    """The parts that have something to show; sections that a study has no use for are left out."""
    made = (
        Part(id, title, opening(view), tuple(_folded(s) for make in makers if (s := make(view)) is not None), short)
        for id, title, short, opening, makers in _PARTS
    )
    return tuple(part for part in made if part.sections or part.id == "verdict")


def sections(view: View) -> tuple[Section, ...]:
    """The sections of all parts, one after the other."""
    return tuple(section for part in parts(view) for section in part.sections)


def _folded(section: Section) -> Section:
    if section.id in _SHOWN:
        return section
    return replace(section, tables=tuple(replace(table, is_folded=True) for table in section.tables))
