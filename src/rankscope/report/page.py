"""The report as sections of tables with finished text: the one place where numbers become words. In: a `View`. Out: `Section`s.

HTML and markdown are both written from these, so they can't disagree. Knows nothing about either.
"""

from __future__ import annotations

from dataclasses import dataclass

from rankscope.report import wording as w
from rankscope.report.effects import POOLED
from rankscope.report.rows import BaseRow, Effect, Headline, Transfer
from rankscope.report.verdict import KEPT_WORDS
from rankscope.report.view import View

TONES = {"better": "good", "worse": "bad", "equivalent": "even", "undecided": "open"}
KEPT_TONES = {"shown": "good", "lost": "bad", "not shown": "open", "no data": "quiet"}
AT_CHANCE = "base not above chance"


@dataclass(frozen=True)
class Cell:
    """One cell: ``text``, a ``note`` in small print under it, and a tone ('good', 'bad', 'open', 'even', 'flag', 'quiet')."""

    text: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """``rows`` hold one cell per column; the first cell is the row's heading. ``numeric`` columns are set flush right."""

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


def sections(view: View) -> tuple[Section, ...]:
    """All sections in reading order. Sections that a study has no use for (no learning rates tried, say) are left out."""
    makers = (_headline, _ranks, _comparisons, _transfer, _base, _rates, _curves, _flips, _runs, _gaps, _cost, _provenance, _methods)
    return tuple(section for make in makers if (section := make(view)) is not None)


def _headline(view: View) -> Section:
    tables = tuple(_headline_table(view, model, train, i) for i, (model, train) in enumerate(view.blocks))
    intro = (
        "Each arm against the untouched base. Square brackets are ordinary 95 % intervals; the words read the wider "
        f"simultaneous intervals of all {len(view.effects)} comparisons and a margin of {_margin(view)}."
    )
    return Section("headline", "What each arm learned, kept and cost", intro, tables, "Headline")


def _headline_table(view: View, model: str, train: str, number: int) -> Table:
    rows = tuple(_headline_row(h) for h in view.headlines if (h.model, h.train) == (model, train))
    gain = next((h.gain for h in view.headlines if (h.model, h.train) == (model, train) and h.gain), None)
    unit = w.unit(gain.metric) if gain else "points"
    columns = ("Arm", "Learning rate", f"Gain, {unit}", "Gain: verdict", "Retention, %", "Points forgotten", "Kept?",
               "CE rise, nats", "Trained params", "Time a run", "Peak memory", "Stored", "Seeds")  # fmt: skip
    sample = f" ({gain.task}, {w.sample(gain.contrast.estimate)})" if gain else ""
    return Table(f"headline-{number}", f"{_where(view, model, train)}{sample}", columns, rows, (1, 2, 4, 5, 7, 8, 9, 10, 11))


def _headline_row(h: Headline) -> tuple[Cell, ...]:
    seeds = Cell(f"{h.num_seeds} of {h.num_seeds_planned}", f"{h.num_failed} failed" if h.num_failed else "",
                 "flag" if h.num_seeds < h.num_seeds_planned else "")  # fmt: skip
    if h.gain is None:
        gain, word = Cell(w.NOTHING, "not measured", "quiet"), Cell(w.NOTHING, "", "quiet")
    else:
        flag = AT_CHANCE if h.gain_is_above_chance is False else ""
        gain = Cell(w.change(h.gain.contrast.estimate, h.gain.metric), flag)
        word = _verdict_cell(h.gain)
    rise = Cell(w.change(h.ce_rise, "cross_entropy"))
    return (
        Cell(h.arm), Cell(w.learning_rate(h.lr)), gain, word,
        Cell(w.percent(h.retention)), Cell(w.change(h.forgotten, "accuracy")),
        Cell(KEPT_WORDS[h.kept], h.kept_reason, KEPT_TONES[h.kept]), rise,
        Cell(w.count(h.trainable)), Cell(w.duration(h.seconds)), Cell(w.number_bytes(h.peak_bytes)),
        Cell(w.number_bytes(h.blob_bytes)), seeds,
    )  # fmt: skip


def _verdict_cell(effect: Effect) -> Cell:
    c = effect.contrast
    return Cell(w.verdict(c, effect.metric), w.simultaneous(c, effect.metric), TONES[c.verdict])


def _ranks(view: View) -> Section:
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        tasks = view.tasks_of(train)
        rows = []
        for arm in dict.fromkeys(["base", *(h.arm for h in view.headlines if (h.model, h.train) == (model, train))]):
            known = {s.task: s for s in view.scores if s.model == model and s.arm == arm and s.train in ("", train)}
            cells = [Cell(arm)]
            for task in tasks:
                s = known.get(task)
                if s is None or s.estimate is None:
                    cells.append(Cell(w.NOTHING, s.missing if s else "not scored", "quiet"))
                    continue
                flag = AT_CHANCE if s.is_above_chance is False else ""
                note = w.sample(s.estimate) + (f"; {flag}" if flag else "")
                cells.append(Cell(w.score(s.estimate, s.metric), note, "flag" if flag else ""))
            rows.append(tuple(cells))
        roles = dict(view.evaluations.get(train, ()))
        columns = ("Arm", *(f"{task} ({roles[task].replace('_', '-')})" for task in tasks))
        tables.append(Table(f"scores-{i}", f"Scores, {_where(view, model, train)}", columns, tuple(rows), tuple(range(1, len(columns)))))
    intro = "Scores in per cent (cross-entropy in nats per token, lower is better) with 95 % intervals, items and seeds."
    return Section("ranks", "Scores by rank", intro, tuple(tables), "Ranks")


def _comparisons(view: View) -> Section:
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        rows = tuple(_comparison(e) for e in view.effects if (e.model, e.train) == (model, train))
        columns = ("Comparison", "Task", "Difference", "Simultaneous", "Verdict", "p (adjusted)", "Items and seeds")
        tables.append(Table(f"comparisons-{i}", f"Paired differences, {_where(view, model, train)}", columns, rows, (2, 3, 5)))
    intro = (
        "Positive is better, also for cross-entropy (its sign is turned). In points or nats. Every undecided one is given with "
        "the difference that this study could have seen with 80 % power."
    )
    return Section("comparisons", "All comparisons", intro, tuple(tables), "Comparisons")


def _comparison(e: Effect) -> tuple[Cell, ...]:
    c = e.contrast
    role = e.role.replace("_", "-") + (f"; {AT_CHANCE}" if e.is_above_chance is False else "")
    scope = "" if c.estimate.num_seeds > 1 else c.estimate.scope
    return (Cell(f"{c.arm} − {c.other}"), Cell(e.task, role), Cell(w.change(c.estimate, e.metric), w.unit(e.metric)),
            Cell(w.simultaneous(c, e.metric)), Cell(w.verdict(c, e.metric), "", TONES[c.verdict]),
            Cell(_p_value(c.p_value)), Cell(w.sample(c.estimate), scope))  # fmt: skip


def _p_value(value: float) -> str:
    if value != value:
        return w.NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _transfer(view: View) -> Section:
    order = list(dict.fromkeys(t.task for t in view.transfer))
    tables = []
    for i, (model, arm) in enumerate(dict.fromkeys((t.model, t.arm) for t in view.transfer)):
        cells = {(t.train, t.task): t for t in view.transfer if (t.model, t.arm) == (model, arm)}
        rows = tuple((Cell(train), *(_transfer_cell(cells.get((train, task))) for task in order)) for train in view.train)
        caption = f"{arm}: change against the base" + (f", {model}" if len(view.models) > 1 else "")
        tables.append(Table(f"transfer-{i}", caption, ("Trained on", *order), rows, tuple(range(1, len(order) + 1))))
    intro = (
        "Rows: what the arm was trained on. Columns: what it was scored on. Positive is better. A cell is marked ▲ or ▼ only if its "
        "simultaneous interval excludes 0; a shown drop of more than 10 points is an alarm."
    )
    return Section("transfer", "Transfer to other tasks", intro, tuple(tables), "Transfer")


def _transfer_cell(cell: Transfer | None) -> Cell:
    if cell is None:
        return Cell(w.NOTHING, "not part of the study", "quiet")
    if cell.effect is None:
        return Cell(w.NOTHING, "not measured", "quiet")
    e = cell.effect
    mark = {"positive": "▲ ", "negative": "▼ "}.get(e.mark, "")
    tone = "bad" if e.mark == "negative" else "good" if e.mark else "quiet"
    notes = [cell.role.replace("_", "-")]
    notes += ["ALARM"] * e.is_alarm + [AT_CHANCE] * (e.is_above_chance is False) + ["nats"] * w.is_nats(e.metric)
    return Cell(mark + w.change(e.contrast.estimate, e.metric), "; ".join(notes), tone)


def _base(view: View) -> Section:
    tables = []
    for i, model in enumerate(view.models):
        rows = tuple(_base_row(b) for b in view.base if b.model == model)
        columns = ("Task", "Roles", "Zero-shot", "Items", "Chance", "Above chance?", "Few-shot", "Few-shot minus zero-shot")
        tables.append(Table(f"base-{i}", model, columns, rows, (2, 4, 6, 7)))
    intro = (
        "Where the study starts. What a few examples in the prompt already give is format, not something that had to be learned. "
        "Tasks on which the base is not shown above chance are flagged everywhere and left out of pooled figures."
    )
    return Section("base", "The untouched base", intro, tuple(tables), "Base")


def _base_row(b: BaseRow) -> tuple[Cell, ...]:
    if b.is_above_chance is None:
        above = Cell(w.NOTHING, "", "quiet")
    else:
        above = Cell("yes", "", "good") if b.is_above_chance else Cell("not above chance", "left out of pools", "flag")
    shots = "; ".join(f"{s.shots}-shot {w.score(s.estimate, b.metric)}" for s in b.few_shot) or w.NOTHING
    lifts = "; ".join(w.change(s.lift, b.metric) for s in b.few_shot) or w.NOTHING
    unit = "nats" if w.is_nats(b.metric) else "%"
    zero = Cell(w.score(b.estimate, b.metric), unit) if b.estimate else Cell(w.NOTHING, "not scored", "quiet")
    chance = w.NOTHING if b.chance is None else w.plain_number(b.chance, b.metric)
    roles = ", ".join(r.replace("_", "-") for r in b.roles) or "extra"
    return Cell(b.task), Cell(roles), zero, Cell(w.sample(b.estimate)), Cell(chance), above, Cell(shots), Cell(lifts)


def _rates(view: View) -> Section | None:
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
            rows.append((Cell(t.arm), Cell(w.learning_rate(t.lr)), Cell(loss), Cell(error), chosen, state, Cell(str(t.seed))))
        columns = ("Arm", "Learning rate", "Validation loss, nats", "Standard error", "Choice", "Status", "Seed")
        tables.append(Table(f"rates-{i}", f"Learning rates, {_where(view, model, train)}", columns, tuple(rows), (1, 2, 3, 6)))
    intro = "All rates tried, at the first seed, judged by loss on a validation split carved from train (never on items of a verdict)."
    return Section("rates", "How learning rates were chosen", intro, tuple(tables), "Learning rates")


def _curves(view: View) -> Section | None:
    if not view.curves:
        return None
    rows = tuple(
        (Cell(c.arm), Cell(c.train), Cell(str(c.seed)), Cell(f"{c.losses[0]:.3f}"), Cell(f"{c.losses[-1]:.3f}"), Cell(f"{c.steps[-1]:,}"))
        for c in view.curves
    )  # fmt: skip
    columns = ("Arm", "Trained on", "Seed", "First stretch, nats", "Last stretch, nats", "Steps")
    table = Table("curves", "Training loss at the two ends of each run", columns, rows, (2, 3, 4, 5))
    return Section("curves", "Learning curves", "Training loss of the runs that count.", (table,), "Curves")


def _flips(view: View) -> Section | None:
    if not view.flips:
        return None
    rows = []
    for f in view.flips:
        answers = f.num_items * f.num_seeds
        rows.append((Cell(f.arm), Cell(f.train), Cell(f.task, f.role.replace("_", "-")), Cell(f"{f.lost:,}"), Cell(f"{f.won:,}"),
                     Cell(f"{100 * f.lost / answers:.1f}"), Cell(f"{100 * f.won / answers:.1f}"),
                     Cell(f"{f.num_items:,} items × {w.plural(f.num_seeds, 'seed')}")))  # fmt: skip
    columns = ("Arm", "Trained on", "Task", "Right → wrong", "Wrong → right", "Lost, %", "Won, %", "Of")
    intro = "A small net change can hide many changed answers. Counted over all seeds."
    table = Table("flips", "Answers that changed against the base", columns, tuple(rows), (3, 4, 5, 6))
    return Section("flips", "Changed answers", intro, (table,), "Flips")


def _runs(view: View) -> Section:
    rows = []
    for r in view.runs:
        seed = w.NOTHING if r.seed is None else str(r.seed)
        state = Cell(r.status, f"{r.stage}: {r.message}" if r.status == "failed" else "", "bad" if r.status == "failed" else "")
        speed = w.NOTHING if r.tokens_per_second is None else f"{r.tokens_per_second:,.0f}"
        loss = w.NOTHING if r.validation_loss is None else f"{r.validation_loss:.4f}"
        steps = w.NOTHING if r.steps is None else f"{r.steps:,}"
        rows.append((Cell(r.name, r.key), state, Cell(r.role), Cell(w.learning_rate(r.lr)), Cell(seed), Cell(steps),
                     Cell(w.duration(r.seconds)), Cell(speed), Cell(w.number_bytes(r.peak_bytes)), Cell(loss),
                     Cell("; ".join(r.notes))))  # fmt: skip
    columns = ("Run and key", "Status", "Role", "Learning rate", "Seed", "Steps", "Time", "Tokens/s", "Peak memory",
               "Validation loss", "Notes")  # fmt: skip
    return Section("runs", "All runs", "", (Table("runs", f"{w.plural(len(rows), 'run')}, done and failed", columns, tuple(rows),
                                                   (3, 4, 5, 6, 7, 8, 9), "No run has started."),), "Runs")  # fmt: skip


def _gaps(view: View) -> Section:
    failed = tuple((Cell(f.what), Cell(f.stage), Cell(f.message)) for f in view.failures)
    absent = tuple((Cell(line),) for line in view.missing)
    tables = (Table("failures", "Failed", ("What", "Stage", "Message"), failed, empty="Nothing failed."),
              Table("missing", "Not there yet", ("What",), absent, empty="Nothing is missing."))  # fmt: skip
    return Section("gaps", "Failures and gaps", "What failed or is missing is in no mean, and is never counted as zero.", tables, "Gaps")


def _cost(view: View) -> Section:
    rows = tuple(
        (Cell(c.part), Cell(f"{c.num_runs:,}"), Cell(w.duration(c.seconds)),
         Cell(w.NOTHING if c.share is None else f"{100 * c.share:.0f}"), Cell(w.count(c.tokens)),
         Cell(f"{c.flops:.2e}" if c.flops else w.NOTHING))
        for c in view.costs
    )  # fmt: skip
    columns = ("Part", "Pieces of work", "Time", "Share, %", "Tokens", "FLOPs")
    return Section("cost", "What the study cost", "As measured, wall clock.", (Table("cost", "Ledger", columns, rows, (1, 2, 3, 4, 5)),), "Cost")


def _provenance(view: View) -> Section:
    rows = tuple((Cell(f.name), Cell(f.value)) for f in view.provenance)
    rows += tuple((Cell("Note"), Cell(note)) for note in view.notes)
    table = Table("provenance", "Models, data, software", ("What", "Value"), rows)
    return Section("provenance", "Where the numbers come from", "", (table,), "Provenance")


def _methods(view: View) -> Section:
    rows = tuple((Cell(m.term), Cell(m.meaning), Cell(m.source)) for m in view.methods)
    return Section("methods", "Methods and words", "", (Table("methods", "Glossary", ("Word", "Meaning here", "Source"), rows),), "Methods")


def _margin(view: View) -> str:
    return f"{w.plain_number(view.margin, 'accuracy')} points ({view.margin:g} nats)"


def _where(view: View, model: str, train: str) -> str:
    return f"trained on {train}" if len(view.models) == 1 else f"{model} trained on {train}"


def shown_task(task: str) -> str:
    """How a task is called in prose; the pooled one isn't a task of its own."""
    return "the pooled retention tasks" if task == POOLED else task
