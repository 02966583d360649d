"""The sections about what each part of an update carries, what a lower rank keeps, and the claims. In: a `View`. Out:
`Section`s.
"""

from __future__ import annotations

from rankscope.records import Estimate
from rankscope.report import wording as w
from rankscope.report.answers import claims_table
from rankscope.report.causes import VALIDATION, place_words
from rankscope.report.cells import Cell, Section, Table, columns, role_words, where
from rankscope.report.family import POOLED
from rankscope.report.hows import ORDINARY
from rankscope.report.inside_rows import Carried, Kept, Seat, Truncated
from rankscope.report.inside_sections import short
from rankscope.report.view import View

_ROLES = ("in_domain", "retention", VALIDATION, "cross_domain")
_MARKS = {"positive": ("▲ ", "good"), "negative": ("▼ ", "bad"), "": ("", "")}
_LOST = (
    "Score with the whole update minus with this part switched off, mean over items of the paired difference; "
    "positive: the part helps. ▲ ▼: the interval that holds together over this arm's blocks, or over its kinds of "
    "modules, in this column excludes 0 (Bonferroni). "
)
_GAINED = "Score with this part of the update alone minus the base, in the same way. "


def attribution(view: View) -> Section | None:
    """What each block of layers and each kind of module carries, both ways."""
    if not view.inside.carried:
        return None
    tables: list[Table] = []
    for i, (model, train) in enumerate(view.blocks):
        place = where(view, model, train)
        tables += _seat_table(view, i, model, train, place)
        tables += _kept_table(view, i, model, train, place)
        mine = [c for c in view.inside.carried if (c.model, c.train) == (model, train)]
        for j, task in enumerate(dict.fromkeys(c.task for c in mine)):
            rows = [c for c in mine if c.task == task]
            tables.append(_carried_table(f"carried-{i}-{j}", f"{_on(view, rows[0])}: what each part carries, {place}",
                                         rows))  # fmt: skip
    intro = (
        "The update of one block of layers, or of one kind of module, is switched off, or left on alone, and the same "
        "items are scored again. The two need not agree and don't add up to the whole, so there are no shares."
    )
    return Section("attribution", "Which part carries the gain and the forgetting", intro, tuple(tables), "Causes")


def _seat_table(view: View, number: int, model: str, train: str, place: str) -> list[Table]:
    rows = [s for s in view.inside.seats if (s.model, s.train) == (model, train)]
    if not rows:
        return []
    heads = columns(
        "Arm",
        "On",
        (
            "Whole update, points (losses: nats)",
            f"Score with the whole update minus the base's on the same items. {ORDINARY}",
        ),
        "Blocks that may carry most of it",
        ("Most, switched off, points (losses: nats)", f"{_LOST}{ORDINARY}"),
    )
    cells = []
    for s in sorted(rows, key=lambda s: (_ROLES.index(s.role), s.task != POOLED, s.task)):
        if s.whole.low <= 0 <= s.whole.high:
            said = Cell("no change is shown", "", "open")
        elif not s.is_shown:
            said = Cell("not shown for any block", "", "open")
        elif len(s.places) == s.num_places:
            said = Cell("not told apart", "", "open")
        else:
            said = Cell(" or ".join(map(place_words, s.places)), "", "even")
        on = Cell(s.task, role_words(s.role, _above(view, s)))
        cells.append((Cell(s.arm), on, _change(s.whole, s.metric), said, _change(s.largest, s.metric)))
    return [Table(f"seats-{number}", f"Where the change of scores sits, {place}", heads, tuple(cells), (2, 4))]


def _kept_table(view: View, number: int, model: str, train: str, place: str) -> list[Table]:
    rows = [k for k in view.inside.kept if (k.model, k.train) == (model, train)]
    if not rows:
        return []
    how = (
        "Fall of the validation loss with these parts of the update alone, divided by the fall with all of it, on the "
        "rows that chose them, which flatters it: the interval (delta method) leaves that out. Steps are the "
        "first seed's; a proposal's seeds are those that made it."
    )
    heads = columns("Arm", "Step", "Layers kept", "Rank by kind", ("Share of the validation gain, %", how))
    cells = tuple((Cell(k.arm), Cell(k.variant), Cell(_stretches(k.layers)), Cell(_ranks(k)), _share(k)) for k in rows)
    caption = f"Fewer layers and lower ranks, chosen on validation rows, {place}"
    return [Table(f"kept-{number}", caption, heads, cells, (4,))]


def _stretches(layers: tuple[int, ...]) -> str:
    """Neighbouring layers as ranges: '0–2, 6, 9–11'."""
    found: list[list[int]] = []
    for layer in sorted(layers):
        if found and layer == found[-1][1] + 1:
            found[-1][1] = layer
        else:
            found.append([layer, layer])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in found) or "none"


def _ranks(row: Kept) -> str:
    return ", ".join(f"{kind} {rank or 'left out'}" for kind, rank in row.kind_ranks) or w.NOTHING


def _share(row: Kept) -> Cell:
    if row.share is None:
        return Cell(w.NOTHING, row.why, "quiet")
    value, low, high = (f"{100 * x:.1f}".replace("-", "\N{MINUS SIGN}") for x in
                        (row.share.value, row.share.low, row.share.high))  # fmt: skip
    return Cell(value, f"[{low}, {high}]{_scope(row.share)}")


def _carried_table(name: str, caption: str, rows: list[Carried]) -> Table:
    unit = w.unit(rows[0].metric)
    heads = columns("Arm", "Part of the update", (f"Lost when switched off, {unit}", f"{_LOST}{ORDINARY}"),
                    (f"Gained when alone, {unit}", f"{_GAINED}{ORDINARY}"))  # fmt: skip
    cells = tuple(
        (Cell(c.arm), Cell(c.kind or place_words(c.place)),
         _change(c.lost, c.metric, c.lost_mark), _change(c.gained, c.metric, c.gained_mark))
        for c in rows
    )  # fmt: skip
    return Table(name, caption, heads, cells, (2, 3), is_folded=True)


def _on(view: View, row: Carried | Truncated) -> str:
    """The task with what it is for; one on which the base shows nothing is flagged."""
    role = role_words(row.role, _above(view, row))
    return row.task if row.role == row.task else f"{row.task} ({role})"


def _above(view: View, row: Carried | Truncated | Seat) -> bool | None:
    known = (b.is_above_chance for b in view.base if (b.model, b.task) == (row.model, row.task))
    return next(known, None)


def _change(estimate: Estimate | None, metric: str, mark: str = "") -> Cell:
    if estimate is None:
        return Cell(w.NOTHING, "not measured", "quiet")
    value, _, interval = w.change(estimate, metric).partition(" ")
    sign, tone = _MARKS[mark]
    return Cell(f"{sign}{value}", f"{interval}{_scope(estimate)}", tone)


def _scope(estimate: Estimate) -> str:
    return f" {said}" if (said := w.one_seed(estimate)) else ""


def truncation(view: View) -> Section | None:
    """What an update cut to a lower rank still scores, beside arms trained at that rank."""
    if not view.inside.truncated:
        return None
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        mine = [t for t in view.inside.truncated if (t.model, t.train) == (model, train)]
        for j, task in enumerate(dict.fromkeys(t.task for t in mine)):
            rows = [t for t in mine if t.task == task]
            own = {arm.name: arm.rank for arm in view.arms}
            caption = f"{_on(view, rows[0])} after cutting the rank, {where(view, model, train)}"
            tables.append(_cut_table(f"truncation-{i}-{j}", caption, rows, own))
    intro = (
        "The best approximation of each trained update at a lower rank, scored on the items of the arms that were "
        "really trained at that rank. Where it is no worse, the rank can be cut after training; that an interval "
        "includes 0 does not show it."
    )
    return Section("truncation", "Cut to a lower rank after training", intro, tuple(tables), "Truncation")


def _cut_table(name: str, caption: str, rows: list[Truncated], own: dict[str, int | None]) -> Table:
    kind = "nats" if w.is_nats(rows[0].metric) else "%"
    how = f"Mean score of the update cut to this rank (Eckart and Young 1936). {ORDINARY}"
    other = f"Mean score on the same items of the arm that was trained at this rank. {ORDINARY}"
    gap = f"Paired difference on the same items and seeds, positive: the cut update is better. {ORDINARY}"
    heads = columns("Arm", ("Cut to rank", "Largest singular values kept, per matrix."), (f"Score, {kind}", how),
                    (f"Trained at that rank, {kind}", other),
                    (f"Cut minus trained, {w.unit(rows[0].metric)}", gap))  # fmt: skip
    cells = []
    for t in rows:
        value, _, interval = w.score(t.score, t.metric).partition(" ")
        mine = Cell(value, f"{interval}{_scope(t.score)}")
        theirs, apart = (
            Cell(w.NOTHING, "the arm itself" if t.rank in (None, own.get(t.arm)) else "no such arm", "quiet"),
            Cell(w.NOTHING),
        )
        if t.trained is not None:
            value, _, interval = w.score(t.trained, t.metric).partition(" ")
            theirs, apart = Cell(value, f"{t.trained_arm}, {interval}{_scope(t.trained)}"), _change(t.gap, t.metric)
        cells.append((Cell(t.arm), Cell("whole" if t.rank is None else str(t.rank)), mine, theirs, apart))
    return Table(name, caption, heads, tuple(cells), (1, 2, 3, 4), is_folded=rows[0].role != "in_domain")


def mechanism(view: View) -> Section | None:
    """The claims about the inside with their answers, then what is only explored."""
    if not view.inside.questions:
        return None
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        place = where(view, model, train)
        mine = [q for q in view.inside.questions if (q.model, q.train) == (model, train)]
        if mine:
            tables.append(claims_table(f"mechanism-{i}", f"Claims about the inside, {place}", mine))
        rows = tuple((Cell(f.name), Cell(f.value), Cell(f.why)) for f in view.inside.findings
                     if (f.model, f.train) == (model, train))  # fmt: skip
        if rows:
            heads = columns("What", "Found", "From")
            tables.append(Table(f"explored-{i}", f"Exploratory, {place}", heads, rows))
        tables += _points_table(view, i, model, train, place)
    intro = (
        f"What has been reported of other models ({view.inside.questions[0].source}), asked of this one. Each claim is "
        "a family of its own at 95 %; a run gives one number, so intervals are over seeds. Correlations are "
        "exploratory: they cover few arms, and nothing is concluded from them."
    )
    return Section("mechanism", "Claims about the inside: do they hold here?", intro, tuple(tables), "Mechanism")


def _points_table(view: View, number: int, model: str, train: str, place: str) -> list[Table]:
    rows = [p for p in view.inside.points if (p.model, p.train) == (model, train)]
    if not rows:
        return []
    lost = "Points forgotten" if rows[0].metric == "accuracy" else "CE rise, nats"
    heads = columns(
        "Arm",
        ("Seed", "The seed of data order, initial weights and dropout, as declared."),
        ("Intruders", "Intruder dimensions of the run, summed over matrices."),
        ("KL on train rows, nats", "KL(base || arm) on rows like the training rows, mean over items."),
        (lost, "Base minus arm on the retention tasks, mean over items and tasks, this run alone."),
    )
    cells = tuple(
        (Cell(p.arm), Cell(str(p.seed)), *(Cell(w.NOTHING if v is None else short(v)) for v in
                                          (p.intruders, p.divergence)), Cell(w.signed(p.forgotten, p.metric)))
        for p in rows
    )  # fmt: skip
    return [Table(f"points-{number}", f"Intruders, KL and forgetting run by run, {place}", heads, cells, (1, 2, 3, 4),
                  is_folded=True)]  # fmt: skip
