"""Log-likelihoods of continuations. In: a Base and tokens. Out: numbers.

What texts have in common is computed once where the model can do that (``tree`` plans it, ``prefix`` computes it); that
is found out by asking the model itself. Knows nothing about tasks or scores.

Legend: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rankscope.errors import DataError, ModelError
from rankscope.evaluation.prefix import keep, plain_states, reach, read, states
from rankscope.evaluation.tree import Group, Pack, Text, pack, plan
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
    def pairs(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Each continuation behind its prompt."""
        return zip(self.prompts or (self.prompt,) * len(self.continuations), self.continuations, strict=True)


def loglikelihoods(
    base: Base, requests: Sequence[Request], batch_tokens: int = 4096, tick: Tick | None = None
) -> list[list[float]]:
    """Summed log-likelihood in nats of every continuation. Raises ModelError as ``sharing``."""
    return [[value for value, _ in weights] for weights in weigh(base, requests, batch_tokens, tick)]


@torch.inference_mode()
def weigh(
    base: Base, requests: Sequence[Request], batch_tokens: int = 4096, tick: Tick | None = None, greedy: bool = False,
    passed: Tick | None = None,
) -> list[list[Weight]]:  # fmt: skip
    """Weight of every continuation: its summed log-likelihood in nats, and whether greedy generation would write it.

    The second is False unless ``greedy`` is asked. Batching depends on the requests alone, so all arms share it. What
    texts share is computed once (``tree``); where a model can't do that (see ``sharing``), each continuation gets a row
    of its own. ``passed`` is told of the tokens that went through the model, without padding.
    """
    texts = [Text(prompt, c) for r in requests for prompt, c in r.pairs]
    if not all(t.prompt for t in texts):
        raise DataError("a continuation is weighed behind at least one token", got="an empty prompt",
                        hint="The tokenizer names no token that begins or ends a text")  # fmt: skip
    owners = [i for i, r in enumerate(requests) for _ in r.continuations]
    out: list[Weight] = [(0.0, greedy)] * len(texts)
    left = [sum(map(bool, r.continuations)) for r in requests]
    if tick and (empty := left.count(0)):
        tick(empty)
    for weights, tokens in _scored(base, texts, batch_tokens, greedy):
        for index, weight in weights.items():
            out[index] = weight
            left[owners[index]] -= 1
        if passed:
            passed(tokens)
        if tick and (done := sum(left[i] == 0 for i in {owners[index] for index in weights})):
            tick(done)
    iterator = iter(out)
    return [[next(iterator) for _ in r.continuations] for r in requests]


def _scored(
    base: Base, texts: Sequence[Text], batch_tokens: int, greedy: bool
) -> Iterator[tuple[dict[int, Weight], int]]:
    """Weights by the texts' indices and the number of tokens passed, a batch at a time."""
    if not texts:
        return
    most = reach(base) if sharing(base) else 0
    # A text that isn't for the tree keeps its place there without a continuation.
    near = [t if len(t.inputs) <= most else Text(t.prompt, ()) for t in texts]
    for group in plan(near, batch_tokens, bool(base.can_keep)):
        kept = keep(base, group.header) if group.header else None
        tokens = len(group.header)
        for packs in group.batches(batch_tokens):
            weights = _summed(base, states(base, packs, kept), packs, greedy)
            yield weights, tokens + sum(len(p.tokens) for p in packs)
            tokens = 0
    far = Group((), tuple(pack({i: t}) for i, t in enumerate(texts) if len(t.inputs) > most))
    for packs in far.batches(batch_tokens):
        yield _summed(base, plain_states(base, packs), packs, greedy), sum(len(p.tokens) for p in packs)


def _summed(base: Base, hidden: Tensor, packs: Sequence[Pack], greedy: bool = False) -> dict[int, Weight]:
    """Weights by text."""
    weights: dict[int, Weight] = {}
    for text, value, is_top in zip(*read(base, hidden, packs, greedy), strict=True):
        before, was_top = weights.get(text, (0.0, greedy))
        weights[text] = (before + value, was_top and is_top)
    return weights


@torch.inference_mode()
def sharing(base: Base) -> bool:
    """Whether texts can share what they have in common; found out once per model by scoring a few tokens.

    Sets ``can_share`` (a tree in one row) and ``can_keep`` (keys and values kept for a header). Raises ModelError if
    even one plain row gives other logits than the model itself: its scores would be wrong.
    """
    if base.can_share is None:
        last = min(24, base.model.config.get_text_config().vocab_size - 1)
        prompt, choices = tuple(range(3, 11)), (tuple(range(9, 14)), (*range(9, 12), 4), tuple(range(last - 6, last)))
        texts = [Text(prompt, c) for c in (*choices, (4, 5))]
        expected = [_by_the_model(base, t.prompt, t.continuation) for t in texts]
        near = 1e-3 if base.dtype == torch.float32 and not base.autocast else 0.15
        alone = [pack({k: t}) for k, t in enumerate(texts)]
        plain = _summed(base, plain_states(base, alone), alone)
        if not _close([plain[k][0] for k in range(len(texts))], expected, near):
            raise ModelError("this architecture turns hidden states into logits in a way that isn't known here",
                             got=type(base.model).__name__, hint="Please report it with the model's name")  # fmt: skip
        base.can_share = _agrees(base, texts, 0, expected, near)
        base.can_keep = base.can_share and _agrees(base, texts, len(prompt) - 2, expected, near)
    return base.can_share


def _agrees(base: Base, texts: list[Text], skip: int, expected: list[float], near: float) -> bool:
    """Whether two packs of the texts in one batch, behind ``skip`` kept tokens, say what the model does."""
    first, second = dict(enumerate(texts[:-1])), {len(texts) - 1: texts[-1]}
    packs = [pack(first, skip), pack(second, skip)]
    try:
        found = _summed(base, states(base, packs, keep(base, texts[0].prompt[:skip]) if skip else None), packs)
    except (ValueError, RuntimeError, TypeError, AttributeError, IndexError):
        return False  # attention by distance (ALiBi) or by state takes no such mask, or a cache of its own kind alone
    return _close([found[k][0] for k in range(len(texts))], expected, near)


def _by_the_model(base: Base, prompt: tuple[int, ...], continuation: tuple[int, ...]) -> float:
    with base.products():
        logits = base.model(input_ids=torch.tensor([[*prompt, *continuation]], device=base.device)).logits
    logp = logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return float(logp[torch.arange(len(continuation)), torch.tensor(continuation)].sum())


def _close(found: Sequence[float], expected: Sequence[float], near: float) -> bool:
    return all(abs(a - b) <= near * max(1.0, abs(b)) for a, b in zip(found, expected, strict=True))
