"""The sections about how results came to be: learning rates, curves, flips, runs, gaps, cost, origin. In: a `View`.
Out: `Section`s.
"""

from __future__ import annotations

from collections.abc import Callable

from rankscope.report import hows
from rankscope.report import wording as w
from rankscope.report.cells import Cell, Section, Table, columns, role_words, where
from rankscope.report.glossary import words
from rankscope.report.rows import Measured, RowsUsed, Shared
from rankscope.report.view import View


def rates(view: View) -> Section | None:
    if not view.trials:
        return None
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        rows = []
        for t in (t for t in view.trials if (t.model, t.train) == (model, train)):
            loss = w.NOTHING if t.validation_loss is None else f"{t.validation_loss:.4f}"
            error = w.NOTHING if t.validation_se is None else f"{t.validation_se:.4f}"
            state = Cell(t.status, t.message, "bad" if t.status == "failed" else "")
            chosen = Cell("chosen", "", "good") if t.is_chosen else Cell("")
            rows.append(
                (Cell(t.arm), Cell(w.learning_rate(t.lr)), Cell(loss), Cell(error), chosen, state, Cell(str(t.seed)))
            )
        caption = f"Learning rates, {where(view, model, train)}"
        tables.append(Table(f"rates-{i}", caption, columns(*hows.RATES), tuple(rows), (1, 2, 3, 6)))
    intro = (
        "All rates tried, at the first seed, judged by loss on a split carved from train, never on items of a verdict."
    )
    if view.dropped:
        intro += " Rates that a race stopped stand under 'Who was stopped early, and why'."
    return Section("rates", "How learning rates were chosen", intro, tuple(tables), "Learning rates")


def stopped(view: View) -> Section | None:
    if not view.dropped and not view.previews:
        return None
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        mine = [d for d in view.dropped if (d.model, d.train) == (model, train)]
        rows = tuple(
            (
                Cell(d.arm, "the whole arm is out" if d.is_out else ""),
                Cell(w.learning_rate(d.lr)),
                Cell(f"{100 * d.share:g} %", f"step {d.step:,}"),
                Cell(w.stopped(d)),
                Cell(f"{d.lag:.2f}", "times" if d.reason == "retention" else ""),
                Cell(f"{d.limit:.2f}"),
                Cell(f"{d.loss:.4f}", "partial", "quiet"),
                Cell(w.count(d.ledger.tokens)),
            )
            for d in mine
        )
        caption = f"Stopped runs, {where(view, model, train)}"
        empty = "No run was stopped."
        tables.append(Table(f"stopped-{i}", caption, columns(*hows.STOPPED), rows, (1, 2, 4, 5, 6, 7), empty))
    cuts = tuple(
        (
            Cell(p.arm, where(view, p.model, p.train)),
            Cell(w.learning_rate(p.lr)),
            Cell(f"{100 * p.share:g} %"),
            Cell(str(p.rank)),
            Cell(f"{100 * p.kept:.0f} %"),
        )
        for p in view.previews
    )
    if cuts:
        tables.append(
            Table("preview", "Truncation preview (no verdict)", columns(*hows.KEPT), cuts, (1, 2, 3, 4), is_folded=True)
        )
    intro = (
        "This study raced its first-seed runs: those that could hardly win were stopped at looks fixed in advance. "
        "They are in no estimate, choice or comparison of this page. What they showed until then is partial."
    )
    if any(d.is_out for d in view.dropped):
        intro += (
            " Arms that are out altogether still count, by their number, wherever arms are judged together, so that no "
            "verdict on another arm is bolder for their absence."
        )
    return Section("stopped", "Who was stopped early, and why", intro, tuple(tables), "Stopped early")


def curves(view: View) -> Section | None:
    if not view.curves:
        return None
    rows = tuple(
        (
            Cell(c.arm),
            Cell(c.train),
            Cell(str(c.seed)),
            Cell(f"{c.losses[0]:.3f}"),
            Cell(f"{c.losses[-1]:.3f}"),
            Cell(f"{c.steps[-1]:,}"),
        )
        for c in view.curves
    )
    table = Table("curves", "Training loss at the two ends of each run", columns(*hows.CURVES), rows, (2, 3, 4, 5))
    return Section("curves", "Learning curves", "Training loss of the runs that count.", (table,), "Curves")


def flips(view: View) -> Section | None:
    if not view.flips:
        return None
    rows = []
    for f in view.flips:
        rows.append(
            (
                Cell(f.arm),
                Cell(w.source(f.train)),
                Cell(f.task, role_words(f.role, f.is_above_chance)),
                Cell(f"{f.lost:,}"),
                Cell(f"{f.won:,}"),
                Cell(f"{f.num_items:,} items × {w.plural(f.num_seeds, 'seed')}"),
            )
        )
    heads = columns("Arm", "Trained on", "Task", *hows.FLIPS, ("Of", "Items that base and arm both have, and seeds."))
    intro = "A small net change can hide many changed answers. Counts over all seeds."
    table = Table("flips", "Answers that changed against the base", heads, tuple(rows), (3, 4))
    return Section("flips", "Changed answers", intro, (table,), "Flips")


def data(view: View) -> Section | None:
    if not (view.rows or view.cuts):
        return None
    held = tuple((Cell(r.train), *_counts(r)) for r in view.rows)
    shared = tuple((Cell(s.train), Cell(s.task, s.role.replace("_", "-")), *_overlap(s)) for s in view.shared)
    cut = tuple((Cell(c.what, c.model), Cell(c.note), Cell(f"{c.num_runs:,}")) for c in view.cuts)
    lengths = sorted({s.overlap.n for s in view.shared if s.overlap is not None})
    run = f"Share {w.listing([str(n) for n in lengths])} words in a row" if lengths else "Share words in a row"
    tables = (
        Table("rows", "Training rows", columns(*hows.ROWS), held, (1, 2, 3, 4)),
        Table("shared", "Test items that stand in the training rows too",
              columns("Trained on", "Task", ("Items", "Test items compared."), (run, hows.SHARED_WORDS),
                      *hows.SHARED_PROMPTS), shared, (2, 3, 4, 5)),
        Table("cuts", "Cut or dropped", columns("Where", "What was noted", ("Runs", "Runs that noted it, counted.")),
              cut, (2,), "No run noted any."),
    )  # fmt: skip
    intro = (
        "Where test items stand in the training rows, a gain is partly recall. An item of one column may be in the "
        "others too. What was not measured is not zero."
    )
    return Section("data", "The data", intro, tables if view.rows else tables[-1:], "Data")


def _counts(row: RowsUsed) -> tuple[Cell, ...]:
    if row.counts is None:
        return _not_measured(row.missing, 4)
    return (Cell(f"{row.counts.rows:,}"), *(Cell(f"{n:,}", tone="flag" if n else "")
            for n in (row.counts.empty, row.counts.duplicates, row.counts.conflicts)))  # fmt: skip


def _overlap(row: Shared) -> tuple[Cell, ...]:
    found = row.overlap
    if found is None:
        return _not_measured(row.missing, 4)
    cells = (Cell(f"{n:,}", f"{100 * n / found.items:.1f} %" if n else "", "flag" if n else "")
             for n in (found.ngram, found.exact, found.template))  # fmt: skip
    return (Cell(f"{found.items:,}"), *cells)


def _not_measured(reason: str, number: int) -> tuple[Cell, ...]:
    return (Cell("not measured", reason, "quiet"), *[Cell(w.NOTHING)] * (number - 1))


def runs(view: View) -> Section:
    rows = []
    for r in view.runs:
        seed = w.NOTHING if r.seed is None else str(r.seed)
        state = Cell(
            r.status, f"{r.stage}: {r.message}" if r.status == "failed" else "", "bad" if r.status == "failed" else ""
        )
        speed = w.NOTHING if r.tokens_per_second is None else f"{r.tokens_per_second:,.0f}"
        loss = w.NOTHING if r.validation_loss is None else f"{r.validation_loss:.4f}"
        steps = w.NOTHING if r.steps is None else f"{r.steps:,}"
        rows.append(
            (
                Cell(r.name, r.key),
                state,
                Cell(r.role),
                Cell(w.learning_rate(r.lr)),
                Cell(seed),
                Cell(steps),
                Cell(w.duration(r.seconds), w.side_by_side((r.side_by_side or 1,))),
                Cell(speed),
                Cell(w.number_bytes(r.peak_bytes)),
                Cell(loss),
                Cell("; ".join(r.notes)),
            )
        )
    return Section(
        "runs",
        "All runs",
        "Runs trained side by side share each step: their time is their share of it, their peak memory that of all.",
        (
            Table(
                "runs",
                f"{w.plural(len(rows), 'run')}, done and failed",
                columns(*hows.RUNS),
                tuple(rows),
                (3, 4, 5, 6, 7, 8, 9),
                "No run has started.",
            ),
        ),
        "Runs",
    )


def gaps(view: View) -> Section:
    failed = tuple((Cell(f.what), Cell(f.stage), Cell(f.message)) for f in view.failures)
    absent = tuple((Cell(line),) for line in view.missing)
    tables = (
        Table("failures", "Failed", columns("What", "Stage", "Message"), failed, empty="Nothing failed."),
        Table("missing", "Not there yet", columns("What"), absent, empty="Nothing is missing."),
    )
    return Section(
        "gaps",
        "Failures and gaps",
        "What failed or is missing is in no mean, and is never counted as zero.",
        tables,
        "Gaps",
    )


def cost(view: View) -> Section:
    rows = tuple(
        (
            Cell(c.part),
            Cell(f"{c.num_runs:,}"),
            _sum(c.seconds, w.duration),
            Cell(w.NOTHING if c.share is None else f"{100 * c.share:.0f}"),
            _sum(c.tokens, w.count),
            _sum(c.flops, lambda v: f"{v:.2e}" if v else "0"),
        )
        for c in view.costs
    )
    intro = "As measured, wall clock. What was not measured is in no sum, and said beside it."
    training = [c.seconds.value or 0.0 for c in view.costs[:2]]
    if sum(training):
        share = 100 * training[1] / sum(training)
        intro += f" {share:.0f} % of the training time measured went into learning rates that were not chosen."
    table = Table("cost", "Ledger", columns(*hows.COST), rows, (1, 2, 3, 4, 5))
    return Section("cost", "What the study cost", intro, (table,), "Cost")


def _sum(total: Measured, write: Callable[[float], str]) -> Cell:
    if total.value is None:
        return Cell(w.NOTHING, "not measured", "quiet")
    if total.num_unknown:
        return Cell(f"at least {write(total.value)}", f"{w.plural(total.num_unknown, 'piece')} not measured")
    return Cell(write(total.value))


def provenance(view: View) -> Section:
    rows = tuple((Cell(f.name), Cell(f.value)) for f in view.provenance)
    rows += tuple((Cell("Note"), Cell(note)) for note in view.notes)
    table = Table("provenance", "Models, data, software", columns("What", "Value"), rows)
    return Section("provenance", "Where the numbers come from", "", (table,), "Provenance")


def methods(view: View) -> Section:
    rows = tuple((Cell(m.term), Cell(m.meaning), Cell(m.source)) for m in view.methods)
    return Section(
        "methods",
        "Methods and words",
        "",
        (words(), Table("methods", "Glossary", columns("Word", "Meaning here", "Source"), rows)),
        "Methods",
    )
