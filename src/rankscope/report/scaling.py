"""How large each LoRA arm's update is made. In: an evidence `Index`. Out: rows. Arithmetic on the declaration; no runs.

Sources: alpha / r, Hu et al. (2106.09685); alpha / sqrt(r), Kalajdzievski (2312.03732).
"""

from __future__ import annotations

import math

from rankscope.records import Arm
from rankscope.report.evidence import Index
from rankscope.report.rows import Scale

FIXED, ROOT = "fixed alpha", "rsLoRA"


def scales(index: Index) -> tuple[Scale, ...]:
    """The factor on each LoRA arm's update and how it compares to that of the lowest rank under the same rule.

    A rule is one alpha for all ranks, or one that goes with the rank ('alpha = 2r'), whichever joins more ranks of the
    study; with rsLoRA apart. Arms with ranks or alphas of their own for some modules have no one scale and no row.
    """
    arms = [a for a in index.evidence.arms if a.kind == "lora" and a.rank and a.alpha and not is_patterned(a)]
    rows = []
    for arm in arms:
        rule, alike = _rule(arm, [a for a in arms if a.scaling == arm.scaling])
        lowest = min(alike, key=lambda a: a.rank)
        relative = _scale(arm) / _scale(lowest)
        rows.append(Scale(arm.name, arm.rank, arm.alpha, rule, _scale(arm), relative, lowest.rank))
    return tuple(rows)


def is_patterned(arm: Arm) -> bool:
    return bool(arm.rank_pattern or arm.alpha_pattern)


def law(rule: str) -> str:
    """How the scale moves with rank under a rule."""
    if rule == FIXED:
        return "With alpha fixed the scale falls as 1 / r"
    if rule == ROOT:
        return "With rsLoRA the scale falls as 1 / √r"
    return f"With {rule} the scale " + ("grows as √r" if rule.startswith(ROOT) else "is the same at every rank")


def _rule(arm: Arm, arms: list[Arm]) -> tuple[str, list[Arm]]:
    """The arm's rule, and all arms of this scaling that are under it."""
    fixed = [a for a in arms if a.alpha == arm.alpha]
    growing = [a for a in arms if math.isclose(a.alpha * arm.rank, arm.alpha * a.rank)]
    is_root = arm.scaling == "rslora"
    if len({a.rank for a in growing}) > len({a.rank for a in fixed}):
        return (f"{ROOT}, " if is_root else "") + f"alpha = {arm.alpha / arm.rank:g}r", growing
    return ROOT if is_root else FIXED, fixed


def _scale(arm: Arm) -> float:
    return arm.alpha / (math.sqrt(arm.rank) if arm.scaling == "rslora" else arm.rank)
