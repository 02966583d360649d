"""Greedy generation. In: a Base and prompts as tokens. Out: texts.

What several prompts begin with is computed once and held once (``decoding``); prompts are read in pieces, logits are
computed at their last tokens alone, and rows that are done leave the batch. A model that can't be read that way is
asked in its own (``_plain``). Knows nothing about tasks or scores.

Legend: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from transformers import DynamicCache

from rankscope.data.batching import budgeted
from rankscope.evaluation.decoding import Header, Rows, can_read, header, reading
from rankscope.evaluation.prefix import reach
from rankscope.models.base import Base

Tick = Callable[[int], None]
Family = tuple[tuple[int, ...], list[int]]
"""A header's tokens, and the prompts that begin with it."""
Held = dict[tuple[int, ...], Header | None]
"""Headers by their tokens; None where there are none."""

_CACHE = {"cpu": 1 << 30, "cuda": 1 << 32}  # bytes of keys and values that a batch may take
_SAVED = 64  # a header has to save so many tokens: each costs some small products at every step
_LEFT = 0.75  # moving the rows that are left costs about as much as a step: it is done when a quarter has gone


@torch.inference_mode()
def generate(base: Base, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, stop: Sequence[str] = (),
             batch_tokens: int = 4096, tick: Tick | None = None, ends: Collection[int] | None = None,
             passed: Tick | None = None) -> list[str]:  # fmt: skip
    """Greedy continuations, cut at the first stop text or end token (``ends``; None: those of the model).

    ``tick`` hears of every text that is done, ``passed`` of the tokens that went through the model. Batches depend on
    the prompts alone, so all arms share them; ``batch_tokens`` are read at once.
    """
    ends = base.ends if ends is None else ends
    texts = _Texts(base, len(prompts), tuple(stop), frozenset(ends), tick or _ignore, passed or _ignore)
    if max_new_tokens < 1:
        return texts.cut()
    fit = [i for i, p in enumerate(prompts) if len(p) + max_new_tokens <= reach(base)]
    fit = fit if fit and can_read(base) else []
    held: Held = {}
    for batch in _batches(base, prompts, fit, max_new_tokens):
        # Families lie one after the other, so a header is needed in the next batch or never again.
        kept = {tokens: held[tokens] for tokens, _ in batch if tokens in held}
        new = {tokens: _header(base, tokens, texts) for tokens, _ in batch if tokens not in kept}
        held = kept | new
        _read(base, prompts, batch, held, texts, (max_new_tokens, batch_tokens))
    rest = sorted(set(range(len(prompts))) - set(fit), key=lambda i: (len(prompts[i]), i))
    for rows in budgeted(rest, [len(p) + max_new_tokens for p in prompts], batch_tokens):
        _plain(base, [prompts[i] for i in rows], rows, texts, max_new_tokens)
    return texts.cut()


def _ignore(_: int) -> None:
    pass


@dataclass
class _Texts:
    """What has been written of each text, and which are done."""

    base: Base
    num: int
    stop: tuple[str, ...]
    ends: frozenset[int]
    tick: Tick
    passed: Tick
    tokens: list[list[int]] = field(init=False)
    is_done: list[bool] = field(init=False)

    def __post_init__(self):
        self.tokens, self.is_done = [[] for _ in range(self.num)], [False] * self.num

    def take(self, rows: Sequence[int], chosen: Tensor) -> bool:
        """Add a token to each text that isn't done; whether one of these is left."""
        for row, token in zip(rows, chosen.tolist(), strict=True):
            if self.is_done[row]:
                continue
            if token in self.ends:
                self.is_done[row] = True
            else:
                self.tokens[row].append(token)
                if self.stop:
                    tail = self.base.decode(self.tokens[row][-16:])
                    self.is_done[row] = any(s in tail for s in self.stop)
            if self.is_done[row]:
                self.tick(1)
        return not all(self.is_done[row] for row in rows)

    def close(self, rows: Sequence[int]) -> None:
        """These are as long as they may get."""
        self.tick(sum(not self.is_done[row] for row in rows))

    def cut(self) -> list[str]:
        return [_cut(self.base.decode(t), self.stop) for t in self.tokens]


def _cut(text: str, stop: Sequence[str]) -> str:
    return text[: min((text.find(s) for s in stop if s in text), default=len(text))]


def families(prompts: Sequence[tuple[int, ...]]) -> list[Family]:
    """Prompts by the header they share: in sorted order, a group is split where its parts share more than it does.

    The last family has no header. A header leaves every prompt at least one token of its own.
    """
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i], i))
    near = [_common(prompts[a], prompts[b]) for a, b in pairwise(order)]

    def shared(start: int, stop: int) -> int:
        return max(0, min(*near[start : stop - 1], min(len(prompts[i]) for i in order[start:stop]) - 1))

    def saved(start: int, stop: int) -> int:
        return (stop - start - 1) * shared(start, stop) if stop - start > 1 else 0

    found: list[Family] = []
    alone: list[int] = []
    stack = [(0, len(order))] if order else []
    while stack:
        start, stop = stack.pop()
        if stop - start == 1:
            alone.append(order[start])
            continue
        least = min(near[start : stop - 1])
        parts = list(pairwise([start, *(i + 1 for i in range(start, stop - 1) if near[i] == least), stop]))
        if saved(start, stop) >= max(_SAVED, sum(saved(*part) for part in parts)):
            found.append((prompts[order[start]][: shared(start, stop)], order[start:stop]))
        else:
            stack += reversed(parts)
    return [*found, ((), alone)] if alone else found


def _common(one: tuple[int, ...], two: tuple[int, ...]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _batches(base: Base, prompts: Sequence[tuple[int, ...]], rows: list[int], most: int) -> Iterator[list[Family]]:
    """Families, cut into batches whose keys and values stay within ``_CACHE``; one row may exceed it.

    Short prompts come first, so that the rows of a batch are about as long.
    """
    if not rows:
        return
    room = _CACHE.get(base.device.type, _CACHE["cpu"]) // max(1, base.token_bytes or 1)
    batch: list[Family] = []
    longest = num = heads = 0
    found = [(tokens, sorted((rows[m] for m in members), key=lambda i: (len(prompts[i]), i)))
             for tokens, members in families([prompts[i] for i in rows])]  # fmt: skip
    for tokens, members in sorted(found, key=lambda family: len(prompts[family[1][-1]]) - len(family[0])):
        for row in members:
            own = len(prompts[row]) - len(tokens)
            is_new = not batch or batch[-1][0] != tokens
            needed = (num + 1) * (max(longest, own) + most) + heads + is_new * len(tokens)
            if batch and (needed > room or num == base.slice_size):
                yield batch
                batch, longest, num, heads, is_new = [], 0, 0, 0, True
            if is_new:
                batch.append((tokens, []))
                heads += len(tokens)
            batch[-1][1].append(row)
            longest, num = max(longest, own), num + 1
    yield batch


def _header(base: Base, tokens: tuple[int, ...], texts: _Texts) -> Header | None:
    texts.passed(len(tokens))
    return header(base, tokens) if tokens else None


def _read(base: Base, prompts: Sequence[tuple[int, ...]], batch: list[Family], held: Held, texts: _Texts,
          limits: tuple[int, int]) -> None:  # fmt: skip
    """One batch behind its headers. ``limits``: new tokens a text, and tokens read at once."""
    most, batch_tokens = limits
    alive = [row for _, members in batch for row in members]
    before = [len(tokens) for tokens, members in batch for _ in members]
    owns = [prompts[row][n:] for row, n in zip(alive, before, strict=True)]
    longest = max(map(len, owns))
    lengths = torch.tensor([len(own) for own in owns], device=base.device)
    rows = Rows([held[tokens] for tokens, _ in batch], [len(m) for _, m in batch], lengths, longest + most - 1)
    positions = torch.tensor(before, device=base.device) + lengths
    with reading(base):
        chosen = _prefill(base, owns, positions, rows, batch_tokens)
        texts.passed(sum(map(len, owns)))
        for column in range(longest, longest + most):
            if not texts.take(alive, chosen) or column == longest + most - 1:
                break
            left = [place for place, row in enumerate(alive) if not texts.is_done[row]]
            if len(left) <= _LEFT * len(alive):
                rows.keep(left)
                index = torch.tensor(left, device=base.device)
                alive, chosen, positions = [alive[place] for place in left], chosen[index], positions[index]
            rows.at(range(len(alive)), range(column, column + 1))
            hidden = base.hidden(chosen[:, None], None, positions[:, None], rows, rows=rows)
            texts.passed(len(left))
            chosen = base.logits(hidden[:, -1]).argmax(-1)
            positions = positions + 1
    texts.close(alive)


def _prefill(base: Base, owns: list[tuple[int, ...]], positions: Tensor, rows: Rows, batch_tokens: int) -> Tensor:
    """Read what is the rows' own, some rows at a time; the first new token of each."""
    longest = max(map(len, owns))
    pad = base.tokenizer.pad_token_id or 0
    chosen = []
    sizes = list(accumulate(map(len, owns), max))  # families lie one after the other
    for piece in budgeted(range(len(owns)), sizes, batch_tokens):
        here = range(piece[0], piece[-1] + 1)
        size = max(len(owns[b]) for b in here)
        ids = torch.tensor([[*[pad] * (size - len(owns[b])), *owns[b]] for b in here], device=base.device)
        places = positions[here.start : here.stop, None] - size + torch.arange(size, device=base.device)
        rows.at(here, range(longest - size, longest), longest - size)
        hidden = base.hidden(ids, None, places.clamp(min=0), rows, rows=rows)
        chosen.append(base.logits(hidden[:, -1]).argmax(-1))
    return torch.cat(chosen)


def _plain(base: Base, prompts: list[tuple[int, ...]], rows: list[int], texts: _Texts, most: int) -> None:
    """One batch, padded on the left, by the model's own attention and cache, whatever their kind."""
    longest = max(map(len, prompts))
    pad = base.tokenizer.pad_token_id or 0
    ids = torch.tensor([[*[pad] * (longest - len(p)), *p] for p in prompts], device=base.device)
    lengths = torch.tensor([len(p) for p in prompts], device=base.device)
    mask = (torch.arange(longest, device=base.device) >= longest - lengths[:, None]).long()
    cache = DynamicCache(config=base.model.config)
    kinds = getattr(cache, "is_linear", [])
    has_states = bool(kinds) and all(kinds)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    texts.passed(sum(map(len, prompts)))
    for step in range(most):
        hidden = base.hidden(ids, mask, positions, cache)
        chosen = base.logits(hidden[:, -1]).argmax(-1)
        if not texts.take(rows, chosen) or step == most - 1:
            break
        texts.passed(sum(not texts.is_done[row] for row in rows))
        ids = chosen[:, None]
        # A model of states takes a mask of what it is given, one of keys a mask of all that it has seen.
        mask = torch.ones_like(ids) if has_states else torch.cat([mask, torch.ones_like(ids)], 1)
        positions = positions[:, -1:] + 1
    texts.close(rows)
