"""Which colour an arm has, wherever it is drawn. In: a `View`. Out: names and colours. Needs no drawing library."""

from __future__ import annotations

from rankscope.records import GIVEN
from rankscope.report.view import View

RAMP = ("#5fb7e8", "#3f97d8", "#3a78cf", "#5a63cc", "#8157c9", "#a24fbb")
FULL, GIVEN_HUE = "#e2661a", "#1b9e77"


def colours(view: View) -> tuple[list[str], list[str]]:
    """Arm names and their colours: LoRA along the ramp by rank, full SFT vermilion, what existed already green."""
    ranked = sorted((a for a in view.arms if a.kind == "lora"), key=lambda a: (a.top_rank or 0, a.name))
    last = max(len(ranked) - 1, 1)
    ramp = {a.name: RAMP[round(i * (len(RAMP) - 1) / last)] for i, a in enumerate(ranked)}
    names = [a.name for a in view.arms if a.kind != "base"]
    given = {a.name: GIVEN_HUE for a in view.arms if a.kind in GIVEN}
    return names, [ramp.get(name) or given.get(name, FULL) for name in names]
