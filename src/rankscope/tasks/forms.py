"""The forms a question can be put in, what is asked of a model in each, and what guessing gets. Knows no task.

Legend: a form is a task's word (``letters``), a kind is the engine's (``choices``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Literal

from rankscope.errors import DataError
from rankscope.tasks.samples import Sample

Kind = Literal["choices", "generate", "completion", "text"]
Metric = Literal["accuracy", "cross_entropy"]
KINDS: Mapping[str, Kind] = {
    "cloze": "choices",
    "letters": "choices",
    "mc1": "choices",
    "mc2": "choices",
    "generate": "generate",
    "completion": "completion",
    "text": "text",
}
NATS: tuple[Kind, ...] = ("completion", "text")
"""Kinds scored in nats per token, whatever the metric of a task's other forms."""
SCORERS: Mapping[str, str] = {
    "cloze": "choice",
    "letters": "choice_raw",
    "mc1": "choice_raw",
    "mc2": "true_mass",
    "generate": "exact_match",
    "completion": "cross_entropy",
    "text": "cross_entropy",
}


def chance_of(samples: Sequence[Sample], kind: Kind) -> float | None:
    """What guessing gets: the larger of the uniform guess and always picking the commonest position of a right choice.

    Several choices of a sample may be right (``accepted``); a position that a sample hasn't got is wrong there. Written
    answers that are labels, each the right one twice or more on the average, have the share of the commonest.
    """
    if kind in NATS:
        return None
    if not samples:
        return 0.0
    if kind == "generate":
        labels = Counter(s.target.strip() for s in samples)
        return max(labels.values()) / len(samples) if 2 * len(labels) <= len(samples) else 0.0
    right = [[i for i, c in enumerate(s.choices) if i == s.answer or c in s.accepted] for s in samples]
    uniform = sum(len(places) / len(s.choices) for places, s in zip(right, samples, strict=True)) / len(samples)
    commonest = Counter(place for places in right for place in places)
    return max(uniform, max(commonest.values()) / len(samples))


def limited(samples: tuple[Sample, ...], limit: int | None, is_spread: bool) -> tuple[Sample, ...]:
    """The first ``limit`` samples, or (``is_spread``) those of all subjects in turn. Raises DataError below 1."""
    if limit is None or limit >= len(samples):
        return samples
    if limit < 1:
        raise DataError("limit must be a whole number from 1", got=limit)
    if not is_spread:
        return samples[:limit]
    subjects: dict[str, list[Sample]] = {}
    for sample in samples:
        subjects.setdefault(sample.subject, []).append(sample)
    in_turn = [sample for turn in zip_longest(*subjects.values()) for sample in turn if sample is not None]
    return tuple(in_turn[:limit])
