"""The learning rate of each arm. In: the runs that are done. Out: what to try next, or the chosen rate. No torch.

Trials are runs of the first seed; their validation rows are carved from train and never carry a verdict. A rate given
as ``auto`` may leave its grid twice, where the best trial lies on an edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from rankscope.records import ModelRef, RunResult, RunSpec, TaskRef
from rankscope.stats.tuning import Choice, Trial, choose_lr
from rankscope.study.plan import run_key

EXTENSIONS = 2

Find = Callable[[Iterable[str]], dict[str, RunResult]]


@dataclass(frozen=True)
class Rates:
    """One arm's trials (one spec a rate, first seed), those still to run, and the choice once none is missing.

    ``dropped``: trials that a race stopped; they have lost. An arm without another is out: it has no runs that count.
    """

    trials: tuple[RunSpec, ...]
    missing: tuple[RunSpec, ...] = ()
    choice: Choice | None = None
    dropped: tuple[RunSpec, ...] = ()

    @property
    def is_out(self) -> bool:
        return len(self.dropped) == len(self.trials)

    @property
    def is_settled(self) -> bool:
        return not self.missing

    @property
    def chosen(self) -> RunSpec:
        """The trial whose rate the arm gets; the lowest where every trial failed, so that the arm is a failed row."""
        left = [t for t in self.trials if t not in self.dropped] or self.trials
        return next((t for t in left if self.choice and t.lr == self.choice.lr), left[0])


def arm_rates(find: Find, specs: Sequence[RunSpec], stopped: Collection[str] = ()) -> Rates:
    """How far the choice has come. An arm with one fixed rate is settled from the start.

    ``stopped``: keys of runs that a race has stopped. The grid is still as wide as declared: a best rate beside a
    stopped one lies on no edge. What ``auto`` adds to it is trained to its end.
    """
    trials = sorted(specs, key=lambda s: s.lr)
    dropped = tuple(t for t in trials if run_key(t) in stopped)
    if len(dropped) == len(trials) or (len(trials) == 1 and not trials[0].arm.lr_auto):
        return Rates(tuple(trials), dropped=dropped)
    for extension in range(EXTENSIONS + 1):
        found = find(run_key(t) for t in trials if t not in dropped)
        if missing := tuple(t for t in trials if t not in dropped and run_key(t) not in found):
            return Rates(tuple(trials), missing, None, dropped)
        choice = choose_lr([_trial(t, found[run_key(t)]) if t not in dropped else Trial(t.lr, None) for t in trials])
        if not trials[0].arm.lr_auto or extension == EXTENSIONS or choice is None or not choice.edge:
            break
        end = trials[0] if choice.edge == "low" else trials[-1]
        trials = sorted([*trials, replace(end, lr=next_rate(end.lr, choice.edge == "high"))], key=lambda s: s.lr)
    return Rates(tuple(trials), (), choice, dropped)


def counting(rates: Iterable[Rates], seeds: Iterable[int]) -> list[RunSpec]:
    """The runs that count: of every arm that has its rate and isn't out, one a seed."""
    arms = [r.chosen for r in rates if r.is_settled and not r.is_out]
    return [replace(spec, seed=seed) for seed in seeds for spec in arms]


def next_rate(lr: float, is_up: bool) -> float:
    """The neighbour in 1e-5, 3e-5, 1e-4, 3e-4, ..."""
    exponent = math.floor(math.log10(lr * 1.0001))
    is_three = lr / 10.0**exponent > 2
    if is_up:
        mantissa, shift = (1, 1) if is_three else (3, 0)
    else:
        mantissa, shift = (1, 0) if is_three else (3, -1)
    return float(f"{mantissa}e{exponent + shift}")


def edge_notes(model: ModelRef, train: TaskRef, rates: Sequence[Rates]) -> list[str]:
    """What a reader must know of rates whose best trial lies at the end of the grid: a better one may lie beyond."""
    told = []
    for end, words in (("low", "lowest"), ("high", "highest")):
        names = [r.trials[0].arm.name for r in rates if r.choice is not None and r.choice.edge == end]
        if names:
            told.append(f"{model.name} on {train.name}: the best learning rate tried is the {words} one for "
                        f"{', '.join(names)}; a better one may lie beyond.")  # fmt: skip
    return told


def _trial(spec: RunSpec, found: RunResult) -> Trial:
    return Trial(spec.lr, found.validation_loss, found.validation_se, found.validation_items)
