"""The look of the report's charts, and what a `Chart` is. In: Altair charts. Out: finished Vega-Lite specs.

Text and lines take the page's own colour (``currentColor``), so one spec is readable on light and dark. Ranks run
along one ramp from blue to violet; full SFT is vermilion, after Okabe and Ito's colour-blind-safe set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import altair as alt

from rankscope.records import Estimate
from rankscope.report import wording as w
from rankscope.report.cells import Section
from rankscope.report.hues import colours
from rankscope.report.view import View

BASE, INK = "#8c939c", "currentColor"
DIVERGING = ("#d9822b", "#f3d3ad", "#f4f4f2", "#b3cdea", "#3f86cf")
TALL, SHORT = 300, 210
BARS = "ordinary 95 % intervals over items and seeds (over items alone where there is one seed)"
"""What the bars of differences and scores cover, for captions."""


@dataclass(frozen=True)
class Chart:
    """One drawing. ``section`` is the page section it belongs to; ``size`` is 'wide', 'half' or 'small' of a row;
    ``block`` is the (model, train task) it is about, if it is about one; ``table`` holds the same numbers."""

    id: str
    section: str
    title: str
    caption: str
    alt: str
    spec: dict[str, Any]
    size: str = "half"
    block: tuple[str, str] = ("", "")
    table: str = ""


_STEMS = {"frontier": "headline", "rank": "scores", "loss": "curves", "depth": "inside", "spectrum": "spectra"}


def linked(charts: Iterable[Chart], sections: Iterable[Section]) -> tuple[Chart, ...]:
    """The charts, each with the table that holds its numbers: by name, else the first of its section that has rows."""
    held = {section.id: [t.id for t in section.tables if t.rows] for section in sections}
    held["verdict"] = held.get("headline", [])
    return tuple(
        chart if chart.table else replace(chart, table=_table_of(chart, held.get(chart.section, [])))
        for chart in charts
    )


def _table_of(chart: Chart, tables: list[str]) -> str:
    stem, *numbers = chart.id.split("-")
    stem = _STEMS.get(stem, stem)
    names = [chart.id, "-".join([stem, *numbers]), "-".join([stem, *numbers[:1]]), stem]
    return next((name for name in names if name in tables), tables[0] if tables else "")


def palette(view: View) -> alt.Scale:
    names, hues = colours(view)
    return alt.Scale(domain=names, range=hues)


def colour(view: View, legend: Any = alt.Undefined) -> alt.Color:
    if legend is alt.Undefined:
        legend = alt.Legend(orient="top", title=None, symbolStrokeWidth=3)
    return alt.Color("arm:N", scale=palette(view), legend=legend)


def title_of(view: View, model: str, train: str) -> str:
    return w.trained(train) if len(view.models) == 1 else f"{model}, {w.trained(train)}"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def unit_scale(metric: str) -> float:
    return 1.0 if w.is_nats(metric) else 100.0


def spread(name: str, estimate: Estimate, scale: float) -> dict[str, float]:
    """The value and the ends of its bar; where there is no interval the bar has no length (the tooltip says why)."""
    value = estimate.value * scale
    low, high = (v * scale if math.isfinite(v) else value for v in (estimate.low, estimate.high))
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def finished(chart: alt.Chart | alt.LayerChart, height: int) -> dict[str, Any]:
    """The spec with the report's look, as wide as its box, without the address of a schema (nothing on the page is
    a link out).
    """
    spec = _with_look(chart.properties(width="container", height=height, background="transparent"))
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec


def finished_row(chart: alt.HConcatChart) -> dict[str, Any]:
    """The same look for charts side by side, which bring their own sizes."""
    return _with_look(chart.properties(background="transparent"))


def _with_look(chart: alt.TopLevelMixin) -> dict[str, Any]:
    spec = chart.to_dict(validate=False)  # a third of the page's time; the browser's test draws them all
    spec.pop("$schema")
    font = "system-ui, sans-serif"
    axis = {
        "labelColor": INK,
        "titleColor": INK,
        "tickColor": INK,
        "domainColor": INK,
        "gridColor": INK,
        "gridOpacity": 0.12,
        "domainOpacity": 0.4,
        "tickOpacity": 0.4,
        "labelOpacity": 0.85,
        "labelFontSize": 11.5,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "labelFont": font,
        "titleFont": font,
    }
    legend = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "labelFont": font}
    title = {"color": INK, "font": font, "fontSize": 12, "fontWeight": 600, "anchor": "start"}
    spec["config"] = {"font": font, "view": {"stroke": None}, "axis": axis, "legend": legend, "text": {"font": font},
                      "title": title}  # fmt: skip
    return spec
