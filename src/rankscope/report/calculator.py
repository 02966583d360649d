"""The section of the calculator: what was measured of each arm, and where prices are typed. In: a `View`. Out: a
`Section`. Computes no money.
"""

from __future__ import annotations

from rankscope.report import wording as w
from rankscope.report.cells import Cell, Section, Table, Widget, columns, where
from rankscope.report.roi import payload
from rankscope.report.view import View
from rankscope.stats.roi import Arm, Case, Quantity
from rankscope.stats.roi_formulas import MEASURED

_SHOWN = ("seconds", "tokens", "flops", "peak_bytes", "blob_bytes", "trainable", "gain", "forgotten")
_FORMS = {"bytes": w.number_bytes, "seconds": w.duration, "tokens": w.count, "FLOPs": w.count, "parameters": w.count}


def calculator(view: View) -> Section | None:
    """The calculator, and the measured numbers that it starts from; nothing where nothing was trained."""
    data = payload(view.name, view.cases)
    if data is None:
        return None
    tables = tuple(_measured(view, case, i) for i, case in enumerate(view.cases))
    intro = (
        "What LoRA at each rank and full SFT cost in a year, by your prices. Nothing is assumed about money: type "
        "prices, or load a prices file (rankscope roi STUDY --prices FILE reads the same). Every line says whether it "
        "was measured, typed or modelled, and by which formula."
    )
    widget = Widget("roi-calculator", "roi", "Return on investment calculator", data,
                    "The calculator needs JavaScript. The same lines: rankscope roi STUDY --prices FILE.")  # fmt: skip
    return Section("roi", "Return on investment", intro, tables, "ROI", (widget,))


def _measured(view: View, case: Case, number: int) -> Table:
    heads = [(MEASURED[name][0], f"Measured, mean of the finished runs of an arm; unit: {MEASURED[name][1]}.")
             for name in _SHOWN]  # fmt: skip
    rows = tuple((Cell(arm.name), *(_cell(arm, name) for name in _SHOWN)) for arm in case.arms)
    caption = f"What the calculator starts from, {where(view, case.model, case.train)}"
    return Table(f"roi-measured-{number}", caption, columns("Arm", *heads), rows, tuple(range(1, len(_SHOWN) + 1)),
                 is_folded=True)  # fmt: skip


def _cell(arm: Arm, name: str) -> Cell:
    found: Quantity = arm.measured[name]
    if found.value is None:
        return Cell("–", found.reason)
    return Cell(_text(found.value, MEASURED[name][1]), _interval(found, MEASURED[name][1]))


def _interval(found: Quantity, unit: str) -> str:
    if found.low is None or found.high is None or found.low == found.high:
        return found.reason
    return f"[{_text(found.low, unit)}, {_text(found.high, unit)}]"


def _text(value: float, unit: str) -> str:
    return _FORMS[unit](value) if unit in _FORMS else f"{value:.1f}".replace("-", "−")
