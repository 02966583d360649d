"""How far the arms have moved from the base, and how far the base moves by itself. In: an evidence `Index`. Out: rows.

KL(base || arm) over the full vocabulary says how far an arm's answers went, whether right or wrong (RL's Razor,
arXiv 2509.04259). The noise floor is the base scored twice with other batches: what is smaller means nothing.

Legend: S seeds, N items.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from rankscope.records import Estimate
from rankscope.report.answer_rows import Divergence, Noise
from rankscope.report.evidence import Index, Panel, aligned, common
from rankscope.report.family import of_items
from rankscope.report.tables import blocks
from rankscope.stats.estimate import mean_estimate, mean_estimates


def divergences(index: Index) -> tuple[Divergence, ...]:
    """KL to the base of every arm, on rows like those it was trained on and on neutral text."""
    rows = []
    for model, train in blocks(index):
        names = dict.fromkeys(n for _, n in index.evidence.divergences if n == train or n not in index.evidence.train)
        for name in names:
            panels = {arm.name: _panel(index, model, train, arm.name, name) for arm in index.tuned_arms}
            known = {arm: panel for arm, panel in panels.items() if panel is not None}
            given = {arm.name for arm in index.given_arms}
            together = {arm: panel for arm, panel in known.items() if arm not in given}
            found = mean_estimates([(p.values, p.clusters) for p in together.values()], is_score=False)
            estimates = dict(zip(together, found, strict=True))
            estimates |= {a: of_items(mean_estimate(p.values, p.clusters)) for a, p in known.items() if a in given}
            on = "rows like the training rows" if name == train else "text"
            rows += [Divergence(model, train, arm, name, on, _not_below_zero(estimates.get(arm))) for arm in panels]
    return tuple(rows)


def _not_below_zero(estimate: Estimate | None) -> Estimate | None:
    """A divergence is never negative, whatever a symmetric interval says."""
    return None if estimate is None else replace(estimate, low=max(estimate.low, 0.0))


def _panel(index: Index, model: str, train: str, arm: str, name: str) -> Panel | None:
    found = index.evidence.divergences
    runs = [(r, found[r.key, name]) for r in index.finals(model, train, arm) if (r.key, name) in found]
    return aligned([(r, e) for r, e in runs if e.status == "done" and e.scores])


def noise(index: Index) -> tuple[Noise, ...]:
    """The base against itself with other batches, task by task."""
    rows = []
    for model, ((key, task), second) in product(index.models, index.evidence.noise.items()):
        base = index.base(model)
        if base is None or key != base.key or second.status != "done":
            continue
        before, after = index.panel((base,), task), aligned([(base, second)])
        both = common(after, before) if before and after else None
        if both is None:
            continue
        change = both[0].values[0] - both[1].values[0]
        changed = int((np.abs(change) > 0.5).sum()) if before.is_binary else None
        rows.append(Noise(model, task, before.metric, len(change), float(change.mean()),
                          float(np.abs(change).max()), changed))  # fmt: skip
    return tuple(rows)
