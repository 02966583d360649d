"""Score by rank, a small drawing for each task. In: a `View`. Out: `Chart` records.

A line joins arms that differ in rank alone; arms of one rank stand side by side, each family with its own mark.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import altair as alt

from rankscope.records import Arm
from rankscope.report import wording as w
from rankscope.report.drawing import BARS, BASE, INK, SHORT, Chart, capital, finished, palette, spread, title_of
from rankscope.report.drawing import unit_scale as scale_of
from rankscope.report.hues import colours
from rankscope.report.rows import ScoreRow
from rankscope.report.view import View

MARKS = ("circle", "diamond", "triangle-up", "square", "cross", "triangle-down")
_SHARE = 0.6
"""Of the room between two ranks (in octaves) that arms of one rank spread over."""


def families(arms: Sequence[Arm]) -> dict[str, int]:
    """LoRA arms by name, with the number of their family: arms that differ in rank, and in alpha where it goes with
    the rank. Two arms of one rank that differ in alpha alone are of two families."""
    alike: dict[Arm, list[Arm]] = defaultdict(list)
    for arm in (a for a in arms if a.kind == "lora"):
        alike[replace(arm, name="", lr=(), lr_auto=False, rank=None, alpha=None)].append(arm)
    groups: list[list[Arm]] = []
    for own in alike.values():
        if len({a.top_rank for a in own}) == len(own):
            groups.append(own)
        else:
            groups += [[a for a in own if a.alpha == alpha] for alpha in dict.fromkeys(a.alpha for a in own)]
    return {arm.name: number for number, own in enumerate(groups) for arm in own}


def beside(ranks: Sequence[int]) -> list[float]:
    """Where arms of these ranks (ascending) stand on a log axis: at their rank, or around it where several share it."""
    different = sorted(set(ranks))
    gaps = [math.log2(b / a) for a, b in zip(different, different[1:], strict=False)]
    room = _SHARE * min([1.0, *gaps])
    seen: dict[int, int] = defaultdict(int)
    found = []
    for rank in ranks:
        count, place = ranks.count(rank), seen[rank]
        seen[rank] += 1
        found.append(rank * 2 ** (room * (place - (count - 1) / 2) / count))
    return found


def rank_charts(view: View) -> list[Chart]:
    family, found = families(view.arms), []
    for i, (model, train) in enumerate(view.blocks):
        for j, task in enumerate(view.tasks_of(train)):
            rows = [
                s for s in view.scores if s.model == model and s.task == task and s.estimate and s.train in ("", train)
            ]
            ranked = sorted((s for s in rows if s.rank is not None), key=lambda s: (s.rank, family.get(s.arm, -1)))
            if not ranked:
                continue
            refs = [s for s in rows if s.rank is None]
            flag = ", base not above chance" if any(s.is_above_chance is False for s in rows) else ""
            said = "; ".join(f"{s.arm} {w.score(s.estimate, s.metric)}" for s in (*refs, *ranked))
            caption = f"{capital(title_of(view, model, train))}. Mean scores. Bars and bands: {BARS}."
            if len({s.rank for s in ranked}) < len(ranked):
                caption += " Arms of one rank stand side by side; lines join arms that differ in rank alone."
            found.append(
                Chart(
                    f"rank-{i}-{j}",
                    "ranks",
                    f"{task} ({ranked[0].role.replace('_', '-')}{flag})",
                    caption,
                    said,
                    _spec(view, ranked, refs, family),
                    "small",
                )
            )
    return found


def _spec(view: View, ranked: list[ScoreRow], refs: list[ScoreRow], family: dict[str, int]) -> dict[str, Any]:
    metric, ranks = ranked[0].metric, sorted({s.rank for s in ranked})
    scale = alt.Scale(zero=False, nice=True)
    title = "Cross-entropy, nats (lower is better)" if w.is_nats(metric) else "Score, %"
    pad = max((ranks[-1] / ranks[0]) ** 0.2, 1.5)  # room for the labels of the reference lines
    x = alt.X(
        "at:Q",
        title="LoRA rank (log scale)",
        axis=alt.Axis(values=ranks, grid=False, format="d"),
        scale=alt.Scale(type="log", base=2, domain=[ranks[0] / pad, ranks[-1] * pad], nice=False),
    )
    y = alt.Y("value:Q", title=title, scale=scale)
    places = zip(ranked, beside([s.rank for s in ranked]), strict=True)
    values = [{**_score(s), "at": at, "family": family.get(s.arm, -1)} for s, at in places]
    data = alt.Chart(alt.Data(values=values))
    # The curve is about rank alone: what existed already, and arms that adapt parts of the model, stand beside it.
    apart = {a.name for a in view.arms if a.layers or a.rank_pattern} | {s.arm for s in ranked if s.arm not in family}
    joined = alt.Chart(alt.Data(values=[v for v in values if v["arm"] not in apart]))
    names, hues = [s.arm for s in ranked], dict(zip(*colours(view), strict=True))
    hue = alt.Color("arm:N", scale=palette(view), legend=None)
    mark: dict[str, Any] = {}
    if len(ranks) < len(names):
        legend = alt.Legend(orient="bottom", title=None, columns=2, symbolSize=60, labelLimit=120)
        chosen = alt.Scale(domain=names, range=[hues[name] for name in names])
        hue = alt.Color("arm:N", scale=chosen, legend=legend)
        shapes = [MARKS[family.get(name, -1) % len(MARKS)] for name in names]
        mark = {"shape": alt.Shape("arm:N", scale=alt.Scale(domain=names, range=shapes), legend=legend)}
    line = joined.mark_line(color=INK, opacity=0.4, strokeWidth=1.5)
    points = data.mark_point(filled=True, size=80, opacity=1)
    layers = [layer for ref in refs for layer in _reference(ref, scale, hues.get(ref.arm, BASE))]
    layers += [
        line.encode(x=x, y=y, detail="family:N"),
        data.mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("value_low:Q"), y2="value_high:Q", color=hue),
        points.encode(x=x, y=y, color=hue, tooltip=_tooltip(), **mark),
    ]
    return finished(alt.layer(*layers), SHORT)


def _reference(ref: ScoreRow, scale: alt.Scale, hue: str) -> list[alt.Chart]:
    """The base, full SFT or a given checkpoint: a line across with its band and name."""
    is_base = ref.arm == "base"
    data = alt.Chart(alt.Data(values=[_score(ref)]))
    side = {"align": "left", "dx": 4} if is_base else {"align": "right", "dx": -4}
    line = data.mark_rule(color=hue, strokeWidth=1.6, strokeDash=[6, 3] if is_base else [1, 0])
    band = data.mark_rect(color=hue, opacity=0.16)
    label = data.mark_text(color=INK, opacity=0.85, dy=-6, **side)
    return [
        band.encode(y=alt.Y("value_low:Q", scale=scale), y2="value_high:Q"),
        line.encode(y=alt.Y("value:Q", scale=scale), tooltip=_tooltip()),
        label.encode(x=alt.value(0 if is_base else "width"), y=alt.Y("value:Q", scale=scale), text="arm:N"),
    ]


def _score(row: ScoreRow) -> dict[str, Any]:
    return {
        "arm": row.arm,
        "rank": row.rank,
        **spread("value", row.estimate, scale_of(row.metric)),
        "text": w.score(row.estimate, row.metric),
        "sample": w.sample(row.estimate),
    }


def _tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("arm:N", title="Arm"),
        alt.Tooltip("text:N", title="Score"),
        alt.Tooltip("sample:N", title="From"),
    ]
