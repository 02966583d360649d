"""The section to browse the items whose answer changed. In: a `View`. Out: a `Section` with a widget, and a short table
for readers without scripts.

The page filters and counts what is here; which flips are here, and their order, is ``flip_choice``'s matter.
"""

from __future__ import annotations

from typing import Any

from rankscope.records import GIVEN
from rankscope.report import wording as w
from rankscope.report.cells import Cell, Section, Table, Widget, columns, where
from rankscope.report.flip_rows import Flip, FlipCell, Flipped, FlippedItem
from rankscope.report.view import View

MOST = 10
"""Lost items in the table."""
EXCERPT_START, EXCERPT_END = 160, 80
"""Characters of a question in the table, from both ends of its last paragraph: examples stand before that."""
EMPTY = "(nothing)"
_HEADS = columns(
    "Item",
    "Right answer",
    "The base's answer",
    "The arm's answers",
    ("Seeds", "Seeds under which the arm's answer was judged wrong, of those that were scored."),
)


def browser(view: View) -> Section | None:
    """Every flip that the page holds, with filters; None where nothing flipped."""
    if not view.flipped.flips:
        return None
    widget = Widget("flips-browser", "flips", "Changed answers, with filters", data(view),
                    "Choosing among the changed answers needs JavaScript. The tables hold the first ones.")  # fmt: skip
    intro = " ".join(_intro(view))
    return Section("flipped", "Items whose answer changed", intro, _tables(view), "Changed items", (widget,))


def _intro(view: View) -> list[str]:
    found = view.flipped
    lost, won = (sum(getattr(cell, name) for cell in found.cells) for name in ("lost", "won"))
    told = [
        f"Against the base {found.total:,} answers changed under at least one seed (one item under one arm counts "
        f"once): {lost:,} right → wrong, {won:,} wrong → right."
    ]
    if len(found.flips) < found.total:
        told.append(
            f"This page holds {len(found.flips):,} of them: those of recommended arms and full SFT first, those under "
            "most seeds first. All: rankscope report STUDY --format json."
        )
    told.append(_chance(view))
    weak = sorted({b.task for b in view.base if b.is_above_chance is False} & {cell.task for cell in found.cells})
    if weak:
        told.append(f"The base is not shown above chance on {w.listing(weak)}: what it got right there may be luck.")
    if found.graded:
        verb = "is" if len(found.graded) == 1 else "are"
        told.append(f"{w.listing(found.graded)} {verb} not scored right or wrong, so nothing flips there.")
    for reason in dict.fromkeys(found.silent.values()):
        names = [task for task, why in found.silent.items() if why == reason]
        told.append(f"The questions of {w.listing(names)} are not shown: {reason.rstrip('.')}.")
    return told


def _chance(view: View) -> str:
    """How much flips by itself: the base against itself, if that was measured."""
    measured = [n for n in view.noise if n.changed is not None]
    said = "An answer also flips by chance where a model wavers, so look first at what flipped under every seed."
    if not measured:
        return f"{said} How often the base alone does so was not measured."
    changed, items = sum(n.changed for n in measured), sum(n.num_items for n in measured)
    return f"{said} The base scored twice, in other batches, changed {changed:,} of {items:,} answers (Noise floor)."


def _start(view: View) -> dict[tuple[str, str], str]:
    """The arm that a reader sees first, by model and train task: the recommended one, or full SFT, or any."""
    cells = view.flipped.cells
    found: dict[tuple[str, str], str] = {}
    for cell in cells:
        found.setdefault((cell.model, cell.train), cell.arm)
    full = {arm.name for arm in view.arms if arm.kind == "full"}
    return found | {(c.model, c.train): c.arm for c in cells if c.arm in full} | _recommended(view)


def _recommended(view: View) -> dict[tuple[str, str], str]:
    cells = {(c.model, c.train, c.arm) for c in view.flipped.cells}
    advised = {(a.model, a.train): a.choice.arm for a in view.advice if a.choice.arm}
    return {block: arm for block, arm in advised.items() if (*block, arm) in cells}


def _given(view: View) -> set[str]:
    return {arm.name for arm in view.arms if arm.kind in GIVEN}


def data(view: View) -> dict[str, Any]:
    """What ``assets/flips.js`` draws from, each text once: a flip is [cell, item, 1 if lost, "01" by seed, answers].

    A cell is [block, arm, task, role, seeds, items, lost, won]; an item [task, id, subject, prompt, choices, right
    answer, the base's answer by model]. All but texts, seeds and counts are places in the lists beside. ``given`` are
    arms that existed already, so that they have no seed. Seeds are text: the bits of a script's number are too few.
    """
    found, start, given = view.flipped, _start(view), _given(view)
    blocks = list(dict.fromkeys((c.model, c.train) for c in found.cells))
    arms, tasks = (list(dict.fromkeys(getattr(c, name) for c in found.cells)) for name in ("arm", "task"))
    subjects = sorted({item.subject for item in found.items})
    models = list(dict.fromkeys(c.model for c in found.cells))
    best, first = _recommended(view), blocks[0]
    return {
        "blocks": [[where(view, *block), _option(view, *block), models.index(block[0])] for block in blocks],
        "arms": arms,
        "tasks": tasks,
        "subjects": subjects,
        "recommended": [arms.index(best[block]) if block in best else -1 for block in blocks],
        "start": {"block": 0, "arm": arms.index(start[first])},
        "given": [place for place, arm in enumerate(arms) if arm in given],
        "silent": [found.silent.get(task, "") for task in tasks],
        "cells": [
            [blocks.index((c.model, c.train)), arms.index(c.arm), tasks.index(c.task), c.role.replace("_", "-"),
             c.seeds, c.num_items, c.lost, c.won]
            for c in found.cells
        ],
        "items": [_item(item, tasks, subjects, models) for item in found.items],
        "flips": [
            [f.cell, f.item, int(f.is_lost), "".join("1" if moved else "0" for moved in f.under), f.answers]
            for f in found.flips
        ],
    }  # fmt: skip


def _option(view: View, model: str, train: str) -> str:
    return w.source(train) if len(view.models) == 1 else f"{w.source(train)}, {model}"


def _item(item: FlippedItem, tasks: list[str], subjects: list[str], models: list[str]) -> list[Any]:
    right = item.target if item.answer is None else item.answer
    before = [item.before.get(model) for model in models]
    return [tasks.index(item.task), item.item, subjects.index(item.subject), item.prompt, item.choices, right, before]


def _tables(view: View) -> tuple[Table, ...]:
    """The most consistent losses of the arm that is recommended, for each model and train task."""
    found, given, tables = view.flipped, _given(view), []
    for i, ((model, train), arm) in enumerate(_start(view).items()):
        cells = {n for n, c in enumerate(found.cells) if (c.model, c.train, c.arm) == (model, train, arm)}
        mine = [f for f in found.flips if f.cell in cells and f.is_lost]
        mine = sorted(mine, key=lambda f: -sum(f.under) / len(f.under))[:MOST]
        rows = tuple(_row(found, flip, arm in given) for flip in mine)
        of = sum(found.cells[n].lost for n in cells)
        which = f"{len(rows)}" if arm in given else f"the {len(rows)} under most seeds,"
        some = f" ({which} of {of:,})" if len(rows) < of else ""
        caption = f"Right before, wrong with {arm}, {where(view, model, train)}{some}"
        empty = "No answer that was right became wrong."
        tables.append(Table(f"flipped-{i}", caption, _HEADS, rows, (4,), empty, is_folded=True))
    return tuple(tables)


def _row(found: Flipped, flip: Flip, is_given: bool) -> tuple[Cell, ...]:
    item, cell = found.items[flip.item], found.cells[flip.cell]
    right = item.target if item.answer is None else item.choices[item.answer]
    place = ", ".join(part for part in (cell.task, item.subject.replace("_", " "), item.item) if part)
    return (
        Cell(_excerpt(item.prompt) if item.prompt else w.NOTHING, place),
        Cell(right or w.NOTHING),
        Cell(_said(item, item.before.get(cell.model, ""))),
        Cell(_by_seed(cell, item, flip)),
        Cell(w.NOTHING if is_given else f"{sum(flip.under)} of {len(flip.under)}"),
    )


def _excerpt(prompt: str) -> str:
    own = prompt.strip().split("\n\n")[-1]
    is_short = len(own) <= EXCERPT_START + EXCERPT_END
    return own if is_short else f"{own[:EXCERPT_START]} … {own[-EXCERPT_END:]}"


def _said(item: FlippedItem, answer: int | str) -> str:
    return item.choices[answer] if isinstance(answer, int) else answer or EMPTY


def _by_seed(cell: FlipCell, item: FlippedItem, flip: Flip) -> str:
    """The answers, each once with its seeds; no seeds where all agree."""
    seeds: dict[str, list[int]] = {}
    for seed, answer in zip(cell.seeds, flip.answers, strict=True):
        seeds.setdefault(_said(item, answer), []).append(seed)
    if len(seeds) == 1:
        return next(iter(seeds))
    return "; ".join(f"{said} (seed {', '.join(map(str, own))})" for said, own in seeds.items())
