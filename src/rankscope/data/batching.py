"""Batches by token budget with length buckets, the same for every run of a seed. In: lengths. Out: lists of indices.

Which examples form batch t depends on (seed, t) alone, never on state, so a resumed run sees what it would have seen.
No torch. Knows nothing about models.

Legend: N samples, T tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

_BUCKET = 16  # batches whose examples are sorted together: long enough to save padding, short enough to stay random


@dataclass(frozen=True)
class Example:
    """Token ids (T,) and where the completion starts; the loss is on tokens from ``start`` on."""

    ids: tuple[int, ...]
    start: int

    @property
    def num_labels(self) -> int:
        return len(self.ids) - self.start


def join(prompt: Sequence[int], target: Sequence[int], eos: int | None, max_length: int) -> Example | None:
    """One training example, closed by ``eos``. Too long: the prompt loses its oldest tokens first, so that the
    completion stays. None if not even one label with one token before it fits."""
    target = (*target, eos) if eos is not None else tuple(target)
    target = target[: max_length - 1]
    prompt = tuple(prompt)[-(max_length - len(target)) :]
    if not prompt or not target:
        return None
    return Example((*prompt, *target), len(prompt))


def epoch_batches(lengths: Sequence[int], batch_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """All batches of one epoch: every index once; rows x longest row <= ``batch_tokens`` (one row may exceed it)."""
    rng = random.Random(f"batches/{seed}/{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    mean = max(1, sum(lengths) // max(1, len(lengths)))
    bucket = max(1, _BUCKET * max(1, batch_tokens // mean))
    batches: list[list[int]] = []
    for first in range(0, len(order), bucket):
        batch: list[int] = []
        for index in sorted(order[first : first + bucket], key=lambda i: (lengths[i], i)):
            if batch and (len(batch) + 1) * lengths[index] > batch_tokens:
                batches.append(batch)
                batch = []
            batch.append(index)
        batches.append(batch)
    rng.shuffle(batches)
    return batches


def training_batches(lengths: Sequence[int], batch_tokens: int, seed: int, epochs: float, max_steps: int | None,
                     accumulate: int = 1) -> list[list[list[int]]]:  # fmt: skip
    """Steps of micro-batches: ``accumulate`` batches a step, for ``epochs`` (may be a fraction) or ``max_steps`` if given.

    With ``max_steps`` alone the data is repeated as often as it takes.
    """
    batches: list[list[int]] = []
    epoch = 0
    wanted = None if max_steps is None else max_steps * accumulate
    while True:
        new = epoch_batches(lengths, batch_tokens, seed, epoch)
        left = epochs - epoch
        if wanted is None and left < 1:
            batches += new[: round(len(new) * left)]
            break
        batches += new
        epoch += 1
        if (wanted is not None and len(batches) >= wanted) or (wanted is None and epoch >= epochs):
            break
    batches = batches[:wanted]
    return [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]


def split_validation(count: int, share: float, most: int) -> tuple[list[int], list[int]]:
    """Indices of train and validation examples, the same for every arm and seed."""
    order = list(range(count))
    random.Random("validation").shuffle(order)
    num = min(most, round(count * share)) if share > 0 else 0
    if share > 0 and count > 1:
        num = max(1, num)
    return sorted(order[num:]), sorted(order[:num])
