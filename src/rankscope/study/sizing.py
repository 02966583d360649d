"""A study that fits a time budget. In: a question, a budget, a store. Out: a scale, what it gave up, the time predicted.

A ladder of concessions, each cumulative, what matters least for the verdict first and the seeds last; the first rung whose
prediction fits is taken. Every prediction is ``Study.plan``'s, of the very text that would be written. Reads rows to count
tokens; no weights, no torch, and no network: where a model or rows are not here, no time is predicted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from rankscope.config.load import from_dict
from rankscope.config.starter import Question, Rates, Scale, study_text
from rankscope.errors import InputError
from rankscope.models import locate
from rankscope.records import ModelRef
from rankscope.stats.cost import linear_shapes
from rankscope.study import forecast as fc
from rankscope.study.study import Study
from rankscope.tasks import task as tasks

RANKS = (1, 4, 16, 64, 256)
"""The ranks wanted, as far as they are low for the model: whatever the best one is, one tried is within a factor of 2."""
RACED = 0.8
"""What is counted of the training where a race runs: the measured raced studies of three seeds took 44 to 78 % of the
full grid's tokens (benchmarks/RESULTS.md)."""
_STEPS = 40  # least steps of a run: with fewer, an arm hardly leaves the base, and arms can't be told apart
_BATCHES = (4096, 2048, 1024, 512, 256)


@dataclass(frozen=True)
class Rung:
    """One step down: the scale there, and every concession made so far, in sentences."""

    scale: Scale
    given_up: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """The most seconds that a study is predicted to take, and where the number comes from (``Forecast.basis``)."""

    seconds: float
    basis: str


@dataclass(frozen=True)
class Sized:
    """The scale to write. ``prediction`` is None where time can't be predicted, and ``why_not`` says why."""

    rung: Rung
    prediction: Prediction | None
    why_not: str = ""


def full_scale(model: str, seeds: int | None = None) -> Scale:
    """What a study should have where time is no matter; the starter's ranks for a model whose sizes aren't known."""
    shape = locate.shape(ModelRef(model))
    scale = Scale(seeds=3 if seeds is None else seeds)
    if shape is None:
        return scale
    # From rank o i / (o + i) on, LoRA trains as many numbers as the matrix has.
    most = min(out * inner / (out + inner) for out, inner in linear_shapes(shape))
    return replace(scale, ranks=tuple(rank for rank in RANKS if rank < most) or RANKS[:1])


def ladder(top: Scale, may_drop_seeds: bool = True) -> list[Rung]:
    """From the whole study down. ``may_drop_seeds``: not where the user named their number."""
    rungs, scale, said = [Rung(top)], top, {}

    def down(sentences: dict[str, str], **changes: Any) -> None:
        nonlocal scale
        lower = replace(scale, **changes)
        said.update(sentences)
        for key in [key for key, text in said.items() if not text]:
            del said[key]
        if lower != scale:
            scale = lower
            rungs.append(Rung(scale, tuple(said.values())))

    down({"extras": "the look inside the networks (diagnose) and the scores of learning rates that lost: no verdict "
                    "waits for them"}, extras=False)  # fmt: skip
    down({"items": _items(top, 250)}, items=min(top.items, 250))
    down({"rows": _rows(top, 1000)}, rows=min(top.rows, 1000))
    if len(top.ranks) > 3:
        kept = top.ranks[1:4]
        lost = ", ".join(str(rank) for rank in top.ranks if rank not in kept)
        down({"ranks": f"ranks {lost}: not tried, so that the best may lie beyond those that are"}, ranks=kept)
    down({"race": "runs that can hardly win: stopped early (race), which seldom stops the best one, too "
                  "(docs/method.md, Racing)"}, race=True)  # fmt: skip
    down({"rates": "learning rates beyond the three of each arm: where the best is at the end of the grid, a better one "
                   "may lie beyond, and the report says so"}, rates="listed")  # fmt: skip
    down({"items": _items(top, 150)}, items=min(top.items, 150))
    down({"rows": _rows(top, 500)}, rows=min(top.rows, 500))
    down({"race": "", "rates": "tuned learning rates: each arm has one fixed rate, and where it suits one rank better "
                               "than another, ranks look different that aren't"}, race=False, rates="fixed")  # fmt: skip
    for left in (2, 1):
        if may_drop_seeds and top.seeds > left:
            down({"seeds": _seeds(top, left)}, seeds=left)
    return rungs


def fit(rungs: Sequence[Rung], predict: Callable[[Scale], Prediction], budget: float) -> tuple[Rung, Prediction] | None:
    """The highest rung whose prediction is within ``budget`` seconds; None if even the lowest isn't.

    Each rung takes no longer than the one above, so that a few predictions are enough.
    """
    low, found = 0, None
    high = len(rungs)
    while low < high:
        middle = (low + high) // 2
        prediction = predict(rungs[middle].scale)
        if prediction.seconds <= budget:
            high, found = middle, (rungs[middle], prediction)
        else:
            low = middle + 1
    return found


def size(question: Question, folder: Path, store: str | None = None, budget: float | None = None,
         seeds: int | None = None) -> Sized:  # fmt: skip
    """The scale of a study file in ``folder``; paths of ``question`` start at the working folder.

    Raises InputError for rows that make no sense, and if even the smallest study takes longer than ``budget`` seconds.
    """
    top = full_scale(question.model, seeds)
    drafts = Drafts(question, folder, store)
    drafts.check_rows(top)
    if missing := drafts.missing(top):
        return Sized(Rung(top), None, missing)
    if budget is None:
        prediction = drafts.predict(top)
        return Sized(Rung(drafts.with_batch(top)), prediction, "" if prediction else _NO_SIZES)
    if drafts.predict(top) is None:
        return Sized(Rung(drafts.with_batch(top)), None, _NO_SIZES)
    rungs = ladder(top, seeds is None)
    found = fit(rungs, drafts.predicted, budget)
    if found is None:
        raise _too_small(drafts.predicted(rungs[-1].scale), rungs[-1].scale, budget)
    rung, prediction = found
    return Sized(replace(rung, scale=drafts.with_batch(rung.scale)), prediction)


_NO_SIZES = "the model has no config.json here that tells its sizes"


class Drafts:
    """Study files not yet written, as studies: one a scale."""

    def __init__(self, question: Question, folder: Path, store: str | None = None):
        self.question, self.folder, self.store = question.seen_from(folder), folder, store
        self._first: Study | None = None

    def study(self, scale: Scale) -> Study:
        """The study that the text would be. Raises ConfigError."""
        config = from_dict(yaml.safe_load(study_text(self.question, scale)), folder=self.folder)
        if self._first is None:
            self._first = Study(config)
        return self._first.like(config)

    def missing(self, scale: Scale) -> str:
        """What isn't here, so that no time can be predicted without asking the hub; nothing if all is."""
        study = self.study(scale)
        found = [m.name for m in study.config.models() if not locate.place(m).is_local and locate.shape(m) is None]
        train = [(ref, "train") for ref in study.config.train_refs()]
        tests = [(ref, None) for ref, _ in study.config.evaluations(None)]
        found += [ref.name for ref, split in (*train, *tests) if not tasks.is_local(ref, study.data_dir, split)]
        return f"not here: {', '.join(dict.fromkeys(found))}" if found else ""

    def check_rows(self, scale: Scale) -> None:
        """Rows that lie here make sense. Raises InputError."""
        study = self.study(scale)
        for ref in study.config.train_refs():
            if tasks.is_local(ref, study.data_dir, "train"):
                study.samples(tasks.resolve(ref, study.data_dir, "train", may_ask=False))
        for ref, _ in study.config.evaluations(None):
            if tasks.is_local(ref, study.data_dir):
                study.prepared(study.test_task(ref))

    def predict(self, scale: Scale) -> Prediction | None:
        """The most that the study takes, also if every ``lr: auto`` is extended as far as it goes."""
        rates: Rates = "widest" if scale.rates == "auto" else scale.rates
        found = self.study(replace(scale, rates=rates)).plan(self.store).forecast
        if found is None:
            return None
        most = high_end(found)
        share = found.train_seconds / found.seconds if scale.race and found.seconds else 0.0
        return Prediction(most * (1 - share * (1 - RACED)), found.basis)

    def predicted(self, scale: Scale) -> Prediction:
        """The same where the sizes are known."""
        found = self.predict(scale)
        return found or Prediction(math.inf, "")

    def with_batch(self, scale: Scale) -> Scale:
        """The largest usual batch with which a run of every train task still takes enough steps."""
        study = self.study(scale)
        recipe = study.config.recipe()
        refs = [tasks.resolve(ref, study.data_dir, "train") for ref in study.config.train_refs()]
        fewest = min(fc.train_tokens(recipe, study.samples(ref)) for ref in refs)
        return replace(scale, batch_tokens=next((b for b in _BATCHES if fewest / b >= _STEPS), _BATCHES[-1]))


def high_end(forecast: Any) -> float:
    """The seconds of a forecast, of a range its upper end."""
    return max(forecast.seconds) if isinstance(forecast.seconds, tuple) else forecast.seconds


def words(seconds: float) -> str:
    """Seconds as '40 min' or '1.5 h'."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def head(sized: Sized, budget: float | None) -> list[str]:
    """What the file's head says about time: the prediction and its basis, and what was given up."""
    if sized.prediction is None:
        what = "not sized" if budget is not None else "no time is predicted"
        return ["", f"{what[0].upper()}{what[1:]}: {sized.why_not}. To see its time once it is: rankscope plan"]
    about = "about" if sized.prediction.basis == fc.MEASURED else "at least"
    told = f"{about} {words(sized.prediction.seconds)} on the machine this was written on ({sized.prediction.basis})"
    if sized.rung.scale.rates == "auto":
        told += ", with all the learning rates that lr: auto may add"
    if sized.rung.scale.race:
        told += f", a race counted as {RACED:.0%} of its training"
    if budget is None:
        return ["", f"Predicted: {told}."]
    lines = ["", f"Sized to {words(budget)}. Predicted: {told}."]
    if not sized.rung.given_up:
        return [*lines, "Nothing was given up for it."]
    return [*lines, "Given up for it, what matters least for the verdict first:"] + [f"  - {t}" for t in sized.rung.given_up]


def _items(top: Scale, items: int) -> str:
    wider = math.sqrt(top.items / items)
    return f"{top.items - items} of {top.items} test items a task: intervals are about {wider:.1f} times as wide"


def _rows(top: Scale, rows: int) -> str:
    return f"{top.rows - rows:,} of {top.rows:,} training rows: each arm learns less"


def _seeds(top: Scale, left: int) -> str:
    told = "every interval speaks for one seed only" if left == 1 else "intervals know less of how seeds vary"
    return f"{top.seeds - left} of {top.seeds} seeds: {told}"


def _too_small(least: Prediction, scale: Scale, budget: float) -> InputError:
    ranks = ", ".join(map(str, scale.ranks))
    what = (f"the smallest study that tells anything takes {words(least.seconds)} ({least.basis}): {scale.seeds} seeds, "
            f"ranks {ranks} and full SFT, {scale.rows} rows, {scale.items} items a task")  # fmt: skip
    return InputError(what, got=words(budget), where="--budget",
                      hint=f"Give it --budget {math.ceil(least.seconds / 60)}m, fewer tasks, or a smaller model")  # fmt: skip
