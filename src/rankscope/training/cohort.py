"""Runs trained side by side. In: a Base and runs. Out: ``Trainee`` objects (parameters, optimiser, curve), one a run.

LoRA runs share the frozen base and are routed by rows; a full run has a copy of the weights and stays alone. The loop
doesn't know which it drives. Knows nothing about files or scores.

Legend: N samples, K runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from rankscope.data.batching import Example, join, split_validation, training_batches
from rankscope.errors import DataError
from rankscope.models.base import Base
from rankscope.models.lora import AdapterBank
from rankscope.records import CurvePoint, Recipe, RunSpec
from rankscope.training.optim import optimiser


@dataclass(frozen=True)
class TrainSet:
    """Encoded examples: ``train`` to learn from, ``validation`` carved from the same rows.

    ``dropped`` didn't fit, ``cut`` lost tokens.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    dropped: int = 0
    cut: int = 0


@dataclass
class Trainee:
    """One run while it trains. ``failed`` holds the reason once it has diverged; it then takes no further part."""

    key: str
    spec: RunSpec
    names: list[str]
    parameters: list[Tensor]
    steps: list[list[list[int]]]
    data: TrainSet
    optim: object = None
    curve: list[CurvePoint] = field(default_factory=list)
    tokens: int = 0
    label_tokens: int = 0
    seconds: float = 0.0
    failed: str | None = None

    @property
    def num_trainable(self) -> int:
        return sum(p.numel() for p in self.parameters)

    def tensors(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.parameters, strict=True))


def encode_train_set(base: Base, samples: tuple, recipe: Recipe) -> TrainSet:
    """Tokenise prompt and completion apart and join them. Raises DataError if nothing is left to train on."""
    examples, dropped, cut = [], 0, 0
    limit = min(recipe.max_length, base.max_length)
    for sample in samples:
        prompt, target = base.encode_pair(sample.prompt, sample.target)
        example = join(prompt, target, base.eos, limit, base.bos)
        dropped += example is None
        cut += len(prompt) + len(target) + (base.eos is not None) > limit
        if example is not None:
            examples.append(example)
    train, validation = split_validation([e.ids for e in examples], recipe.validation, recipe.validation_max)
    if not train or (recipe.validation > 0 and not validation):
        what = "too few training examples are left after tokenising: one to train on and one to validate on are needed"
        raise DataError(what, got=f"{len(samples)} rows, {dropped} dropped", hint="Give more rows, or longer ones")
    lengths = [len(examples[i].ids) for i in train]
    if not training_batches(lengths, recipe.batch_tokens, 0, recipe.epochs, recipe.max_steps, recipe.accumulate):
        raise DataError("not even one step of training", got=recipe.epochs, where="training.epochs",
                        hint="Raise it, or set training.max_steps")  # fmt: skip
    return TrainSet(tuple(examples[i] for i in train), tuple(examples[i] for i in validation), dropped, cut)


def recruit(base: Base, bank: AdapterBank | None, key: str, spec: RunSpec, data: TrainSet) -> Trainee:
    """A run ready for its first step: an adapter in ``bank``, or all weights of ``base`` for a full run."""
    recipe = spec.recipe
    if spec.arm.kind == "lora":
        bank.add(key, spec.arm, spec.seed)
        named = bank.parameters(key)
    else:
        named = {n: p for n, p in base.model.named_parameters() if p.requires_grad}
    steps = training_batches([len(e.ids) for e in data.train], recipe.batch_tokens, spec.seed, recipe.epochs,
                             recipe.max_steps, recipe.accumulate)  # fmt: skip
    trainee = Trainee(key, spec, list(named), list(named.values()), steps, data)
    trainee.optim = optimiser(trainee.parameters, recipe)
    return trainee
