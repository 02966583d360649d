"""The drawings of an audit: heat maps layer x module kind, spectra by kind. In: ``Found``. Out: ``Chart``s.

A cell that is not defined (a zero update has no rank) is grey; one that isn't adapted is not there. Specs hold no NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import altair as alt

from rankscope.report.audit_rows import Found, Module, by_kind
from rankscope.report.drawing import SHORT, Chart, finished

HEAT = ("#d8ecf8", "#5fb7e8", "#3a78cf", "#6a4fc0", "#7b2c8f")
UNDEFINED = "#8c939c66"
_BOX = {"cornerRadius": 2, "stroke": "#8c939c55"}
MOST_POINTS = 48
"""Singular values drawn of one module, spread evenly on a log scale: a dense update has thousands."""

Value = Callable[[Module], float | int | None]


def charts(found: Found) -> tuple[Chart, ...]:
    """All drawings. Modules outside the layers (the head) are left to the table."""
    kinds = {k: [m for m in ms if m.place.layer is not None] for k, ms in by_kind(found.modules).items()}
    kinds = {k: ms for k, ms in kinds.items() if ms}
    if not kinds:
        return ()
    return (*_change(found, kinds), *_ranks(kinds), *_beside(found, kinds), *_spectra(kinds))


def _change(found: Found, kinds: Mapping[str, list[Module]]) -> list[Chart]:
    """How much, where: beside the advice."""
    if found.base is None:
        return [_heat("change", "verdict", "Norm of the update, ||dW||_F", "Where the update is large.", kinds,
                      lambda m: m.frobenius, "half")]  # fmt: skip
    return [_heat("change", "verdict", "Relative change, ||dW||_F / ||W||_F", "Where the weights changed most.", kinds,
                  lambda m: m.base.relative_frobenius, "half")]  # fmt: skip


def _ranks(kinds: Mapping[str, list[Module]]) -> list[Chart]:
    stable = "Sum of squared singular values by the largest square."
    effective = "exp of the entropy of the singular values' shares of their sum."
    return [
        _heat("stable", "ranks", "Stable rank", stable, kinds, lambda m: m.stable_rank),
        _heat("effective", "ranks", "Effective rank", effective, kinds, lambda m: m.effective_rank),
    ]


def _beside(found: Found, kinds: Mapping[str, list[Module]]) -> list[Chart]:
    if found.base is None:
        return []
    intruders = "Leading left singular vectors of W + dW that are unlike all of W's."
    shared = "Share of dW's energy inside the leading singular subspaces of W."
    return [
        _heat("intruders", "ranks", "Intruder dimensions", intruders, kinds, lambda m: m.base.intruders),
        _heat("interference", "ranks", "Interference", shared, kinds, lambda m: m.base.interference),
    ]


def _heat(
    name: str, section: str, title: str, caption: str, kinds: Mapping[str, list[Module]], of: Value, size: str = "half"
) -> Chart:
    values = [
        {"layer": m.place.layer, "kind": kind, "value": of(m), "text": _text(of(m)), "module": m.place.name}
        for kind, modules in kinds.items()
        for m in modules
    ]
    known = [v for v in values if v["value"] is not None]
    most = max(known, key=lambda v: v["value"], default=None)
    said = f"Largest: {most['text']} in layer {most['layer']}, {most['kind']}." if most else "Nothing is defined."
    said = "It is 0 everywhere." if most and not most["value"] else said
    layers = sorted({v["layer"] for v in values})
    x = alt.X("layer:O", title="Layer", sort=layers,
              axis=alt.Axis(labelAngle=0, grid=False, labelOverlap=True, labelSeparation=4, ticks=False))  # fmt: skip
    y = alt.Y("kind:N", title=None, sort=list(kinds), axis=alt.Axis(grid=False, ticks=False, labelLimit=120))
    top = max((v["value"] for v in known), default=0) or 1
    scale = alt.Scale(domain=[top * i / (len(HEAT) - 1) for i in range(len(HEAT))], range=list(HEAT), interpolate="rgb")
    legend = alt.Legend(orient="right", title=None, gradientLength=22 * max(len(kinds), 4), tickCount=4,
                        format=".3~r")  # fmt: skip
    fill = alt.Color("value:Q", scale=scale, legend=legend)
    tooltip = [alt.Tooltip("module:N", title="Module"), alt.Tooltip("text:N", title=title)]
    boxes = [alt.Chart(alt.Data(values=known)).mark_rect(**_BOX).encode(x=x, y=y, color=fill, tooltip=tooltip)]
    if undefined := [v for v in values if v["value"] is None]:
        grey = alt.Chart(alt.Data(values=undefined)).mark_rect(color=UNDEFINED, **_BOX)
        boxes.insert(0, grey.encode(x=x, y=y, tooltip=tooltip))
    spec = finished(alt.layer(*boxes), 30 * max(len(kinds), 3) + 20)
    return Chart(name, section, title, f"{caption} {said}", said, spec, size)


def _spectra(kinds: Mapping[str, list[Module]]) -> list[Chart]:
    """Small multiples: one drawing for each kind, one line for each layer."""
    charts, layers = [], [m.place.layer for modules in kinds.values() for m in modules]
    for kind, modules in kinds.items():
        drawn = [m for m in modules if not m.is_zero]
        if not drawn or max(len(m.singular_values) for m in drawn) < 2:
            continue
        values = [point for m in drawn for point in _points(m)]
        caption = "Singular values by the largest of the module, one line a layer (hue: its number)."
        lengths = sorted({len(m.singular_values) for m in drawn})
        said = f"{len(drawn)} spectra of {' or '.join(map(str, lengths))} values."
        spec = _spectrum(values, (min(layers), max(layers)))
        charts.append(Chart(f"spectrum-{len(charts)}", "spectra", kind, caption, said, spec, "small"))
    return charts


def _spectrum(values: list[dict[str, Any]], layers: tuple[int, int]) -> dict[str, Any]:
    last = max(v["index"] for v in values)
    kind = "linear" if last <= 64 else "log"
    x = alt.X("index:Q", title="Singular value, from the largest" + (" (log scale)" if kind == "log" else ""),
              scale=alt.Scale(type=kind, domain=[1, last], nice=False), axis=alt.Axis(format="d", tickMinStep=1,
              tickCount=min(last - 1, 8)))  # fmt: skip
    y = alt.Y("share:Q", title="By the largest", scale=alt.Scale(domain=[0, 1]))
    hue = alt.Color("layer:Q", scale=alt.Scale(domain=list(layers), range=[HEAT[1], HEAT[-1]], interpolate="lab"),
                    legend=None)  # fmt: skip
    tooltip = [alt.Tooltip("module:N", title="Module"), alt.Tooltip("index:Q", title="Singular value"),
               alt.Tooltip("share:Q", title="By the largest", format=".3g")]  # fmt: skip
    chart = alt.Chart(alt.Data(values=values)).mark_line(strokeWidth=1.6, opacity=0.75, point=last <= 16)
    return finished(chart.encode(x=x, y=y, color=hue, detail="module:N", tooltip=tooltip), SHORT)


def _points(module: Module) -> list[dict[str, Any]]:
    values, largest = module.singular_values, module.singular_values[0]
    num = len(values)
    picked = range(num) if num <= MOST_POINTS else sorted({round(num ** (i / (MOST_POINTS - 1))) - 1
                                                           for i in range(MOST_POINTS)})  # fmt: skip
    return [{"module": module.place.name, "layer": module.place.layer, "index": i + 1, "share": values[i] / largest}
            for i in picked if values[i] is not None]  # fmt: skip


def _text(value: float | int | None) -> str:
    return "not defined: the update is zero" if value is None else f"{value:.3g}"
