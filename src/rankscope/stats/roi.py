"""What a year of LoRA costs and saves. In: measured arms and typed numbers. Out: ``Roi``, every line with its interval,
tag, formula and parts, or the reason why it is missing. No I/O; the formulas themselves are ``roi_formulas``.

A scenario (low, base, high) picks the first, second or third of each typed triple; ``low`` is meant to be the one that
saves least. Within a scenario the intervals are those of what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rankscope.config.reality import BY_NAME, INPUTS, SCENARIOS, Triple
from rankscope.stats.formulas import Amount, absent, amount, evaluate, filled, names, parse
from rankscope.stats.gpus import Gpu
from rankscope.stats.roi_formulas import FORMULAS, HEADLINES, MEASURED, Formula

FULL = "full."
NO_FULL = "no full SFT arm was measured"
SHEET = ("gpu_tflops", "gpu_memory_gb")
NO_GPU = "no gpu is named"
UNTYPED = " is not typed"
ONE_RUN = "one run: its spread is not known"


@dataclass(frozen=True)
class Quantity:
    """One measured number with its 95 % interval; ``low`` and ``high`` None: no interval, and ``reason`` says why.

    ``value`` None: not measured, for ``reason``. Counted numbers (tokens, FLOPs, bytes) are exact: no reason is needed.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Arm:
    """One trained arm's measured numbers, by the names of ``roi_formulas.MEASURED``."""

    name: str
    kind: str
    rank: int | None
    measured: Mapping[str, Quantity]
    is_recommended: bool = False


@dataclass(frozen=True)
class Case:
    """One model and train task: its LoRA arms and full SFT, and what holds for the whole study (``shared``)."""

    model: str
    train: str
    arms: tuple[Arm, ...]
    shared: Mapping[str, Quantity]


@dataclass(frozen=True)
class Part:
    """A number that went into a line, with its own tag; ``value`` None where it is missing."""

    name: str
    value: float | None
    tag: str


@dataclass(frozen=True)
class Line:
    """One result. ``low`` and ``high`` enclose it at what was measured with 95 % each; infinite: unbounded.

    ``tag`` is the weakest of what went in: measured, typed or modelled. ``left_out``: parts of the sum that are not
    known; ``no_interval``: measured parts of unknown spread.
    """

    name: str
    group: str
    title: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    tag: str
    formula: str
    filled: str
    inputs: tuple[Part, ...]
    reason: str = ""
    left_out: tuple[str, ...] = ()
    no_interval: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArmRoi:
    """All lines of one arm."""

    arm: str
    kind: str
    rank: int | None
    is_recommended: bool
    lines: tuple[Line, ...]

    def line(self, name: str) -> Line:
        """The line of that name. Raises KeyError if this kind of arm has none."""
        found = next((line for line in self.lines if line.name == name), None)
        if found is None:
            raise KeyError(name)
        return found


@dataclass(frozen=True)
class Roi:
    """One model and train task under one scenario."""

    model: str
    train: str
    scenario: str
    arms: tuple[ArmRoi, ...]

    @property
    def chosen(self) -> ArmRoi | None:
        """The recommended arm, or None if there is none."""
        return next((arm for arm in self.arms if arm.is_recommended), None)


def roi(case: Case, typed: Mapping[str, Triple], gpu: Gpu | None = None, scenario: str = "base") -> Roi:
    """Compute every line of every arm. ``typed``: low, base and high of what the user gave, by name.

    Raises ValueError for a scenario or a name that isn't known.
    """
    if scenario not in SCENARIOS or (unknown := set(typed) - set(BY_NAME)):
        raise ValueError(f"unknown: {scenario if scenario not in SCENARIOS else ', '.join(sorted(unknown))}")
    given = inputs(typed, gpu, SCENARIOS.index(scenario))
    shared = given | {name: known(name, q) for name, q in case.shared.items()}
    full = next((arm for arm in case.arms if arm.kind == "full"), None)
    absents = {FULL + name: absent(NO_FULL) for name in (*MEASURED, *(f.name for f in FORMULAS))}
    lines, against = {}, absents
    for arm in ([full] if full else []) + [a for a in case.arms if a is not full]:
        scope = shared | against | {name: known(name, q) for name, q in arm.measured.items()}
        lines[arm.name] = _lines(arm, scope)
        if arm is full:
            against = absents | {FULL + name: found for name, found in scope.items() if FULL not in name}
    rows = tuple(ArmRoi(a.name, a.kind, a.rank, a.is_recommended, lines[a.name]) for a in case.arms)
    return Roi(case.model, case.train, scenario, rows)


def inputs(typed: Mapping[str, Triple], gpu: Gpu | None, place: int) -> dict[str, Amount]:
    """What is typed, else on the GPU's data sheet, else assumed; else absent."""
    sheet = dict(zip(SHEET, (gpu.flops and gpu.flops / 1e12, gpu.memory_bytes / 1e9), strict=True)) if gpu else {}
    found = {}
    for entry in INPUTS:
        if entry.name in typed:
            found[entry.name] = amount(typed[entry.name][place], "typed")
        elif sheet.get(entry.name) is not None:
            found[entry.name] = amount(sheet[entry.name], "typed")
        elif entry.assumed is not None:
            found[entry.name] = amount(entry.assumed[place], "modelled")
        else:
            found[entry.name] = absent(NO_GPU if entry.name in SHEET else entry.name + UNTYPED)
    return found


def known(name: str, quantity: Quantity) -> Amount:
    """A measured number as formulas take it."""
    if quantity.value is None:
        return absent(quantity.reason or f"{name} was not measured")
    if quantity.low is None or quantity.high is None:
        found = amount(quantity.value, "measured")
        return replace(found, no_interval=(f"{name} ({quantity.reason})",)) if quantity.reason else found
    return amount(quantity.value, "measured", quantity.low, quantity.high)


def surprises(scenarios: Sequence[Roi]) -> tuple[str, ...]:
    """Arms whose savings fall from low to base or to high, the three ``scenarios``: lists the wrong way round."""
    said = []
    for arms in zip(*(found.arms for found in scenarios), strict=True):
        saved = [arm.line("savings").value for arm in arms if arm.kind != "full"]
        if None not in saved and saved != sorted(saved):
            what = "savings do not rise from low to high; begin each list with the value that saves least"
            said.append(f"{arms[0].arm}: {what}")
    return tuple(said)


def of_kind(kind: str) -> tuple[Formula, ...]:
    """The formulas of one kind of arm, in order."""
    return tuple(f for f in FORMULAS if f.only in ("", kind))


def headlines(found: ArmRoi) -> tuple[Line, ...]:
    """The lines to read first, as far as this kind of arm has them."""
    return tuple(line for line in found.lines if line.name in HEADLINES)


def _lines(arm: Arm, scope: dict[str, Amount]) -> tuple[Line, ...]:
    """Every formula of the arm's kind; what they give joins ``scope``."""
    lines = []
    for formula in of_kind(arm.kind):
        tree = parse(formula.expression)
        found = evaluate(tree, scope)
        if found.value is not None:
            found = replace(found, tag=_tag(formula, found.tag))
        lines.append(_line(formula, found, {name: scope[name] for name in names(tree)}))
        scope[formula.name] = found
    return tuple(lines)


def _tag(formula: Formula, tag: str) -> str:
    """The weakest of the parts' tag and the formula's own; a constant is a matter of the model."""
    is_model = formula.is_modelled or not tag or (formula.is_scaled and tag != "measured")
    return "modelled" if is_model else tag


def _line(formula: Formula, found: Amount, parts: dict[str, Amount]) -> Line:
    is_known = found.value is not None
    shown = {name: shortened(part.value) for name, part in parts.items() if part.value is not None}
    return Line(
        formula.name,
        formula.group,
        formula.title,
        found.value,
        found.low if is_known else None,
        found.high if is_known else None,
        formula.unit,
        found.tag if is_known else "",
        formula.expression,
        filled(formula.expression, shown),
        tuple(Part(name, part.value, part.tag) for name, part in parts.items()),
        "" if is_known else said(found.reasons),
        found.left_out,
        found.no_interval,
    )


def said(reasons: tuple[str, ...]) -> str:
    """Why a line is missing, in one sentence: what is not typed in one list, the rest as it is."""
    untyped = [text.removesuffix(UNTYPED) for text in reasons if text.endswith(UNTYPED)]
    rest = [text for text in reasons if not text.endswith(UNTYPED)]
    return "; ".join([*rest, *([f"not typed: {', '.join(untyped)}"] if untyped else [])])


def shortened(value: float) -> str:
    """A number for reading: whole ones whole, others to four digits."""
    if value == math.floor(value) and abs(value) < 1e7:
        return str(int(value))
    return f"{value:.4g}"


def money(value: float) -> str:
    """To the cent, half away from zero, thousands apart: ``-1,234.50``. The page rounds by the same operations."""
    if abs(value) >= 1e13:
        return f"{value:.3e}"
    cents = int(math.floor(abs(value) * 100 + 0.5))
    sign = "-" if value < 0 and cents else ""
    return f"{sign}{cents // 100:,}.{cents % 100:02d}"
