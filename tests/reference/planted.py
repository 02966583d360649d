"""A made model of four layers, questions and rows of the demo for it, and updates whose effect is known."""

from __future__ import annotations

from dataclasses import replace

import torch
import transformers as hf

from rankscope.analysis.subject import Asked, Subject
from rankscope.data.batching import Example
from rankscope.evaluation.suite import evaluate
from rankscope.models.base import Base
from rankscope.models.delta import DenseDelta, FactoredDelta, Update
from rankscope.models.update import base_weight
from rankscope.records import ModelRef, TaskRef
from rankscope.tasks.scoring import scored
from rankscope.tasks.task import prepare, resolve
from rankscope.testing import tiny_tokenizer
from rankscope.worker import validation_losses

GOOD = "model.layers.3.mlp.down_proj"
MODULES = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


def made_base() -> Base:
    config = hf.LlamaConfig(vocab_size=132, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
                            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
                            pad_token_id=0, bos_token_id=1, eos_token_id=2)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    return Base(ModelRef("made"), model, tiny_tokenizer(), torch.device("cpu"), torch.float32)


def made_tasks(items: int) -> tuple[Asked, ...]:
    """Choices judged by how likely the right one is, so that the smallest change of a weight shows."""
    facts = prepare(resolve(TaskRef("demo_facts", limit=items)))
    text = prepare(resolve(TaskRef("demo_text", limit=items)))
    facts = replace(facts, scorer=lambda sample, response: scored(sample, response.loglikelihoods[sample.answer]))
    return Asked("facts", "in_domain", facts), Asked("text", "retention", text)


def made_rows(num: int) -> tuple[Example, ...]:
    tokenizer = tiny_tokenizer()
    texts = [sample.target for sample in prepare(resolve(TaskRef("demo_text", limit=num))).samples]
    return tuple(Example(tuple(tokenizer(text)["input_ids"])[:40], 1) for text in texts)


def subject_of(update: Update, base: Base, tasks: tuple[Asked, ...] = (), rows: tuple[Example, ...] = ()) -> Subject:
    """A subject asked in the way of the engine. Its scores in float32 differ with any bit of the model."""
    return Subject(
        update,
        base,
        tasks=tasks,
        validation=rows,
        score=lambda model, task: evaluate(model, task, "run", "task").scores,
        losses=lambda model, part: validation_losses(model, part, 512),
    )


def noise(layers: tuple[int, ...], rank: int = 4, size: float = 0.1, seed: int = 1) -> dict[str, FactoredDelta]:
    """Random deltas on some layers."""
    generator, found = torch.Generator().manual_seed(seed), {}
    shapes = {"self_attn.q_proj": (32, 32), "self_attn.v_proj": (16, 32), "mlp.down_proj": (32, 64)}
    for layer in layers:
        for module, (outputs, inputs) in shapes.items():
            a, b = (torch.randn(*s, generator=generator) for s in ((rank, inputs), (outputs, rank)))
            found[f"model.layers.{layer}.{module}"] = FactoredDelta(a, b * size, 0.5)
    return found


def gainful(base: Base, rows: tuple[Example, ...], size: float = 8.0, module: str = GOOD) -> FactoredDelta:
    """A delta of a module that lowers the loss on the rows: two equal singular values ``size`` along the steepest
    descent, in an adapter of rank 8. A negative size raises the loss."""
    spent = 8
    weight = base_weight(base, module).requires_grad_(True)
    try:
        total = torch.stack([_loss(base, row) for row in rows]).mean()
        (slope,) = torch.autograd.grad(total, weight)
    finally:
        weight.requires_grad_(False)
    u, _, vh = torch.linalg.svd(-slope, full_matrices=False)
    a, b = torch.zeros(spent, vh.shape[1]), torch.zeros(len(u), spent)
    a[:2], b[:, :2] = vh[:2], u[:, :2] * size
    mix = torch.linalg.qr(torch.randn(spent, spent, generator=torch.Generator().manual_seed(0))).Q
    return FactoredDelta(mix @ a, b @ mix.T, 1.0)  # mixed, so that no factor shows the rank


def as_full(base: Base, update: Update) -> Update:
    """The same change as full fine-tuning would store it: every parameter of the model, most of them as they were."""
    deltas, whole = {}, {}
    for name, parameter in base.model.named_parameters():
        module = name.removesuffix(".weight")
        if module.endswith("_proj"):
            delta = update.deltas.get(module)
            after = parameter if delta is None else parameter + delta.dense()
            deltas[module] = DenseDelta(parameter.detach(), after.detach().clone())
        else:
            whole[name] = update.whole.get(name, parameter).detach().clone()
    return Update("full", deltas, whole, ties=True)


def _loss(base: Base, row: Example) -> torch.Tensor:
    ids = torch.tensor([row.ids])
    return base.token_nll(base.hidden(ids)[0, :-1], ids[0, 1:]).mean()
