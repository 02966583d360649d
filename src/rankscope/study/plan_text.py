"""A plan for people: a table of arms, the total, what is in the way. In: a ``Plan``. Out: text."""

from __future__ import annotations

from collections.abc import Sequence

from rankscope.stats.wording import listed, number
from rankscope.study.fits import NO, PERHAPS
from rankscope.study.forecast import gigabytes, span_text
from rankscope.study.plan import ArmPlan, Plan, Smallest
from rankscope.study.span import Span, largest


def text(plan: Plan) -> str:
    """All of it, without what to do next."""
    lines = _table(plan)
    lines += [f"stopped  {name}" for name in plan.stopped]
    lines += _misfits(plan)
    is_done = plan.forecast is not None and plan.forecast.is_done
    lines += [] if is_done else _effects(plan.effects)  # by now the report says what was shown
    lines += [f"note: {note}" for note in plan.notes]
    lines.append(f"{plan.num_done} of {'at most ' if plan.is_at_most else ''}{len(plan.runs)} runs done"
                 + (f", {plan.cohorts} to train one after another on {plan.host}" if plan.cohorts else ""))  # fmt: skip
    if plan.forecast is not None:
        lines.append(str(plan.forecast))
    if plan.disk_bytes and not is_done:
        lines.append(f"disk: about {count(plan.disk_bytes)}B will be written")
    if plan.cost is not None:
        lines.append(f"money: {money(plan.cost, plan.currency)} for the rest, at the price given")
    return "\n".join(lines)


def money(cost: Span, currency: str) -> str:
    if cost.value is not None:
        return f"about {cost.value:,.2f} {currency}"
    return f"{cost.low:,.2f} to {cost.high:,.2f} {currency}"


def count(number: float | int) -> str:
    """A large number with two digits: 1.2M, 34G, 5.6P."""
    for size, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.2g}{letter}" if number < 99.5 * size else f"{number / size:.0f}{letter}"
    return f"{number:.0f}"


def _table(plan: Plan) -> list[str]:
    names = ("model", "arm", "runs", "done", "tokens", "FLOPs", "time", "memory", "fits")
    is_one_model = len({arm.model for arm in plan.arms}) < 2
    rows = [names, *map(_cells, plan.arms)]
    rows = [row[1:] for row in rows] if is_one_model else list(rows)
    rows = [row[:-1] for row in rows] if not any(arm.fits for arm in plan.arms) else rows
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _cells(arm: ArmPlan) -> tuple[str, ...]:
    is_left = not arm.seconds.is_none
    return (arm.model, arm.arm, str(arm.runs), str(arm.done), count(arm.tokens) if arm.tokens else "",
            count(arm.flops) if arm.flops else "", span_text(arm.seconds) if is_left else "",
            gigabytes(arm.peak) if arm.peak is not None else "", arm.fits)  # fmt: skip


def _misfits(plan: Plan) -> list[str]:
    """What doesn't fit, and what would make it fit: arms with the same way out in one line."""
    groups: dict[tuple, list[ArmPlan]] = {}
    for arm in plan.arms:
        if arm.fits in (NO, PERHAPS) and arm.peak is not None:
            groups.setdefault((arm.model, arm.kind == "full", arm.fits, arm.remedies, not arm.tokens), []).append(arm)
    return [_misfit(group, plan.host) for group in groups.values()]


def _misfit(arms: Sequence[ArmPlan], host: str) -> str:
    one, need = arms[-1], gigabytes(largest(arm.peak for arm in arms if arm.peak is not None))
    what = "full SFT" if one.kind == "full" else "scoring" if not one.tokens else listed([arm.arm for arm in arms])
    does = "may not" if one.fits == PERHAPS else "do not" if what.count(" and ") else "does not"
    said = f"{what} of {one.model} {does} fit {host} ({need})"
    if not one.remedies:
        return f"{said}; no setting of this study makes it fit, and no GPU known here is large enough"
    if one.remedies[0].startswith("a "):
        return f"{said}; no setting of this study makes it fit; {one.remedies[0]} would hold it"
    return f"{said}; would with {' '.join(f'--set {way}' for way in one.remedies)}"


def _effects(effects: Sequence[Smallest]) -> list[str]:
    """One line a task: the smallest difference that would be shown, in points, over models and train tasks."""
    told: dict[str, list[Smallest]] = {}
    for one in effects:
        told.setdefault(one.task, []).append(one)
    lines = []
    for task, group in told.items():
        low, high = min(one.low for one in group), max(one.high for one in group)
        points = f"{100 * high:.1f}" if high - low < 0.0005 else f"{100 * low:.1f} to {100 * high:.1f}"
        how = "as runs here flip answers" if all(one.is_measured for one in group) else "assumed"
        roles = "/".join(dict.fromkeys(one.role.replace("_", "-") for one in group))
        lines.append(f"  {task} ({roles}; {number(group[0].items, 'item')}, {number(group[0].seeds, 'seed')}): "
                     f"{points} points ({how})")  # fmt: skip
    return ["smallest difference from the base that 80 % of such studies would show:", *lines] if lines else []
