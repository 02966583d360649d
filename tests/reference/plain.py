"""Plain twins: one text at a time, one adapter at a time, through transformers and PEFT alone."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model


@torch.inference_mode()
def loglikelihood(model, prompt: tuple[int, ...], continuation: tuple[int, ...]) -> float:
    """Sum of log p(token) over the continuation, by one unpadded forward pass."""
    ids = torch.tensor([[*prompt, *continuation]])
    logp = model(ids, use_cache=False).logits[0].log_softmax(-1)
    start = len(prompt)
    return sum(float(logp[start + i - 1, t]) for i, t in enumerate(continuation))


@torch.inference_mode()
def greedy(model, prompt: tuple[int, ...], most: int, eos: int | None) -> list[int]:
    """The most likely token again and again, without a cache."""
    ids = list(prompt)
    for _ in range(most):
        token = int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token == eos:
            break
        ids.append(token)
    return ids[len(prompt) :]


def text(base, prompt: tuple[int, ...], most: int, stop: tuple[str, ...] = (), ends=()) -> str:
    """The whole text again for each token, until an end token, a stop text or ``most``; cut at the first stop text."""
    tokens: list[int] = []
    while len(tokens) < most and not any(s in base.decode(tokens) for s in stop):
        (token,) = greedy(base.model, (*prompt, *tokens), 1, None)
        if token in ends:
            break
        tokens.append(token)
    found = base.decode(tokens)
    return found[: min((found.index(s) for s in stop if s in found), default=len(found))]


@torch.inference_mode()
def divergence(model, arm, ids: tuple[int, ...], places) -> float:
    """Mean KL(model || arm) of the tokens at ``places``, by two whole forward passes and a softmax by hand."""
    before, after = (m(torch.tensor([ids]), use_cache=False).logits[0].double() for m in (model, arm))
    total = 0.0
    for place in places:
        p, q = ((x[place - 1] - x[place - 1].max()).exp() for x in (before, after))
        p, q = p / p.sum(), q / q.sum()
        total += float((p * (p / q).log()).sum())
    return total / len(places)


def peft_model(model, arm, initial: dict[str, torch.Tensor]):
    """A copy of ``model`` with one PEFT LoRA adapter holding the given tensors."""
    config = LoraConfig(
        r=arm.rank,
        lora_alpha=arm.alpha,
        target_modules="all-linear",
        use_rslora=arm.scaling == "rslora",
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(copy.deepcopy(model), config)
    named = dict(wrapped.named_parameters())
    with torch.no_grad():
        for name, tensor in initial.items():
            named["base_model.model." + name.replace(".weight", ".default.weight")].copy_(tensor)
    return wrapped


def train(model, examples, steps, rates, clip: float = 1.0, weight_decay: float = 0.0, betas=(0.9, 0.999)):
    """Token-mean cross-entropy on completions, row by row; returns the loss of each step."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optim = torch.optim.AdamW(parameters, lr=0.0, betas=betas, weight_decay=weight_decay)
    losses = []
    for step, rate in zip(steps, rates, strict=True):
        rows = [examples[i] for micro in step for i in micro]
        count = sum(len(_labels(e)) for e in rows)
        total = 0.0
        for e in rows:
            logits = model(input_ids=torch.tensor([e.ids]), use_cache=False).logits[0]
            places = torch.tensor(_labels(e))
            loss = F.cross_entropy(logits[places - 1], torch.tensor(e.ids)[places], reduction="sum") / count
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(parameters, clip)
        for group in optim.param_groups:
            group["lr"] = rate
        optim.step()
        optim.zero_grad()
        losses.append(total)
    return losses


def _labels(example) -> list[int]:
    return [t for t in range(example.start, len(example.ids)) if not example.mask or example.mask[t]]
