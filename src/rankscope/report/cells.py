"""What the report's tables are made of: cells of finished text, tables, sections. Knows nothing about HTML or
markdown.
"""

from __future__ import annotations

from dataclasses import dataclass

from rankscope.report.view import View
from rankscope.report.wording import trained

TONES = {"better": "good", "worse": "bad", "equivalent": "even", "undecided": "open"}
AT_CHANCE = "base not above chance"


@dataclass(frozen=True)
class Cell:
    """One cell: ``text``, a ``note`` in small print under it, and a tone ('good', 'bad', 'open', 'even', 'flag',
    'quiet').
    """

    text: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """``rows`` hold one cell per column; the first cell is the row's heading. ``numeric`` columns are set flush
    right.
    """

    id: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[int, ...] = ()
    empty: str = "Nothing recorded."


@dataclass(frozen=True)
class Section:
    """One section of the page; charts of the same ``id`` stand before the tables. ``short`` is for the navigation."""

    id: str
    title: str
    intro: str
    tables: tuple[Table, ...]
    short: str = ""


def role_words(role: str, is_above_chance: bool | None) -> str:
    return role.replace("_", "-") + (f"; {AT_CHANCE}" if is_above_chance is False else "")


def where(view: View, model: str, train: str) -> str:
    return trained(train) if len(view.models) == 1 else f"{model}, {trained(train)}"
