"""What the work still to do will take. In: run specs, sizes from config.json, what the store measured. Out: Forecast.

Counts first (tokens, FLOPs, bytes), then a rate: that of this study's own finished work, or else the matrix-product
rate of this machine, which makes every time a lower bound and says so. Reads no weights and loads no torch.

Legend: N parameters of the model, K runs trained side by side.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from rankscope.evaluation.tree import common
from rankscope.models.names import by_pattern, has_name
from rankscope.records import Arm, Ledger, Recipe, RunSpec
from rankscope.stats.cost import flops_per_token, layer_params, linear_shapes, model_params
from rankscope.tasks.samples import Sample

_CHARS_PER_TOKEN = 4.0
_RUNTIME_BYTES = 600_000_000  # python, torch and transformers before any weight is read
MEASURED, FLOOR = "measured", "lower bound"
_NAMES = (*(f"self_attn.{kind}_proj" for kind in "qkvo"), *(f"mlp.{kind}_proj" for kind in ("gate", "up", "down")))
_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Size:
    """One model's sizes; ``shape`` as ``models.locate.shape`` gives it, ``width`` bytes a weight."""

    shape: dict
    width: int

    @property
    def num_params(self) -> int:
        return model_params(self.shape)

    def trainable(self, spec: RunSpec) -> int:
        """Trained parameters; an upper bound where targets have other names than Llama's."""
        if spec.arm.kind == "full":
            return self.num_params
        return sum(rank * (o + i) for rank, (o, i) in self.adapted(spec.arm))

    def adapted(self, arm: Arm) -> list[tuple[int, tuple[int, int]]]:
        """(rank, (outputs, inputs)) of every linear layer that a LoRA arm adapts, as far as its targets are known."""
        named = [f"model.layers.{layer}.{name}" for layer in self.layers(arm) for name in _NAMES]
        sizes = linear_shapes(self.shape) * len(self.layers(arm))
        is_known = arm.targets != ("all-linear",) and all(any(has_name(n, t) for n in named) for t in arm.targets)
        return [(by_pattern(arm.rank_pattern, name, arm.rank), size) for name, size in zip(named, sizes, strict=True)
                if not is_known or any(has_name(name, target) for target in arm.targets)]  # fmt: skip

    def below(self, spec: RunSpec) -> int:
        """Parameters under the lowest adapted layer."""
        return min(self.layers(spec.arm), default=0) * layer_params(self.shape) if spec.arm.kind == "lora" else 0

    def layers(self, arm: Arm) -> tuple[int, ...]:
        """The layers that a LoRA arm adapts."""
        every = range(self.shape["layers"])
        return tuple(every) if arm.layers is None else tuple(layer for layer in arm.layers if layer in every)


@dataclass(frozen=True)
class Forecast:
    """Seconds of work left by part, the largest memory of any part, and where the numbers come from.

    ``basis`` is 'measured' (this study's own finished work) or 'lower bound' (matrix-product rate alone).
    """

    train_seconds: float
    score_seconds: float
    peak_bytes: int
    basis: str

    @property
    def seconds(self) -> float:
        return self.train_seconds + self.score_seconds

    def __str__(self) -> str:
        if not self.seconds:
            return "nothing left to do"
        about = "about" if self.basis == MEASURED else "at least"
        parts = f"{_minutes(self.train_seconds)} training, {_minutes(self.score_seconds)} scoring"
        origin = (
            "from work done here" if self.basis == MEASURED else "counted FLOPs at this machine's matrix-product rate"
        )
        return (
            f"left: {about} {_minutes(self.seconds)} ({parts}; {origin}), memory about {self.peak_bytes / 1e9:.1f} GB"
        )


def size_of(shape: dict | None, dtype: str) -> Size | None:
    """None where the model's sizes can't be known without reading its weights."""
    return None if shape is None else Size(shape, _WIDTH.get(dtype, 4))


def train_tokens(recipe: Recipe, samples: Sequence[Sample]) -> int:
    """Tokens of one run: at most its steps' budget; without ``max_steps`` about the text's length / 4 per epoch."""
    if recipe.max_steps is not None:
        return recipe.max_steps * recipe.accumulate * recipe.batch_tokens
    each = (min(recipe.max_length, text_tokens(s)) for s in samples)
    return round(recipe.epochs * sum(each) * (1 - recipe.validation))


def text_tokens(sample: Sample) -> int:
    """About how many tokens a sample has: characters / 4, prompt once (or one a choice), every choice."""
    texts = (*(sample.prompts or (sample.prompt,)), *(sample.choices or (sample.target,)))
    return 1 + round(sum(map(len, texts)) / _CHARS_PER_TOKEN)


def weighed_tokens(samples: Sequence[Sample]) -> int:
    """About how many tokens pass through a model that weighs the choices: characters / 4, and what texts have in common
    at their start once."""
    texts = sorted(
        prompt + choice
        for s in samples
        for choices in [s.choices or (s.target,)]
        for prompt, choice in zip(s.prompts or (s.prompt,) * len(choices), choices, strict=True)
    )
    new = sum(len(text) - common(before, text) for before, text in zip(["", *texts], texts, strict=False))
    return len(samples) + round(new / _CHARS_PER_TOKEN)


def train_bytes(size: Size, specs: Sequence[RunSpec]) -> int:
    """Peak memory of one cohort in bytes: weights, gradients and AdamW's moments of what is trained, activations,
    logits."""
    recipe, shape, n = specs[0].recipe, size.shape, size.num_params
    weights = n * size.width
    if specs[0].arm.kind == "full":
        weights += n * size.width * 2 + 2 * n * size.width
    else:
        weights += 16 * sum(size.trainable(s) for s in specs)
    tokens = recipe.batch_tokens * len(specs)
    kept = 10 * shape["hidden"] + 3 * shape["q"] + 4 * shape["kv"] + 4 * shape["inner"]
    layers = 1 if recipe.gradient_checkpointing else shape["layers"]
    activations = tokens * layers * kept * size.width
    logits = tokens // 4 * shape["vocab"] * 4 * 2
    return _RUNTIME_BYTES + weights + activations + logits


def score_bytes(size: Size, kind: str) -> int:
    """Memory of scoring in bytes: the weights, twice where a checkpoint lies beside the base."""
    return _RUNTIME_BYTES + size.num_params * size.width * (2 if kind in ("checkpoint", "full") else 1)


def train_flops(size: Size, spec: RunSpec, tokens: int) -> float:
    return flops_per_token(spec.arm.kind, size.num_params, size.trainable(spec), size.below(spec)) * tokens


def score_flops(size: Size, tokens: int) -> float:
    """One forward pass: 2 N a token."""
    return 2.0 * size.num_params * tokens


def rate_of(ledgers: Iterable[Ledger]) -> float | None:
    """FLOPs a second that finished work reached; None if nothing is finished."""
    done = [x for x in ledgers if x.seconds > 0 and x.flops > 0]
    return sum(x.flops for x in done) / sum(x.seconds for x in done) if done else None


def machine_rate() -> float:
    """FLOPs a second of a 1024 x 1024 float32 matrix product here, the best of three (about 0.1 s on two cores)."""
    a = np.random.default_rng(0).random((1024, 1024), dtype=np.float32)
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        a @ a
        best = max(best, 2 * 1024**3 / (time.perf_counter() - began))
    return best


def rank_warnings(size: Size, specs: Sequence[RunSpec]) -> list[str]:
    """Ranks that reach a matrix's own rank, and ranks at which LoRA costs as many FLOPs a token as full SFT."""
    full = flops_per_token("full", size.num_params, 0)
    lora = sorted((s for s in specs if s.arm.kind == "lora"), key=lambda s: s.arm.top_rank)
    high: dict[int, int] = {}  # a rank, and the rank of the smallest matrix that it is given to
    for spec in lora:
        for rank, matrix in size.adapted(spec.arm):
            if rank >= min(matrix):
                high[rank] = min(high.get(rank, min(matrix)), *matrix)
    told = [f"rank {r} is not low: the smallest adapted matrix has rank {m}" for r, m in sorted(high.items())]
    for rank, group in groupby(lora, key=lambda s: s.arm.top_rank):
        cost = max(train_flops(size, spec, 1) for spec in group)
        if cost >= full:
            told.append(f"rank {rank} costs {cost / full:.2f} x the FLOPs of full SFT per token")
    return told


def _minutes(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
