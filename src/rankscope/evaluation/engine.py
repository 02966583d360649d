"""Log-likelihoods with a shared prompt. In: a Base and tokens. Out: numbers.

The choices of one question lie behind one copy of its prompt: each choice sees the prompt and itself, never another
choice, and its positions go on from the prompt's end. Knows nothing about tasks or scores.

Legend: B rows, T tokens, P positions read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rankscope.data.batching import budgeted
from rankscope.errors import ModelError
from rankscope.models.base import Base

Tick = Callable[[int], None]
Weight = tuple[float, bool]


@dataclass(frozen=True)
class Request:
    """One prompt (token ids) and the continuations to weigh; with ``prompts`` each continuation has its own instead."""

    prompt: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    prompts: tuple[tuple[int, ...], ...] = ()

    @property
    def length(self) -> int:
        return sum(map(len, self.prompts or (self.prompt,))) + sum(map(len, self.continuations))


def loglikelihoods(
    base: Base, requests: Sequence[Request], batch_tokens: int = 4096, tick: Tick | None = None
) -> list[list[float]]:
    """Summed log-likelihood in nats of every continuation. Raises ModelError as ``sharing``."""
    return [[value for value, _ in weights] for weights in weigh(base, requests, batch_tokens, tick)]


@torch.inference_mode()
def weigh(
    base: Base, requests: Sequence[Request], batch_tokens: int = 4096, tick: Tick | None = None, greedy: bool = False
) -> list[list[Weight]]:
    """Weight of every continuation: its summed log-likelihood in nats, and whether greedy generation would write it.

    The second is False unless ``greedy`` is asked. Batching depends on the requests alone, so all arms share it. Where
    a model can't share a prompt between choices (see ``sharing``), each choice gets a row of its own.
    """
    can_share = sharing(base)
    out: list[list[Weight]] = [[(0.0, False)] * len(r.continuations) for r in requests]
    shared, single = [], []
    for i, request in enumerate(requests):
        num = len(request.continuations)
        is_one = num > 1 and not request.prompts
        if is_one and can_share and (base.window is None or request.length <= base.window):
            shared.append((i, 0, request))
        else:
            own = request.prompts or (request.prompt,) * num
            single += [(i, c, Request(own[c], request.continuations[c : c + 1])) for c in range(num)]
    for jobs, score in ((shared, _shared), (single, _single)):
        lengths = [r.length for _, _, r in jobs]
        order = sorted(range(len(jobs)), key=lambda j: (lengths[j], j))
        for batch in budgeted(order, lengths, batch_tokens):
            for j, sums in zip(batch, score(base, [jobs[j][2] for j in batch], greedy), strict=True):
                i, first, _ = jobs[j]
                out[i][first : first + len(sums)] = sums
            if tick:
                # An item of several rows counts when its last one is done.
                tick(sum(jobs[j][1] + len(jobs[j][2].continuations) == len(requests[jobs[j][0]].continuations)
                         for j in batch))  # fmt: skip
    return out


@torch.inference_mode()
def sharing(base: Base) -> bool:
    """Whether choices can lie behind one copy of their prompt; found out once per model by scoring a few tokens.

    Raises ModelError if even one plain row gives other logits than the model itself: its scores would be wrong.
    """
    if base.can_share is None:
        last = min(24, base.model.config.get_text_config().vocab_size - 1)
        prompt, choices = tuple(range(3, 11)), (tuple(range(9, 14)), tuple(range(last - 6, last)), (4, 5))
        request = Request(prompt, choices)
        expected = [_by_the_model(base, prompt, c) for c in choices]
        single = [_single(base, [Request(prompt, (c,))])[0][0][0] for c in choices]
        near = 1e-3 if base.dtype == torch.float32 and not base.autocast else 0.15
        if not _close(single, expected, near):
            raise ModelError("this architecture turns hidden states into logits in a way that isn't known here",
                             got=type(base.model).__name__, hint="Please report it with the model's name")  # fmt: skip
        try:
            base.can_share = _close([value for value, _ in _shared(base, [request])[0]], expected, near)
        except (ValueError, RuntimeError, TypeError):  # attention by distance (ALiBi) or by state takes no such mask
            base.can_share = False
    return base.can_share


def _by_the_model(base: Base, prompt: tuple[int, ...], continuation: tuple[int, ...]) -> float:
    with base.products():
        logits = base.model(input_ids=torch.tensor([[*prompt, *continuation]], device=base.device)).logits
    logp = logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return float(logp[torch.arange(len(continuation)), torch.tensor(continuation)].sum())


def _close(found: Sequence[float], expected: Sequence[float], near: float) -> bool:
    return all(abs(a - b) <= near * max(1.0, abs(b)) for a, b in zip(found, expected, strict=True))


def _single(base: Base, requests: list[Request], greedy: bool = False) -> list[list[Weight]]:
    """One continuation a row, padded on the right; the model's own attention, whatever its kind."""
    longest = max(r.length for r in requests)
    ids = torch.full((len(requests), longest), base.tokenizer.pad_token_id or 0)
    rows, before, targets = [], [], []
    for b, request in enumerate(requests):
        (tokens,), start = request.continuations, len(request.prompt)
        ids[b, : start + len(tokens)] = torch.tensor([*request.prompt, *tokens])
        rows += [b] * len(tokens)
        before += range(start - 1, start + len(tokens) - 1)
        targets += tokens
    lengths = torch.tensor([r.length for r in requests])
    mask = (torch.arange(longest) < lengths[:, None]).long()
    # Nothing is read at the last position, and where the text fills the model's length there may be no such position.
    ids, mask = ids[:, : max(1, longest - 1)], mask[:, : max(1, longest - 1)]
    hidden = base.hidden(ids.to(base.device), None if bool(mask.all()) else mask.to(base.device))
    return [[x] for x in _sums(base, hidden, (rows, before, targets), rows, len(requests), greedy)]


def _shared(base: Base, requests: list[Request], greedy: bool = False) -> list[list[Weight]]:
    """All continuations of a request behind its prompt, in one row; a mask keeps them apart."""
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
    iterator = iter(_sums(base, hidden, (rows, before, targets), owner, num, greedy))
    return [[next(iterator) for _ in r.continuations] for r in requests]


def _sums(base: Base, hidden: Tensor, read: tuple[list[int], ...], owner: list[int], num: int,
          greedy: bool) -> list[Weight]:  # fmt: skip
    """Weights by owner. ``read``: rows, positions, and the token that stands one after each."""
    rows, before, targets = (torch.tensor(column, dtype=torch.long, device=base.device) for column in read)
    if greedy:
        nll, is_top = base.token_scores(hidden[rows, before], targets)
    else:
        nll, is_top = base.token_nll(hidden[rows, before], targets), torch.zeros_like(targets, dtype=torch.bool)
    owners = torch.tensor(owner, dtype=torch.long, device=base.device)
    sums = torch.zeros(num, device=base.device).index_add(0, owners, -nll)
    misses = torch.zeros(num, dtype=torch.long, device=base.device).index_add(0, owners, (~is_top).long())
    return list(zip(sums.tolist(), (misses == 0).tolist(), strict=True))
