"""Log-likelihoods with a shared prompt, and greedy generation. In: a Base and texts. Out: numbers and texts.

The choices of one question lie behind one copy of its prompt: each choice sees the prompt and itself, never another
choice, and its positions go on from the prompt's end. Knows nothing about tasks or scores.

Legend: B rows, T tokens, P positions read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import DynamicCache

from rankscope.data.batching import budgeted
from rankscope.models.base import Base

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Request:
    """One prompt (token ids) and the continuations to weigh."""

    prompt: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        return len(self.prompt) + sum(map(len, self.continuations))


@torch.inference_mode()
def loglikelihoods(base: Base, requests: Sequence[Request], batch_tokens: int = 4096,
                   tick: Tick | None = None) -> list[list[float]]:  # fmt: skip
    """Summed log-likelihood in nats of every continuation.

    Batching depends on the requests alone, so all arms share it.
    """
    out: list[list[float]] = [[] for _ in requests]
    order = sorted(range(len(requests)), key=lambda i: (requests[i].length, i))
    for batch in budgeted(order, [r.length for r in requests], batch_tokens):
        for index, sums in zip(batch, _score(base, [requests[i] for i in batch]), strict=True):
            out[index] = sums
        if tick:
            tick(len(batch))
    return out


def _score(base: Base, requests: list[Request]) -> list[list[float]]:
    longest = max(r.length for r in requests)
    size = (len(requests), longest)
    ids = torch.full(size, base.tokenizer.pad_token_id or 0)
    positions = torch.zeros(size, dtype=torch.long)
    segment = torch.full(size, -1)
    rows, before, targets, owner = [], [], [], []
    num = 0
    for b, request in enumerate(requests):
        start = len(request.prompt)
        ids[b, :start] = torch.tensor(request.prompt)
        positions[b, :start] = torch.arange(start)
        segment[b, :start] = 0
        at = start
        for c, tokens in enumerate(request.continuations):
            ids[b, at : at + len(tokens)] = torch.tensor(tokens)
            positions[b, at : at + len(tokens)] = torch.arange(start, start + len(tokens))
            segment[b, at : at + len(tokens)] = c + 1
            rows += [b] * len(tokens)
            before += [start - 1, *range(at, at + len(tokens) - 1)]
            targets += tokens
            owner += [num] * len(tokens)
            num += 1
            at += len(tokens)
    index = torch.arange(longest)
    allowed = (segment[:, :, None] == segment[:, None, :]) | (segment[:, None, :] == 0)
    allowed &= index[:, None] >= index[None, :]
    allowed |= torch.eye(longest, dtype=torch.bool)  # padding sees itself, or its softmax would be empty
    mask = torch.zeros(allowed.shape, dtype=base.dtype).masked_fill(~allowed, torch.finfo(base.dtype).min)[:, None]
    hidden = base.hidden(ids.to(base.device), mask.to(base.device), positions.to(base.device))
    logits = base.logits(hidden[torch.tensor(rows), torch.tensor(before)])  # (P, V)
    nll = F.cross_entropy(logits, torch.tensor(targets, device=base.device), reduction="none")
    sums = torch.zeros(num, device=base.device).index_add(0, torch.tensor(owner, device=base.device), -nll).tolist()
    iterator = iter(sums)
    return [[next(iterator) for _ in r.continuations] for r in requests]


@torch.inference_mode()
def generate(base: Base, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, stop: Sequence[str] = (),
             batch_tokens: int = 4096, tick: Tick | None = None) -> list[str]:  # fmt: skip
    """Greedy continuations, cut at the end-of-text token or the first stop text; batches are padded on the left."""
    out = [""] * len(prompts)
    lengths = [len(p) + max_new_tokens for p in prompts]
    for batch in budgeted(sorted(range(len(prompts)), key=lambda i: (lengths[i], i)), lengths, batch_tokens):
        for index, text in zip(batch, _generate(base, [prompts[i] for i in batch], max_new_tokens, stop), strict=True):
            out[index] = text
        if tick:
            tick(len(batch))
    return out


def _generate(base: Base, prompts: list[tuple[int, ...]], most: int, stop: Sequence[str]) -> list[str]:
    longest = max(map(len, prompts))
    pad = base.tokenizer.pad_token_id or 0
    ids = torch.tensor([[*[pad] * (longest - len(p)), *p] for p in prompts], device=base.device)
    lengths = torch.tensor([len(p) for p in prompts], device=base.device)
    mask = (torch.arange(longest, device=base.device) >= longest - lengths[:, None]).long()
    cache = DynamicCache(config=base.model.config)
    texts: list[list[int]] = [[] for _ in prompts]
    is_done = [False] * len(prompts)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    for _ in range(most):
        hidden = base.hidden(ids, mask, positions, cache)
        chosen = base.logits(hidden[:, -1]).argmax(-1)
        for b, token in enumerate(chosen.tolist()):
            if is_done[b]:
                continue
            if token == base.eos:
                is_done[b] = True
                continue
            texts[b].append(token)
            tail = base.decode(texts[b][-16:])
            is_done[b] = any(s in tail for s in stop)
        if all(is_done):
            break
        ids = chosen[:, None]
        mask = torch.cat([mask, torch.ones_like(ids)], 1)
        positions = positions[:, -1:] + 1
    return [_cut(base.decode(t), stop) for t in texts]


def _cut(text: str, stop: Sequence[str]) -> str:
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]
