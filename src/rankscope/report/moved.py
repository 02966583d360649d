"""The sections about how far arms went: forgetting at matched gain, KL to the base, the noise floor. In: a `View`. Out:
`Section`s.
"""

from __future__ import annotations

from rankscope.report import hows
from rankscope.report import wording as w
from rankscope.report.answer_rows import MatchedRow
from rankscope.report.cells import Cell, Section, Table, columns, where
from rankscope.report.view import View


def matched(view: View) -> Section | None:
    """What each arm forgot where all had learned equally much."""
    if not view.matched:
        return None
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        for metric in ("accuracy", "cross_entropy"):
            mine = [m for m in view.matched if (m.model, m.train, m.metric) == (model, train, metric)]
            if mine:
                kind = "points" if metric == "accuracy" else "CE rise, nats"
                name = f"Forgotten at equal gain ({kind}), {where(view, model, train)}"
                tables.append(_matched_table(f"matched-{i}-{metric}", name, mine))
    intro = (
        "An arm that learns less forgets less, so arms are read off where they have gained equally much, over all "
        "learning rates tried: this needs no choice of a rate. First seed only; a description, not a verdict."
    )
    return Section("matched", "Forgetting at matched gain", intro, tuple(tables), "Matched gain")


def _matched_table(name: str, caption: str, rows: list[MatchedRow]) -> Table:
    levels = list(dict.fromkeys((m.fraction, m.gain) for m in rows))
    how = (
        "Read off straight lines between the arm's points (gain, forgetting) at all rates, the base among them; no "
        "extrapolation. Percentile bootstrap over items (2,000 draws), one seed as it is. The levels are shares of the "
        "smallest of the arms' largest gains."
    )
    heads = columns("Arm", *((f"At a gain of {w.signed(gain, rows[0].taught)}", how) for _, gain in levels))
    cells = []
    for arm in dict.fromkeys(m.arm for m in rows):
        mine = {m.fraction: m for m in rows if m.arm == arm}
        cells.append((Cell(arm), *(_matched_cell(mine[fraction]) for fraction, _ in levels)))
    return Table(name, caption, heads, tuple(cells), tuple(range(1, len(levels) + 1)))


def _matched_cell(row: MatchedRow) -> Cell:
    if row.forgetting is None:
        return Cell(w.NOTHING, row.why, "quiet")
    value, _, interval = w.change(row.forgetting, row.metric).partition(" ")
    return Cell(value, interval)


def divergence(view: View) -> Section | None:
    """KL to the base on rows like the training rows and on text."""
    if not view.divergences:
        return None
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        mine = [d for d in view.divergences if (d.model, d.train) == (model, train)]
        names = list(dict.fromkeys((d.name, d.on) for d in mine))
        rows = []
        for arm in dict.fromkeys(d.arm for d in mine):
            known = {d.name: d.estimate for d in mine if d.arm == arm}
            rows.append((Cell(arm), *(_kl(known[name]) for name, _ in names)))
        how = (
            "KL divergence of the arm from the base over the whole vocabulary, mean over the positions of an item "
            f"and over items and seeds; nats per token. {hows.ORDINARY}"
        )
        heads = columns("Arm", *((f"{name} ({on})", how) for name, on in names))
        if rows:
            tables.append(Table(f"divergence-{i}", f"KL(base || arm), {where(view, model, train)}", heads, tuple(rows),
                                tuple(range(1, len(heads)))))  # fmt: skip
    intro = (
        "How far an arm's answers have moved from the base's, right or wrong. On the train task it is measured on rows "
        "kept out of training, where the answer stands; on text at every position. It carries no verdict."
    )
    return Section("divergence", "Distance from the base", intro, tuple(tables), "Distance")


def _kl(estimate) -> Cell:
    if estimate is None:
        return Cell(w.NOTHING, "not measured", "quiet")
    value, _, interval = w.change(estimate, "cross_entropy").lstrip("+").partition(" ")
    return Cell(value, interval.replace("+", ""))


def noise(view: View) -> Section | None:
    """The base against itself."""
    if not view.noise:
        return None
    rows = tuple(
        (Cell(n.task), Cell(f"{n.num_items:,}"), Cell(w.signed(n.shift, n.metric), w.unit(n.metric)),
         Cell(f"{n.largest:.2g}"), Cell(w.NOTHING if n.changed is None else f"{n.changed:,}"))
        for n in view.noise
    )  # fmt: skip
    heads = columns(
        "Task",
        ("Items", "The first items of the task, scored twice."),
        ("Mean change", "Mean over items of the first scoring minus the second, which ran in smaller batches."),
        ("Largest change", "The largest absolute change of one item's score (1: a right answer became wrong)."),
        ("Answers that changed", "Items whose judgement differs between the two scorings."),
    )
    intro = (
        "The untouched base scored twice, with other batches: floating-point sums differ, and so may a close answer. "
        "A difference of this size means nothing. Arms and base are always scored in the same batches."
    )
    table = Table("noise", "The base against itself", heads, rows, (1, 2, 3, 4))
    return Section("noise", "Noise floor", intro, (table,), "Noise")
