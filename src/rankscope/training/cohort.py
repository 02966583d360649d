"""Runs trained side by side. In: a Base and runs. Out: ``Trainee`` objects (parameters, optimiser, curve), one a run.

LoRA runs share the frozen base and are routed by rows; a full run has a copy of the weights and stays alone. The loop
doesn't know which it drives. Knows nothing about files or scores.

Legend: N samples, K runs.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from torch import Tensor

from rankscope.data.batching import Example, join, join_chat, split_validation, training_batches
from rankscope.errors import DataError
from rankscope.models import chat
from rankscope.models.base import Base
from rankscope.models.lora import AdapterBank
from rankscope.records import CurvePoint, Recipe, RunSpec
from rankscope.tasks.samples import Sample
from rankscope.training.optim import optimiser

_ENDLESS = "the chat template writes no token that closes an answer: nothing teaches the model to stop"


@dataclass(frozen=True)
class TrainSet:
    """Encoded examples: ``train`` to learn from, ``validation`` carved from the same rows.

    ``dropped`` didn't fit, ``cut`` lost tokens.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    dropped: int = 0
    cut: int = 0
    notes: tuple[str, ...] = ()


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
    """Tokenise prompt and completion apart and join them; conversations as their template has it.

    Raises DataError if nothing is left to train on, ModelError if the model can't take conversations.
    """
    examples, dropped, cut = [], 0, 0
    limit = min(recipe.max_length, base.max_length)
    for sample in samples:
        example, is_cut = encode_sample(base, sample, limit)
        dropped += example is None
        cut += is_cut
        if example is not None:
            examples.append(example)
    train, validation = split_validation([e.ids for e in examples], recipe.validation, recipe.validation_max)
    if not train or (recipe.validation > 0 and not validation):
        if len(examples) > 1 and len({tuple(e.ids) for e in examples}) == 1:
            raise DataError("all rows give the same tokens: is this the model's language?", got=len(examples),
                            hint="Take a model whose tokenizer knows these texts")  # fmt: skip
        what = "too few training examples are left after tokenising: one to train on and one to validate on are needed"
        raise DataError(what, got=f"{len(samples)} rows, {dropped} dropped", hint="Give more rows, or longer ones")
    lengths = [len(examples[i].ids) for i in train]
    if not training_batches(lengths, recipe.batch_tokens, 0, recipe.epochs, recipe.max_steps, recipe.accumulate):
        raise DataError("not even one step of training", got=recipe.epochs, where="training.epochs",
                        hint="Raise it, or set training.max_steps")  # fmt: skip
    notes = (_ENDLESS,) if any(sample.turns for sample in samples) and not chat.ends(base.tokenizer) else ()
    return TrainSet(tuple(examples[i] for i in train), tuple(examples[i] for i in validation), dropped, cut, notes)


def encode_sample(base: Base, sample: Sample, limit: int) -> tuple[Example | None, bool]:
    """A sample as a training example, None if nothing of it fits, and whether it was too long."""
    if sample.turns:
        return _encoded_chat(base, sample.turns, limit)
    prompt, target = base.encode_pair(sample.prompt, sample.target)
    return join(prompt, target, base.eos, limit, base.bos), len(prompt) + len(target) + (base.eos is not None) > limit


def _encoded_chat(base: Base, turns: tuple[tuple[str, str], ...], limit: int) -> tuple[Example | None, bool]:
    """Too long: the oldest exchanges go first, the system turn stays. One exchange that is too long is cut as text."""
    ids, mask = base.encode_chat(turns)
    if len(ids) <= limit:
        return join_chat(ids, mask, limit, base.bos), False
    system = turns[:1] if turns[0][0] == "system" else ()
    starts = [i for i, (role, _) in enumerate(turns) if role == "user" and i > len(system)]

    def fits(start: int) -> bool:
        return len(base.encode_chat((*system, *turns[start:]))[0]) <= limit

    if starts:
        first = min(bisect_left(starts, True, key=fits), len(starts) - 1)  # a later start is never longer
        ids, mask = base.encode_chat((*system, *turns[starts[first] :]))
    return join_chat(ids, mask, limit, base.bos), True


def recruit(base: Base, bank: AdapterBank | None, key: str, spec: RunSpec, data: TrainSet) -> Trainee:
    """A run ready for its first step: an adapter in ``bank``, or all weights of ``base`` for a full run."""
    recipe = spec.recipe
    if spec.arm.kind == "lora":
        bank.add(key, spec.arm, spec.seed)
        named = bank.parameters(key)
    else:
        named = {n: p for n, p in base.model.named_parameters() if p.requires_grad}
    trainee = Trainee(key, spec, list(named), list(named.values()), steps_of(data, recipe, spec.seed), data)
    trainee.optim = optimiser(trainee.parameters, recipe)
    return trainee


def steps_of(data: TrainSet, recipe: Recipe, seed: int) -> list[list[list[int]]]:
    """What every run of a seed reads: of each step the micro-batches, of those the rows."""
    lengths = [len(e.ids) for e in data.train]
    return training_batches(lengths, recipe.batch_tokens, seed, recipe.epochs, recipe.max_steps, recipe.accumulate)
