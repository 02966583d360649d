"""The verb that turns a study's ledger into a year's money and hours, and how that is printed."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankscope.cli import console
from rankscope.cli.answer import STORE, Asked, answer
from rankscope.cli.audit import app
from rankscope.cli.verbs import DataOpt, JsonOpt, SetOpt, StoreOpt, StudyArg, load
from rankscope.errors import InputError
from rankscope.provenance import plain

if TYPE_CHECKING:
    from rankscope.config.prices import Prices
    from rankscope.stats.gpus import Gpu
    from rankscope.stats.roi import ArmRoi, Case, Line, Roi

COLUMNS = (("a year's cost", "cost"), ("savings a year", "savings"), ("engineer h", "engineer_hours_reclaimed"),
           ("GPU h", "gpu_hours_reclaimed"), ("months to pay", "break_even_months"),
           ("cost per point", "cost_per_point"))  # fmt: skip


class Scenario(str, Enum):
    """Which of a triple's values count."""

    low = "low"
    base = "base"
    high = "high"


@app.command(epilog="\b\nExample: rankscope roi study.yaml --prices prices.yaml")
def roi(
    ctx: typer.Context,
    study: StudyArg,
    prices: Annotated[
        str | None, typer.Option("--prices", metavar="PATH", help="Your prices and scale (YAML). Without: no money.")
    ] = None,
    template: Annotated[
        str | None, typer.Option("--template", metavar="PATH", help="Write a commented prices file, and nothing else.")
    ] = None,
    scenario: Annotated[
        Scenario, typer.Option(metavar="low|base|high", help="Which of three values [low, base, high] counts.")
    ] = Scenario.base,
    store: StoreOpt = STORE,
    overrides: SetOpt = None,
    data_dir: DataOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Show what a year of LoRA costs and saves against full SFT.

    From what this study measured and what you type: money, hours, break-even, each with its formula. Nothing is
    assumed about prices.
    """
    from rankscope.config import prices as files
    from rankscope.stats.gpus import GPUS, gpu
    from rankscope.stats.roi import surprises

    names = [g.name for g in GPUS]
    asked = Asked(study, store, tuple(overrides or ()), data_dir)
    if template is not None:
        files.write_template(template, names)
        answer(ctx, as_json, {"path": template}, f"{template} written. Next: {asked.next('roi')} --prices {template}")
        return
    given = files.load(prices, names) if prices is not None else None
    card = gpu(given.gpu) if given and given.gpu else None
    result = load(asked).result(store)
    found = result.view().cases
    if not found:
        raise InputError("no trained arm of this study is done, so nothing is measured", where=study,
                         hint=f"Next: {asked.next('run')}")  # fmt: skip
    by_scenario = {s.value: result.roi(given, s.value) for s in Scenario}
    notes = [f"{case.model}, {case.train}: {text}" for place, case in enumerate(found)
             for text in surprises([rois[place] for rois in by_scenario.values()])]  # fmt: skip
    data = {
        "currency": given and given.currency,
        "gpu": card and card.name,
        "scenario": scenario.value,
        "cases": plain(by_scenario[scenario.value]),
        "savings": [_savings(case, place, by_scenario) for place, case in enumerate(found)],
        "notes": notes,
    }
    text = [_as_text(by_scenario, place, scenario.value, given) for place in range(len(found))]
    text += [*(f"note: {note}" for note in notes), _assumptions(by_scenario[scenario.value], given, card)]
    text += [] if given else [f"No prices, so no money. Next: {asked.next('roi')} --template prices.yaml"]
    answer(ctx, as_json, data, "\n\n".join(text))


def _savings(case: Case, place: int, by_scenario: dict[str, list[Roi]]) -> dict[str, Any]:
    """Savings of every LoRA arm in the three scenarios."""
    arms = {a.arm: {name: a_line.value for name, rois in by_scenario.items()
                    if (a_line := rois[place].arms[i].line("savings"))}
            for i, a in enumerate(by_scenario["base"][place].arms) if a.kind != "full"}  # fmt: skip
    return {"model": case.model, "train": case.train, "arms": arms}


def _as_text(by_scenario: dict[str, list[Roi]], place: int, scenario: str, given: Prices | None) -> str:
    """One model and train task: a row per arm, then the lines of the recommended arm, or of the first LoRA arm."""
    found, currency = by_scenario[scenario][place], given.currency if given else ""
    said = [f"scenario {scenario}", *([f"money in {currency}"] if given else []), "* recommended"]
    lines = [f"{found.model}, trained on {found.train}; {'; '.join(said)}"]
    lines += [console.format_table([_row(arm) for arm in found.arms])]
    shown = found.chosen or next((arm for arm in found.arms if arm.kind == "lora"), found.arms[0])
    if shown.kind == "lora":
        saved = {name: _at(rois[place], shown.arm) for name, rois in by_scenario.items()}
        if any(line.value is not None for line in saved.values()):
            told = ", ".join(f"{name} {worded(line, currency, False)}" for name, line in saved.items())
            lines.append(f"savings of {shown.arm} a year, by scenario: {told}")
    lines += ["", f"{shown.arm}{' (recommended)' * shown.is_recommended}, line by line:"]
    for line in (line for line in shown.lines if line.value is not None):
        lines.append(f"  {line.title}: {worded(line, currency)}  [{line.tag}]  = {line.filled}")
        is_open = not (math.isfinite(line.low) and math.isfinite(line.high))
        lines += ["    unbounded: within its interval, what it is divided by reaches zero"] * is_open
        lines += [f"    without {', '.join(line.left_out)}, which is not known"] * bool(line.left_out)
        lines += [f"    interval without that of {', '.join(line.no_interval)}"] * bool(line.no_interval)
    missing = _missing(shown)
    lines += ["not known:", *(f"  {text}" for text in missing)] if missing else []
    return "\n".join(lines)


def _missing(arm: ArmRoi) -> list[str]:
    """Why lines are missing. One that lacks only other lines is left out: those say why."""
    from rankscope.stats.roi import FULL, NO_FULL

    lines, found = {line.name for line in arm.lines}, []
    for line in (line for line in arm.lines if line.value is None):
        lacking = [p.name for p in line.inputs if p.value is None]
        if NO_FULL not in line.reason and not (lacking and all(p in lines or p.startswith(FULL) for p in lacking)):
            found.append(f"{line.title}: {line.reason}")
    without = any(NO_FULL in line.reason for line in arm.lines)
    return found + [f"savings and everything else against full SFT: {NO_FULL}"] * without


def _at(found: Roi, arm: str) -> Line:
    return next(a for a in found.arms if a.arm == arm).line("savings")


def _row(arm: ArmRoi) -> dict[str, str]:
    """An arm's headlines; an empty cell where nothing is known, or where full SFT would be compared with itself."""
    known = {line.name: worded(line, "", False, False) for line in arm.lines if line.value is not None}
    return {"arm": arm.arm + " *" * arm.is_recommended} | {title: known.get(name, "") for title, name in COLUMNS}


def _assumptions(found: list[Roi], given: Prices | None, card: Gpu | None) -> str:
    """What is behind the lines that are known: the formulas' own words, and factors that nobody typed."""
    from rankscope.config.prices import number_text
    from rankscope.config.reality import INPUTS
    from rankscope.stats.roi_formulas import FORMULAS

    known = {line.name for roi in found for arm in roi.arms for line in arm.lines if line.value is not None}
    used = {p.name for roi in found for arm in roi.arms for line in arm.lines if line.value is not None
            for p in line.inputs}  # fmt: skip
    kinds = {"lora": " (LoRA)", "full": " (full SFT)", "": ""}
    twice = {f.name for f in FORMULAS if f.only == "full"}
    lines = [f"  {f.title}{kinds[f.only] if f.name in twice else ''}: {f.why}" for f in FORMULAS
             if f.why and f.name in known]  # fmt: skip
    numbers = given.numbers if given else {}
    lines += [f"  {e.title}: {number_text(e.assumed)} {e.unit}, assumed. {e.help}" for e in INPUTS
              if e.assumed and e.name in used and e.name not in numbers]  # fmt: skip
    lines += [f"  {card.name}: peak rate and memory from its data sheet."] if card else []
    lines += ["  Intervals: 95 % for each measured number; a line's ends take all of them at their worst."]
    return "\n".join(["Assumptions:", *lines])


def worded(line: Line, currency: str, has_interval: bool = True, has_unit: bool = True) -> str:
    """A line's value for people, with its interval where it has one."""
    text = _number(line.value, line.unit)
    if not has_unit:
        return text
    unit = {"money": f" {currency}", "money/point": f" {currency} a point", "share": "", "count": "", "bytes": "",
            "money/million tokens": f" {currency} a million tokens"}.get(line.unit, f" {line.unit}")  # fmt: skip
    if has_interval and line.low != line.high:
        ends = [_number(x, line.unit) if math.isfinite(x) else "unbounded" for x in (line.low, line.high)]
        text += f" [{ends[0]}, {ends[1]}]"
    return text + unit


def _number(value: float, unit: str) -> str:
    from rankscope.stats.roi import money

    if unit.startswith("money"):
        return money(value)
    if unit == "bytes":
        for name, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.0f} B"
    is_whole = abs(value) >= 1000 or value == int(value)
    return f"{value:,.0f}" if is_whole and abs(value) < 1e12 else f"{value:.4g}"
