"""What a smaller update would have kept: cut to a lower rank, or to fewer layers. In: readings. Out: rows.

The best rank-k approximation of a trained update (Eckart and Young 1936) is scored on the items that the arms really
trained at rank k were scored on too. The search for layers keeps a set of them at a time, judged on validation rows.
Every seed searches for itself, so what one seed's step kept is not averaged with another's.

Legend: S seeds, N items.
"""

from __future__ import annotations

import re
from dataclasses import replace

from rankscope.records import GIVEN, Arm, Estimate
from rankscope.report.causes import NONE, VALIDATION, WHOLE, asked, lower_is_turned, variants_of
from rankscope.report.depth import Readings, in_order
from rankscope.report.evidence import Panel, Run, common, difference
from rankscope.report.inside_rows import Kept, Truncated
from rankscope.report.tables import blocks
from rankscope.stats.estimate import mean_estimate, mean_estimates
from rankscope.stats.share import share

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
    """The other LoRA arm trained at this rank and else in the same way, with its scores; positive is better."""
    index = readings.index
    alike = [a for a in index.trained_arms if a.kind == "lora" and a.rank == rank and _is_like(a, arm)]
    alike.sort(key=lambda a: (a.scaling != arm.scaling, a.alpha != arm.alpha, a.name))
    if rank is None or not alike:
        return "", None
    panel = index.panel(index.finals(model, train, alike[0].name), task)
    return alike[0].name, None if panel is None else lower_is_turned(panel)


def _is_like(other: Arm, arm: Arm) -> bool:
    """Whether two arms differ in rank alone, and the learning rate and alpha that go with it. Full fine-tuning is like
    LoRA of all linear modules; what was trained elsewhere is like nothing here."""
    if other.name == arm.name or other.rank_pattern or other.alpha_pattern or arm.kind in GIVEN:
        return False
    ways = [(a.targets, a.layers) for a in (other, arm)]
    return ways[0] == ways[1] and (arm.kind != "lora" or (other.scaling, other.dropout) == (arm.scaling, arm.dropout))


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
            losses = variants_of(readings, model, train, arm.name, VALIDATION, "attribution")
            layers, ranks = _layers(readings, runs[0]), _ranks(readings, runs[0])
            same = [r for r in runs if (_layers(readings, r).get(PROPOSAL), _ranks(readings, r))
                    == (layers.get(PROPOSAL), ranks)]  # fmt: skip
            for variant in sorted(layers, key=_step):
                # Which kinds of modules a step left out its layers don't tell; those of a proposal are known.
                mine, own = (ranks, same) if variant == PROPOSAL else ((), runs[:1])
                found.append(Kept(model, train, arm.name, variant, layers[variant], mine,
                                  *_share(losses, variant, [run.spec.seed for run in own])))  # fmt: skip
    return tuple(found)


def _step(variant: str) -> tuple[bool, int]:
    found = _KEPT.match(variant)
    return found is None, int(found[1]) if found else 0


def _layers(readings: Readings, run: Run) -> dict[str, tuple[int, ...]]:
    """The layers that each step of one run's search kept."""
    return {r.variant: tuple(int(v) for v in r.values if v is not None)
            for r in readings.of(run, "attribution", "kept_layers")}  # fmt: skip


def _ranks(readings: Readings, run: Run) -> tuple[tuple[str, int], ...]:
    """The rank that one run's proposal gives each kind of module."""
    return tuple((r.module, int(r.values[0])) for r in readings.of(run, "attribution", "kept_rank")
                 if r.values and r.values[0] is not None)  # fmt: skip


def _share(losses: dict[str, Panel], variant: str, seeds: list[int]) -> tuple[Estimate | None, str]:
    """The share of the fall in validation loss that these seeds' set of parts keeps."""
    whole, part = (difference(losses.get(name), losses.get(NONE), against_base=False) for name in (WHOLE, variant))
    both = common(whole, part) if whole is not None and part is not None else None
    if both is None or any(seed not in panel.seeds for panel in both for seed in seeds):
        return None, "not measured"
    whole, part = (_of_seeds(panel, seeds).values for panel in both)
    found = share(part, whole)
    return found, "" if found is not None else "no fall of the validation loss is shown"
