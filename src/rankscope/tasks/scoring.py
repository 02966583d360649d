"""What a scorer sees and gives. In: a sample and a model's response. Out: ``Score``. Knows nothing about models.

A scorer judges one response; it never averages. A response that can't be judged is an error, not a zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rankscope.errors import RunFailed
from rankscope.records import Score
from rankscope.tasks.samples import Sample


@dataclass(frozen=True)
class Response:
    """What a model gave for one sample.

    ``loglikelihoods``: one sum in nats for each choice, or one for the text; ``num_tokens``: how many tokens each sum
    runs over; ``text``: what was generated, cut at the first stop text; ``greedy``: for each choice whether greedy
    generation would write it, known only for a task that asks (``Prepared.asks_greedy``).
    """

    loglikelihoods: tuple[float, ...] = ()
    num_tokens: tuple[int, ...] = ()
    text: str = ""
    greedy: tuple[bool, ...] = ()


Scorer = Callable[[Sample, Response], Score]


@dataclass(frozen=True)
class Configurable:
    """A scorer that needs settings from the study. ``make(options)`` gives it; raises DataError on a bad setting.

    ``options`` are the names of its settings; ``example`` are some, for the contract check.
    """

    make: Callable[[Mapping[str, Any]], Scorer]
    options: tuple[str, ...]
    example: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """What the scorer says of itself: the first line of ``make``'s docstring."""
        return (self.make.__doc__ or "").strip().partition("\n")[0]


def scored(sample: Sample, value: float | bool, response: str = "") -> Score:
    """The score of a sample, with the sample's id, subject and cluster."""
    return Score(sample.id, float(value), sample.subject, sample.cluster, response)


def pick_choice(sample: Sample, weights: Sequence[float]) -> Score:
    """1.0 if the highest weight is on the right choice, else 0.0; the first of equal weights is picked.

    ``weights``: one a choice. A choice with the same text as the right one is right too (MathQA has such rows), unless
    choices are told apart by their prompts.
    Raises RunFailed if the weights are not finite or not one a choice.
    """
    if len(weights) != len(sample.choices) or sample.answer is None:
        raise RunFailed(f"{len(weights)} log-likelihoods for {len(sample.choices)} choices of item {sample.id}",
                        stage="evaluate")  # fmt: skip
    require_finite(sample, weights)
    picked = max(range(len(weights)), key=lambda index: weights[index])
    if sample.prompts:
        return scored(sample, picked == sample.answer, sample.prompts[picked].rpartition("\n")[2])
    return scored(sample, sample.choices[picked] == sample.choices[sample.answer], sample.choices[picked].strip())


def require_finite(sample: Sample, values: Sequence[float]) -> None:
    """Raises RunFailed on a NaN or infinite value: a diverged model fails, it doesn't score at chance."""
    if not all(math.isfinite(value) for value in values):
        raise RunFailed(f"a log-likelihood of item {sample.id} is not finite", stage="evaluate",
                        hint="The model has diverged: try a lower learning rate")  # fmt: skip
