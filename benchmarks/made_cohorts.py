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
    "tiny": Shape(64, 4, 128, 4, 2, 200),
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


def rows(vocab: int, lengths: list[int], seed: int = 0, answer: float = 0.25) -> TrainSet:
    """Random tokens; the loss is on the last ``answer`` of each row."""
    rng = random.Random(f"rows/{seed}")
    made = [Example(tuple(rng.randrange(3, vocab) for _ in range(n)), n - max(1, round(n * answer))) for n in lengths]
    return TrainSet(tuple(made), ())


def recruits(base: Base, bank: AdapterBank, data: TrainSet, ranks: list[int], tag: str,
             layers: tuple[int, ...] | None = None) -> list[Trainee]:  # fmt: skip
    """A run for each rank, on all linear layers of the layers asked for; its one step is all rows in one batch.

    Runs of two tags start at the same weights.
    """
    found = []
    for number, rank in enumerate(ranks):
        arm = Arm(f"r{rank}", "lora", rank=rank, alpha=2.0 * rank, layers=layers)
        recipe = Recipe(max_steps=1, warmup=0.0, schedule="constant", validation=0.0)
        spec = RunSpec(base.ref, arm, 1e-4, TaskRef("made"), recipe, 0)
        trainee = recruit(base, bank, f"{tag}-{number}", spec, data)
        trainee.steps = [[list(range(len(data.train)))]]
        found.append(trainee)
    return found
