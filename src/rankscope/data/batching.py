"""Batches by token budget with length buckets, the same for every run of a seed. In: lengths. Out: lists of indices.

Which examples form batch t depends on (seed, t) alone, never on state, so a resumed run sees what it would have seen.
No torch. Knows nothing about models.

Legend: N samples, T tokens.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

_BUCKET = 16  # batches whose examples are sorted together: long enough to save padding, short enough to stay random


@dataclass(frozen=True)
class Example:
    """Token ids (T,) and where the completion starts; the loss is on tokens from ``start`` on.

    ``mask`` (T,) picks some of those tokens, where answers alternate with questions; empty: all of them.
    """

    ids: tuple[int, ...]
    start: int
    mask: tuple[bool, ...] = ()

    @property
    def num_labels(self) -> int:
        return sum(self.mask[self.start :]) if self.mask else len(self.ids) - self.start

    @property
    def labels(self) -> Sequence[int]:
        """Positions of the tokens that the loss is on, in order."""
        places = range(self.start, len(self.ids))
        return [t for t in places if self.mask[t]] if self.mask else places


def fit_prompt(prompt: Sequence[int], room: int, bos: int | None = None) -> tuple[int, ...]:
    """The last ``room`` tokens of a prompt; a begin-of-text token that it starts with stays in front."""
    prompt = tuple(prompt)
    if len(prompt) <= room:
        return prompt
    if room > 1 and bos is not None and prompt[0] == bos:
        return (bos, *prompt[-(room - 1) :])
    return prompt[-room:]


def join(
    prompt: Sequence[int], target: Sequence[int], eos: int | None, max_length: int, bos: int | None = None
) -> Example | None:
    """One training example, closed by ``eos``. Too long: the prompt loses its oldest tokens first, so that the
    completion stays. None if not even one label with one token before it fits."""
    target = (*target, eos) if eos is not None else tuple(target)
    target = target[: max_length - 1]
    prompt = fit_prompt(prompt, max_length - len(target), bos)
    if not prompt or not target:
        return None
    return Example((*prompt, *target), len(prompt))


def join_chat(ids: Sequence[int], mask: Sequence[bool], max_length: int, bos: int | None = None) -> Example | None:
    """One training example from a conversation and its mask; its end is part of it. Too long: as in ``join``, what
    comes before the first answer loses its oldest tokens first. None as in ``join``, or without a single label."""
    if not any(mask):
        return None
    first = tuple(mask).index(True)
    whole = join(ids[:first], ids[first:], None, max_length, bos)
    if whole is None:
        return None
    kept = tuple(mask[first : first + len(whole.ids) - whole.start])
    return Example(whole.ids, whole.start, (*[False] * whole.start, *kept))


def budgeted(order: Sequence[int], lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """``order`` cut into batches whose rows x last (longest) row stay within ``budget``; one row may exceed it."""
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * lengths[index] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def epoch_batches(lengths: Sequence[int], batch_tokens: int, seed: int, epoch: int) -> list[list[int]]:
    """All batches of one epoch: every index once; rows x longest row <= ``batch_tokens`` (one row may exceed it)."""
    rng = random.Random(f"batches/{seed}/{epoch}")
    order = list(range(len(lengths)))
    rng.shuffle(order)
    mean = max(1, sum(lengths) // max(1, len(lengths)))
    bucket = max(1, _BUCKET * max(1, batch_tokens // mean))
    batches: list[list[int]] = []
    for first in range(0, len(order), bucket):
        near = sorted(order[first : first + bucket], key=lambda i: (lengths[i], i))
        batches += budgeted(near, lengths, batch_tokens)
    rng.shuffle(batches)
    return batches


def training_batches(lengths: Sequence[int], batch_tokens: int, seed: int, epochs: float, max_steps: int | None,
                     accumulate: int = 1) -> list[list[list[int]]]:  # fmt: skip
    """Steps of micro-batches: ``accumulate`` batches a step, for ``epochs`` (may be a fraction) or ``max_steps``.

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


def split_validation(texts: Sequence[Hashable], share: float, most: int) -> tuple[list[int], list[int]]:
    """Indices of train and validation examples, the same for every arm and seed. Equal texts stay on one side.

    Rows that are merely alike (a template, a fact in other words) may fall on both sides, as they do between a
    dataset's train and test rows: what is tuned is then what is asked.
    """
    copies: dict[Hashable, list[int]] = {}
    for index, text in enumerate(texts):
        copies.setdefault(text, []).append(index)
    groups = list(copies.values())
    random.Random("validation").shuffle(groups)
    num = max(1, min(most, round(len(texts) * share))) if share > 0 and len(groups) > 1 else 0
    validation: list[int] = []
    while len(validation) < num and len(groups) > 1:
        validation += groups.pop()
    return sorted(i for group in groups for i in group), sorted(validation)
