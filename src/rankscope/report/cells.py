"""What the report's tables are made of: cells of finished text, tables, sections. Knows nothing about HTML or
markdown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
class Column:
    """A column's heading, and in one plain sentence ``how`` its numbers came to be: formula, what the interval
    covers, source. Empty only where nothing was computed (names, words).
    """

    title: str
    how: str = ""


def columns(*given: str | tuple[str, str]) -> tuple[Column, ...]:
    """Columns from titles, or from (title, how) pairs where there is something to explain."""
    return tuple(Column(c) if isinstance(c, str) else Column(*c) for c in given)


@dataclass(frozen=True)
class Table:
    """``rows`` hold one cell per column; the first cell is the row's heading. ``numeric`` columns are set flush
    right, and every one of them says how it was computed. ``is_folded``: on the page it is opened by a click.
    """

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: tuple[int, ...] = ()
    empty: str = "Nothing recorded."
    is_folded: bool = False

    @property
    def titles(self) -> tuple[str, ...]:
        return tuple(column.title for column in self.columns)


@dataclass(frozen=True)
class Widget:
    """A part of the page that answers to its reader, drawn by ``assets/KIND.js`` from ``data`` (JSON-ready).

    ``title`` names it for screen readers; ``without`` says where the same numbers stand if no script runs.
    """

    id: str
    kind: str
    title: str
    data: Any
    without: str = "This part needs JavaScript. The tables of this section hold the same numbers."


@dataclass(frozen=True)
class Step:
    """One step of a process: ``state`` is 'done', 'partly', 'next' or 'not built'."""

    title: str
    text: str
    state: str


@dataclass(frozen=True)
class Section:
    """One section of the page; steps, charts of the same ``id`` and widgets stand before the tables. ``short`` is for
    the navigation.
    """

    id: str
    title: str
    intro: str
    tables: tuple[Table, ...]
    short: str = ""
    widgets: tuple[Widget, ...] = ()
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Part:
    """One of the page's few parts. ``opening`` is its first sentence, written from the numbers."""

    id: str
    title: str
    opening: str
    sections: tuple[Section, ...]
    short: str = ""


def notes(*tables: Table) -> dict[str, tuple[str, ...]]:
    """How columns were computed, each sentence once and in order, with the titles of the columns it is about."""
    found: dict[str, dict[str, None]] = {}
    for column in (c for table in tables if table.rows for c in table.columns if c.how):
        found.setdefault(column.how, {})[column.title] = None
    return {how: tuple(titles) for how, titles in found.items()}


def joined(cell: Cell) -> str:
    """A cell on one line: the note follows in brackets, unless it is an interval, which has its own."""
    if not (cell.text and cell.note):
        return cell.text or cell.note
    return f"{cell.text} {cell.note}" if cell.note.startswith("[") else f"{cell.text} ({cell.note})"


def role_words(role: str, is_above_chance: bool | None) -> str:
    return role.replace("_", "-") + (f"; {AT_CHANCE}" if is_above_chance is False else "")


def where(view: View, model: str, train: str) -> str:
    return trained(train) if len(view.models) == 1 else f"{model}, {trained(train)}"
