"""The change of every subject of a task under the recommended arm, as dots with intervals. In: a `View`. Out: `Chart`s.

Readable with the 57 subjects of MMLU: one line each, what is shown to have changed first and in colour.
"""

from __future__ import annotations

import math
from typing import Any

import altair as alt

from rankscope.report import wording as w
from rankscope.report.drawing import INK, Chart, finished, title_of
from rankscope.report.rows import SubjectFlips
from rankscope.report.view import View

LINE, FEW = 15, 30
"""Pixels of a subject's line; subjects up to which two charts fit side by side."""
_HUES = {"lost": "#d9822b", "won": "#3f86cf", "not shown": "#8c939c"}


def subject_charts(view: View) -> list[Chart]:
    """One chart for each task with subjects, model and train task; of full SFT where no arm is recommended."""
    found = []
    for i, (model, train) in enumerate(view.blocks):
        arm = _arm(view, model, train)
        rows = [f for f in view.subject_flips if (f.model, f.train, f.arm) == (model, train, arm) and f.change]
        for j, task in enumerate(dict.fromkeys(f.task for f in rows)):
            mine = sorted((f for f in rows if f.task == task), key=_order)
            found.append(_chart(f"subjects-{i}-{j}", f"{task}, {arm} ({title_of(view, model, train)})", mine))
    return found


def _arm(view: View, model: str, train: str) -> str | None:
    chosen = next((a.choice.arm for a in view.advice if (a.model, a.train) == (model, train)), None)
    there = dict.fromkeys(f.arm for f in view.subject_flips if (f.model, f.train) == (model, train))
    fulls = [a.name for a in view.arms if a.kind == "full"]
    return next((arm for arm in (chosen, *fulls, *there) if arm in there), None)


def _state(row: SubjectFlips) -> str:
    return "lost" if row.change.high < 0 else "won" if row.change.low > 0 else "not shown"


def _order(row: SubjectFlips) -> tuple[int, float, str]:
    """Shown losses, then what is not shown, then shown gains; within each by the change."""
    return ("lost", "not shown", "won").index(_state(row)), row.change.value, row.subject


def _chart(name: str, title: str, rows: list[SubjectFlips]) -> Chart:
    shown = {state: [f for f in rows if _state(f) == state] for state in _HUES}
    lost, won = (w.listing([_named(f) for f in shown[state]]) for state in ("lost", "won"))
    said = f"{len(rows)} subjects. Shown lost: {lost}. Shown won: {won}. Not shown: {len(shown['not shown'])}."
    caption = (
        "Mean change against the base, in points. Orange: shown lost; blue: shown won; grey: not shown. Bars: "
        "intervals that hold together for all subjects of this chart (Bonferroni, 95 % in all)."
    )
    size = "half" if len(rows) <= FEW else "wide"
    return Chart(name, "subjects", title, caption, said, _spec(rows), size)


def _named(row: SubjectFlips) -> str:
    return f"{_words(row)} {w.change(row.change, 'accuracy')}"


def _words(row: SubjectFlips) -> str:
    return row.subject.replace("_", " ")


def _spec(rows: list[SubjectFlips]) -> dict[str, Any]:
    values = [
        {
            "subject": _words(f),
            "change": 100 * f.change.value,
            "low": 100 * (f.change.low if math.isfinite(f.change.low) else f.change.value),
            "high": 100 * (f.change.high if math.isfinite(f.change.high) else f.change.value),
            "state": _state(f),
            "said": w.change(f.change, "accuracy"),
            "counts": f"{f.lost} lost, {f.won} won of {f.num_items} items × {w.plural(f.num_seeds, 'seed')}",
        }
        for f in rows
    ]
    data = alt.Chart(alt.Data(values=values))
    order = list(dict.fromkeys(v["subject"] for v in values))
    y = alt.Y("subject:N", title=None, sort=order,
              axis=alt.Axis(labelLimit=230, labelOverlap=False, ticks=False, grid=True))  # fmt: skip
    hue = alt.Color("state:N", legend=None, scale=alt.Scale(domain=list(_HUES), range=list(_HUES.values())))
    tips = [alt.Tooltip("subject:N", title="Subject"), alt.Tooltip("said:N", title="Points"),
            alt.Tooltip("counts:N", title="Answers")]  # fmt: skip
    zero = alt.Chart(alt.Data(values=[{"at": 0}])).mark_rule(color=INK, opacity=0.45, strokeDash=[3, 3])
    layers = (
        zero.encode(x=alt.X("at:Q")),
        data.mark_rule(strokeWidth=1.6).encode(
            x=alt.X("low:Q", title="Change, points", axis=alt.Axis(tickCount=10)), x2="high:Q", y=y, color=hue
        ),
        data.mark_point(filled=True, size=46, opacity=1).encode(x=alt.X("change:Q"), y=y, color=hue, tooltip=tips),
    )
    return finished(alt.layer(*layers), LINE * max(len(order), 4) + 20)
