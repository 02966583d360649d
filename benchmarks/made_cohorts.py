"""Made-up cohorts for cohort_cpu.py and cohort_gpu.py: a Llama of random weights, random rows, runs ready to train.

In: sizes and a seed. Out: a Base, a TrainSet, Trainees whose every step is the same. Same seed, same numbers.

Legend: K runs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rankscope.data.batching import Example
from rankscope.models.base import Base
from rankscope.models.lora import AdapterBank
from rankscope.records import Arm, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.testing import tiny_tokenizer
from rankscope.training.cohort import Trainee, TrainSet, recruit

LR = 1e-3


@dataclass(frozen=True)
class Shape:
    hidden: int
    layers: int
    inner: int
    heads: int
    kv_heads: int
    vocab: int
    is_tied: bool = False


SHAPES = {
    "llama-1.1b": Shape(2048, 16, 5632, 32, 8, 32000),
    "smollm2": Shape(576, 30, 1536, 9, 3, 49152, is_tied=True),
    "tiny": Shape(32, 2, 64, 4, 2, 200),
}


def model(shape: Shape, dtype: torch.dtype, device: torch.device, seed: int = 0) -> LlamaForCausalLM:
    """A frozen Llama in evaluation mode, its weights drawn where they will be."""
    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        intermediate_size=shape.inner,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocab,
        tie_word_embeddings=shape.is_tied,
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(seed)
    with device:
        made = LlamaForCausalLM(config)
    return made.to(dtype).eval().requires_grad_(False)


def base_of(made: LlamaForCausalLM, name: str) -> Base:
    return Base(ModelRef(name), made, tiny_tokenizer(), made.device, made.dtype)


def rows(vocab: int, lengths: list[int], answer: float = 0.25, seed: int = 0) -> TrainSet:
    """Random tokens; the loss is on the last ``answer`` of each row, and never on the first token."""
    rng = random.Random(f"rows/{seed}")
    starts = [max(1, round(n * (1 - answer))) for n in lengths]
    made = [Example(tuple(rng.randrange(3, vocab) for _ in range(n)), min(s, n - 1))
            for n, s in zip(lengths, starts, strict=True)]  # fmt: skip
    return TrainSet(tuple(made), ())


def recruits(
    base: Base,
    bank: AdapterBank,
    data: TrainSet,
    ranks: list[int],
    tag: str,
    layers: tuple[int, ...] | None = None,
    batches: list[list[int]] | None = None,
) -> list[Trainee]:
    """A run for each rank, on all linear layers of the layers asked for, at a constant rate.

    A step for each batch; without any, one step of all rows. Runs of two tags start at the same weights.
    """
    found = []
    for number, rank in enumerate(ranks):
        arm = Arm(f"r{rank}", "lora", rank=rank, alpha=2.0 * rank, layers=layers)
        recipe = Recipe(max_steps=1, warmup=0.0, schedule="constant", validation=0.0)
        trainee = recruit(base, bank, f"{tag}-{number}", RunSpec(base.ref, arm, LR, TaskRef("made"), recipe, 0), data)
        trainee.steps = [[batch] for batch in batches or [list(range(len(data.train)))]]
        found.append(trainee)
    return found
