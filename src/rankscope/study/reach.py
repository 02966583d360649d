"""What a time budget reaches of a study, and what was left when it ended. In: a study, a store, seconds. Out: words.

The declaration stays as it is: a budget decides what is done now, and the same command goes on later. Work goes model
by model and, within a model, the first seed of all arms before further seeds, so that an answer is there as early as
can be; that order is the runner's. Here is only predicted how far it comes, by plans of the study's first seeds. No
torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rankscope.stats.wording import listed
from rankscope.study.sizing import Prediction, duration, foreseen


@dataclass(frozen=True)
class Part:
    """All runs of one model and seed: ``seconds`` from now until they are done."""

    model: str
    seed: int
    seconds: float


@dataclass(frozen=True)
class Reach:
    """How far a budget comes. ``left``: what all that isn't done takes, None where time can't be predicted.

    ``parts``, in the order of the work, are there where the budget doesn't hold all of it.
    """

    budget: float
    left: Prediction | None
    parts: tuple[Part, ...] = ()

    @property
    def beyond(self) -> tuple[Part, ...]:
        """The parts that the budget will not finish."""
        return tuple(part for part in self.parts if part.seconds > self.budget)

    @property
    def sentence(self) -> str:
        """What to know before the work starts."""
        budget = duration(self.budget)
        if self.left is None:
            return f"No time can be predicted. What is unfinished after {budget} is left for the same command."
        if not self.left.seconds:
            return "Nothing is left to train or to score."
        told = f"{self.left.text} of work is left"
        if not self.beyond:
            return f"The budget of {budget} should be enough: {told}."
        is_several = len({part.model for part in self.parts}) > 1
        reached = [part for part in self.parts if part not in self.beyond]
        first = f"{_seeds(reached, is_several)} of all arms" if reached else "a part of the first seed"
        least = self.left.seconds if self.left.least_seconds is None else self.left.least_seconds
        enough, will = ("may not be enough", "may") if least <= self.budget else ("is not enough", "will")
        beyond = f"{_seeds(self.beyond, is_several)} {will} not be finished"
        rest = f"The same command goes on later, with up to {duration(self.left.seconds - self.budget)} left."
        return f"The budget of {budget} {enough}: {told}. It reaches {first}; {beyond}. {rest}"

    def after(self, runs: Sequence[tuple[str, bool]]) -> str:
        """What to know when the budget has ended. ``runs``: as a plan has them, by name with whether they are done."""
        every: dict[str, list[str]] = {}
        left: dict[str, list[str]] = {}
        for name, is_done in runs:
            arm, seed = _arm_and_seed(name)
            every.setdefault(seed, []).append(arm)
            if not is_done:
                left.setdefault(seed, []).append(arm)
        seeds: dict[str, list[str]] = {}
        for seed, arms in left.items():
            names = "all arms" if seed and arms == every[seed] else listed(list(dict.fromkeys(arms)))
            seeds.setdefault(names, []).append(seed)
        parts = [f"seed{'s' * (len(own) > 1)} {listed(own)} of {names}" if own[0] else names
                 for names, own in seeds.items()]  # fmt: skip
        return f"Left out for the budget of {duration(self.budget)}: {'; '.join(parts) or 'some scores'}."


def reach(study: Any, store: Any, budget: float) -> Reach:
    """How far ``budget`` seconds come, by the plans of the study's first seeds. Reads rows, no weights."""
    whole = foreseen(study.plan(store))
    if whole is None or whole.seconds <= budget:  # what fits as a whole needs no parts
        return Reach(budget, whole)
    parts, before = [], 0.0
    for name, of_model in _models(study):
        seconds = 0.0
        for count, seed in enumerate(study.config.seeds, 1):
            found = foreseen(_first_seeds(of_model, count).plan(store))
            seconds = before + (0.0 if found is None else found.seconds)
            parts.append(Part(name, seed, seconds))
        before = seconds
    return Reach(budget, whole, tuple(parts))


def _arm_and_seed(name: str) -> tuple[str, str]:
    """Of a run's name; an arm that exists already has no seed."""
    parts = name.rsplit("/", 4)  # a model's label may have slashes of its own
    is_run = len(parts) == 5 and parts[4].startswith("seed")
    return (parts[2], parts[4].removeprefix("seed")) if is_run else (parts[-1], "")


def _models(study: Any) -> Iterator[tuple[str, Any]]:
    """The study of each model alone, in the order of the work."""
    config = study.config
    for entry, ref in zip(config.model_entries, config.models(), strict=True):
        yield ref.name, study.like(config.model_copy(update={"model_entries": (entry,)}))


def _first_seeds(study: Any, count: int) -> Any:
    """The same study with fewer seeds. A run's identity doesn't hang on the other seeds, so what is done stays done."""
    training = study.config.training
    fewer = training.model_copy(update={"seeds": training.seeds[:count]})
    return study.like(study.config.model_copy(update={"training": fewer}))


def _seeds(parts: Sequence[Part], is_several: bool) -> str:
    """'seeds 1 and 2', with the model where there ``is_several``."""
    by_model: dict[str, list[int]] = {}
    for part in parts:
        by_model.setdefault(part.model, []).append(part.seed)
    told = [f"seed{'s' if len(seeds) > 1 else ''} {listed(seeds)}" + (f" with {model}" if is_several else "")
            for model, seeds in by_model.items()]  # fmt: skip
    return ", ".join(told)
