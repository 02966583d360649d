"""How many tokens work takes, before a model is loaded. In: samples, a recipe, a tokenizer's file. Out: counts.

Some of the texts are put through the model's own tokenizer, where its file lies here and opens at once, and the rest is
taken to be like them; without one, ``CHARS`` characters make a token. Training's batches are cut as training cuts them,
so that what a batch leaves empty is known too. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from rankscope.data.batching import training_batches
from rankscope.evaluation.tree import common
from rankscope.records import Recipe
from rankscope.tasks.samples import Sample

CHARS = 4.0
"""Characters of a token, where no tokenizer can be asked: English in a vocabulary of some 50,000."""
_LARGEST = 10_000_000  # bytes of a tokenizer's file that opens in a fraction of a second
_READ = 30_000  # characters of a task that are put through it: some 15 ms
_ROWS = 4_000  # rows whose batches are cut; more are alike
_STEPS = 200  # batches that are cut


class Counter:
    """Counts tokens for one model; ``folder`` holds its tokenizer.json (None: nothing is here)."""

    def __init__(self, folder: str | None = None):
        self._tokenizer = None if folder is None else _opened(folder)

    def lengths(self, samples: Sequence[Sample], most: int) -> list[int]:
        """Tokens of training examples, prompt, target and what ends it, at most ``most`` each: of all, or of some that
        stand for all."""
        texts = [sample.prompt + sample.target for sample in samples]
        if self._tokenizer is None:
            found = [max(1, round(len(text) / CHARS)) for text in _spread(texts, _ROWS)]
        else:
            found = self._counts(_spread(texts, max(1, min(_ROWS, _share(texts, len(texts))))))
        return [min(most, 1 + length) for length in found]

    def train_tokens(self, recipe: Recipe, samples: Sequence[Sample]) -> int:
        """Tokens of one run, padding not counted: all rows but those for validation, or as many as the steps take."""
        lengths = self.lengths(samples, recipe.max_length)
        if recipe.max_steps is None:
            return round(sum(lengths) / len(lengths) * (len(samples) - held_rows(recipe, samples)) * recipe.epochs)
        asked = recipe.max_steps * recipe.accumulate
        whole = max(
            1, min(_ROWS, len(samples) - held_rows(recipe, samples))
        )  # the end of an epoch leaves batches half full
        left = (lengths * -(-whole // len(lengths)))[:whole]
        steps = training_batches(left, recipe.batch_tokens, 0, recipe.epochs, min(asked, _STEPS))
        return round(sum(left[i] for step in steps for micro in step for i in micro) / len(steps) * asked)

    def row_tokens(self, recipe: Recipe, samples: Sequence[Sample]) -> int:
        """Tokens of the rows that the recipe holds back for validation."""
        lengths = self.lengths(samples, recipe.max_length)
        return round(sum(lengths) / len(lengths) * held_rows(recipe, samples))

    def weighed(self, samples: Sequence[Sample]) -> int:
        """Tokens that pass through a model that weighs the choices; what texts have in common at their start, once."""
        texts = [_texts(sample) for sample in samples]
        about = _new([text for own in texts for text in own]) / CHARS
        if self._tokenizer is None or not samples:
            return len(samples) + round(about)
        some = [text for own in _spread(texts, _share(["".join(own) for own in texts], len(texts))) for text in own]
        exact = _new([tuple(found.ids[:-1]) for found in self._tokenizer.encode_batch(some)])
        return max(1, round(about * exact / max(1.0, _new(some) / CHARS)))

    def written(self, samples: Sequence[Sample], most: int) -> int:
        """Tokens of questions and of answers at their full length."""
        if not samples:
            return 0
        prompts = [sample.prompt for sample in samples]
        if self._tokenizer is None:
            return sum(most + 1 + round(len(prompt) / CHARS) for prompt in prompts)
        some = self._counts(_spread(prompts, _share(prompts, len(prompts))))
        return round((most + sum(some) / len(some)) * len(samples))

    def _counts(self, texts: Sequence[str]) -> list[int]:
        return [len(found.ids) for found in self._tokenizer.encode_batch(list(texts))]


def held_rows(recipe: Recipe, samples: Sequence) -> int:
    """How many rows the recipe holds back for validation."""
    if not recipe.validation:
        return 0
    return min(recipe.validation_max, max(1, round(len(samples) * recipe.validation)))


def _texts(sample: Sample) -> list[str]:
    choices = sample.choices or (sample.target,)
    prompts = sample.prompts or (sample.prompt,) * len(choices)
    return [prompt + choice for prompt, choice in zip(prompts, choices, strict=True)]


def _new(texts: Sequence) -> int:
    """Characters or tokens of texts, what neighbours in sorted order have in common at their start counted once."""
    ordered = sorted(texts)
    return sum(map(len, ordered)) - sum(common(a, b) for a, b in pairwise(ordered))


def _share(texts: Sequence[str], count: int) -> int:
    """How many of the texts are about ``_READ`` characters."""
    return max(1, min(count, round(count * _READ / max(1, sum(map(len, texts))))))


def _spread(items: Sequence, most: int) -> list:
    """At most so many of the items, evenly from all over the list."""
    return list(items) if len(items) <= most else [items[math.floor(i * len(items) / most)] for i in range(most)]


@lru_cache(maxsize=4)
def _opened(folder: str):
    path = Path(folder) / "tokenizer.json"
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return None
    from tokenizers import Tokenizer  # what transformers' fast tokenizers are made of; small, and without torch

    try:
        return Tokenizer.from_file(str(path))
    except Exception:  # noqa: BLE001  (the library raises bare Exception for a file it can't read; then none is asked)
        return None
