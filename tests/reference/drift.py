"""Plain twins of ``rankscope.analysis.drift`` and ``.attention``: one prompt at a time, everything in memory, textbook
formulas; and the small models and planted updates that both are tested on."""

from __future__ import annotations

import copy
import math
import random

import torch
import transformers as hf

from rankscope.analysis.subject import Subject
from rankscope.data.batching import Example
from rankscope.models.base import Base
from rankscope.models.delta import DenseDelta, FactoredDelta, Update
from rankscope.records import ModelRef
from rankscope.testing import tiny_tokenizer

TOKENS = {"vocab_size": 132, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZE = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 256}


def made(config, seed: int = 0) -> Base:
    """A random model whose weights are large enough for its layers and heads to differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = hf.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(4)
    return Base(ModelRef("made"), model, tiny_tokenizer(), torch.device("cpu"), torch.float32)


def deep(num_layers: int = 8) -> Base:
    """A Llama of many small layers; 4 heads of 8 dimensions, 2 for keys."""
    return made(hf.LlamaConfig(**TOKENS, **SIZE, num_hidden_layers=num_layers, num_key_value_heads=2))


def prompts(num: int, longest: int = 40, seed: int = 0) -> tuple[Example, ...]:
    rng = random.Random(seed)
    return tuple(Example(tuple(rng.randrange(3, 132) for _ in range(rng.randint(2, longest))), 1) for _ in range(num))


def factored(base: Base, module: str, size: float = 0.5, rows: slice = slice(None)) -> FactoredDelta:
    """A rank-2 update of a module that changes only some of its outputs."""
    num_out, num_in = base.model.get_submodule(module).weight.shape
    generator = torch.Generator().manual_seed(1)
    b = torch.zeros(num_out, 2)
    b[rows] = torch.randn(b[rows].shape, generator=generator) * size
    return FactoredDelta(torch.randn(2, num_in, generator=generator) * size, b, 1.0)


def lora(base: Base, module: str, size: float = 0.5, rows: slice = slice(None)) -> Update:
    return Update("lora", {module: factored(base, module, size, rows)})


def full(base: Base, module: str, size: float = 0.5, rows: slice = slice(None)) -> Update:
    """The same update as a fully fine-tuned checkpoint would have it."""
    before = base.model.get_submodule(module).weight
    after = before + factored(base, module, size, rows).dense().to(before.dtype)
    return Update("full", {module: DenseDelta(before, after)}, ties=True)


def subject(base: Base, update: Update, rows, part: str = "train") -> Subject:
    return Subject(update, base, texts={part: tuple(rows)})


def merged(base: Base, update: Update):
    """A copy of the model with the update added to its weights."""
    model = copy.deepcopy(base.model)
    for module, delta in update.deltas.items():
        model.get_submodule(module).weight += delta.dense()
    return model


@torch.inference_mode()
def hidden_states(model, ids: tuple[int, ...]) -> list[torch.Tensor]:
    """The embedding's output and the states after every layer of a Llama, all before the final norm; each (T, D)."""
    last = []
    handle = model.model.norm.register_forward_pre_hook(lambda module, args: last.append(args[0]))
    states = model(torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states
    handle.remove()
    return [s[0].double() for s in (*states[:-1], last[0])]


def hsic(x: torch.Tensor, y: torch.Tensor) -> float:
    """Song et al. 2012, equation 5, term by term."""
    n = len(x)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    k, l = k - k.diag().diag(), l - l.diag().diag()  # noqa: E741
    one = torch.ones(n, dtype=x.dtype)
    trace = (k @ l).trace()
    sums = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
    return float(trace + sums - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))


def cka(x: torch.Tensor, y: torch.Tensor) -> float:
    return hsic(x, y) / math.sqrt(hsic(x, x) * hsic(y, y))


def biased_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """Kornblith et al. 2019: ||Y'X||^2 / (||X'X|| ||Y'Y||), of centred columns."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def layer_quantities(x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    """All of one layer from all of its tokens but the first ones."""
    found = {"cka_distance": 1 - cka(x, y), "cosine_distance": cosine_distance(x, y)}
    for side, states in (("base", x), ("tuned", y)):
        values = torch.linalg.svdvals(states - states.mean(0))
        p = values[values > 0] / values.sum()
        found[f"effective_rank_{side}"] = math.exp(-float((p * p.log()).sum()))
        found[f"hidden_spectrum_{side}"] = (values**2 / (values**2).sum())[:32].tolist()
    return found


def cosine_distance(x: torch.Tensor, y: torch.Tensor) -> float:
    return float((1 - (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))).mean())


@torch.inference_mode()
def kl_by_position(model, tuned, rows) -> list[float]:
    buckets: dict[int, list[float]] = {}
    for row in rows:
        p, q = (m(torch.tensor([row.ids])).logits[0].double().log_softmax(-1) for m in (model, tuned))
        for position, kl in enumerate((p.exp() * (p - q)).sum(-1).tolist()):
            if position:
                buckets.setdefault(math.ceil(math.log2(position)), []).append(kl)
    return [sum(buckets[b]) / len(buckets[b]) for b in sorted(buckets)]


@torch.inference_mode()
def attention_changes(model, tuned, rows) -> dict[str, list[list[float]]]:
    """By quantity, layer and head: the mean over all rows of attention but the first of each prompt."""
    models = [copy.deepcopy(m) for m in (model, tuned)]
    for each in models:
        each.set_attn_implementation("eager")
    total, num = None, 0
    for row in rows:
        both = [torch.stack(m(torch.tensor([row.ids]), output_attentions=True).attentions)[:, 0].double()
                for m in models]  # fmt: skip
        for query in range(1, len(row.ids)):
            p, q = (a[:, :, query, : query + 1] for a in both)  # (L, H, keys)
            m = (p + q) / 2
            away = query - torch.arange(query + 1)
            each = torch.stack([
                ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)) / 2,
                (p * p.log()).sum(-1) - (q * q.log()).sum(-1),
                (q * away).sum(-1) - (p * away).sum(-1),
                q[..., 0] - p[..., 0],
            ])  # fmt: skip
            total, num = each if total is None else total + each, num + 1
    names = ("attention_js", "entropy_change", "distance_change", "first_token_change")
    return dict(zip(names, (total / num).tolist(), strict=True))
