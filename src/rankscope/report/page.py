"""The report as sections of tables with finished text. In: a `View`. Out: `Section`s, in reading order.

HTML and markdown are both written from these, so they can't disagree.
"""

from __future__ import annotations

from rankscope.report import answers, cause_sections, changes, findings, flipped, inside_sections, logbook, moved
from rankscope.report.cells import Section
from rankscope.report.view import View

_RESULTS = (
    answers.recommendation,
    answers.against_full,
    findings.headline,
    answers.frontier,
    findings.ranks,
    answers.claims,
    findings.comparisons,
    findings.transfer,
    moved.matched,
    moved.divergence,
    inside_sections.inside,
    cause_sections.attribution,
    cause_sections.truncation,
    inside_sections.kinds,
    inside_sections.reach,
    cause_sections.mechanism,
    findings.base,
    moved.noise,
)
_ORIGINS = (
    logbook.stopped,
    logbook.rates,
    logbook.curves,
    logbook.flips,
    changes.subjects,
    flipped.browser,
    changes.scales,
    logbook.data,
    logbook.runs,
    logbook.gaps,
    logbook.cost,
    logbook.provenance,
    logbook.methods,
)


def sections(view: View) -> tuple[Section, ...]:
    """All sections. Those that a study has no use for (no learning rates tried, say) are left out."""
    return tuple(section for make in (*_RESULTS, *_ORIGINS) if (section := make(view)) is not None)
