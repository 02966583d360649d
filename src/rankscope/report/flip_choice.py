"""Which flipped items a report holds, and with which texts. In: an evidence `Index`, the recommendations. Out: a
`Flipped`.

A file must stay small however large the study is: flips are taken in the order of their interest until their text
fills ``most_bytes``. Legend: N items, S seeds, F flips.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import product

import numpy as np

from rankscope.report.answer_rows import Advice
from rankscope.report.evidence import Index, Run, difference
from rankscope.report.flip_rows import Flip, FlipCell, Flipped, FlippedItem, ItemText
from rankscope.report.tables import blocks

MOST_BYTES = 2_000_000
"""What flips may take of a page, as JSON."""
MOST_FLIPS = 10_000
"""More than these no page holds, however short their texts: it must stay quick, too."""
PROMPT_START, PROMPT_END = 400, 800
"""Characters kept of a long prompt; its end, where the question stands, counts more."""
MOST_TEXT = 400
"""Characters kept of a choice or an answer."""
NOT_READ = "the rows were not read for this report"

_Cell = tuple[FlipCell, tuple[Run, ...], tuple[str, ...], np.ndarray]


def flipped(index: Index, advice: tuple[Advice, ...], most_bytes: int | None = MOST_BYTES) -> Flipped:
    """Flips of every arm against its base, on tasks scored right or wrong. ``most_bytes`` None: all of them.

    Else at most ``MOST_FLIPS``.
    """
    cells, graded = _cells(index)
    builder = _Builder(index, [found[0] for found in cells])
    first = {(a.model, a.train, a.choice.arm) for a in advice if a.choice.arm is not None}
    full = {arm.name for arm in index.tuned_arms if arm.kind == "full"}
    is_first = [c.arm in full or (c.model, c.train, c.arm) in first for c, *_ in cells]
    for number, place in _ordered([change for *_, change in cells], is_first):
        if not builder.add(number, cells[number], place, most_bytes):
            break
    known = index.evidence.items
    silent = {c.task: known.get(c.task, NOT_READ) for c, *_ in cells if not isinstance(known.get(c.task), dict)}
    return Flipped(tuple(c for c, *_ in cells), tuple(builder.items), tuple(builder.flips), graded, silent)


def _cells(index: Index) -> tuple[list[_Cell], tuple[str, ...]]:
    """Every arm and task with the arm's runs, its items and changes (S, N); and the tasks that can't flip."""
    found, graded = [], {}
    for (model, train), arm in product(blocks(index), index.tuned_arms):
        base, finals = index.base(model), index.finals(model, train, arm.name)
        for task, role in index.tasks(train):
            before, after = index.panel((base,) if base else (), task), index.panel(finals, task)
            change = difference(after, before, against_base=True)
            if change is None:
                continue
            if change.changed is None:
                graded[task] = None
                continue
            lost, won = (int((sign * change.values > 0.5).any(axis=0).sum()) for sign in (-1, 1))
            runs = tuple(run for run in finals if index.evaluation(run, task) is not None)
            cell = FlipCell(model, train, arm.name, task, role, change.seeds, len(change.items), lost, won)
            found.append((cell, runs, change.items, change.values))
    return found, tuple(graded)


def _ordered(changes: list[np.ndarray], is_first: list[bool]) -> Iterable[tuple[int, int]]:
    """(cell, item) of every flip: first the cells that matter most, then what flips under most seeds, cells in turn."""
    parts = []  # (5, F) each: tier, -share of seeds, turn, cell, item
    for number, change in enumerate(changes):
        share = (np.abs(change) > 0.5).mean(axis=0)  # (N,)
        items = np.flatnonzero(share)
        items = items[np.argsort(-share[items], kind="stable")]
        count = len(items)
        tier = 0.0 if is_first[number] else 1.0
        parts.append(np.stack([np.full(count, tier), -share[items], np.arange(count), np.full(count, number), items]))
    if not parts:
        return ()
    whole = np.concatenate(parts, axis=1)  # (5, F)
    order = np.lexsort(whole[3::-1])
    return ((int(cell), int(item)) for cell, item in whole[3:, order].T)


class _Builder:
    """Flips and their items as they are taken; an item's texts count once."""

    def __init__(self, index: Index, cells: list[FlipCell]):
        self.index = index
        self.items: list[FlippedItem] = []
        self.flips: list[Flip] = []
        self._places: dict[tuple[str, str], int] = {}
        self._models = tuple(dict.fromkeys(cell.model for cell in cells))
        self._answers: dict[tuple[str, str], dict[str, str]] = {}
        self._subjects: dict[str, dict[str, str]] = {}
        self._bytes = 0

    def add(self, number: int, found: _Cell, place: int, most_bytes: int | None) -> bool:
        """Whether the flip still fits; the first that doesn't is the last that is asked."""
        cell, runs, names, change = found
        name, moved = names[place], change[:, place]
        at = self._places.get((cell.task, name), len(self.items))
        item = self.items[at] if at < len(self.items) else self._item(cell.task, name)
        answers = tuple(self._answer(run, cell.task, name) for run in runs)
        flip = Flip(number, at, bool((moved < -0.5).any()), tuple(bool(m) for m in np.abs(moved) > 0.5), answers)
        self._bytes += _size(answers) + len(flip.under) + 20 + (0 if at < len(self.items) else _item_size(item))
        if most_bytes is not None and (self._bytes > most_bytes or len(self.flips) == MOST_FLIPS):
            return False
        if at == len(self.items):
            self._places[cell.task, name] = at
            self.items.append(item)
        self.flips.append(flip)
        return True

    def _item(self, task: str, name: str) -> FlippedItem:
        bases = [(model, self.index.base(model)) for model in self._models]
        before = {model: self._answer(run, task, name) for model, run in bases if self.index.evaluation(run, task)}
        text, subject = self._text(task, name), self._subject(task, name)
        if text is None:
            return FlippedItem(task, name, subject, None, (), "", None, before)
        prompt = shortened(text.prompt, PROMPT_START, PROMPT_END)
        choices = tuple(_short(choice.strip()) for choice in text.choices)
        return FlippedItem(task, name, subject, prompt, choices, _short(text.target.strip()), text.answer, before)

    def _text(self, task: str, name: str) -> ItemText | None:
        known = self.index.evidence.items.get(task)
        return known.get(name) if isinstance(known, dict) else None

    def _subject(self, task: str, name: str) -> str:
        if task not in self._subjects:
            bases = (self.index.evaluation(self.index.base(model), task) for model in self._models)
            self._subjects[task] = {s.item: s.subject for found in bases if found for s in found.scores if s.subject}
        return self._subjects[task].get(name, "")

    def _answer(self, run: Run | None, task: str, name: str) -> int | str:
        """What a run answered: the place of the choice, if it is one of the item's, or the text."""
        own = (run.key, task)
        if own not in self._answers:
            self._answers[own] = {s.item: s.response for s in self.index.evaluation(run, task).scores}
        said, text = self._answers[own].get(name, ""), self._text(task, name)
        if text is not None and text.choices:
            called = text.names or tuple(choice.strip() for choice in text.choices)
            if text.answer is not None and called[text.answer] == said:
                return text.answer  # of choices with the same text the right one was meant: the scorer says so, too
            if said in called:
                return called.index(said)
        return _short(said.strip())


def shortened(text: str, start: int, end: int) -> str:
    """The text, or its start and end with a note of how much between them was left out."""
    left = len(text) - start - end
    return text if left <= 0 else f"{text[:start]} [… {left:,} characters left out …] {text[-end:]}"


def _short(text: str) -> str:
    return shortened(text, MOST_TEXT // 2, MOST_TEXT // 2)


def _item_size(item: FlippedItem) -> int:
    texts = [
        item.item,
        item.prompt,
        item.choices,
        item.target if item.answer is None else "",
        list(item.before.values()),
    ]
    return _size(texts) + 20


def _size(value: object) -> int:
    """Bytes as JSON inside a page, where ``<`` is written as an escape."""
    text = json.dumps(value, separators=(",", ":"))
    return len(text) + 5 * text.count("<")
