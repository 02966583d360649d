"""How far a study has come, arm by arm and seed by seed. In: a study, an open store. Out: a `Tally`. No torch.

What is counted is what is stored. Who trains right now is said by the store's ``Now`` and laid over it by ``running``;
nothing of an unfinished run is in any estimate.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

from rankscope.provenance import plain
from rankscope.records import RunSpec, TaskRef
from rankscope.storage.watching import Now
from rankscope.study import measures
from rankscope.study.measures import Measure
from rankscope.study.plan import Plan, base_spec, given_spec, run_key
from rankscope.study.planning import make_plan
from rankscope.study.rates import Rates

State = Literal["done", "running", "to score", "to do", "failed", "stopped"]
"""'to score': trained, with scores still to come. 'stopped': by a race, and in no estimate."""


@dataclass(frozen=True)
class Cell:
    """One arm's work for one seed (None: an arm that is not trained). ``note``: how many learning rates were tried.

    ``keys`` are those of its runs.
    """

    seed: int | None
    state: State
    note: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArmRow:
    """One arm of one model and train task ('': none)."""

    model: str
    train: str
    arm: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Tally:
    """What is done and left, as stored. ``made`` is when it was counted, in seconds since 1970."""

    study: str
    plan: Plan
    rows: tuple[ArmRow, ...]
    made: float

    def seconds_left(self, now: Now | None, at: float) -> tuple[float, bool] | None:
        """Seconds until the end while ``now`` goes on, and whether that is a lower bound; None where nobody can know.

        The forecast counts a run that is under way as a whole, so that the time since the last count is taken off; but
        it is no less than what the piece under way still takes at its own pace.
        """
        if self.plan.forecast is None:
            return None
        gone = max(0.0, at - self.made) if now is not None else 0.0
        piece = (now.seconds_left if now is not None else None) or 0.0
        span = self.plan.forecast.span
        left = span.low if span.value is None else span.value
        return max(left - gone, piece, 0.0), span.value is None

    @property
    def is_done(self) -> bool:
        """Whether every cell has come to its end, good or bad."""
        return all(cell.state in ("done", "failed", "stopped") for row in self.rows for cell in row.cells)

    def sentence(self, now: Now | None, at: float) -> str:
        """How the study goes at a moment (seconds since 1970): 'running: 7 of 12 runs done, about 3 min left'."""
        state = "running" if now is not None else "done" if self.is_done else "not running"
        most = "at most " if self.plan.is_at_most else ""
        told = f"{state}: {self.plan.num_done} of {most}{len(self.plan.runs)} runs done"
        left = self.seconds_left(now, at)
        if left is None or (now is None and self.is_done):
            return told
        work = "" if now is not None else "of work "
        return f"{told}, {'at least' if left[1] else 'about'} {_duration(left[0])} {work}left"

    def mine(self, now: Now | None, key: str) -> Now | None:
        """``now``, if it is about this study: of this key, or of its runs, whatever the declaration is called."""
        keys = {key for row in self.rows for cell in row.cells for key in cell.keys}
        return now if now is not None and (now.study == key or keys & set(now.runs)) else None

    def running(self, now: Now | None) -> Tally:
        """The same with the cells that ``now`` is about as running."""
        busy = set(now.runs) if now is not None else set()
        rows = tuple(replace(row, cells=tuple(_busy(cell, busy) for cell in row.cells)) for row in self.rows)
        return replace(self, rows=rows)

    def as_dict(self) -> dict[str, Any]:
        """The rows for programs."""
        return {"arms": [plain(row) for row in self.rows]}


def tally(study: Any, store: Any) -> Tally:
    """Count what the store holds of a study. Raises InputError if its models or rows can't be found."""
    made, (models, pairs) = time.time(), study.resolve()
    count, rows = _Count(study, store), []
    for model in models:
        wanted = measures.scores(study, study.config.evaluations(None))
        rows.append(ArmRow(model.name, "", "base", (count.cell(base_spec(model), wanted, None),)))
        judged = measures.scores(study, study.config.judged())
        rows += [ArmRow(model.name, "", arm.name, (count.cell(given_spec(model, arm), judged, None),))
                 for arm in study.given()]  # fmt: skip
        for raw, ref in pairs:
            for rates in study.rates(store.runs, model, ref, store):
                rows.append(ArmRow(model.name, ref.name, rates.trials[0].arm.name, count.cells(rates, raw)))
    return Tally(study.config.name, make_plan(study, store), tuple(rows), made)


@dataclass(frozen=True)
class _Count:
    study: Any
    store: Any

    def cells(self, rates: Rates, raw: TaskRef) -> tuple[Cell, ...]:
        """One arm's cells. Before its rate is chosen the first seed's stands for its trials, and the rest waits."""
        seeds, wanted = self.study.config.seeds, measures.scores(self.study, self.study.config.evaluations(raw))
        keys = tuple(run_key(t) for t in rates.trials)
        if rates.is_out:
            return tuple(Cell(seed, "stopped", keys=keys if seed == seeds[0] else ()) for seed in seeds)
        if not rates.is_settled:
            tried = len(rates.trials) - len(rates.missing)
            note = f"{tried} of {len(rates.trials)} rates tried" if len(rates.trials) > 1 else ""
            return (Cell(seeds[0], "to do", note, keys), *(Cell(seed, "to do") for seed in seeds[1:]))
        return tuple(self.cell(replace(rates.chosen, seed=seed), wanted, seed) for seed in seeds)

    def cell(self, spec: RunSpec, wanted: list[Measure], seed: int | None) -> Cell:
        key = run_key(spec)
        found = self.store.run(key)
        if found is None:
            return Cell(seed, "to do", keys=(key,))
        if found.status == "failed":
            return Cell(seed, "failed", keys=(key,))
        outcomes = [self.store.eval_outcome(key, m.key) for m in wanted]
        if None in outcomes:
            return Cell(seed, "to score", f"{sum(o is not None for o in outcomes)} of {len(outcomes)} tasks", (key,))
        failed = any(o is not None and o[0] == "failed" for o in outcomes)
        return Cell(seed, "failed" if failed else "done", keys=(key,))


def _duration(seconds: float) -> str:
    if seconds < 60:
        return "a minute" if seconds > 45 else f"{max(5, 5 * round(seconds / 5))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _busy(cell: Cell, keys: set[str]) -> Cell:
    return replace(cell, state="running") if keys & set(cell.keys) and cell.state in ("to do", "to score") else cell
