"""Answers that changed, by subject of a task, each with an interval. In: an evidence `Index`. Out: `SubjectFlips` rows.

A task like MMLU has 57 subjects: some of them move by luck. So the intervals of one arm and task hold together, for all
of its subjects at once (Bonferroni), and what is shown in one of them is shown among all that were looked at.

Legend: N items, S seeds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rankscope.records import Estimate
from rankscope.report.evidence import Index, Panel
from rankscope.report.rows import SubjectFlips
from rankscope.report.tables import LEAST_ITEMS, changes, counted
from rankscope.stats.estimate import flips, mean_estimate


def subject_flips(index: Index) -> tuple[SubjectFlips, ...]:
    """Counts and change by subject, for tasks with several. Those of fewer than `LEAST_ITEMS` items are left out."""
    given, rows = {arm.name for arm in index.given_arms}, []
    for (model, train, arm, task, role), change in changes(index):
        known = {s.item: s.subject for s in index.evaluation(index.base(model), task).scores}
        subjects = np.array([known.get(item, "") for item in change.items])
        if len(set(subjects)) < 2:
            continue
        places = {name: subjects == name for name in sorted(set(subjects) - {""})}
        places = {name: place for name, place in places.items() if place.sum() >= LEAST_ITEMS}
        for name, place in places.items():
            values = change.values[:, place]  # (S, N)
            net = _net(change, place, 1 - 0.05 / len(places))
            net = replace(net, scope="items") if arm in given else net
            rows.append(SubjectFlips(model, train, arm, task, role, str(name), *counted(values), values.shape[1],
                                     len(change.seeds), net))  # fmt: skip
    return tuple(rows)


def _net(change: Panel, place: np.ndarray, level: float) -> Estimate:
    """The mean change over the subject's items and all seeds; ``place`` is (N,) of booleans."""
    values = change.values[:, place]
    clusters = None if change.clusters is None else change.clusters[place]
    changed = None if change.changed is None else flips(values, clusters)
    return mean_estimate(values, clusters, level, changed)
