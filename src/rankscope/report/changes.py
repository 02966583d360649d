"""The sections about what the update did and how large it was made: flips by subject, update scale. In: a `View`. Out:
`Section`s.
"""

from __future__ import annotations

from itertools import groupby

from rankscope.report import hows
from rankscope.report import wording as w
from rankscope.report.cells import Cell, Section, Table, columns, role_words, where
from rankscope.report.rows import Scale, SubjectFlips
from rankscope.report.scaling import is_patterned, law
from rankscope.report.tables import LEAST_ITEMS
from rankscope.report.view import View

MOST = 8
"""Subjects that are shown of an arm and task."""


def subjects(view: View) -> Section | None:
    if not view.subject_flips:
        return None
    heads = columns(
        "Arm",
        "Task",
        "Subject",
        *hows.FLIPS,
        (
            "Net, points",
            "Mean over items and seeds of the arm's score minus the base's on the same item (paired). Square brackets: "
            "intervals that hold together for all subjects of this arm and task (Bonferroni, 95 % in all).",
        ),
        ("Items", "Items of this subject that base and arm both have; each is counted once a seed."),
    )
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        rows = [f for f in view.subject_flips if (f.model, f.train) == (model, train)]
        shown = [f for _, group in groupby(rows, key=lambda f: (f.arm, f.task)) for f in _largest(list(group))]
        if rows:
            some = f" (largest net changes, {len(shown)} of {len(rows)} rows)" if len(shown) < len(rows) else ""
            caption = f"By subject, {where(view, model, train)}{some}"
            tables.append(Table(f"subjects-{i}", caption, heads, tuple(map(_subject, shown)), (3, 4, 5, 6)))
    intro = (
        f"Where a task has subjects: those of at least {LEAST_ITEMS} items, of each arm and task the {MOST} with the "
        "largest net change, losses first. Picking the largest overstates them: a change is shown only where its "
        "interval excludes 0. The chart has every subject of the recommended arm, the JSON form those of every arm."
    )
    return Section("subjects", "Changed answers by subject", intro, tuple(tables), "Subjects")


def _largest(rows: list[SubjectFlips]) -> list[SubjectFlips]:
    return sorted(sorted(rows, key=lambda f: -abs(_net(f)))[:MOST], key=_net)


def _net(row: SubjectFlips) -> float:
    return (row.won - row.lost) / (row.num_items * row.num_seeds)


def _subject(row: SubjectFlips) -> tuple[Cell, ...]:
    return (
        Cell(row.arm),
        Cell(row.task, role_words(row.role, None)),
        Cell(row.subject.replace("_", " ")),
        Cell(f"{row.lost:,}"),
        Cell(f"{row.won:,}"),
        _change(row),
        Cell(f"{row.num_items:,}", w.plural(row.num_seeds, "seed")),
    )


def _change(row: SubjectFlips) -> Cell:
    if row.change is None:
        return Cell(w.signed(_net(row), "accuracy"))
    value, _, interval = w.change(row.change, "accuracy").partition(" ")
    return Cell(value, interval, "bad" if row.change.high < 0 else "good" if row.change.low > 0 else "")


def scales(view: View) -> Section | None:
    if not view.scales:
        return None
    heads = columns(
        "Arm",
        ("Rank", "The rank r that was declared."),
        ("Alpha", "The alpha that was declared."),
        "Rule",
        ("Scale", "The factor on B A: alpha / r (Hu et al., 2106.09685), for rsLoRA alpha / √r (2312.03732)."),
        ("Relative", "This scale divided by that of the lowest rank under the same rule (and the same alpha)."),
    )
    rows = tuple(
        (
            Cell(s.arm),
            Cell(str(s.rank)),
            Cell(f"{s.alpha:g}"),
            Cell(s.rule),
            Cell(f"{s.scale:.4g}"),
            Cell(f"{s.relative:.3g}", f"of rank {s.lowest}"),
        )
        for s in view.scales
    )
    table = Table("scales", "Factor on the low-rank update", heads, rows, (1, 2, 4, 5))
    said = " ".join(_moves(rule, [s for s in view.scales if s.rule == rule]) for rule in _rules(view.scales))
    if patterned := [a.name for a in view.arms if a.kind == "lora" and is_patterned(a)]:
        said += f" Without one scale, for ranks or alphas of their own in some modules: {w.listing(patterned)}."
    said += (
        " Another scale acts much like another learning rate: ranks compare fairly only where the rate is chosen for "
        "each arm."
    )
    return Section("scales", "Scale of the update by rank", said, (table,), "Scale")


def _rules(rows: tuple[Scale, ...]) -> list[str]:
    return list(dict.fromkeys(s.rule for s in rows))


def _moves(rule: str, rows: list[Scale]) -> str:
    """One sentence: how the scale moves with rank under the rule, with the numbers of this study."""
    wide = max(rows, key=lambda s: s.rank / s.lowest)
    if wide.rank == wide.lowest:
        return f"{law(rule)}; this study has one rank under it."
    if wide.relative == 1:
        return f"{law(rule)} ({wide.scale:.3g})."
    return f"{law(rule)}: at rank {wide.rank} it is {wide.relative:.3g} times that at rank {wide.lowest}."
