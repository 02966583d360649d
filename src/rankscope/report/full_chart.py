"""LoRA against full SFT by rank, one drawing for each thing compared. In: a `View`. Out: `Chart`s.

Bars are the simultaneous intervals that the verdicts read, so a word can be checked by eye: within the margin if the
bar lies inside the band, better or worse if it leaves out zero, else undecided.
"""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from rankscope.report import wording as w
from rankscope.report.drawing import BASE, INK, SHORT, Chart, capital, colour, finished, title_of, unit_scale
from rankscope.report.rows import Effect
from rankscope.report.view import View


def full_charts(view: View) -> list[Chart]:
    """Differences to full SFT, in the order of the comparisons; none where no LoRA arm was compared with it."""
    found, ranks = [], {a.name: a.top_rank or 0 for a in view.arms if a.kind == "lora"}
    fulls = {a.name for a in view.arms if a.kind == "full"}
    answered = {(a.model, a.train) for a in view.advice if a.aspects}  # those that have the section
    for i, (model, train) in enumerate(view.blocks):
        if (model, train) not in answered:
            continue
        mine = [e for e in view.effects if (e.model, e.train) == (model, train) and e.contrast.other in fulls
                and e.contrast.arm in ranks]  # fmt: skip
        for j, (task, role) in enumerate(dict.fromkeys((e.task, e.role) for e in mine)):
            rows = [e for e in mine if (e.task, e.role) == (task, role)]
            rows.sort(key=lambda e: (ranks[e.contrast.arm], e.contrast.arm))
            unit = w.unit(rows[0].metric)
            said = "; ".join(f"{e.contrast.arm} {w.shown(e.contrast, e.metric)}, {w.verdict(e.contrast, e.metric)}"
                             for e in rows)  # fmt: skip
            caption = (
                f"{capital(title_of(view, model, train))}. Mean paired differences, {unit}; up: LoRA is better. Bars: "
                "simultaneous 95 % intervals. Band: the margin."
            )
            title = f"LoRA minus full SFT, {task}{_role(task, role)}"
            found.append(Chart(f"full-{i}-{j}", "against-full", title, caption, said, _spec(view, rows), "small"))
    return found


def _role(task: str, role: str) -> str:
    words = role.replace("_", "-")
    return "" if words in task or not words else f" ({words})"


def _spec(view: View, rows: list[Effect]) -> dict[str, Any]:
    metric = rows[0].metric
    scale, margin = unit_scale(metric), rows[0].contrast.margin * unit_scale(metric)
    values = [_point(e, scale) for e in rows]
    data, order = alt.Chart(alt.Data(values=values)), [v["arm"] for v in values]
    x = alt.X("arm:N", title=None, sort=order, axis=alt.Axis(labelAngle=-35, labelLimit=110, grid=False))
    y = alt.Y("value:Q", title=f"LoRA − full, {w.unit(metric)}", scale=alt.Scale(nice=True), axis=alt.Axis(tickCount=6))
    band = alt.Chart(alt.Data(values=[{"low": -margin, "high": margin}])).mark_rect(color=BASE, opacity=0.18)
    zero = alt.Chart(alt.Data(values=[{"at": 0}])).mark_rule(color=INK, opacity=0.45, strokeDash=[3, 3])
    tooltip = [alt.Tooltip(f"{key}:N", title=name) for key, name in
               (("arm", "Arm"), ("text", "LoRA − full"), ("word", "Verdict"))]  # fmt: skip
    hue = colour(view, legend=None)
    layers = (
        band.encode(y=alt.Y("low:Q"), y2="high:Q"),
        zero.encode(y=alt.Y("at:Q")),
        data.mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=hue),
        data.mark_point(filled=True, size=80, opacity=1).encode(x=x, y=y, color=hue, tooltip=tooltip),
    )
    return finished(alt.layer(*layers), SHORT)


def _point(effect: Effect, scale: float) -> dict[str, Any]:
    """One arm; where the interval isn't known its bar has no length, and the text says so."""
    c = effect.contrast
    value = scale * c.estimate.value
    low, high = (scale * x if math.isfinite(x) else value for x in (c.low, c.high))
    return {"arm": c.arm, "value": value, "low": low, "high": high, "text": w.shown(c, effect.metric),
            "word": w.verdict(c, effect.metric)}  # fmt: skip
