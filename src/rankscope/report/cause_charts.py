"""Small multiples about the inside of the model: spectra, truncation, KL along the text, forgetting run by run. In: a
`View`. Out: `Chart`s.
"""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from rankscope.report import wording as w
from rankscope.report.drawing import INK, SHORT, TALL, Chart, capital, colour, finished, title_of, unit_scale
from rankscope.report.inside_rows import RunPoint, Truncated
from rankscope.report.inside_sections import positions, short
from rankscope.report.view import View

FLOOR = 1e-4
"""Shares of the largest singular value below this are not drawn: the axis is logarithmic."""

_LEGEND = alt.Legend(orient="top", title=None, symbolStrokeWidth=3, columns=3)  # a row of all arms would be cut off


def small_multiples(view: View) -> list[Chart]:
    """All of them, in the order of their sections."""
    return [chart for make in (_truncation, _spectra, _reach, _points) for chart in make(view)]


def _spectra(view: View) -> list[Chart]:
    found = []
    for i, (model, train) in enumerate(view.blocks):
        mine = [s for s in view.inside.spectra if (s.model, s.train) == (model, train)]
        for j, kind in enumerate(dict.fromkeys(s.kind for s in mine)):
            rows = [s for s in mine if s.kind == kind]
            values = [{"arm": s.arm, "place": p, "share": v} for s in rows
                      for p, v in zip(s.positions, s.shares, strict=True) if v >= FLOOR]  # fmt: skip
            x = alt.X("place:Q", title="Singular value, by size (log scale)", axis=alt.Axis(format="d", grid=False),
                      scale=alt.Scale(type="log", base=2, nice=False))  # fmt: skip
            y = alt.Y("share:Q", title="Share of the largest (log scale)",
                      axis=alt.Axis(values=[1, 0.1, 0.01, 0.001, FLOOR], format="~g"),
                      scale=alt.Scale(type="log", nice=False, domainMax=1))  # fmt: skip
            tips = ["arm:N", alt.Tooltip("place:Q", title="No."), alt.Tooltip("share:Q", format=".3g")]
            line = (
                alt.Chart(alt.Data(values=values))
                .mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=16))
                .encode(x=x, y=y, color=colour(view, _LEGEND), tooltip=tips)
            )
            said = "; ".join(f"{s.arm}: {len(s.positions)} places down to {s.shares[-1]:.2g}" for s in rows)
            caption = f"{capital(title_of(view, model, train))}. Medians over layers and seeds; no bars."
            found.append(Chart(f"spectrum-{i}-{j}", "kinds", kind, caption, said, finished(line, SHORT), "small"))
    return found


def _truncation(view: View) -> list[Chart]:
    found = []
    for i, (model, train) in enumerate(view.blocks):
        mine = [t for t in view.inside.truncated if (t.model, t.train) == (model, train)]
        ranks = {a.name: a.rank for a in view.arms}
        for j, task in enumerate(dict.fromkeys(t.task for t in mine)):
            rows = [t for t in mine if t.task == task]
            cut = [_cut(t, t.rank or ranks.get(t.arm)) for t in rows if t.rank or ranks.get(t.arm)]
            trained = {t.trained_arm: _cut(t, t.rank) for t in rows if t.trained}
            spec = _truncation_spec(view, cut, _really_trained(rows, ranks, trained), rows[0].metric)
            said = "; ".join(f"{t.arm} at {t.rank or 'its own rank'}: {w.score(t.score, t.metric)}" for t in rows)
            caption = (
                f"{capital(title_of(view, model, train))}. Lines: trained once, cut afterwards. Squares on the dashed "
                "line: arms trained at that rank, on the same items. Bars are in the table."
            )
            title = f"{task}" if rows[0].role == task else f"{task} ({rows[0].role.replace('_', '-')})"
            found.append(Chart(f"truncation-{i}-{j}", "truncation", title, caption, said, spec, "small"))
    return found


def _really_trained(rows: list[Truncated], ranks: dict, other: dict[str, dict]) -> list[dict[str, Any]]:
    """Arms at the rank they were trained at: the whole updates, and those that cut ones are set against."""
    whole = {t.arm: _cut(t, ranks[t.arm]) for t in rows if t.rank is None and ranks.get(t.arm)}
    scale = unit_scale(rows[0].metric)
    theirs = {t.trained_arm: {**other[t.trained_arm], "arm": t.trained_arm, "score": scale * t.trained.value,
                              "said": w.score(t.trained, t.metric)} for t in rows if t.trained}  # fmt: skip
    return sorted((theirs | whole).values(), key=lambda value: value["rank"])


def _cut(row: Truncated, rank: int | None) -> dict[str, Any]:
    return {"arm": row.arm, "rank": rank, "score": unit_scale(row.metric) * row.score.value,
            "said": w.score(row.score, row.metric)}  # fmt: skip


def _truncation_spec(view: View, cut: list[dict], trained: list[dict], metric: str) -> dict[str, Any]:
    ticks = sorted({v["rank"] for v in cut + trained})
    x = alt.X("rank:Q", title="Rank (log scale)", scale=alt.Scale(type="log", base=2, nice=False, padding=12),
              axis=alt.Axis(values=ticks, format="d", grid=False))  # fmt: skip
    y = alt.Y("score:Q", title="CE, nats (lower is better)" if w.is_nats(metric) else "Score, %",
              scale=alt.Scale(zero=False, nice=True))  # fmt: skip
    tips = ["arm:N", "rank:Q", alt.Tooltip("said:N", title="Score")]
    lines, points = alt.Chart(alt.Data(values=cut)), alt.Chart(alt.Data(values=trained))
    hue = colour(view, _LEGEND)
    return finished(
        alt.layer(
            points.mark_line(color=INK, opacity=0.55, strokeWidth=1.4, strokeDash=[5, 4]).encode(x=x, y=y),
            lines.mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=30)).encode(x=x, y=y, color=hue,
                                                                                        tooltip=tips),
            points.mark_point(shape="square", filled=True, size=75, opacity=1).encode(x=x, y=y, color=hue,
                                                                                      tooltip=tips),
        ),
        SHORT,
    )  # fmt: skip


def _reach(view: View) -> list[Chart]:
    found = []
    for i, (model, train) in enumerate(view.blocks):
        mine = [r for r in view.inside.reach if (r.model, r.train) == (model, train)]
        for j, part in enumerate(dict.fromkeys(r.part for r in mine)):
            rows = [r for r in mine if r.part == part]
            values = [{"arm": r.arm, "bucket": positions(b), "kl": e.value, "said": short(e.value),
                       **_ends(e.low, e.high, e.value)} for r in rows
                      for b, e in zip(r.buckets, r.estimates, strict=True) if e is not None]  # fmt: skip
            if not values:
                continue
            order = [positions(b) for b in max((r.buckets for r in rows), key=len)]
            data = alt.Chart(alt.Data(values=values))
            x = alt.X("bucket:N", sort=order, title="Position in the text",
                      axis=alt.Axis(grid=False, labelAngle=-45))  # fmt: skip
            y = alt.Y("kl:Q", title="KL(base || arm), nats per token", scale=alt.Scale(zero=True))
            tips = ["arm:N", alt.Tooltip("bucket:N", title="Positions"), alt.Tooltip("said:N", title="KL")]
            line = data.mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=28))
            bars = data.mark_rule(strokeWidth=1.6, opacity=0.6).encode(x=x, y=alt.Y("low:Q"), y2="high:Q",
                                                                       color=colour(view, _LEGEND))  # fmt: skip
            said = "; ".join(f"{r.arm} from {short(r.estimates[0].value)}" for r in rows if r.estimates[0])
            spec = finished(alt.layer(bars, line.encode(x=x, y=y, color=colour(view, _LEGEND), tooltip=tips)), SHORT)
            caption = f"{capital(title_of(view, model, train))}. Bars: 95 % over seeds (none with one seed)."
            found.append(Chart(f"reach-{i}-{j}", "reach", f"On {part or 'all'} prompts", caption, said, spec, "half"))
    return found


def _ends(low: float, high: float, value: float) -> dict[str, float]:
    return {"low": max(low, 0.0) if math.isfinite(low) else value, "high": high if math.isfinite(high) else value}


def _points(view: View) -> list[Chart]:
    found = []
    for i, (model, train) in enumerate(view.blocks):
        mine = [p for p in view.inside.points if (p.model, p.train) == (model, train)]
        for field, title, axis in (
            ("intruders", "Intruders and forgetting", "Intruders, all matrices"),
            ("divergence", "KL on train rows and forgetting", "KL(base || arm) on train rows, nats"),
        ):
            rows = [p for p in mine if getattr(p, field) is not None]
            if rows:
                spec = _points_spec(view, rows, field, axis)
                said = "; ".join(f"{p.arm}, seed {p.seed}: {short(getattr(p, field))} and "
                                 f"{w.signed(p.forgotten, p.metric)}" for p in rows)  # fmt: skip
                caption = f"{capital(title_of(view, model, train))}. One point a run; exploratory."
                found.append(Chart(f"{field}-{i}", "mechanism", title, caption, said, spec))
    return found


def _points_spec(view: View, rows: list[RunPoint], field: str, axis: str) -> dict[str, Any]:
    scale = unit_scale(rows[0].metric)
    values = [{"arm": p.arm, "seed": p.seed, "x": getattr(p, field), "lost": scale * p.forgotten} for p in rows]
    lost = "Points forgotten" if scale == 100 else "CE rise, nats"
    tips = ["arm:N", "seed:N", alt.Tooltip("x:Q", title=axis, format=".3g"),
            alt.Tooltip("lost:Q", title=lost, format=".3g")]  # fmt: skip
    marks = alt.Chart(alt.Data(values=values)).mark_point(filled=True, size=90, opacity=0.85)
    x = alt.X("x:Q", title=axis, axis=alt.Axis(tickCount=6))
    return finished(marks.encode(x=x, y=alt.Y("lost:Q", title=f"{lost} (up is worse)"),
                                 color=colour(view, _LEGEND), tooltip=tips), TALL - 60)  # fmt: skip
