"""How large each LoRA arm's update is made. In: an evidence `Index`. Out: rows. Arithmetic on the declaration; no runs.

Sources: alpha / r, Hu et al. (2106.09685); alpha / sqrt(r), Kalajdzievski (2312.03732).
"""

from __future__ import annotations

import math

from rankscope.records import Arm
from rankscope.report.evidence import Index
from rankscope.report.rows import Scale

FIXED, TWICE, ROOT = "fixed alpha", "alpha = 2r", "rsLoRA"


def scales(index: Index) -> tuple[Scale, ...]:
    """The factor on each LoRA arm's update and how it compares to that of the lowest rank under the same rule.

    'alpha = 2r' if that holds and no arm of another rank has the same alpha; 'rsLoRA' by the arm's scaling; else 'fixed
    alpha'.
    """
    arms = [a for a in index.evidence.arms if a.kind == "lora" and a.rank and a.alpha]
    rules = {a.name: _rule(a, arms) for a in arms}
    rows = []
    for arm in arms:
        alike = [
            a for a in arms if rules[a.name] == rules[arm.name] and (a.alpha == arm.alpha or rules[a.name] == TWICE)
        ]
        lowest = min(alike, key=lambda a: a.rank)
        rows.append(
            Scale(
                arm.name, arm.rank, arm.alpha, rules[arm.name], _scale(arm), _scale(arm) / _scale(lowest), lowest.rank
            )
        )
    return tuple(rows)


def _rule(arm: Arm, arms: list[Arm]) -> str:
    if arm.scaling == "rslora":
        return ROOT
    shares = any(a.alpha == arm.alpha and a.rank != arm.rank and a.scaling == arm.scaling for a in arms)
    return TWICE if arm.alpha == 2 * arm.rank and not shares else FIXED


def _scale(arm: Arm) -> float:
    return arm.alpha / (math.sqrt(arm.rank) if arm.scaling == "rslora" else arm.rank)
