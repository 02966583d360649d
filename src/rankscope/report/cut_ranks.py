"""What a smaller update would have kept: cut to a lower rank, or to fewer layers. In: readings. Out: rows.

The best rank-k approximation of a trained update (Eckart and Young 1936) is scored on the items that the arms really
trained at rank k were scored on too. The search for layers keeps a set of them at a time, judged on validation rows.

Legend: S seeds, N items.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from rankscope.records import Arm, Estimate
from rankscope.report.causes import NONE, VALIDATION, WHOLE, asked, lower_is_turned, variants_of
from rankscope.report.depth import Readings, in_order
from rankscope.report.evidence import Panel, common, difference
from rankscope.report.inside_rows import Kept, Truncated
from rankscope.report.tables import blocks
from rankscope.stats.estimate import mean_estimate, mean_estimates

PROPOSAL = "proposal"
_RANK = re.compile(r"^rank (\d+)$")
_KEPT = re.compile(r"^kept (\d+)$")


def truncated(readings: Readings) -> tuple[Truncated, ...]:
    """The truncation curve of every arm on every task and on validation rows, ranks ascending, the whole last."""
    index, found = readings.index, []
    for model, train in blocks(index):
        for arm in in_order(index.tuned_arms):
            for task, role in asked(readings, model, train):
                variants = variants_of(readings, model, train, arm.name, task, "truncation")
                ranks = sorted(int(m[1]) for name in variants if (m := _RANK.match(name)))
                names = [(k, f"rank {k}") for k in ranks] + ([(None, WHOLE)] if ranks and WHOLE in variants else [])
                for rank, name in names:
                    other = _trained(readings, model, train, arm, rank, task)
                    found.append(_row(model, train, arm.name, (task, role), rank, variants[name], other))
    return tuple(found)


def _row(
    model: str, train: str, arm: str, asked_on: tuple[str, str], rank: int | None, panel: Panel,
    other: tuple[str, Panel | None],
) -> Truncated:  # fmt: skip
    name, trained = other
    seeds = [s for s in trained.seeds if s in panel.seeds] if trained is not None else []
    both = common(_of_seeds(trained, seeds), panel) if seeds else None
    gap = difference(panel, trained, against_base=False) if both else None
    apart = mean_estimate(gap.values, gap.clusters, changed=gap.changed) if gap is not None else None
    return Truncated(model, train, arm, *asked_on, panel.metric, rank, _score(panel), name if both else "",
                     _score(both[0]) if both else None, apart)  # fmt: skip


def _trained(readings: Readings, model: str, train: str, arm: Arm, rank: int | None, task: str) -> tuple:
    """The other LoRA arm trained at this rank in the same way, with its scores; positive is better."""
    index = readings.index
    alike = [a for a in index.trained_arms if a.kind == "lora" and a.rank == rank and a.name != arm.name]
    alike.sort(key=lambda a: (a.scaling != arm.scaling, a.targets != arm.targets, a.name))
    if rank is None or not alike:
        return "", None
    panel = index.panel(index.finals(model, train, alike[0].name), task)
    return alike[0].name, None if panel is None else lower_is_turned(panel)


def _of_seeds(panel: Panel, seeds: list[int]) -> Panel:
    return replace(panel, values=panel.values[[panel.seeds.index(s) for s in seeds]], seeds=tuple(seeds))


def _score(panel: Panel) -> Estimate:
    return mean_estimates([(lower_is_turned(panel).values, panel.clusters)])[0]


def kept(readings: Readings) -> tuple[Kept, ...]:
    """The search for layers step by step, then the proposal; ordered by how many sets of layers are kept."""
    index, found = readings.index, []
    for model, train in blocks(index):
        for arm in in_order(index.tuned_arms):
            runs = [r for r in index.finals(model, train, arm.name) if readings.has(r, "attribution")]
            if not runs:
                continue
            layers = {r.variant: tuple(int(v) for v in r.values if v is not None)
                      for r in readings.of(runs[0], "attribution", "kept_layers")}  # fmt: skip
            ranks = tuple((r.module, int(r.values[0])) for r in readings.of(runs[0], "attribution", "kept_rank")
                          if r.values and r.values[0] is not None)  # fmt: skip
            losses = variants_of(readings, model, train, arm.name, VALIDATION, "attribution")
            for variant in sorted(layers, key=_step):
                share, why = _share(losses, variant)
                mine = ranks if variant == PROPOSAL else ()
                found.append(Kept(model, train, arm.name, variant, layers[variant], mine, share, why))
    return tuple(found)


def _step(variant: str) -> tuple[bool, int]:
    found = _KEPT.match(variant)
    return found is None, int(found[1]) if found else 0


def _share(losses: dict[str, Panel], variant: str) -> tuple[Estimate | None, str]:
    """The share of the fall in validation loss that is kept, with the interval of a ratio of paired means.

    To first order a ratio varies as the mean of (kept - share x whole) / mean(whole) does (the delta method).
    """
    whole, part = (difference(losses.get(name), losses.get(NONE), against_base=False) for name in (WHOLE, variant))
    both = common(whole, part) if whole is not None and part is not None else None
    if both is None:
        return None, "not measured"
    whole, part = both
    if mean_estimate(whole.values, whole.clusters).low <= 0:
        return None, "no fall of the validation loss is shown"
    share = float(part.values.mean() / whole.values.mean())
    spread = (part.values - share * whole.values) / whole.values.mean()
    return mean_estimate(spread + share - float(np.mean(spread)), whole.clusters), ""
