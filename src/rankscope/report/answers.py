"""The sections that answer: which rank, against full SFT, the published claims. In: a `View`. Out: `Section`s."""

from __future__ import annotations

from rankscope.report import wording as w
from rankscope.report.answer_rows import Advice, Aspect, Question
from rankscope.report.cells import TONES, Cell, Section, Table, columns, where
from rankscope.report.findings import KEPT_TONES
from rankscope.report.retain import asked_tables, sliders
from rankscope.report.rows import Headline
from rankscope.report.verdict import KEPT_WORDS
from rankscope.report.view import View
from rankscope.stats.frontier import LABEL

_ANSWER_TONES = {"holds": "good", "does not hold": "bad", "undecided": "open", "not asked": "quiet"}


def recommendation(view: View) -> Section | None:
    """The range of ranks, arm by arm, and what would change it."""
    if not view.advice:
        return None
    tables: list[Table] = []
    for i, row in enumerate(view.advice):
        place = where(view, row.model, row.train)
        tables.append(_range_table(view, row, i, place))
        facts = [("Why", row.choice.reason), ("Open", row.choice.open_question), ("To narrow it", _more(row))]
        facts += [("Would change it", text) for text in row.choice.would_change]
        cells = tuple((Cell(name), Cell(text)) for name, text in facts if text)
        tables.append(Table(f"advice-{i}", f"Behind the recommendation, {place}", columns("What", "Said"), cells))
    intro = (
        "A range, not a winner: the ranks that can't be excluded as the best in domain, among the arms whose retention "
        "allows it; inside it one arm by a stated rule. Intervals here hold together within this one question."
    )
    return Section("recommendation", "Which rank?", intro, tuple(tables), "Which rank?")


def _range_table(view: View, row: Advice, number: int, place: str) -> Table:
    found = row.choice.compared
    unit = w.unit(row.metric)
    known = {h.arm: h for h in view.headlines if (h.model, h.train) == (row.model, row.train)}
    why = {e.arm: e.why for e in row.choice.excluded} | {r.arm: r.why for r in row.choice.runners_up}
    cells = []
    for h in sorted((h for h in known.values() if h.kind == "lora"), key=lambda h: (h.rank, h.arm)):
        cells.append(_range_row(h, row, why.get(h.arm, "")))
    heads = columns(
        "Arm",
        (
            f"Minus the best of the others, {unit}",
            "In-domain score of the arm minus that of the best other arm of the same tier; constrained simultaneous "
            "95 % interval of multiple comparisons with the best (Hsu 1984; arms on the same items, seeds crossed). An "
            "arm whose interval does not reach above 0 is excluded as the best.",
        ),
        "Can be the best?",
        "Within the margin?",
        "Kept?",
        (
            "Trained params",
            "Number of weights that training changed, counted in the model; the cost that decides between arms.",
        ),
        "Recommended?",
    )
    scope = "" if found is None or found.num_seeds > 1 else f"; {found.scope}"
    span = row.choice.span
    caption = f"{span[:1].upper()}{span[1:]}, {place}{scope}"
    return Table(f"range-{number}", caption, heads, tuple(cells), (1, 5))


def _range_row(h: Headline, row: Advice, why: str) -> tuple[Cell, ...]:
    found, choice = row.choice.compared, row.choice
    kept = Cell(KEPT_WORDS[h.kept], h.kept_reason, KEPT_TONES[h.kept])
    cost = Cell(w.count(h.trainable))
    if h.arm == choice.arm:
        chosen = Cell("recommended", choice.rule, "good")
    else:
        chosen = Cell("no", why, "quiet")
    if found is None or h.arm not in found.arms:
        gap, best, within = Cell(w.NOTHING, "not compared", "quiet"), Cell(w.NOTHING), Cell(w.NOTHING)
        return Cell(h.arm), gap, best, within, kept, cost, chosen
    i = found.arms.index(h.arm)
    gap = Cell(w.signed(found.estimate[i], row.metric),
               f"[{w.signed(found.low[i], row.metric)}, {w.signed(found.high[i], row.metric)}]")  # fmt: skip
    best = Cell("yes", "", "good") if h.arm in found.possible else Cell("excluded", "", "bad")
    within = Cell("shown", "", "even") if h.arm in found.within else Cell("not shown", "", "open")
    return Cell(h.arm), gap, best, within, kept, cost, chosen


def _more(row: Advice) -> str:
    return w.needed(row.choice.needed) if row.choice.needed else ""


def against_full(view: View) -> Section | None:
    """The recommended arm beside full SFT, point by point."""
    rows = [a for a in view.advice if a.aspects]
    if not rows:
        return None
    heads = columns(
        "Point",
        "On",
        (
            "LoRA minus full SFT",
            "Scores: mean over items and seeds of the paired difference, positive is better, with its simultaneous "
            "95 % interval over all comparisons of the study. Amounts: that of the LoRA arm, full SFT's beside it.",
        ),
        ("Verdict", "Scores: read from the simultaneous interval by the margin. Amounts: measured, their ratio."),
        "Items and seeds",
    )
    tables = tuple(
        Table(f"against-full-{i}", f"{_arm(row)} against full SFT, {where(view, row.model, row.train)}", heads,
              tuple(_aspect_row(a) for a in row.aspects), (2,))
        for i, row in enumerate(rows)
    )  # fmt: skip
    intro = (
        "Drawn: every rank against full supervised fine-tuning. Below, point by point: the recommended arm beside it. "
        "What the study has nothing for is said so."
    )
    return Section("against-full", "Against full SFT, point by point", intro, tables, "Against full")


def _arm(row: Advice) -> str:
    return row.choice.arm or "no arm"


def _aspect_row(a: Aspect) -> tuple[Cell, ...]:
    if a.effect is not None:
        c, metric = a.effect.contrast, a.effect.metric
        word = Cell(w.verdict(c, metric), "" if c.needed is None else w.needed(c.needed), TONES[c.verdict])
        amount = Cell(w.signed(c.estimate.value, metric), f"{w.simultaneous(c, metric)} {w.unit(metric)}")
        return Cell(a.name), Cell(a.what), amount, word, Cell(w.sample(c.estimate), w.one_seed(c.estimate))
    if a.unit:
        ours, theirs = w.measured(a.ours, a.unit), w.measured(a.theirs, a.unit)
        if a.ours is None or a.theirs is None:
            return Cell(a.name), Cell(a.what), Cell(ours, f"full {theirs}"), Cell("not measured", "", "quiet"), Cell("")
        ratio = a.ours / a.theirs
        near = 0.1 if a.unit == "seconds" else 0.005  # a clock on a shared machine is that rough
        word, tone = (
            ("less", "good") if ratio < 1 - near else ("more", "bad") if ratio > 1 + near else ("the same", "even")
        )
        word = Cell(word, f"{ratio:.3g} x", tone)
        return Cell(a.name), Cell(a.what), Cell(ours, f"full {theirs}"), word, Cell("as measured")
    return (
        Cell(a.name),
        Cell("no such task here", "", "quiet"),
        Cell(w.NOTHING),
        Cell("not asked", "", "quiet"),
        Cell(""),
    )


def frontier(view: View) -> Section | None:
    """The arms that no other beats at everything."""
    if not view.frontier:
        return None
    heads = columns("Arm", "On the frontier?", "Beaten in all by")
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        mine = [f for f in view.frontier if (f.model, f.train) == (model, train)]
        rows = tuple((Cell(f.arm), _place(f.is_on), Cell(w.listing(f.dominated_by) if f.dominated_by else w.NOTHING))
                     for f in mine)  # fmt: skip
        tables += [Table(f"frontier-{i}", f"Frontier, {where(view, model, train)}", heads, rows)] if rows else []
    widgets = sliders(view)
    intro = (
        "An arm is off the frontier if another gains at least as much, forgets no more and trains no more parameters, "
        f"and is ahead in one of them. {LABEL[:1].upper()}{LABEL[1:]}."
    )
    if widgets:
        intro = (
            "Say how much of what the base knew must be kept: the study's own rule then says what is recommended. "
            + intro
        )
    return Section("frontier", "Frontier of gain, forgetting and cost", intro, (*asked_tables(view), *tables),
                   "Frontier", widgets)  # fmt: skip


def _place(is_on: bool | None) -> Cell:
    if is_on is None:
        return Cell("not measured", "", "quiet")
    return Cell("yes", "", "good") if is_on else Cell("no", "", "quiet")


def claims(view: View) -> Section | None:
    """The source study's claims about this model and these data."""
    if not view.questions:
        return None
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        mine = [q for q in view.questions if (q.model, q.train) == (model, train)]
        if mine:
            tables.append(claims_table(f"claims-{i}", f"Claims, {where(view, model, train)}", mine))
    source = view.questions[0].source
    intro = (
        f"What the study that this tool generalises reports ({source}), asked of this model and these data. Each claim "
        "is a family of its own at 95 %; what is not shown is undecided, not refuted."
    )
    return Section("claims", "Published claims: do they hold here?", intro, tuple(tables), "Claims")


def claims_table(name: str, caption: str, rows: list[Question]) -> Table:
    """Claims with their answers, why, and the test."""
    cells = tuple((Cell(q.claim), Cell(q.answer, "", _ANSWER_TONES[q.answer]), Cell(q.why), Cell(q.test)) for q in rows)
    return Table(name, caption, columns("Claim", "Here", "Because", "Test"), cells)
