"""The report's charts as Vega-Lite specs. In: a `View`. Out: `Chart` records with caption and text alternative.

Charts only repeat numbers that the tables hold.
"""

from __future__ import annotations

from typing import Any

import altair as alt

from rankscope.report import wording as w
from rankscope.report.cause_charts import small_multiples
from rankscope.report.drawing import (
    BARS,
    INK,
    TALL,
    Chart,
    capital,
    colour,
    finished,
    spread,
    title_of,
    unit_scale,
)
from rankscope.report.full_chart import full_charts
from rankscope.report.inside_charts import heat_maps
from rankscope.report.matched_chart import matched_charts
from rankscope.report.rank_chart import rank_charts
from rankscope.report.rows import Headline
from rankscope.report.subject_charts import subject_charts
from rankscope.report.transfer_chart import transfer_charts
from rankscope.report.view import View

MOST_NAMED = 8
"""Arms up to which each is named beside its point."""


def charts(view: View) -> tuple[Chart, ...]:
    """All charts that the view has data for, in reading order."""
    makers = (
        _frontier,
        full_charts,
        rank_charts,
        transfer_charts,
        matched_charts,
        subject_charts,
        heat_maps,
        small_multiples,
        _rates,
        _losses,
    )
    return tuple(chart for make in makers for chart in make(view))


def _frontier(view: View) -> list[Chart]:
    found = []
    for i, (model, train) in enumerate(view.blocks):
        rows = [h for h in view.headlines if (h.model, h.train) == (model, train) and h.gain]
        metric = "accuracy" if any(h.forgotten for h in rows) else "cross_entropy"
        points = [p for h in rows if (p := _point(h, metric))]
        if not points:
            continue
        axis = "Points forgotten, pooled" if metric == "accuracy" else "CE rise on neutral text, nats"
        named = _telling(view, model, train, points)
        titles = (f"{axis} (right is worse)", f"Gain, {w.unit(rows[0].gain.metric)}")
        spec = _frontier_spec(view, points, named, titles)
        said = "; ".join(f"{p['arm']}: gain {p['gain_text']}, forgotten {p['loss_text']}" for p in points)
        caption = f"Up: learned more. Left: forgot less. Mean paired differences to the base. Bars: {BARS}."
        if len(named) < len(points):
            caption += f" Named: {len(named)} of {len(points)} arms, those that no other beats, and the answer."
        found.append(
            Chart(
                f"frontier-{i}",
                "verdict",
                f"Gain and forgetting, {title_of(view, model, train)}",
                caption,
                said,
                spec,
                block=(model, train),
            )
        )
    return found


def _telling(view: View, model: str, train: str, points: list[dict[str, Any]]) -> set[str]:
    """The arms that are named in the drawing: all if they are few, else those that nobody beats, and the answer."""
    if len(points) <= MOST_NAMED:
        return {p["arm"] for p in points}
    best = [f.arm for f in view.frontier if (f.model, f.train) == (model, train) and f.is_on][: MOST_NAMED - 2]
    chosen = [a.choice.arm for a in view.advice if (a.model, a.train) == (model, train) and a.choice.arm]
    return {*best, *chosen, *(p["arm"] for p in points if p["kind"] == "full")}


def _point(row: Headline, metric: str) -> dict[str, Any] | None:
    loss = row.forgotten if metric == "accuracy" else row.ce_rise
    if loss is None:
        return None
    gain, scale, gain_scale = row.gain.contrast.estimate, unit_scale(metric), unit_scale(row.gain.metric)
    return {
        "arm": row.arm,
        "kind": row.kind,
        **spread("gain", gain, gain_scale),
        **spread("loss", loss, scale),
        "gain_text": w.change(gain, row.gain.metric),
        "loss_text": w.change(loss, metric),
    }


def _frontier_spec(view: View, points: list[dict], named: set[str], titles: tuple[str, str]) -> dict[str, Any]:
    data = alt.Chart(alt.Data(values=points))
    hue = colour(view, legend=None)
    tooltip = [
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("gain_text:N", title="Gain"),
        alt.Tooltip("loss_text:N", title="Forgotten"),
    ]
    x = alt.X("loss:Q", title=titles[0], axis=alt.Axis(tickCount=8), scale=alt.Scale(nice=True, zero=True))
    y = alt.Y("gain:Q", title=titles[1], axis=alt.Axis(tickCount=6), scale=alt.Scale(nice=True, zero=True))
    zero = [
        alt.Chart(alt.Data(values=[{"at": 0}])).mark_rule(color=INK, opacity=0.45, strokeDash=[3, 3]).encode(**axis)
        for axis in ({"x": alt.X("at:Q")}, {"y": alt.Y("at:Q")})
    ]
    bars = [
        data.mark_rule(strokeWidth=2, opacity=0.75).encode(x=x, y=alt.Y("gain_low:Q"), y2="gain_high:Q", color=hue),
        data.mark_rule(strokeWidth=2, opacity=0.75).encode(y=y, x=alt.X("loss_low:Q"), x2="loss_high:Q", color=hue),
    ]
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=["lora", "full"], range=["circle", "square"]), legend=None)
    marks = data.mark_point(filled=True, size=130, opacity=1).encode(x=x, y=y, color=hue, shape=shape, tooltip=tooltip)
    labels = alt.Chart(alt.Data(values=_apart([p for p in points if p["arm"] in named], TALL - 85)))
    lead = labels.mark_rule(color=INK, opacity=0.35).encode(x=x, y=alt.Y("label:Q"), y2="gain:Q")
    text = labels.mark_text(align="left", dx=9, dy=-9, fontSize=12.5, fontWeight=600, color=INK).encode(
        x=x, y=alt.Y("label:Q"), text="arm:N"
    )
    named_text = text.properties(name="named")  # the page's style keeps bars out of these letters
    return finished(alt.layer(*zero, lead, *bars, marks, named_text), TALL - 85)


def _apart(points: list[dict], height: int, line: int = 18, letter: float = 0.02) -> list[dict]:
    """The points with a ``label`` height each, pushed down where it would cover that of a near point.

    A label takes about ``line`` pixels of the plot's height (axes and rounded ends of the scale counted in) and
    ``letter`` of its breadth for each letter of the longest name.
    """
    longest = max((len(p["arm"]) for p in points), default=0)
    step, reach = line * _extent(points, "gain") / height, letter * (longest + 2) * _extent(points, "loss")
    placed: list[dict] = []
    for point in sorted(points, key=lambda p: -p["gain"]):
        label = point["gain"]
        for other in sorted(placed, key=lambda p: -p["label"]):
            if abs(other["loss"] - point["loss"]) < reach and abs(other["label"] - label) < step:
                label = other["label"] - step
        placed.append({**point, "label": label})
    return placed


def _extent(points: list[dict], name: str) -> float:
    values = [p[key] for p in points for key in (f"{name}_low", f"{name}_high", name)] + [0.0]
    return max(values) - min(values)


def _rates(view: View) -> list[Chart]:
    found = []
    for i, (model, train) in enumerate(view.blocks):
        rows = [t for t in view.trials if (t.model, t.train) == (model, train) and t.validation_loss is not None]
        if not rows:
            continue
        values = [
            {
                "arm": t.arm,
                "lr": t.lr,
                "loss": t.validation_loss,
                "chosen": t.is_chosen,
                "low": t.validation_loss - (t.validation_se or 0),
                "high": t.validation_loss + (t.validation_se or 0),
            }
            for t in rows
        ]
        data, hue = alt.Chart(alt.Data(values=values)), colour(view)
        x = alt.X(
            "lr:Q",
            title="Learning rate (log scale)",
            scale=alt.Scale(type="log", nice=False, padding=24),
            axis=alt.Axis(format=".0e", tickCount=4, grid=False),
        )
        y = alt.Y("loss:Q", title="Validation loss, nats", scale=alt.Scale(zero=False))
        tooltip = [
            alt.Tooltip("arm:N"),
            alt.Tooltip("lr:Q", format=".3g"),
            alt.Tooltip("loss:Q", format=".4f"),
            "chosen:N",
        ]
        hollow = data.mark_point(size=110, strokeWidth=2).encode(x=x, y=y, color=hue, tooltip=tooltip)
        chosen = data.transform_filter("datum.chosen").mark_point(size=110, filled=True, opacity=1)
        layers = (
            data.mark_line(strokeWidth=1.5, opacity=0.7).encode(x=x, y=y, color=hue),
            data.mark_rule(opacity=0.7).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=hue),
            hollow,
            chosen.encode(x=x, y=y, color=hue, tooltip=tooltip),
        )
        said = "; ".join(
            f"{t.arm} at {t.lr:g}: {t.validation_loss:.4f}{' (chosen)' if t.is_chosen else ''}" for t in rows
        )
        found.append(
            Chart(
                f"rates-{i}",
                "rates",
                capital(title_of(view, model, train)),
                "Filled: the rate chosen. Bars: one standard error of the mean over validation items, up and down.",
                said,
                finished(alt.layer(*layers), TALL - 40),
            )
        )
    return found


def _losses(view: View) -> list[Chart]:
    found = []
    for i, (model, train) in enumerate(view.blocks):
        rows = [c for c in view.curves if (c.model, c.train) == (model, train)]
        values = [
            {"arm": c.arm, "run": f"{c.arm}, seed {c.seed}", "step": step, "loss": loss}
            for c in rows
            for step, loss in zip(c.steps, c.losses, strict=True)
        ]
        if not values:
            continue
        line = (
            alt.Chart(alt.Data(values=values))
            .mark_line(strokeWidth=1.6, opacity=0.8)
            .encode(
                x=alt.X("step:Q", title="Training step", axis=alt.Axis(grid=False)),
                y=alt.Y("loss:Q", title="Training loss, nats per label token", scale=alt.Scale(zero=False)),
                color=colour(view),
                detail="run:N",
                tooltip=[alt.Tooltip("run:N"), alt.Tooltip("step:Q"), alt.Tooltip("loss:Q", format=".3f")],
            )
        )
        said = "; ".join(f"{c.arm}, seed {c.seed}: from {c.losses[0]:.3f} to {c.losses[-1]:.3f}" for c in rows)
        found.append(
            Chart(
                f"loss-{i}",
                "curves",
                capital(title_of(view, model, train)),
                "One line per seed: mean loss of each of at most 60 stretches of steps; no bars.",
                said,
                finished(line, TALL - 40),
            )
        )
    return found
