"""Heat maps of the inside of the model as Vega-Lite specs. In: a `View`. Out: `Chart`s.

Layers (or kinds of modules) share one axis over all panels, arms stand beside each other in each: LoRA by rank, full
SFT last. Amounts run along one scale that is told apart by lightness; what a part carries is blue where it helps and
orange where it harms. A cell without a number is an empty box, never a colour.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import altair as alt

from rankscope.records import Estimate
from rankscope.report import depth
from rankscope.report import wording as w
from rankscope.report.causes import VALIDATION, place_words
from rankscope.report.cells import where
from rankscope.report.depth import PARTS, QUANTITIES, Quantity
from rankscope.report.drawing import DIVERGING, INK, Chart, finished_row, unit_scale
from rankscope.report.family import POOLED
from rankscope.report.inside_rows import Carried, InsideRow
from rankscope.report.inside_sections import by_size, cell_of
from rankscope.report.view import View

ACROSS = 950
"""Pixels that all panels of a row share."""
WIDEST, WIDE = 44.0, 66.0
LEAST = 100.0
"""Pixels of the narrowest panel: its title and scale must fit."""
_LABELLED = 34
"""Width of a column from which a figure fits into its cells."""
_DARK = "#14181d"


@dataclass(frozen=True)
class Panel:
    """One heat map: ``cells`` are {arm, low, high, value, said, text}; ``top`` ends the scale, both ways if signed."""

    title: str
    cells: list[dict[str, Any]]
    top: float
    is_signed: bool = False

    def columns(self, arms: list[str]) -> list[str]:
        """The arms it has a column for. What parts carry is asked of few arms: empty columns would take the room."""
        return [arm for arm in arms if not self.is_signed or arm in {cell["arm"] for cell in self.cells}]


def heat_maps(view: View) -> list[Chart]:
    """By layer, then by kind of module: what changed, and what each part carries beside it."""
    found = []
    for i, (model, train) in enumerate(view.blocks):
        rows = [r for r in view.inside.rows if (r.model, r.train) == (model, train)]
        carried = [c for c in view.inside.carried if (c.model, c.train) == (model, train)]
        title = where(view, model, train)
        found += _by_layer(f"depth-{i}", title, rows, carried)
        found += _by_kind(f"kind-{i}", title, rows, carried)
    return found


def _by_layer(name: str, title: str, rows: list[InsideRow], carried: list[Carried]) -> list[Chart]:
    mine = [r for r in rows if r.layer is not None]
    layers = sorted({r.layer for r in mine})
    if not layers:
        return []
    arms = list(dict.fromkeys(r.arm for r in rows))
    panels = [_amounts(q, part, [r for r in mine if (r.name, r.part) == (q.name, part)], lambda r: r.layer)
              for q, part in _charted(mine)]  # fmt: skip
    panels += _carried(carried, {c.place: (c.first, c.last) for c in carried if c.first is not None})
    height = min(max(14 * (layers[-1] + 1), 210), 440)
    step = max(len(layers) // 8, 1)
    axis = alt.Axis(values=layers[::step], title="Layer (0: next to the embedding)", grid=False, format="d")
    spec = _spec(panels, arms, (layers[0] - 0.5, layers[-1] + 0.5), axis, height)
    caption = (
        "One layer axis for all panels, the input at the bottom. Blue helps, orange harms: points that a block's "
        "update carries (whole minus the update without it); bold, or ▲ ▼ where there is no room, if the interval that "
        "holds together over the blocks excludes 0; only arms that were asked. Empty boxes: not defined, not measured."
    )
    return [Chart(name, "inside", f"What changed, layer by layer, {title}", caption, _said(panels), spec, "wide")]


def _by_kind(name: str, title: str, rows: list[InsideRow], carried: list[Carried]) -> list[Chart]:
    mine = [r for r in rows if r.kind and not r.part]
    if not mine:
        return []
    arms = list(dict.fromkeys(r.arm for r in rows))
    sizes = {(r.kind, r.arm): r for r in mine if r.name == depth.CHANGE}
    kinds = by_size(sizes)[::-1] if sizes else sorted({r.kind for r in mine})
    place = {kind: i for i, kind in enumerate(kinds)}
    panels = [_amounts(q, part, [r for r in mine if r.name == q.name and r.kind in place], lambda r: place[r.kind])
              for q, part in _charted(mine)]  # fmt: skip
    own = {c.place: (place[c.kind], place[c.kind]) for c in carried if c.kind in place}
    panels += _carried(carried, own)
    names = f"{json.dumps(kinds)}[datum.value]"
    axis = alt.Axis(values=list(range(len(kinds))), labelExpr=names, title=None, grid=False)
    spec = _spec(panels, arms, (-0.5, len(kinds) - 0.5), axis, max(22 * len(kinds), 150))
    caption = (
        "Kinds of modules, the most changed on top; the same numbers over all layers. Blue helps, orange harms, bold "
        "where it is shown. Empty boxes: not defined or not measured."
    )
    return [Chart(name, "kinds", f"What changed by kind of module, {title}", caption, _said(panels), spec, "wide")]


def _charted(rows: list[InsideRow]) -> list[tuple[Quantity, str]]:
    """The quantities that are there, each on one set of prompts: those like the training rows if there are such."""
    found = []
    for quantity in (q for q in QUANTITIES if q.is_by_layer):
        parts = {r.part for r in rows if r.name == quantity.name}
        if parts:
            found.append((quantity, min(parts, key=lambda p: (PARTS.index(p) if p in PARTS else len(PARTS), p))))
    return found


def _amounts(quantity: Quantity, part: str, rows: list[InsideRow], place) -> Panel:
    cells = []
    for row in rows:
        at, value = place(row), _finite(row.estimate)
        cell = cell_of(row, quantity.scale)
        cells.append({"arm": row.arm, "low": at - 0.5, "high": at + 0.5, "row": row.kind or f"layer {row.layer}",
                      "value": None if value is None else quantity.scale * value,
                      "said": f"{cell.text} {cell.note}".strip()})  # fmt: skip
    top = max([c["value"] for c in cells if c["value"] is not None], default=0.0)
    title = f"{quantity.title} ({part})" if part else quantity.title
    return Panel(title, cells, top if top > 0 else 1.0)


def _carried(rows: list[Carried], places: dict[str, tuple[int, int]]) -> list[Panel]:
    """What is lost when a part is switched off: in domain, on retention (pooled if it was), else on validation rows."""
    panels = []
    mine = [c for c in rows if c.place in places]
    for task, role in _tasks(mine):
        cells = []
        of_task = [c for c in mine if c.task == task]
        for c in of_task:
            low, high = places[c.place]
            value, scale = _finite(c.lost), unit_scale(c.metric)
            sign = {"positive": "▲", "negative": "▼"}.get(c.lost_mark, "")
            cells.append({"arm": c.arm, "low": low - 0.5, "high": high + 0.5, "row": place_words(c.place),
                          "value": None if value is None else scale * value, "marked": bool(sign), "sign": sign,
                          "text": "" if value is None else w.signed(value, c.metric), "middle": (low + high) / 2,
                          "said": f"{w.change(c.lost, c.metric)}; alone {w.change(c.gained, c.metric)}"})  # fmt: skip
        top = max((abs(c["value"]) for c in cells if c["value"] is not None), default=0.0)
        name = {"in_domain": "gain", "retention": "forgetting", VALIDATION: "validation"}[role]
        unit = w.unit(of_task[0].metric)
        what = "" if role == VALIDATION else f" ({'pooled' if task == POOLED else task})"
        panels.append(Panel(f"Carries {name}{what}, {unit}", cells, top or 1.0, is_signed=True))
    return panels


def _tasks(rows: list[Carried]) -> list[tuple[str, str]]:
    """One task in domain and one of retention; the validation rows where neither was scored."""
    roles = {c.task: c.role for c in rows}
    gain = [t for t, role in roles.items() if role == "in_domain"][:1]
    kept = [t for t in (POOLED, *(t for t, role in roles.items() if role == "retention")) if t in roles][:1]
    chosen = gain + kept or [t for t in roles if t == VALIDATION]
    return [(task, roles[task]) for task in chosen]


def _spec(panels: list[Panel], arms: list[str], ends: tuple[float, float], axis: alt.Axis, height: int) -> dict:
    shares = sum((1.6 if p.is_signed else 1.0) * len(p.columns(arms)) for p in panels)
    step = min(ACROSS / shares, WIDEST)
    drawn = []
    for i, panel in enumerate(panels):
        column = min(1.6 * step, WIDE) if panel.is_signed else step
        y = alt.Y("low:Q", scale=alt.Scale(domain=list(ends), nice=False, zero=False), axis=None if i else axis)
        mine = panel.columns(arms)
        width = max(column * len(mine), LEAST)
        title = alt.Title(_broken(panel.title, width), frame="group")
        heat_map = _heat_map(panel, mine, y, width / len(mine))
        drawn.append(heat_map.properties(width=width, height=height, title=title))
    return finished_row(alt.hconcat(*drawn, spacing=14).resolve_scale(color="independent", y="shared"))


def _heat_map(panel: Panel, arms: list[str], y: alt.Y, column: float) -> alt.LayerChart:
    data = alt.Chart(alt.Data(values=panel.cells))
    x = alt.X("arm:N", sort=arms, scale=alt.Scale(domain=arms, paddingInner=0.06, paddingOuter=0.03), title=None,
              axis=alt.Axis(labelAngle=-45, grid=False, ticks=False, domain=False))  # fmt: skip
    tips = [alt.Tooltip("arm:N", title="Arm"), alt.Tooltip("row:N", title="Where"),
            alt.Tooltip("said:N", title=panel.title)]  # fmt: skip
    known, width = data.transform_filter("isValid(datum.value)"), int(column * len(arms))
    legend = alt.Legend(orient="top", title=None, gradientLength=width - 8, gradientThickness=8, format=".3~r",
                        values=[-panel.top, 0, panel.top] if panel.is_signed else [0, panel.top],
                        labelFontSize=10.5)  # fmt: skip
    fill = alt.Color("value:Q", scale=_scale(panel), legend=legend)
    boxes = known.mark_rect(stroke=INK, strokeOpacity=0.12).encode(x=x, y=y, y2="high:Q", color=fill, tooltip=tips)
    empty = (
        data.transform_filter("!isValid(datum.value)")
        .mark_rect(fill="transparent", stroke=INK, strokeOpacity=0.45, strokeDash=[3, 3])
        .encode(x=x, y=y, y2="high:Q", tooltip=tips)
    )
    layers = [boxes, empty]
    if panel.is_signed:
        text = "text:N" if column >= _LABELLED else "sign:N"
        at = {"x": x, "y": alt.Y("middle:Q"), "text": text}
        for is_marked, look in ((True, {"fontWeight": 700}), (False, {"opacity": 0.6})):
            those = known.transform_filter(f"datum.marked === {json.dumps(is_marked)}")
            layers.append(those.mark_text(fontSize=11, color=_DARK, **look).encode(**at))
    return alt.layer(*layers)


def _scale(panel: Panel) -> alt.Scale:
    top = panel.top
    if panel.is_signed:
        return alt.Scale(domain=[-top, -top / 2, 0, top / 2, top], range=list(DIVERGING), clamp=True, interpolate="rgb")
    return alt.Scale(domain=[0, top], scheme="viridis", clamp=True)


def _broken(title: str, width: float) -> list[str]:
    """The title on as many lines as its panel is narrow."""
    lines, most = [""], max(int(width / 6.6), 8)
    for word in title.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _said(panels: list[Panel]) -> str:
    """For each panel where each arm's largest figure stands."""
    words = []
    for panel in panels:
        best: dict[str, dict[str, Any]] = {}
        for cell in (c for c in panel.cells if c["value"] is not None):
            if cell["arm"] not in best or abs(cell["value"]) > abs(best[cell["arm"]]["value"]):
                best[cell["arm"]] = cell
        said = ", ".join(f"{arm} {cell['said'].split(' ')[0]} in {cell['row']}" for arm, cell in best.items())
        words.append(f"{panel.title}, largest: {said or 'not measured'}")
    return "; ".join(words)


def _finite(estimate: Estimate | None) -> float | None:
    return estimate.value if estimate is not None and math.isfinite(estimate.value) else None
