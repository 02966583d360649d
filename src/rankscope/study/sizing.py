"""A study's scale for a time budget. In: the scale wanted, a way to predict. Out: what fits, and what was given up.

A ladder of concessions, each on top of those above it: what matters least for the verdict goes first, the seeds go
last. The first rung whose prediction fits is taken. Knows nothing about rows, models or how a prediction is made; no
torch.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rankscope.config.starter import Scale
from rankscope.errors import InputError
from rankscope.stats.wording import number

RACED = 0.8
"""What is counted of the training where a race runs: raced studies of three seeds took 44 to 78 % of the full grid's
tokens (benchmarks/RESULTS.md)."""
_WIDTH = 116
_EXTRAS = (
    "the look inside the networks (diagnose), and the scores of learning rates that lost: no verdict waits for them"
)
_RACE = "runs that can hardly win: stopped early (race), which seldom stops the best one too (docs/method.md, Racing)"
_LISTED = (
    "learning rates beyond three an arm: where the best is at the end of these, a better one may lie beyond, and the "
    "report says so"
)
_FIXED = (
    "tuned learning rates: each arm has one that is fixed, and where it suits one rank better than another, ranks look "
    "different that aren't"
)


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: the scale there, and every concession made so far, as what is given up."""

    scale: Scale
    given_up: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """The most seconds that work is predicted to take, those of training in them, and where the numbers come from
    (``Forecast.basis``). ``least_seconds`` where all that is known is a range."""

    seconds: float
    basis: str
    train_seconds: float = 0.0
    least_seconds: float | None = None

    @property
    def text(self) -> str:
        most = duration(self.seconds)
        if self.least_seconds is not None and duration(self.least_seconds) != most:
            return f"{duration(self.least_seconds)} to {most} ({self.basis})"
        return f"up to {most} ({self.basis})"

    @property
    def raced(self) -> Prediction:
        """What is counted where a race runs."""
        train = RACED * self.train_seconds
        seconds = self.seconds - self.train_seconds + train
        least = None if self.least_seconds is None else self.least_seconds * seconds / self.seconds
        return Prediction(seconds, self.basis, train, least)


@dataclass(frozen=True)
class Sized:
    """The scale to write. ``prediction`` is None where time can't be predicted, and ``why_not`` says why."""

    rung: Rung
    prediction: Prediction | None
    why_not: str = ""


def foreseen(plan: Any) -> Prediction | None:
    """The upper end of what a ``Plan`` predicts; None where it predicts no time."""
    found = plan.forecast
    if found is None:
        return None
    span = found.span
    return Prediction(span.high, found.basis, found.train.high, span.low if span.value is None else None)


def ladder(top: Scale, may_drop_seeds: bool = True) -> list[Rung]:
    """From the whole study down. ``may_drop_seeds``: not where the user named their number."""
    rungs, said = [Rung(top)], dict[str, str]()

    def down(key: str, sentence: str, **changes: Any) -> None:
        scale = replace(rungs[-1].scale, **changes)
        if scale != rungs[-1].scale:
            said[key] = sentence
            rungs.append(Rung(scale, tuple(said.values())))

    def fewer(items: int, rows: int) -> None:
        down("items", _items(top, items), items=min(top.items, items))
        down("rows", _rows(top, rows), rows=min(top.rows, rows))

    down("extras", _EXTRAS, extras=False)
    fewer(250, 1000)
    if len(top.ranks) > 3:
        kept = top.ranks[1:4]
        lost = ", ".join(str(rank) for rank in top.ranks if rank not in kept)
        text = f"ranks {lost}: not tried, so that the best rank may lie beyond {kept[0]} to {kept[-1]}"
        down("ranks", text, ranks=kept)
    down("race", _RACE, race=True)
    down("rates", _LISTED, rates="listed")
    fewer(150, 500)
    said.pop("race", None)  # with one rate an arm there is little left to stop
    down("rates", _FIXED, race=False, rates="fixed")
    for left in (2, 1):
        if may_drop_seeds and top.seeds > left:
            down("seeds", _seeds(top, left), seeds=left)
    return rungs


def fit(rungs: Sequence[Rung], predict: Callable[[Scale], Prediction], budget: float) -> tuple[Rung, Prediction] | None:
    """The highest rung whose prediction is within ``budget`` seconds; None if even the lowest isn't.

    Each rung takes no longer than the one above, so that a few predictions are enough.
    """
    low, high, found = 0, len(rungs), None
    while low < high:
        middle = (low + high) // 2
        prediction = predict(rungs[middle].scale)
        if prediction.seconds <= budget:
            high, found = middle, (rungs[middle], prediction)
        else:
            low = middle + 1
    return found


def too_small(least: Prediction, scale: Scale, budget: float) -> InputError:
    """The error for a budget that no study fits."""
    ranks = ", ".join(map(str, scale.ranks))
    what = (
        f"the smallest study takes {least.text}: {number(scale.seeds, 'seed')}, ranks {ranks} and full SFT, "
        f"{scale.rows} rows, {scale.items} items a task"
    )
    hint = f"Give it --budget {math.ceil(least.seconds / 60)}m, fewer tasks, or a smaller model"
    if least.least_seconds is not None:
        hint += ". The range narrows once a study of this model has run on this machine (--store DIR)"
    return InputError(what, got=duration(budget), where="--budget", hint=hint)


def head(sized: Sized, budget: float | None) -> list[str]:
    """What a study file's head says about its time: the prediction with its basis, and what was given up."""
    if sized.prediction is None:
        what = "No time is predicted" if budget is None else f"Not sized to {duration(budget)}"
        return _wrapped(f"{what}: {sized.why_not}. Its time, once these can be read: rankscope plan")
    told = f"Predicted on the machine this was written on: {sized.prediction.text}"
    if sized.rung.scale.rates == "auto":
        told += ", with all the learning rates that lr: auto may add"
    if sized.rung.scale.race:
        told += f", a race counted as {100 * RACED:.0f} % of its training"
    if budget is None:
        return _wrapped(f"{told}.")
    lines = _wrapped(f"Sized to {duration(budget)}. {told}.")
    if not sized.rung.given_up:
        return [*lines, "Nothing was given up for it."]
    lines.append("Given up for it:")
    return lines + [line for text in sized.rung.given_up for line in _wrapped(text, "  - ", "    ")]


def duration(seconds: float) -> str:
    """Seconds as '45 s', '40 min' or '1.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"


def _wrapped(text: str, first: str = "", more: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=more, break_on_hyphens=False)


def _items(top: Scale, items: int) -> str:
    wider = math.sqrt(top.items / items)
    return f"{top.items - items} of {top.items} test items a task: intervals are about {wider:.1f} times as wide"


def _rows(top: Scale, rows: int) -> str:
    return f"{top.rows - rows:,} of {top.rows:,} training rows: each arm learns less"


def _seeds(top: Scale, left: int) -> str:
    told = "every interval speaks for one seed only" if left == 1 else "intervals know less of how seeds vary"
    return f"{top.seeds - left} of {top.seeds} seeds: {told}"
