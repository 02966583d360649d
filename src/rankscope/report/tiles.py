"""The four numbers at the top of the page. In: a `View`. Out: `Tile`s for each model and train task.

A tile has a number with its interval, or a dash with the reason; and where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

from rankscope.report import wording as w
from rankscope.report.answer_rows import Advice
from rankscope.report.cells import where
from rankscope.report.view import View


@dataclass(frozen=True)
class Tile:
    """``value`` in large print, ``spread`` (its interval) beside it, ``source`` in small print under it."""

    label: str
    value: str
    spread: str
    source: str


@dataclass(frozen=True)
class Row:
    """The tiles of one verdict; ``place`` says what they are about where there are several."""

    place: str
    tiles: tuple[Tile, ...]


def rows(view: View) -> tuple[Row, ...]:
    """One row of four tiles for each model and train task that something was trained on."""
    found = []
    for model, train in view.blocks:
        if not train:
            continue
        advice = next((a for a in view.advice if (a.model, a.train) == (model, train)), None)
        place = where(view, model, train) if len(view.blocks) > 1 else ""
        ranks = (_rank(advice, 0), _rank(advice, 1))
        found.append(Row(place[:1].upper() + place[1:], (*ranks, _across(view, model, train, advice),
                                                         _parameters(view, model, train, advice))))  # fmt: skip
    return tuple(found)


def _rank(advice: Advice | None, end: int) -> Tile:
    label = ("Optimal rank (min)", "Optimal rank (max)")[end]
    if advice is None or advice.choice.ranks is None:
        why = advice.choice.reason if advice else "No LoRA arm has in-domain scores in one unit."
        return Tile(label, w.NOTHING, "", why)
    which, choice = ("lowest", "highest")[end], advice.choice
    source = f"The {which} rank that is not excluded as the best at 95 %, all ranks judged together"
    if choice.awaited:
        source += f"; so far: {w.listing(list(choice.awaited))} not scored yet"
    elif not choice.is_told_apart and len(choice.possible) > 1:
        source += "; no rank could be excluded"
    return Tile(label, str(choice.ranks[end]), "", f"{source}.")


def _across(view: View, model: str, train: str, advice: Advice | None) -> Tile:
    label, arm = "Change on cross-domain tasks", advice.choice.arm if advice else None
    if arm is None:
        return Tile(label, w.NOTHING, "", "No arm is recommended.")
    row = next(a for a in view.across if (a.model, a.train, a.arm) == (model, train, arm))
    if row.estimate is None:
        return Tile(label, w.NOTHING, "", f"{row.why[:1].upper()}{row.why[1:]}.")
    value, _, spread = w.change(row.estimate, "accuracy").partition(" ")
    pooled = f"mean of {len(row.tasks)} tasks" if len(row.tasks) > 1 else row.tasks[0]
    source = f"Points, {arm} − base, {pooled}; {w.sample(row.estimate)}, ordinary 95 % interval."
    return Tile(label, value, spread, source)


def _parameters(view: View, model: str, train: str, advice: Advice | None) -> Tile:
    label, arm = "Trained parameters against SFT", advice.choice.arm if advice else None
    known = {h.arm: h for h in view.headlines if (h.model, h.train) == (model, train)}
    full = next((h for h in known.values() if h.kind == "full"), None)
    if arm is None:
        return Tile(label, w.NOTHING, "", "No arm is recommended.")
    ours = known[arm].trainable
    if full is None:
        return Tile(label, w.count(ours), "", f"{arm}, counted; the study has no full SFT to set it against.")
    if not ours or not full.trainable:
        return Tile(label, w.NOTHING, "", "Not measured.")
    source = f"{arm} {w.count(ours)} of {w.count(full.trainable)} in full SFT; counted, so exact."
    return Tile(label, w.portion(ours / full.trainable), "", source)
