"""What would be recommended if more or less had to be kept. In: a `View`. Out: sliders, and tables of the same.

The pieces are worked out by ``stats.thresholds``; here they get their words. The page's script only picks the piece a
share lies in and draws it: it computes no statistics and writes no sentence, but puts the share asked for where
``ASKED`` stands.
"""

from __future__ import annotations

import math
from typing import Any

from rankscope.records import Estimate
from rankscope.report import wording as w
from rankscope.report.answer_rows import Advice
from rankscope.report.cells import Cell, Table, Widget, columns, where
from rankscope.report.hues import colours
from rankscope.report.rows import Headline
from rankscope.report.view import View
from rankscope.stats.choice import PREFERENCES, Prefer
from rankscope.stats.recommend import Recommendation
from rankscope.stats.thresholds import ASKED, Piece

FIRST: dict[Prefer, str] = {"cost": "cost first", "retention": "retention first", "gain": "the score first"}
NOT_ASKED = "not asked"
_STATES = {
    "recommended": "recommended",
    "possible": "can be the best",
    "beaten": "beaten",
    "out": "left out",
    "other": "for comparison",
}
_BARS = (
    "Right: kept more of what the base knew. Up: learned more. Bars to the sides: the interval that a share asked for "
    "is set against (95 %, all LoRA arms together; full SFT: ordinary). Bars up and down: ordinary 95 % intervals. "
    "Dashed: the share asked for. An arm shown to have kept counts as keeping enough while its whole bar lies there or "
    "beyond; if none does, an arm is left out once its whole bar falls short."
)


def sliders(view: View) -> tuple[Widget, ...]:
    """A slider for each recommendation of which something was measured that could be asked for."""
    return tuple(
        Widget(f"retain-{i}", "frontier", f"How much must be kept, {where(view, row.model, row.train)}",
               _data(view, row))
        for i, row in enumerate(view.advice)
        if has_shares(row)
    )  # fmt: skip


def asked_tables(view: View) -> tuple[Table, ...]:
    """The same as tables: what is recommended by the share asked for."""
    return tuple(
        _table(row, f"asked-{i}", f"What is recommended by how much must be kept, {where(view, row.model, row.train)}")
        for i, row in enumerate(view.advice)
        if has_shares(row)
    )


def has_shares(row: Advice) -> bool:
    """Whether what an arm kept was measured as a share, so that one can be asked for."""
    return any(e is not None and math.isfinite(e.value) for e in row.shares.values())


def outcome(choice: Recommendation) -> tuple:
    """What a recommendation comes to."""
    return choice.arm, choice.ranks, choice.rule, choice.tier


def head(choice: Recommendation) -> str:
    """Range and arm in one line."""
    if choice.arm is None:
        return "Nothing can be recommended"
    if len(choice.possible) == 1:
        return f"Recommended: {choice.arm} ({choice.rule})"
    return f"Recommended: {choice.span}; of these {choice.arm} ({choice.rule})"


def said(choice: Recommendation) -> str:
    """Why, and what is open."""
    return ". ".join(text for text in (choice.reason, choice.open_question) if text) + "."


def places(choice: Recommendation) -> dict[str, tuple[str, str]]:
    """Each arm's place under a recommendation and why it has it."""
    found = {e.arm: ("beaten" if e.by else "out", e.why) for e in choice.excluded}
    found |= {r.arm: ("possible", r.why) for r in choice.runners_up}
    if choice.arm is not None:
        found[choice.arm] = ("recommended", choice.rule)
    return found


def _table(row: Advice, name: str, caption: str) -> Table:
    """Neighbouring pieces that come to the same for every preference are one row."""
    mine = row.prefer
    groups: list[list[Piece]] = []
    for piece in row.pieces:
        is_same = groups and groups[-1][0].upto is not None and _in_short(groups[-1][0], mine) == _in_short(piece, mine)
        groups[-1].append(piece) if is_same else groups.append([piece])
    heads = columns(
        (
            "Share to keep",
            "Share of the base's chance-corrected retention that is asked for. The recommendation changes only where "
            "this passes an end of an arm's interval: the lower end takes an arm from those shown to keep enough, the "
            "upper end, if none is shown to, from the rest. Intervals hold for all arms together (Bonferroni).",
        ),
        *(f"With {FIRST[p]}" for p in PREFERENCES),
        f"Why, with {FIRST[mine]}",
    )
    rows = tuple(
        (Cell(_shares(group[0].above, group[-1].upto)),
         *(Cell(c.arm or w.NOTHING, f"{c.span}; {c.rule}") for c in (group[0].choices[p] for p in PREFERENCES)),
         Cell(group[0].choices[mine].reason))
        for group in groups
    )  # fmt: skip
    return Table(name, caption, heads, rows, is_folded=True)


def _in_short(piece: Piece, prefer: Prefer) -> tuple:
    return tuple(outcome(c) for c in piece.choices.values()), piece.choices[prefer].reason


def _shares(above: float | None, upto: float | None) -> str:
    if above is None or upto is None:
        return NOT_ASKED
    start = f"above {100 * above:.2f} %" if above else ""
    return " ".join(text for text in (start, f"up to {100 * upto:.2f} %") if text)


def _data(view: View, row: Advice) -> dict[str, Any]:
    """What the script draws: arms with their numbers, pieces with their sentences, each text once."""
    texts: dict[str, int] = {}
    mine = [h for h in view.headlines if (h.model, h.train) == (row.model, row.train)]
    shown = [
        h for h in mine if h.kind == "full" or h.arm in row.shares or h.arm in places(row.pieces[0].choices["cost"])
    ]
    shown.sort(key=lambda h: (h.rank is None, h.rank or 0, h.arm))
    hues = dict(zip(*colours(view), strict=True))
    gain = next((h.gain for h in shown if h.gain), None)
    unit = w.unit(gain.metric if gain else row.metric)
    return {
        "prefer": row.prefer,
        "retain": row.retain,
        "preferences": [[p, FIRST[p]] for p in PREFERENCES],
        "arms": [_arm(h, row, hues) for h in shown],
        "pieces": [_piece(piece, [h.arm for h in shown], texts) for piece in row.pieces],
        "ticks": {p: _ticks(row.pieces, p) for p in PREFERENCES},
        "texts": list(texts),
        "states": _STATES,
        "words": {
            "title": _title(view, row),
            "slider": "How much of what the base knew must be kept?",
            "prefer": "Among arms that are good enough",
            "unasked": NOT_ASKED,
            "asked": ASKED,
            "ticks": "Marks: where the recommendation changes",
            "own": f"The study asks: {_own(row)}.",
            "kept": "Kept of what the base knew, %",
            "gain": f"Gain on {gain.task}, {unit}" if gain else f"Gain, {unit}",
            "line": "asked for",
            "caption": _BARS,
            "table": "Every arm at this share",
            "columns": ["Arm", "Kept, %", f"Gain, {unit}", "Place", "Why"],
        },
    }


def _title(view: View, row: Advice) -> str:
    """Which model and train task it is about."""
    place = where(view, row.model, row.train)
    return place[:1].upper() + place[1:]


def _own(row: Advice) -> str:
    share = NOT_ASKED if row.retain is None else f"{100 * row.retain:g} %"
    return f"{share}, {FIRST[row.prefer]}"


def _ticks(pieces: tuple[Piece, ...], prefer: Prefer) -> list[float]:
    """The shares above which something else is recommended."""
    asked = [p for p in pieces if p.upto is not None]
    return [p.above for before, p in zip(asked, asked[1:], strict=False)
            if outcome(before.choices[prefer]) != outcome(p.choices[prefer])]  # fmt: skip


def _piece(piece: Piece, arms: list[str], texts: dict[str, int]) -> dict[str, Any]:
    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    choices = {}
    for prefer, choice in piece.choices.items():
        known = places(choice)
        choices[prefer] = {
            "head": number(head(choice)),
            "said": number(said(choice)),
            "arms": [[state, number(why)] for state, why in (known.get(arm, ("other", "")) for arm in arms)],
        }
    return {"upto": piece.upto, "choices": choices}


def _arm(row: Headline, advice: Advice, hues: dict[str, str]) -> dict[str, Any]:
    kept = advice.shares.get(row.arm) if row.arm in advice.shares else row.retention
    gain = row.gain and row.gain.contrast.estimate
    scale = 1.0 if row.gain and w.is_nats(row.gain.metric) else 100.0
    return {
        "arm": row.arm,
        "kind": row.kind,
        "hue": hues.get(row.arm, "currentColor"),
        "kept": _ends(kept, 100.0),
        "gain": _ends(gain or None, scale),
        "kept_text": w.tenths(kept),
        "gain_text": w.change(gain or None, row.gain.metric if row.gain else advice.metric),
    }


def _ends(estimate: Estimate | None, scale: float) -> list[float] | None:
    """Value, low and high as drawn; an end that isn't known is left at the value."""
    if estimate is None or not math.isfinite(estimate.value):
        return None
    value = scale * estimate.value
    return [value, *(scale * x if math.isfinite(x) else value for x in (estimate.low, estimate.high))]
