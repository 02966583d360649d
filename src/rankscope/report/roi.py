"""A study as the return on investment sees it. In: an evidence `Index` and a report's rows. Out: measured cases, and
the JSON-ready payload of the page's calculator. Computes no money: that is ``stats.roi``'s, here and on the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

from rankscope.config.prices import HEAD
from rankscope.config.reality import GROUPS, INPUTS, SCENARIOS
from rankscope.provenance import plain
from rankscope.records import GIVEN, Estimate, Ledger
from rankscope.report.answer_rows import Advice
from rankscope.report.evidence import Index
from rankscope.report.rows import Cost, Effect, Headline
from rankscope.report.tables import blocks
from rankscope.stats.gpus import GPUS
from rankscope.stats.mechanism import over_seeds
from rankscope.stats.roi import NO_FULL, ONE_RUN, Arm, Case, Quantity
from rankscope.stats.roi_formulas import FORMULAS, HEADLINES, MEASURED
from rankscope.stats.roi_formulas import GROUPS as LINE_GROUPS

SCRIPTS = ("roi_formulas.js", "roi.js")
IN_NATS = "what was taught is scored in nats, not in points"


def cases(
    index: Index,
    headlines: tuple[Headline, ...],
    effects: tuple[Effect, ...],
    advice: tuple[Advice, ...],
    costs: tuple[Cost, ...],
) -> tuple[Case, ...]:
    """One case for each model and train task with a trained arm that is done."""
    found = []
    for model, train in blocks(index):
        rows = [h for h in headlines if (h.model, h.train) == (model, train) and h.kind not in GIVEN]
        rows = [h for h in rows if index.finals(model, train, h.arm)]
        chosen = next((a.choice.arm for a in advice if (a.model, a.train) == (model, train)), None)
        full = next((h.arm for h in rows if h.kind == "full"), None)
        ours = [e for e in effects if (e.model, e.train, e.role, e.contrast.other) == (model, train, "in_domain", full)]
        arms = tuple(_arm(index, h, h.arm == chosen, _over_full(h, full, ours)) for h in rows)
        if arms:
            shared = {"params": _params(arms), "study_seconds": _study_seconds(costs)}
            found.append(Case(model, train, arms, shared))
    return tuple(found)


def payload(name: str, found: tuple[Case, ...]) -> dict[str, Any] | None:
    """All that the calculator on the page needs of the study ``name``; None without a case. No price is in it."""
    if not found:
        return None
    return {
        "study": name,
        "cases": [_case(case) for case in found],
        "measured": {name: {"title": title, "unit": unit} for name, (title, unit) in MEASURED.items()},
        "inputs": plain(INPUTS),
        "input_groups": GROUPS,
        "formulas": plain(FORMULAS),
        "line_groups": LINE_GROUPS,
        "headlines": list(HEADLINES),
        "gpus": plain(GPUS),
        "scenarios": list(SCENARIOS),
        "no_full": NO_FULL,
        "yaml_head": HEAD,
    }


def script() -> str:
    """The calculator's code for a page: a widget named roi."""
    folder = resources.files("rankscope.report") / "assets"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)


def _case(case: Case) -> dict[str, Any]:
    return _finite(plain(case))


def _arm(index: Index, row: Headline, is_chosen: bool, over_full: Quantity) -> Arm:
    ledgers = [run.result.ledger for run in index.finals(row.model, row.train, row.arm)]
    gain = row.gain
    in_nats = gain is not None and gain.metric == "cross_entropy"
    unscored = IN_NATS if in_nats else "the gain was not measured"
    measured = {
        "seconds": _seconds(ledgers),
        "tokens": _mean(ledgers, "tokens"),
        "flops": _mean(ledgers, "flops"),
        "peak_bytes": _counted(row.peak_bytes, "peak_bytes"),
        "trainable": _counted(row.trainable, "trainable"),
        "blob_bytes": _counted(row.blob_bytes, "blob_bytes"),
        "gain": _points(None if in_nats or gain is None else gain.contrast.estimate, unscored),
        "forgotten": _points(row.forgotten, "forgetting was not measured in points"),
        "gain_over_full": over_full,
    }
    return Arm(row.arm, row.kind, row.rank, measured, is_chosen)


def _over_full(row: Headline, full: str | None, against: list[Effect]) -> Quantity:
    """The paired difference in domain to full SFT; it is narrower than the difference of two gains."""
    if row.kind == "full":
        return Quantity(0.0)
    if full is None:
        return Quantity(None, reason=NO_FULL)
    found = [e for e in against if e.contrast.arm == row.arm and row.gain and e.task == row.gain.task]
    if len(found) != 1:
        return Quantity(None, reason="the gain was not compared with full SFT's")
    if found[0].metric == "cross_entropy":
        return Quantity(None, reason=IN_NATS)
    return _points(found[0].contrast.estimate, "")


def _points(estimate: Estimate | None, reason: str) -> Quantity:
    if estimate is None:
        return Quantity(None, reason=reason)
    return Quantity(*(100 * x for x in (estimate.value, estimate.low, estimate.high)))


def _seconds(ledgers: Sequence[Ledger]) -> Quantity:
    """Mean seconds of a run with an interval over seeds; below zero there is no time."""
    timed = [x.seconds for x in ledgers if x.seconds > 0]
    if not timed:
        return Quantity(None, reason="seconds were not measured")
    found = over_seeds(timed)
    if not math.isfinite(found.low):
        return Quantity(found.value, reason=ONE_RUN)
    return Quantity(found.value, max(found.low, 0.0), found.high)


def _mean(ledgers: Sequence[Ledger], name: str) -> Quantity:
    """A count of each run, averaged: exact, since runs of one arm do the same work up to their batches."""
    known = [float(getattr(x, name)) for x in ledgers if getattr(x, name) > 0]
    return _counted(sum(known) / len(known) if known else None, name)


def _counted(value: float | int | None, name: str) -> Quantity:
    if not value:
        return Quantity(None, reason=f"{name} was not measured")
    return Quantity(float(value))


def _params(arms: Sequence[Arm]) -> Quantity:
    """The model's parameters, from counted FLOPs per token (``stats.cost``): 6 N for full SFT, 4 N + 6 x adapter.

    An adapter that leaves lower layers alone saves a part of the backward pass; the arm with most says most.
    """
    found = []
    for arm in arms:
        flops, tokens, own = (arm.measured[name].value for name in ("flops", "tokens", "trainable"))
        if flops and tokens and own:
            found.append(flops / tokens / 6 if arm.kind == "full" else (flops / tokens - 6 * own) / 4)
    return _counted(float(round(max(found))) if found and max(found) > 0 else None, "params")


def _study_seconds(costs: tuple[Cost, ...]) -> Quantity:
    """Everything that the study measured, training, tuning, scoring and looking inside; each second happened once."""
    total = next((cost.seconds.value for cost in costs if cost.part == "Total"), None)
    return _counted(total, "study_seconds")


def _finite(value: Any) -> Any:
    """JSON knows no infinity: the ends of an unbounded interval are texts."""
    if isinstance(value, dict):
        return {key: _finite(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_finite(child) for child in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else "-inf"
    return value
