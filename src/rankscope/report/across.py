"""What each arm changed on the tasks of other domains, pooled over them. In: an evidence `Index`. Out: `Across` rows.

The study's family of verdicts judges these tasks one by one; their mean is a description, with an ordinary interval
from ``rankscope.stats`` and without a word. Tasks scored in nats, and those whose base is not above chance, are in no
pool.

Legend: N items, S seeds.
"""

from __future__ import annotations

from rankscope.records import Estimate
from rankscope.report.answer_rows import Across
from rankscope.report.evidence import Index, Panel, difference
from rankscope.report.family import of_items, statuses, usable
from rankscope.report.pooling import pool
from rankscope.report.rows import BaseRow
from rankscope.report.tables import blocks
from rankscope.stats.estimate import estimate_from, parts, shared

ROLE = "cross_domain"


def across(index: Index, base: tuple[BaseRow, ...]) -> tuple[Across, ...]:
    """One row for each model, train task and arm; arms share what they say about how seeds vary."""
    status, rows = statuses(base), []
    for model, train in blocks(index):
        asked = [task for task, role in index.tasks(train) if role == ROLE]
        tasks = usable(index, model, train, status, ROLE)
        panels = {arm.name: _change(index, model, train, arm.name, tasks) for arm in index.tuned_arms}
        known = _estimates(index, {name: panel for name, panel in panels.items() if panel is not None})
        why = "the study has no cross-domain task" if not asked else "no cross-domain task whose base is above chance"
        for name in panels:
            reason = "" if name in known else "not scored on all of them" if tasks else why
            rows.append(Across(model, train, name, tuple(tasks), known.get(name), reason))
    return tuple(rows)


def _change(index: Index, model: str, train: str, arm: str, tasks: list[str]) -> Panel | None:
    """The arm's difference to the base, pooled over the tasks; None unless all of them are there."""
    base, finals = index.base(model), index.finals(model, train, arm)
    if base is None:
        return None
    found = {t: difference(index.panel(finals, t), index.panel((base,), t), against_base=True) for t in tasks}
    there = {task: change for task, change in found.items() if change is not None}
    if len(there) < len(tasks) or not there:
        return None
    return next(iter(there.values())) if len(there) == 1 else pool(there)


def _estimates(index: Index, panels: dict[str, Panel]) -> dict[str, Estimate]:
    given = {arm.name for arm in index.given_arms}
    found = {}
    for names in ([n for n in panels if n not in given], *([n] for n in panels if n in given)):
        mine = [panels[name] for name in names]
        spreads = shared([parts(p.values, p.clusters, p.strata) for p in mine]) if mine else []
        for name, panel, own in zip(names, mine, spreads, strict=True):
            estimate = estimate_from(panel.values, own.spread, panel.clusters, 0.95, panel.changed)
            found[name] = of_items(estimate) if name in given else estimate
    return found
