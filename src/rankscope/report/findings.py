"""The sections about results: headline, scores by rank, comparisons, transfer, the base. In: a `View`. Out:
`Section`s.
"""

from __future__ import annotations

from rankscope.report import hows
from rankscope.report import wording as w
from rankscope.report.cells import AT_CHANCE, TONES, Cell, Column, Section, Table, columns, role_words, where
from rankscope.report.rows import BaseRow, Effect, Headline, Transfer
from rankscope.report.verdict import KEPT_WORDS
from rankscope.report.view import View

KEPT_TONES = {"shown": "good", "lost": "bad", "not shown": "open", "no data": "quiet"}


def headline(view: View) -> Section:
    tables = tuple(_headline_table(view, model, train, i) for i, (model, train) in enumerate(view.blocks))
    intro = (
        "Each arm against the untouched base. Square brackets are ordinary 95 % intervals; the words read the wider "
        f"simultaneous intervals of all {len(view.effects)} comparisons and a margin of {_margin(view)}. Runs trained "
        "side by side share each step: their time is the step's divided by the runs alive, the peak memory that of all."
    )
    return Section("headline", "What each arm learned, kept and cost", intro, tables, "Headline")


def _headline_table(view: View, model: str, train: str, number: int) -> Table:
    rows = tuple(_headline_row(h) for h in view.headlines if (h.model, h.train) == (model, train))
    gain = next((h.gain for h in view.headlines if (h.model, h.train) == (model, train) and h.gain), None)
    unit = w.unit(gain.metric) if gain else "points"
    margin = _margin(view)
    heads = columns(
        "Arm",
        hows.LEARNING_RATE,
        (
            f"Gain, {unit}",
            "Mean over items and seeds of the arm's in-domain score minus the base's on the same item (paired). "
            f"{hows.ORDINARY}",
        ),
        ("Gain shown?", f"Read from the interval under the word, by a margin of {margin}. {hows.SIMULTANEOUS}"),
        (
            "Retention, %",
            "(score − chance) / (base − chance), mean of the retention tasks whose base is shown above chance, each "
            f"with equal weight. {hows.ORDINARY}",
        ),
        (
            "Points forgotten",
            "Base minus arm on the same items (paired), mean of those retention tasks with equal weight; positive is "
            f"worse. {hows.ORDINARY}",
        ),
        (
            "Kept?",
            "Non-inferiority: 'shown' if the simultaneous interval of that pooled difference lies above minus the "
            f"margin of {margin} and no retention task is shown worse; the largest loss left open stands beside it.",
        ),
        (
            "CE rise, nats",
            "Mean cross-entropy per token on neutral text, arm minus base on the same texts (paired); positive is "
            f"worse. {hows.ORDINARY}",
        ),
        *hows.HEADLINE_COST,
    )
    sample = f"; gain on {gain.task}, {w.sample(gain.contrast.estimate)}" if gain else ""
    place = where(view, model, train)
    return Table(
        f"headline-{number}", f"{place[:1].upper()}{place[1:]}{sample}", heads, rows, (1, 2, 4, 5, 7, 8, 9, 10, 11)
    )


def _headline_row(h: Headline) -> tuple[Cell, ...]:
    seeds = Cell(
        f"{h.num_seeds} of {h.num_seeds_planned}",
        f"{h.num_failed} failed" if h.num_failed else "",
        "flag" if h.num_seeds < h.num_seeds_planned else "",
    )
    if h.gain is None:
        gain, word = Cell(w.NOTHING, "not measured", "quiet"), Cell(w.NOTHING, "", "quiet")
    else:
        gain, word = _stacked(w.change(h.gain.contrast.estimate, h.gain.metric)), _verdict_cell(h.gain)
        if h.gain_is_above_chance is False:
            gain = Cell(gain.text, f"{gain.note}; {AT_CHANCE}", "flag")
    return (
        Cell(h.arm),
        Cell(w.learning_rate(h.lr)),
        gain,
        word,
        _stacked(w.percent(h.retention)),
        _stacked(w.change(h.forgotten, "accuracy")),
        Cell(KEPT_WORDS[h.kept], h.kept_reason, KEPT_TONES[h.kept]),
        _stacked(w.change(h.ce_rise, "cross_entropy")),
        Cell(w.count(h.trainable)),
        Cell(w.duration(h.seconds), w.side_by_side(h.side_by_side)),
        Cell(w.number_bytes(h.peak_bytes)),
        Cell(w.number_bytes(h.blob_bytes)),
        seeds,
    )


def _stacked(text: str) -> Cell:
    """A value with its interval under it."""
    value, _, interval = text.partition(" ")
    return Cell(value, interval, "" if interval else "quiet")


def _verdict_cell(effect: Effect) -> Cell:
    c = effect.contrast
    return Cell(w.verdict(c, effect.metric), w.simultaneous(c, effect.metric), TONES[c.verdict])


def ranks(view: View) -> Section:
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
        heads = columns("Arm", *((f"{task} ({roles[task].replace('_', '-')})", hows.SCORE) for task in tasks))
        tables.append(
            Table(
                f"scores-{i}",
                f"Scores, {where(view, model, train)}",
                heads,
                tuple(rows),
                tuple(range(1, len(heads))),
            )
        )
    intro = (
        "Scores in per cent (cross-entropy in nats per token, lower is better) with 95 % intervals, items and seeds."
    )
    return Section("ranks", "Scores by rank", intro, tuple(tables), "Ranks")


def comparisons(view: View) -> Section:
    tables = []
    for i, (model, train) in enumerate(view.blocks):
        rows = tuple(_comparison(e) for e in view.effects if (e.model, e.train) == (model, train))
        heads = _comparison_columns(view)
        tables.append(
            Table(f"comparisons-{i}", f"Paired differences, {where(view, model, train)}", heads, rows, (2, 3, 5))
        )
    intro = (
        "Positive is better, also for cross-entropy (its sign is turned). Every undecided one is given with "
        "the difference that this study could have seen with 80 % power and the items or seeds that would decide. "
        "One seed of right or wrong answers has "
        "McNemar's exact p beside it, as a cross-check."
    )
    return Section("comparisons", "All comparisons", intro, tuple(tables), "Comparisons")


def _comparison_columns(view: View) -> tuple[Column, ...]:
    return columns(
        "Comparison",
        "Task",
        (
            "Difference",
            "Mean over items and seeds of the first arm's score minus the second's on the same item and seed (paired), "
            f"in points or nats; for cross-entropy with the sign turned; pooled tasks count alike. {hows.ORDINARY}",
        ),
        ("Simultaneous", hows.SIMULTANEOUS),
        (
            "Verdict",
            f"Read from the simultaneous interval and a margin of {_margin(view)}: 'within the margin' if it lies "
            "inside, else 'better' or 'worse' if it excludes 0, else 'undecided' with the difference that would have "
            "been seen with 80 % power (Schuirmann 1987 for equivalence).",
        ),
        (
            "p, unadjusted",
            "Two-sided p of the difference's own t statistic, not adjusted for the number of comparisons and read by "
            "no verdict; McNemar's exact p beside it for one seed of right or wrong answers (McNemar 1947).",
        ),
        ("Items and seeds", "Number of items that both arms have, and of seeds that both have."),
    )


def _comparison(e: Effect) -> tuple[Cell, ...]:
    c = e.contrast
    role = role_words(e.role, e.is_above_chance)
    scope = "" if c.estimate.num_seeds > 1 else c.estimate.scope
    return (
        Cell(f"{c.arm} − {c.other}"),
        Cell(e.task, role),
        Cell(w.change(c.estimate, e.metric), w.unit(e.metric)),
        Cell(w.simultaneous(c, e.metric)),
        Cell(w.verdict(c, e.metric), w.needed(c.needed) if c.needed else "", TONES[c.verdict]),
        Cell(_p_value(c.p_value), "" if e.exact_p is None else f"McNemar {_p_value(e.exact_p)}"),
        Cell(w.sample(c.estimate), scope),
    )


def _p_value(value: float) -> str:
    if value != value:
        return w.NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def transfer(view: View) -> Section:
    """A matrix for each arm; where one task was trained on, a single one with a row for each arm."""
    order = list(dict.fromkeys(t.task for t in view.transfer))
    tables = [_only_transfer(view, i, model, order) for i, model in enumerate(view.models) if len(view.train) == 1]
    for i, (model, arm) in enumerate([] if tables else dict.fromkeys((t.model, t.arm) for t in view.transfer)):
        cells = {(t.train, t.task): t for t in view.transfer if (t.model, t.arm) == (model, arm)}
        rows = tuple(
            (Cell(w.source(train)), *(_transfer_cell(cells.get((train, task)), view.alarm) for task in order))
            for train in view.train
        )
        caption = f"{arm}: change against the base" + (f", {model}" if len(view.models) > 1 else "")
        tables.append(_transfer_table(i, caption, "Trained on", order, rows))
    intro = (
        f"Rows: {'the arms' if len(view.train) == 1 else 'the task that the arm learned here'}. Columns: what it was "
        "scored on. Positive is better. A cell is marked ▲ or ▼ only if its simultaneous interval excludes 0; it is an "
        "alarm if the whole interval lies below "
        f"−{100 * view.alarm:g} points."
    )
    return Section("transfer", "Transfer to other tasks", intro, tuple(tables), "Transfer")


def _only_transfer(view: View, number: int, model: str, order: list[str]) -> Table:
    cells = {(t.arm, t.task): t for t in view.transfer if t.model == model}
    arms = dict.fromkeys(arm for arm, _ in cells)
    rows = tuple((Cell(arm), *(_transfer_cell(cells.get((arm, task)), view.alarm) for task in order)) for arm in arms)
    return _transfer_table(number, f"Change against the base, {where(view, model, view.train[0])}", "Arm", order, rows)


def _transfer_table(
    number: int, caption: str, side: str, order: list[str], rows: tuple[tuple[Cell, ...], ...]
) -> Table:
    heads = columns(side, *((task, hows.CHANGE) for task in order))
    return Table(f"transfer-{number}", caption, heads, rows, tuple(range(1, len(order) + 1)))


def _transfer_cell(cell: Transfer | None, alarm: float) -> Cell:
    if cell is None:
        return Cell(w.NOTHING, "not part of the study", "quiet")
    if cell.effect is None:
        return Cell(w.NOTHING, "not measured", "quiet")
    e = cell.effect
    mark = {"positive": "▲ ", "negative": "▼ "}.get(e.mark, "")
    tone = "bad" if e.mark == "negative" else "good" if e.mark else "quiet"
    notes = [cell.role.replace("_", "-")]
    notes += (
        ["ALARM"] * e.is_alarm
        + [f"estimated beyond {100 * alarm:g} points"] * (e.is_large and not e.is_alarm)
        + [AT_CHANCE] * (e.is_above_chance is False)
        + ["nats"] * w.is_nats(e.metric)
    )
    return Cell(mark + w.change(e.contrast.estimate, e.metric), "; ".join(notes), tone)


def base(view: View) -> Section:
    tables = []
    for i, model in enumerate(view.models):
        rows = tuple(_base_row(b) for b in view.base if b.model == model)
        tables.append(Table(f"base-{i}", model, columns(*_BASE_COLUMNS), rows, (2, 4, 6, 7)))
    intro = (
        "Where the study starts. What a few examples in the prompt already give is format, not something learned. "
        "Tasks on which the base is not shown above chance are flagged everywhere and left out of pooled figures."
    )
    return Section("base", "The untouched base", intro, tuple(tables), "Base")


_BASE_COLUMNS = (
    "Task",
    "Roles",
    (
        "Zero-shot",
        "Mean score over items without examples in the prompt. Square brackets: 95 % interval over items, Wilson's for "
        "right or wrong answers (Wilson 1927), else t.",
    ),
    ("Items", "Number of items scored."),
    ("Chance", "The larger of the uniform guess and the most frequent answer's share, in per cent."),
    ("Above chance?", "Yes if the whole 95 % interval of the zero-shot score lies above chance."),
    ("Few-shot", "The same score with examples in the prompt, without training, and its 95 % interval over items."),
    (
        "Few-shot minus zero-shot",
        "Mean over items of the few-shot score minus the zero-shot score of the same item (paired); 95 % interval over "
        "items.",
    ),
)


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


def _margin(view: View) -> str:
    return f"{w.plain_number(view.margin, 'accuracy')} points ({view.margin:g} nats)"
