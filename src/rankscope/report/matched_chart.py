"""The chart of forgetting over gain at every rank and learning rate. In: a `View`. Out: `Chart`s."""

from __future__ import annotations

import altair as alt

from rankscope.report import wording as w
from rankscope.report.drawing import SHORT, Chart, capital, colour, finished, title_of, unit_scale
from rankscope.report.view import View


def matched_charts(view: View) -> list[Chart]:
    """One chart for each model, train task and unit of forgetting."""
    found = []
    for i, (model, train) in enumerate(view.blocks):
        for metric in ("accuracy", "cross_entropy"):
            rows = [p for p in view.matched_points if (p.model, p.train, p.metric) == (model, train, metric)]
            if not rows:
                continue
            scale = unit_scale(metric)
            taught = next(m.taught for m in view.matched if (m.model, m.train) == (model, train))
            values = [
                {"arm": p.arm, "lr": w.learning_rate(p.lr), "gain": p.gain * unit_scale(taught),
                 "lost": p.forgotten * scale, "chosen": p.is_chosen}
                for p in sorted(rows, key=lambda p: (p.arm, p.gain))
            ]  # fmt: skip
            unit = "Points forgotten" if metric == "accuracy" else "CE rise, nats"
            data = alt.Chart(alt.Data(values=values))
            x = alt.X("gain:Q", title=f"Gain, {w.unit(taught)}", scale=alt.Scale(zero=True))
            y = alt.Y("lost:Q", title=f"{unit} (up is worse)", scale=alt.Scale(zero=True))
            tips = [alt.Tooltip("arm:N"), alt.Tooltip("lr:N", title="learning rate"),
                    alt.Tooltip("gain:Q", format=".3g"), alt.Tooltip("lost:Q", format=".3g")]  # fmt: skip
            layers = (
                data.mark_line(strokeWidth=1.4, opacity=0.6).encode(x=x, y=y, color=colour(view)),
                data.mark_point(size=90, strokeWidth=2).encode(x=x, y=y, color=colour(view), tooltip=tips),
                data.transform_filter("datum.chosen")
                .mark_point(size=90, filled=True, opacity=1)
                .encode(x=x, y=y, color=colour(view), tooltip=tips),
            )
            said = "; ".join(f"{v['arm']} at {v['lr']}: gain {v['gain']:.3g}, {unit.lower()} {v['lost']:.3g}"
                             for v in values)  # fmt: skip
            caption = (
                "Every rank at every rate tried, first seed, joined by gain. Filled: the rate chosen. No bars here."
            )
            title = f"{unit} over gain, {capital(title_of(view, model, train))}"
            found.append(Chart(f"matched-{i}-{metric}", "matched", title, caption, said,
                               finished(alt.layer(*layers), SHORT + 40)))  # fmt: skip
    return found
