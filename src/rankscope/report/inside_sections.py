"""The sections about the inside of the model: what changed where, by kind of module, and how far it reaches. In: a
`View`. Out: `Section`s. Sections about what each part carries are in `rankscope.report.cause_sections`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from rankscope.records import Estimate
from rankscope.report import depth
from rankscope.report import wording as w
from rankscope.report.cells import Cell, Section, Table, columns, where
from rankscope.report.depth import QUANTITIES, Quantity
from rankscope.report.inside_rows import InsideRow, Reach, Spectrum
from rankscope.report.view import View

SEEDS = "Square brackets: 95 % interval, Student's t over seeds; one seed has none."
_UPDATE = ("total norm", depth.CHANGE, "stable rank", depth.RANK, "energy rank 90", "energy rank 99", "utilisation",
           depth.INTRUDERS, "interference")  # fmt: skip
_BEHAVIOUR = (depth.CKA, "cosine distance", "sink", "hidden rank", depth.ATTENTION, "entropy", "distance",
              "first token")  # fmt: skip
ROW_HOW = f"As in the summary, of this layer alone. {SEEDS}"
KIND_HOW = f"As in the summary, over the layers' modules of this kind. {SEEDS}"


def inside(view: View) -> Section | None:
    """Where in depth the model changed; opens with a sentence on whether gain or forgetting sit there."""
    if not view.inside.rows and not view.inside.unread:
        return None
    several = len(view.inside.leads) > 1
    leads = [f"{where(view, m, t).capitalize()}: {said}" if several else said for m, t, said in view.inside.leads]
    tables: list[Table] = []
    for i, (model, train) in enumerate(view.blocks):
        rows = [r for r in view.inside.rows if (r.model, r.train) == (model, train)]
        place = where(view, model, train)
        tables += _update_table(f"inside-{i}", f"The update, {place}", rows)
        tables += _behaviour_table(f"behaviour-{i}", f"Hidden states and attention, {place}", rows)
        tables += _layer_tables(i, place, rows)
    if view.inside.unread:
        cells = tuple((Cell(u.arm), Cell(u.name), Cell(u.why)) for u in view.inside.unread)
        tables.append(Table("unread", "Not measured", columns("Arm", "Diagnostic", "Why"), cells))
    return Section("inside", "Where the model changed", " ".join(leads), tuple(tables), "Inside")


def _update_table(name: str, caption: str, rows: list[InsideRow]) -> list[Table]:
    """One row an arm: numbers of the weights' change."""
    known = {(r.arm, r.name): r for r in rows if r.layer is None and not r.kind and not r.part}
    shown = [q for q in QUANTITIES if q.name in _UPDATE and any(key[1] == q.name for key in known)]
    if not shown:
        return []
    shown.sort(key=lambda q: _UPDATE.index(q.name))
    heads = columns("Arm", *((q.title, f"{q.how} {SEEDS}") for q in shown))
    arms = dict.fromkeys(arm for arm, _ in known)
    cells = tuple((Cell(arm), *(cell_of(known.get((arm, q.name)), q.scale) for q in shown)) for arm in arms)
    return [Table(name, caption, heads, cells, tuple(range(1, len(heads))))]


def _behaviour_table(name: str, caption: str, rows: list[InsideRow]) -> list[Table]:
    """One row an arm and set of prompts: what the change did to hidden states and attention."""
    known = {(r.arm, r.part, r.name): r for r in rows if r.layer is None and not r.kind and r.part}
    shown = [q for q in QUANTITIES if q.name in _BEHAVIOUR and any(key[2] == q.name for key in known)]
    if not shown:
        return []
    heads = columns("Arm", "Prompts", *((q.title, f"{q.how} {SEEDS}") for q in shown))
    places = dict.fromkeys((part, arm) for arm, part, _ in known)
    cells = tuple((Cell(arm), Cell(part), *(cell_of(known.get((arm, part, q.name)), q.scale) for q in shown))
                  for part, arm in places)  # fmt: skip
    return [Table(name, caption, heads, cells, tuple(range(2, len(heads))))]


def _layer_tables(number_of: int, place: str, rows: list[InsideRow]) -> list[Table]:
    """What the heat maps draw: one table a quantity and set of prompts, layers in order, arms beside each other."""
    tables = []
    for quantity in (q for q in QUANTITIES if q.is_by_layer):
        mine = [r for r in rows if r.name == quantity.name and (r.layer is not None or r.kind == depth.EMBEDDING)]
        for part in dict.fromkeys(r.part for r in mine):
            found = {(_layer(r), r.arm): r for r in mine if r.part == part}
            layers = sorted({layer for layer, _ in found}, key=lambda text: (text.isdigit(), text.zfill(4)))
            name = f"layers-{number_of}-{'-'.join([*quantity.name.lower().split(), part]).rstrip('-')}"
            tables.append(_grid(name, _titled(quantity, part, "by layer", place), ("Layer", layers), found,
                                (quantity.scale, ROW_HOW)))  # fmt: skip
    return tables


def _layer(row: InsideRow) -> str:
    return depth.EMBEDDING if row.layer is None else str(row.layer)


def kinds(view: View) -> Section | None:
    """The same by kind of module, and the spectra of the updates."""
    if not view.inside.spectra:
        return None
    tables: list[Table] = []
    for i, (model, train) in enumerate(view.blocks):
        place = where(view, model, train)
        rows = [r for r in view.inside.rows if (r.model, r.train) == (model, train) and r.kind and not r.part]
        for quantity in (q for q in QUANTITIES if q.is_by_layer):
            found = {(r.kind, r.arm): r for r in rows if r.name == quantity.name}
            if found:
                name = f"kinds-{i}-{'-'.join(quantity.name.lower().split())}"
                tables.append(_grid(name, _titled(quantity, "", "by kind of module", place),
                                    ("Modules", by_size(found)), found, (quantity.scale, KIND_HOW)))  # fmt: skip
        spectra = [s for s in view.inside.spectra if (s.model, s.train) == (model, train)]
        tables += _spectra_table(f"spectra-{i}", f"Singular values relative to the largest, {place}", spectra)
    intro = (
        "How the update is spread over directions: singular values of dW relative to the largest, medians over layers "
        "and seeds. A curve that falls early uses little of its rank; LoRA's ends at its rank."
    )
    return Section("kinds", "Kinds of modules and spectra", intro, tuple(tables), "Spectra")


def by_size(found: dict[tuple[str, str], InsideRow]) -> list[str]:
    """The rows' names, the one with the largest mean first."""
    sizes: dict[str, list[float]] = {}
    for (name, _), row in found.items():
        sizes.setdefault(name, []).append(row.estimate.value if row.estimate else 0.0)
    return sorted(sizes, key=lambda name: (-sum(sizes[name]) / len(sizes[name]), name))


def _spectra_table(name: str, caption: str, spectra: list[Spectrum]) -> list[Table]:
    places = sorted({p for s in spectra for p in s.positions if p & (p - 1) == 0 and p > 1})
    if not places:
        return []
    how = "Median over layers and seeds of the singular value at this place, the largest being 1."
    count = ("Matrices", "Matrices of this kind over layers and seeds, those without any change left out.")
    heads = columns("Arm", "Modules", *((f"No. {p}", how) for p in places), count)
    cells = []
    for s in spectra:
        known = dict(zip(s.positions, s.shares, strict=True))
        values = (Cell(f"{known[p]:.3g}") if p in known else Cell(w.NOTHING, "", "quiet") for p in places)
        cells.append((Cell(s.arm), Cell(s.kind), *values, Cell(f"{s.num_matrices:,}")))
    return [Table(name, caption, heads, tuple(cells), tuple(range(2, len(heads))), is_folded=True)]


def reach(view: View) -> Section | None:
    """KL to the base by position in the text."""
    if not view.inside.reach:
        return None
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        mine = [r for r in view.inside.reach if (r.model, r.train) == (model, train)]
        tables += _reach_table(f"reach-{i}", f"KL to the base by position, nats per token, {where(view, model, train)}",
                               mine)  # fmt: skip
    intro = "How far the next-token distribution has moved from the base's, by place in the text."
    return Section("reach", "Distance from the base along the text", intro, tuple(tables), "Along the text")


def _reach_table(name: str, caption: str, rows: list[Reach]) -> list[Table]:
    if not rows:
        return []
    longest = max((r.buckets for r in rows), key=len)
    how = f"KL(base || arm) over the whole vocabulary, mean over the tokens at these positions. {SEEDS}"
    heads = columns("Arm", "Prompts", *((positions(b), how) for b in longest))
    cells = tuple(
        (Cell(r.arm), Cell(r.part or w.NOTHING),
         *(number(r.estimates[i] if i < len(r.estimates) else None) for i in range(len(longest))))
        for r in sorted(rows, key=lambda r: r.part)
    )  # fmt: skip
    return [Table(name, caption, heads, cells, tuple(range(2, len(heads))), is_folded=True)]


def positions(bucket: tuple[int, int]) -> str:
    """A range of positions as a heading: '1', '5–8'."""
    return str(bucket[0]) if bucket[0] == bucket[1] else f"{bucket[0]}–{bucket[1]}"


def cell_of(row: InsideRow | None, scale: float = 1.0) -> Cell:
    """A row's number; what was read and is not defined there is told from what was not measured."""
    if row is not None and row.estimate is None and row.is_read:
        return Cell(w.NOTHING, "not defined", "quiet")
    return number(row.estimate if row is not None else None, scale)


def number(estimate: Estimate | None, scale: float = 1.0) -> Cell:
    """A number over seeds with its interval, or why it has none."""
    if estimate is None or not math.isfinite(estimate.value):
        return Cell(w.NOTHING, "not measured", "quiet")
    if estimate.num_seeds < 2:
        return Cell(short(scale * estimate.value), "one seed: no interval")
    return Cell(short(scale * estimate.value), f"[{short(scale * estimate.low)}, {short(scale * estimate.high)}]")


def short(value: float) -> str:
    """Three significant digits with a real minus."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}") if value else "0"


def _titled(quantity: Quantity, part: str, how: str, place: str) -> str:
    prompts = f" on {part} prompts" if part else ""
    return f"{quantity.title} {how}{prompts}, {place}"


def _grid(
    name: str, caption: str, side: tuple[str, Iterable[str]], found: dict[tuple[str, str], InsideRow],
    told: tuple[float, str],
) -> Table:  # fmt: skip
    """A folded table of what ``found`` has by (row, arm); ``told`` is the scale and how its numbers came to be."""
    title, names = side
    scale, how = told
    arms = dict.fromkeys(arm for _, arm in found)
    cells = tuple((Cell(row), *(cell_of(found.get((row, arm)), scale) for arm in arms)) for row in names)
    heads = columns(title, *((arm, how) for arm in arms))
    return Table(name, caption, heads, cells, tuple(range(1, len(heads))), is_folded=True)
