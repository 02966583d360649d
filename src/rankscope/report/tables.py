"""The bookkeeping of a report: runs, learning rates, curves, flips, costs, what is missing. In: an evidence
`Index`. Out: rows.

Nothing here needs an interval: these are records of what happened, or counts of it. Knows no statistics and no
drawing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np

from rankscope.provenance import public_name
from rankscope.records import Ledger, Overlap, Role, RowCounts
from rankscope.report.evidence import Index, Panel, Run, difference
from rankscope.report.rows import (
    BaseRow,
    Cost,
    Curve,
    Cut,
    Fact,
    Failure,
    Flips,
    Measured,
    RowsUsed,
    RunRow,
    Shared,
    Trial,
)
from rankscope.report.wording import plural

CURVE_POINTS = 60
INSIDE = "Looking inside the model"
LEAST_ITEMS = 20
"""Items that a subject must have for its flips to be shown: below, a single answer is more than five points."""


def blocks(index: Index) -> list[tuple[str, str]]:
    """All (model, train task) pairs of the study."""
    return list(product(index.models, index.evidence.train))


def trials(index: Index) -> tuple[Trial, ...]:
    """Every learning rate tried, for arms that tried more than one."""
    rows = []
    for (model, train), arm in product(blocks(index), index.trained_arms):
        chosen = {r.spec.lr for r in index.of(model, train, arm.name, "final")}
        tried = index.of(model, train, arm.name, "trial")
        seeds = {r.spec.seed for r in tried}
        winners = tuple(r for r in index.of(model, train, arm.name, "final") if r.spec.seed in seeds)
        for run in sorted((*tried, *winners), key=lambda r: r.spec.lr) if tried else ():
            result, lr = run.result, run.spec.lr
            rows.append(
                Trial(
                    model,
                    train,
                    arm.name,
                    lr,
                    run.spec.seed,
                    result.status,
                    finite(result.validation_loss),
                    finite(result.validation_se),
                    run.role == "final" and lr in chosen,
                    result.message,
                )
            )
    return tuple(rows)


def curves(index: Index) -> tuple[Curve, ...]:
    """Training loss of the runs that count, averaged into at most `CURVE_POINTS` stretches."""
    rows = []
    for (model, train), arm in product(blocks(index), index.trained_arms):
        for run in index.of(model, train, arm.name, "final"):
            points = [(p.step, p.loss) for p in run.result.curve if math.isfinite(p.loss)]
            if not points:
                continue
            stretches = np.array_split(np.array(points), min(CURVE_POINTS, len(points)))
            steps = tuple(int(part[-1, 0]) for part in stretches)
            losses = tuple(float(part[:, 1].mean()) for part in stretches)
            rows.append(Curve(model, train, arm.name, run.spec.lr, run.spec.seed, steps, losses))
    return tuple(rows)


def flips(index: Index, base: tuple[BaseRow, ...]) -> tuple[Flips, ...]:
    """Right before and wrong after, and the reverse, summed over seeds. Only for tasks scored 0 or 1."""
    status = {(row.model, row.task): row.is_above_chance for row in base}
    return tuple(
        Flips(model, train, arm, task, role, *counted(change.values), len(change.items), len(change.seeds),
              status.get((model, task)))
        for (model, train, arm, task, role), change in changes(index)
    )  # fmt: skip


def changes(index: Index) -> Iterator[tuple[tuple[str, str, str, str, Role], Panel]]:
    """(model, train, arm, task, role) and the arm's difference to the base, for tasks whose scores are no nats."""
    for (model, train), arm in product(blocks(index), index.tuned_arms):
        for task, role in index.tasks(train):
            before = index.panel(_some(index.base(model)), task)
            after = index.panel(index.finals(model, train, arm.name), task)
            change = difference(after, before, against_base=True)
            if change is not None and change.higher_is_better:
                yield (model, train, arm.name, task, role), change


def counted(values: np.ndarray) -> tuple[int, int]:
    """How many scores (S, N) fell and how many rose by more than half."""
    return int((values < -0.5).sum()), int((values > 0.5).sum())


def run_rows(index: Index) -> tuple[RunRow, ...]:
    """Every run, done or failed."""
    return tuple(_run_row(run) for run in index.runs)


def _run_row(run: Run) -> RunRow:
    spec, result, is_untrained = run.spec, run.result, run.spec.train is None
    ledger = result.ledger
    speed = ledger.tokens / ledger.seconds if ledger.tokens and ledger.seconds else None
    return RunRow(
        name=spec.name,
        model=spec.model.name,
        train="" if is_untrained else spec.train.name,
        arm=spec.arm.name,
        role=run.role,
        seed=None if is_untrained else spec.seed,
        lr=None if is_untrained else spec.lr,
        status=result.status,
        stage=result.stage,
        message=result.message,
        steps=result.steps or None,
        seconds=ledger.seconds or None,
        tokens_per_second=speed,
        peak_bytes=ledger.peak_bytes or None,
        validation_loss=finite(result.validation_loss),
        notes=result.notes,
        key=run.key,
        side_by_side=side_by_side(run),
    )


def rows_used(index: Index) -> tuple[RowsUsed, ...]:
    """What each train task's rows hold."""
    found = index.evidence.row_counts
    return tuple(RowsUsed(train, *_or_reason(found.get(train))) for train in index.evidence.train if train)


def shared(index: Index) -> tuple[Shared, ...]:
    """What each task that a train task's arms are judged on shares with its rows."""
    found = index.evidence.overlaps
    return tuple(
        Shared(train, task, role, *_or_reason(found.get((train, task))))
        for train in index.evidence.train
        for task, role in index.tasks(train)
        if train
    )


def _or_reason(found: RowCounts | Overlap | str | None) -> tuple[RowCounts | Overlap | None, str]:
    return (None, found or "not recorded") if isinstance(found, str | None) else (found, "")


def cuts(index: Index) -> tuple[Cut, ...]:
    """Notes that count rows or items (they begin with the count), each with how many runs said so."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for run in index.runs:
        where = f"trained on {run.spec.train.name}" if run.spec.train else run.spec.arm.name
        for note in run.result.notes:
            if note[:1].isdigit():
                found.setdefault((run.spec.model.name, where, note), set()).add(run.key)
        for (key, task), scored in index.evidence.evals.items():
            if key == run.key and scored.status == "done" and scored.message:
                found.setdefault((run.spec.model.name, f"scored on {task}", scored.message), set()).add(key)
    return tuple(Cut(*words, len(keys)) for words, keys in found.items())


def failures(index: Index) -> tuple[Failure, ...]:
    """Runs and evaluations that failed, with where and why."""
    rows = [
        Failure(f"{r.spec.name} ({r.role})", r.result.stage, r.result.message or "no message")
        for r in index.runs
        if r.result.status == "failed"
    ]
    names = {r.key: r.spec.name for r in index.runs}
    for (run_key, task), found in index.evidence.evals.items():
        if found.status == "failed":
            rows.append(Failure(f"{names.get(run_key, run_key)} on {task}", "evaluate", found.message or "no message"))
        elif not found.scores:
            rows.append(Failure(f"{names.get(run_key, run_key)} on {task}", "evaluate", "ended without any scores"))
        elif lost := sum(not math.isfinite(s.value) for s in found.scores):
            text = f"{lost} of {len(found.scores)} items have no finite score and are left out"
            rows.append(Failure(f"{names.get(run_key, run_key)} on {task}", "evaluate", text))
    return tuple(rows)


def missing(index: Index) -> tuple[str, ...]:
    """What the study declares and does not have yet, in sentences. Failed work is not repeated here."""
    evidence, lines = index.evidence, []
    if not index.models:
        return ("No run has started: there is nothing to show yet.",)
    for model in index.models:
        if not any(r.spec.arm.kind == "base" and r.spec.model.name == model for r in index.runs):
            lines.append(f"The untouched base of {model} has not been scored: no difference can be shown.")
    for model, arm in product(index.models, index.given_arms):
        if index.given(model, arm.name) is None:
            lines.append(f"{model}, {arm.name}: not scored yet.")
    for (model, train), arm in product(blocks(index), index.trained_arms):
        if index.is_out(model, train, arm.name):
            continue
        have = {r.spec.seed for r in index.of(model, train, arm.name, "final")}
        left = [s for s in evidence.seeds if s not in have]
        if left and not have and (tried := index.of(model, train, arm.name, "trial")):
            failed = all(r.result.status == "failed" for r in tried)
            state = "every learning rate tried so far failed" if failed else "no learning rate chosen yet"
            lines.append(f"{model}, {train}, {arm.name}: {state}; no run counts.")
        elif left:
            lines.append(f"{model}, {train}, {arm.name}: {_seeds(left)} not run yet.")
    return (*lines, *_missing_evaluations(index))


def _missing_evaluations(index: Index) -> list[str]:
    lines = []
    for run in index.runs:
        if run.result.status != "done" or run.role != "final":
            continue
        trains = index.evidence.train if run.spec.train is None else (run.spec.train.name,)
        wanted = dict.fromkeys(task for train in trains for task, _ in index.tasks(train))
        if left := [task for task in wanted if (run.key, task) not in index.evidence.evals]:
            lines.append(f"{run.spec.name}: not evaluated yet on {', '.join(left)}.")
    return lines


def costs(index: Index) -> tuple[Cost, ...]:
    """Measured cost by part. Tuning counts the trials that lost: the winner is a run the study needs anyway."""
    parts = {
        "Training the runs that count": [r.result.ledger for r in index.runs if r.role == "final" and r.spec.train],
        "Tuning learning rates (trials not chosen)": [r.result.ledger for r in index.runs if r.role == "trial"],
        "Evaluation": [e.ledger for e in index.evidence.evals.values()],
    }
    if index.evidence.dropped:
        parts["Training stopped early by a race"] = [d.ledger for d in index.evidence.dropped]
    more = {
        "KL divergence from the base": index.evidence.divergences,
        "Second scoring of the base": index.evidence.noise,
        INSIDE: index.evidence.diagnoses,
    }
    parts |= {name: [e.ledger for e in found.values()] for name, found in more.items() if found}
    everything = [ledger for ledgers in parts.values() for ledger in ledgers]
    total = sum((ledger.seconds for ledger in everything), 0.0)
    uncounted = parts.get(INSIDE, [])  # diagnostics count their time alone
    return tuple(_cost(name, ledgers, total, uncounted) for name, ledgers in {**parts, "Total": everything}.items())


def _cost(name: str, ledgers: list[Ledger], total: float, uncounted: list[Ledger]) -> Cost:
    # A piece of work that took time may well have had no token; FLOPs go with tokens; an empty ledger was not kept.
    seconds = _measured([x.seconds if x.seconds else None for x in ledgers])
    skipped = set(map(id, uncounted))
    counted = [None if id(x) in skipped else x for x in ledgers]
    tokens = _measured([x.tokens if x and (x.tokens or x.seconds) else None for x in counted])
    flops = _measured([x.flops if x and (x.flops or (x.seconds and not x.tokens)) else None for x in counted])
    share = None if seconds.value is None or not total else seconds.value / total
    return Cost(name, len(ledgers), seconds, tokens, flops, share)


def _measured(values: list[float | int | None]) -> Measured:
    known = [v for v in values if v is not None]
    return Measured(None if values and not known else float(sum(known)), len(values) - len(known))


def side_by_side(run: Run) -> int | None:
    """How many runs its cohort trained together, itself counted; None if that was not recorded."""
    return len(run.result.environment.get("packing", ())) or None


def provenance(index: Index) -> tuple[Fact, ...]:
    """Where the numbers come from: model, data and software. Flat, in reading order."""
    models = {r.spec.model.name: r.spec.model for r in index.runs} | {m.name: m for m in index.evidence.models}
    facts = []
    for model in models.values():
        origin = (
            f"{public_name(model.id)}, revision {model.revision or 'not given'}, {model.dtype}, "
            f"key {model.key or 'not recorded'}"
        )
        facts.append(Fact(f"Model {model.name}", origin))
    for arm in index.given_arms:
        facts.append(Fact(f"{arm.kind.capitalize()} {arm.name}", f"{arm.path}, key {arm.key or 'not recorded'}"))
    for ref in {r.spec.train.name: r.spec.train for r in index.runs if r.spec.train}.values():
        limit = "all rows" if ref.limit is None else f"first {ref.limit} rows"
        facts.append(Fact(f"Train task {ref.name}", f"{ref.task}, {limit}, data key {ref.data_key or 'not recorded'}"))
    task_keys: dict[str, set[str]] = {}
    for (_, task), found in index.evidence.evals.items():
        task_keys.setdefault(task, set()).add(found.task_key)
    facts += [
        Fact(f"Evaluation {task}", f"task key {', '.join(sorted(keys))}") for task, keys in sorted(task_keys.items())
    ]
    if index.trained_arms:
        facts.append(Fact("Seeds", ", ".join(map(str, index.evidence.seeds)) or "none"))
    recipes = {r.spec.recipe for r in index.runs if r.spec.recipe}
    for recipe in recipes:
        shown = {name: getattr(recipe, name) for name in recipe.__dataclass_fields__}
        facts.append(Fact("Recipe (all arms)", ", ".join(f"{k} {v}" for k, v in shown.items() if v is not None)))
    return tuple(facts + _origins(index))


def _origins(index: Index) -> list[Fact]:
    """The distinct environments that runs were made in, with how many each covers, as stored with the runs."""
    found: dict[str, list[Run]] = {}
    for run in {run.key: run for run in index.runs}.values():
        found.setdefault(_environment_text(run.result.environment), []).append(run)
    facts = []
    for text, runs in sorted(found.items(), key=lambda pair: (not pair[0], -len(pair[1]))):
        tuned = sum(r.spec.train is not None for r in runs)
        untrained = dict.fromkeys("the base" if r.spec.arm.kind == "base" else r.spec.arm.name for r in runs
                                  if r.spec.train is None)  # fmt: skip
        who = [plural(tuned, "run")] * bool(tuned) + list(untrained)
        facts.append(Fact(f"Made on ({' and '.join(who)})", text or "not recorded"))
    versions = index.evidence.environment.get("versions")
    if versions:
        facts.append(Fact("Rendered with", _versions({k: v for k, v in versions.items() if v is not None})))
    return facts


def _environment_text(environment: dict) -> str:
    """One line: where it ran, in which numbers, with which versions. What was trained side by side is no part of it."""
    said = [str(environment[name]) for name in ("device", "dtype") if name in environment]
    said += [plural(environment[f"{name}s"], name) for name in ("thread", "processor") if f"{name}s" in environment]
    said += [str(environment["system"])] if "system" in environment else []
    said += [f"Python {environment['python']}"] if "python" in environment else []
    known = ("device", "dtype", "threads", "processors", "system", "python", "versions", "packing")
    said += [f"{name.replace('_', ' ')} {value}" for name, value in environment.items() if name not in known]
    said += [_versions(environment["versions"])] if environment.get("versions") else []
    return ", ".join(said)


def _versions(versions: dict) -> str:
    return ", ".join(f"{name} {'not installed' if value is None else value}" for name, value in versions.items())


def finite(value: float | None) -> float | None:
    """The number, or None where it is missing, infinite or not a number."""
    return value if value is not None and math.isfinite(value) else None


def _some(run: Run | None) -> tuple[Run, ...]:
    return (run,) if run else ()


def _seeds(seeds: list[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))
