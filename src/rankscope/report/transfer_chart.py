"""The transfer matrices as heat maps. In: a `View`. Out: `Chart`s."""

from __future__ import annotations

from typing import Any

import altair as alt

from rankscope.report import wording as w
from rankscope.report.drawing import DIVERGING, Chart, finished, title_of
from rankscope.report.rows import Transfer
from rankscope.report.view import View


def transfer_charts(view: View) -> list[Chart]:
    """A matrix for each arm; where one task was trained on, a single one with a row for each arm."""
    cells = [t for t in view.transfer if t.effect and not w.is_nats(t.effect.metric)]
    top = max([10.0, *(100 * abs(t.effect.contrast.estimate.value) for t in cells)])
    order = list(dict.fromkeys(t.task for t in view.transfer))
    is_stacked = len(view.train) == 1
    found = []
    for i, (model, arm) in enumerate(dict.fromkeys((t.model, "" if is_stacked else t.arm) for t in cells)):
        mine = [c for c in cells if c.model == model and arm in ("", c.arm)]
        values = [_transfer_value(c, c.arm if is_stacked else w.source(c.train)) for c in mine]
        said = "; ".join(f"{v['row']}, scored on {v['task']}: {v['text']}" for v in values)
        title = f"Every arm, {title_of(view, model, view.train[0])}" if is_stacked else arm
        title += f" ({model})" if len(view.models) > 1 and not is_stacked else ""
        caption = (
            "Mean paired difference to the base, in points. ▲ ▼ mark what is shown (simultaneous interval excludes 0); "
            "pale figures are not."
        )
        side = "Arm" if is_stacked else "Trained on"
        spec = _transfer_spec(values, order, top, side)
        found.append(Chart(f"transfer-{i}", "transfer", title, caption, said, spec, "wide" if is_stacked else "half"))
    return found


def _transfer_value(cell: Transfer, row: str) -> dict[str, Any]:
    e = cell.effect
    sign = {"positive": "▲ ", "negative": "▼ "}.get(e.mark, "") + ("! " if e.is_alarm else "")
    return {
        "row": row,
        "task": cell.task,
        "value": 100 * e.contrast.estimate.value,
        "marked": bool(e.mark),
        "text": sign + w.signed(e.contrast.estimate.value, e.metric),
        "change": w.change(e.contrast.estimate, e.metric),
        "simultaneous": w.simultaneous(e.contrast, e.metric),
        "role": cell.role,
    }


def _transfer_spec(values: list[dict], order: list[str], top: float, side: str) -> dict[str, Any]:
    data = alt.Chart(alt.Data(values=values))
    x = alt.X("task:N", title="Scored on", sort=order, axis=alt.Axis(labelAngle=-35, labelLimit=130, grid=False))
    y = alt.Y("row:N", title=side, sort=None, axis=alt.Axis(labelLimit=130, grid=False))
    scale = alt.Scale(domain=[-top, -top / 2, 0, top / 2, top], range=list(DIVERGING), clamp=True, interpolate="rgb")
    fill = alt.Color("value:Q", scale=scale, legend=None)
    tooltip = [
        alt.Tooltip(f"{key}:N", title=name)
        for key, name in (
            ("row", side),
            ("task", "Scored on"),
            ("role", "Role"),
            ("change", "Points, 95 %"),
            ("simultaneous", "Simultaneous"),
        )
    ]
    boxes = data.mark_rect(cornerRadius=3, stroke="#8c939c55").encode(x=x, y=y, color=fill, tooltip=tooltip)
    text = data.mark_text(fontSize=12, color="#14181d").encode(
        x=x, y=y, text="text:N", opacity=alt.condition("datum.marked", alt.value(1), alt.value(0.5))
    )
    rows = len({v["row"] for v in values})
    return finished(alt.layer(boxes, text), (26 if rows > 3 else 40) * max(rows, 2))
