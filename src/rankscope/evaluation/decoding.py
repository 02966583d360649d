"""Keys and values of texts that are being written, behind headers held once, and the attention that reads both.

In: a Base, headers' tokens, and calls of the model with ``Rows`` as its cache. Out: hidden states that equal the
model's own. A header is what several prompts begin with (few-shot examples): its keys and values are held once, and
all rows behind it are scored against them in one product, as in Hydragen (2402.05099) but with one softmax over both
parts. What follows a header is a row's own; it lies in buffers that are allocated once and written in place. Query
heads that share a key head are rows of one product, so no key is repeated. Knows nothing about stop texts or answers.

Legend: B rows, T tokens, H heads, K heads of keys, G query heads a key head, S header tokens, W columns, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, DynamicCache
from transformers.cache_utils import Cache

from rankscope.models.base import Base

_NAME = "rankscope_rows"
_SCORES = {"cpu": 1 << 19, "cuda": 1 << 26}  # attention scores held at once; 2 MB stay in a processor's cache
_HARMLESS = {"dropout", "is_causal", "position_ids", "position_embeddings", "cache_position", "use_cache",
             "output_attentions", "sliding_window"}  # fmt: skip
_KINDS = {"full_attention", "sliding_attention"}

Header = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values (K S D) of each layer."""
Segment = tuple[int, int, Header | None]
"""First row, row after the last, and the header in front of them."""


class Rows(Cache):
    """Buffers of a batch of rows, each behind one of ``headers`` or behind none; ``counts`` rows behind each, in order.

    Prompts end at the same column, so all rows write their next token to one column; ``lengths`` (B,) are the own
    parts of the prompts, and what lies left of them is never seen. ``at`` has to be called before each forward pass.
    """

    def __init__(self, headers: Sequence[Header | None], counts: Sequence[int], lengths: Int[Tensor, " B"], width: int):
        super().__init__(layers=[])
        self.headers, self.counts, self.width = list(headers), list(counts), width
        self.pads = int(lengths.max()) - lengths
        self.has_pads = bool((self.pads > 0).any())
        self.buffers: dict[int, tuple[Tensor, Tensor]] = {}
        self.segments: list[Segment] = []
        self.hidden: Tensor | None = None
        self._rows = self._write = self._read = slice(0)

    def at(self, rows: range, columns: range, first: int = 0) -> None:
        """The next pass is over these rows and writes these columns; it sees columns from ``first`` on."""
        self._rows, self._write = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
        self._read = slice(first, columns.stop)
        self.segments, start = [], 0
        for header, count in zip(self.headers, self.counts, strict=True):
            a, b = max(start, rows.start), min(start + count, rows.stop)
            if a < b:
                self.segments.append((a - rows.start, b - rows.start, header))
            start += count
        self.hidden = None
        if self.has_pads or len(columns) > 1:
            seen = torch.arange(first, columns.stop, device=self.pads.device)
            own = torch.arange(columns.start, columns.stop, device=self.pads.device)
            self.hidden = (seen < self.pads[self._rows, None, None]) | (seen > own[:, None])  # (B, T, W)

    def update(self, key: Float[Tensor, "B K T D"], value: Float[Tensor, "B K T E"], layer_idx: int, *_: object,
               **__: object) -> tuple[Float[Tensor, "B K W D"], Float[Tensor, "B K W E"]]:  # fmt: skip
        """Write the new columns; all that this pass sees of the rows' own."""
        if layer_idx not in self.buffers:
            # Zeros: a column that is never seen still meets a weight of zero, and zero times NaN is NaN.
            size = (key.shape[1], len(self.pads), self.width)
            self.buffers[layer_idx] = (key.new_zeros(*size, key.shape[-1]), value.new_zeros(*size, value.shape[-1]))
        for buffer, new in zip(self.buffers[layer_idx], (key, value), strict=True):
            buffer[:, self._rows, self._write] = new.transpose(0, 1)
        keys, values = (buffer[:, self._rows, self._read].transpose(0, 1) for buffer in self.buffers[layer_idx])
        return keys, values

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on, in this order; they must be in rising order."""
        starts = [sum(self.counts[:i]) for i in range(len(self.counts))]
        self.counts = [sum(a <= row < a + n for row in rows) for a, n in zip(starts, self.counts, strict=True)]
        index = torch.tensor(rows, device=self.pads.device)
        self.pads = self.pads[index]
        self.has_pads = bool((self.pads > 0).any())
        for layer, buffers in self.buffers.items():
            keys, values = (buffer.index_select(1, index.to(buffer.device)) for buffer in buffers)
            self.buffers[layer] = (keys, values)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._write.start or 0

    @property
    def token_bytes(self) -> int:
        """What one token of one row takes."""
        held = sum(b.numel() * b.element_size() for pair in self.buffers.values() for b in pair)
        return held // (len(self.pads) * self.width)


def header(base: Base, tokens: Sequence[int]) -> Header:
    """Keys and values of a header, computed by the model's own attention."""
    ids = torch.tensor([tokens], device=base.device)
    cache = DynamicCache(config=base.model.config)
    base.hidden(ids, None, torch.arange(len(tokens), device=base.device)[None], cache)
    return tuple((layer.keys[0], layer.values[0]) for layer in cache.layers)


@contextmanager
def reading(base: Base) -> Iterator[None]:
    """Inside, the model attends by ``attend``; every forward pass needs a ``Rows``."""
    config = base.model.config.get_text_config()
    before = config._attn_implementation
    AttentionInterface.register(_NAME, attend)
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def attend(module: nn.Module, query: Float[Tensor, "B H T D"], key: Float[Tensor, "B K W D"],
           value: Float[Tensor, "B K W E"], attention_mask: object, scaling: float | None = None,
           rows: Rows | None = None, **others: object) -> tuple[Float[Tensor, "B T H E"], None]:  # fmt: skip
    """Attention of ``rows`` as transformers asks for it. Raises TypeError if a model wants more than plain softmax."""
    strange = sorted(name for name, given in others.items() if given is not None and name not in _HARMLESS)
    if rows is None or strange:
        raise TypeError(f"attention behind shared headers can't do this: {strange}")
    heads, num, size = query.shape[1:]
    groups = heads // key.shape[1]
    scale = size**-0.5 if scaling is None else scaling
    q = (query * scale).unflatten(1, (-1, groups)).transpose(0, 1)  # (K, B, G, T, D)
    k, v = key.transpose(0, 1), value.transpose(0, 1)
    out = value.new_empty(len(query), num, heads, value.shape[-1])
    most = _SCORES.get(query.device.type, _SCORES["cpu"])
    for first, last, found in rows.segments:
        behind = found[module.layer_idx] if found is not None else None
        seen = k.shape[2] + (behind[0].shape[1] if behind else 0)
        height = max(1, most // (heads * num * seen))
        span = num if height > 1 else max(1, most // (heads * seen))
        for a in range(first, last, height):
            b = min(a + height, last)
            for t in range(0, num, span):
                until = min(t + span, num)
                stop = k.shape[2] - num + until  # later columns are later tokens
                hidden = None if rows.hidden is None else rows.hidden[a:b, None, t:until, :stop]
                piece = _weighted(q[:, a:b, :, t:until], k[:, a:b, :stop], v[:, a:b, :stop], hidden, behind)
                out[a:b, t:until] = piece.permute(1, 3, 0, 2, 4).flatten(2, 3)
    return out, None


def _weighted(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None,
              behind: tuple[Tensor, Tensor] | None) -> Tensor:  # fmt: skip
    """Values (K B G T E) weighted by one softmax over header and own columns; ``hidden`` (B 1 T W) are not seen."""
    shape = q.shape[:-1]
    q = q.flatten(2, 3)  # (K, B, GT, D)
    near = q @ k.transpose(-1, -2)  # (K, B, GT, W)
    if hidden is not None:
        near.view(*shape, -1).masked_fill_(hidden, torch.finfo(near.dtype).min)
    if behind is None:
        return (near.softmax(-1, dtype=torch.float32).to(v.dtype) @ v).view(*shape, -1)
    far = q.flatten(1, 2) @ behind[0].transpose(-1, -2)  # (K, BGT, S)
    weights = torch.cat([far, near.flatten(1, 2)], -1).softmax(-1, dtype=torch.float32).to(v.dtype)
    split = far.shape[-1]
    own = weights[..., split:].unflatten(1, near.shape[1:3]) @ v
    return (weights[..., :split] @ behind[1]).view(*shape, -1) + own.view(*shape, -1)


@torch.inference_mode()
def can_read(base: Base) -> bool:
    """Whether this model is itself behind a shared header; found out once by comparing a few tokens' logits."""
    if base.can_read is None:
        kinds = set(getattr(base.model.config.get_text_config(), "layer_types", None) or ())
        try:
            base.can_read = kinds <= _KINDS and _is_itself(base)
        except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
            base.can_read = False  # no attention at all, or one that is asked for in another way
    return base.can_read


def _is_itself(base: Base) -> bool:
    """Three rows of several lengths, two behind a header and one behind none; one leaves before the last token."""
    top = base.model.config.get_text_config().vocab_size
    front, last = [(3 + i) % top for i in range(8)], [(40 + i) % top for i in range(3)]
    owns = [[(11 + 2 * i) % top for i in range(n)] for n in (1, 4, 3)]
    fronts = [front, front, []]
    rows = Rows([header(base, front), None], [2, 1], torch.tensor([1, 4, 3], device=base.device), 6)
    with reading(base):
        ids = [[0] * (4 - len(own)) + own for own in owns]
        places = [[max(0, len(f) + i - 4 + len(o)) for i in range(4)] for f, o in zip(fronts, owns, strict=True)]
        rows.at(range(3), range(4))
        found = [_logits(base, ids, places, rows)]
        base.token_bytes = rows.token_bytes
        for step, alive in enumerate(([0, 1, 2], [1, 2])):
            rows.keep(alive)
            rows.at(range(len(alive)), range(4 + step, 5 + step))
            ids = [[last[step]] for _ in alive]
            found.append(_logits(base, ids, [[len(fronts[r] + owns[r]) + step] for r in alive], rows))
    whole = [[f + o + last[:n] for f, o in zip(fronts, owns, strict=True)] for n in range(3)]
    expected = [_own_logits(base, texts) for texts in (whole[0], whole[1], whole[2][1:])]
    near = 1e-3 if base.dtype == torch.float32 and not base.autocast else 0.05
    return all(
        float((a - b).abs().max()) <= near * float((b - b.mean(-1, keepdim=True)).abs().max())
        for a, b in zip(found, expected, strict=True)
    )


def _logits(base: Base, ids: list[list[int]], places: list[list[int]], rows: Rows) -> Tensor:
    tokens, positions = (torch.tensor(x, device=base.device) for x in (ids, places))
    return base.logits(base.hidden(tokens, None, positions, rows, rows=rows)[:, -1])


def _own_logits(base: Base, texts: list[list[int]]) -> Tensor:
    with base.products():
        found = [base.model(input_ids=torch.tensor([t], device=base.device)).logits[0, -1].float() for t in texts]
    return torch.stack(found)
