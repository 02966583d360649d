"""Packs passed through a model behind kept keys and values. In: a Base, a header, packs. Out: what their reads say.

The cache given to the model hands out the header's keys and values with the row's own behind them and stores nothing:
one copy of the header serves any number of rows, one layer's joined keys exist at a time. Knows nothing about requests.

Legend: B rows, T tokens of a row, S tokens of the header and T, H heads, E head size, D hidden size, V vocabulary,
P positions read.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from rankscope.evaluation.tree import Pack
from rankscope.models.base import Base

_SLICE = 64  # positions whose logits are held at once on a CPU: they are summed while its own memory still has them


class _Kept(DynamicLayer):
    """One layer's keys and values of a header, (1 H S E); what comes behind it is joined and forgotten."""

    def __init__(self, keys: Tensor, values: Tensor):
        super().__init__()
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        num = len(key_states)
        joined = ((self.keys, key_states), (self.values, value_states))
        keys, values = (torch.cat([kept.expand(num, -1, -1, -1), new], dim=-2) for kept, new in joined)
        return keys, values


def reach(base: Base) -> int:
    """The longest text whose tokens all look at each other, and are turned, as they are in a shorter one."""
    rope = getattr(base.model.config.get_text_config(), "rope_parameters", None) or {}
    is_stretched = rope.get("rope_type") in ("dynamic", "longrope")  # angles change with the longest row of a batch
    usual = rope.get("original_max_position_embeddings") or base.max_length
    return min(base.window or sys.maxsize, usual if is_stretched else sys.maxsize)


def keep(base: Base, header: Sequence[int]) -> Cache:
    """Keys and values of a header, to be given to ``states``. Every layer's are kept whole, sliding windows' too."""
    grown = DynamicCache()
    base.hidden(torch.tensor([list(header)], device=base.device), cache=grown)
    return Cache(layers=[_Kept(layer.keys, layer.values) for layer in grown.layers])


def states(base: Base, packs: Sequence[Pack], kept: Cache | None = None) -> Float[Tensor, "B T D"]:
    """Last hidden states of the packs, padded on the right."""
    longest, skip = max(len(p.tokens) for p in packs), 0 if kept is None else kept.get_seq_length()
    rows = zip(*(_padded(p, longest, base) for p in packs), strict=True)
    ids, places, ends = (torch.tensor(column, device=base.device) for column in rows)
    if skip == 0 and all(p.is_chain for p in packs):
        return base.hidden(ids)  # causal attention as it is; padding stands behind everything that is read
    return base.hidden(ids, mask(ends, skip, base.dtype), places, kept)


def plain_states(base: Base, chains: Sequence[Pack]) -> Float[Tensor, "B T D"]:
    """Last hidden states of packs of one text each, by the model's own attention, whatever its kind."""
    longest = max(len(p.tokens) for p in chains)
    ids = torch.tensor([_padded(p, longest, base)[0] for p in chains])
    lengths = torch.tensor([len(p.tokens) for p in chains])
    real = (torch.arange(longest) < lengths[:, None]).long()
    return base.hidden(ids.to(base.device), None if bool(real.all()) else real.to(base.device))


def _padded(pack: Pack, longest: int, base: Base) -> tuple[list[int], list[int], list[int]]:
    """Tokens, positions and ends of a pack; a token of padding is a tree of its own."""
    num = len(pack.tokens)
    more = longest - num
    pad = base.tokenizer.pad_token_id or 0
    return (
        [*pack.tokens, *[pad] * more],
        [*pack.positions, *[0] * more],
        [*pack.ends, *range(num + 1, longest + 1)],
    )


def mask(ends: Tensor, skip: int, dtype: torch.dtype) -> Float[Tensor, "B 1 T S"]:
    """What is added to attention scores: nothing for the header, ancestors and the node itself."""
    index = torch.arange(ends.shape[1], device=ends.device)
    seen = (index[None, :] <= index[:, None])[None] & (index[None, :, None] < ends[:, None, :])
    own = torch.zeros(seen.shape, dtype=dtype, device=ends.device).masked_fill_(~seen, torch.finfo(dtype).min)
    return torch.nn.functional.pad(own, (skip, 0))[:, None]


def read(
    base: Base, hidden: Float[Tensor, "B T D"], packs: Sequence[Pack], greedy: bool
) -> tuple[list[int], list[float], list[bool]]:
    """Text, log-probability and whether no token is likelier, of every read; logits once a position, some at a time."""
    reads = [(b, *r) for b, pack in enumerate(packs) for r in pack.reads]
    places = list(dict.fromkeys((b, node) for b, node, _, _ in reads))
    number = {place: n for n, place in enumerate(places)}
    rows, nodes = (torch.tensor(column, device=base.device) for column in zip(*places, strict=True))
    which = torch.tensor([number[b, node] for b, node, _, _ in reads], device=base.device)
    targets = torch.tensor([target for _, _, target, _ in reads], device=base.device)
    chosen, size = hidden[rows, nodes], base.slice_size
    size = min(size, _SLICE) if base.device.type == "cpu" else size
    values, tops, done = [], [], 0
    for start in range(0, len(places), size):
        logits = base.logits(chosen[start : start + size])
        stop = int(torch.searchsorted(which, start + size))  # reads are sorted by place
        value, top = _chances(logits, which[done:stop] - start, targets[done:stop], greedy)
        values.append(value)
        tops.append(top)
        done = stop
    return [text for *_, text in reads], torch.cat(values).tolist(), torch.cat(tops).tolist()


def _chances(
    logits: Float32[Tensor, "P V"], which: Tensor, targets: Tensor, greedy: bool
) -> tuple[Float32[Tensor, " N"], Tensor]:
    value = logits.log_softmax(-1)[which, targets]
    top = logits.argmax(-1)[which] == targets if greedy else torch.zeros_like(targets, dtype=torch.bool)
    return value, top
