"""What a model holds inside while it reads: hidden states after every layer. In: a Base, rows. Out: batches, states.

States are handed on layer by layer while the pass runs, so that what compares them keeps no more than it needs. Rows
are read in an order that depends on their content alone, padded on the right; padding is never handed on. Any decoder
with a list of layers can be read. Knows nothing about what is computed from the states.

Legend: B rows, T tokens, P real tokens after the first of each row, D hidden size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rankscope.analysis.subject import Subject
from rankscope.data.batching import Example, budgeted
from rankscope.errors import ModelError
from rankscope.models.base import Base

Take = Callable[[int | None, Tensor], None]
"""Gets a layer's number (None: the embedding) and its states (B, T, D)."""

_NEAR = 16  # rows sorted by length together: enough to save padding, few enough to keep different rows side by side


@dataclass(frozen=True)
class Batch:
    """Rows side by side. ``is_later`` marks the real tokens but each row's first, which is an attention sink."""

    rows: tuple[Example, ...]
    ids: Int[Tensor, "B T"]
    is_real: Bool[Tensor, "B T"]

    @property
    def is_later(self) -> Bool[Tensor, "B T"]:
        later = self.is_real.clone()
        later[:, 0] = False
        return later

    def later(self, states: Float[Tensor, "B T D"]) -> Float[Tensor, "P D"]:
        """The states of the real tokens after each row's first, row by row."""
        return states[self.is_later]


def batches(
    base: Base, rows: Sequence[Example], budget: int, cost: Callable[[int], int] = lambda tokens: tokens
) -> Iterator[Batch]:
    """All rows, in an order of their own that forgets the one they came in; ``cost`` of the longest x rows stays within
    ``budget`` (one row may exceed it)."""
    order = sorted(range(len(rows)), key=lambda i: _digest(rows[i]))
    lengths = [len(row.ids) for row in rows]
    costs = [cost(length) for length in lengths]
    for first in range(0, len(order), _NEAR):
        near = sorted(order[first : first + _NEAR], key=lambda i: lengths[i])
        for batch in budgeted(near, costs, budget):
            yield _padded(base, [rows[i] for i in batch])


def layers_of(base: Base) -> nn.ModuleList:
    """The layers that a decoder goes through one after another: of its outermost lists of modules the one that is as
    long as the config says, else the longest. Raises ModelError, naming the architecture, if it has none."""
    decoder = base.model.base_model
    lists = [(name, module) for name, module in decoder.named_modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ModelError("the layers of this model can't be told apart: they are in no list",
                         got=type(base.model).__name__, hint="Leave it out of diagnose")  # fmt: skip
    depth = min(name.count(".") for name, _ in lists)
    num = getattr(base.model.config.get_text_config(), "num_hidden_layers", None)
    return max((m for name, m in lists if name.count(".") == depth), key=lambda m: (len(m) == num, len(m)))


@torch.inference_mode()
def read(base: Base, batch: Batch, take: Take) -> Float[Tensor, "B T D"]:
    """One pass: ``take`` gets the states at the first layer's entry and after every layer, in that order; the result is
    what the head sees."""
    found = layers_of(base)
    with ExitStack() as stack:
        stack.callback(found[0].register_forward_pre_hook(_entering(base, take), with_kwargs=True).remove)
        for number, layer in enumerate(found):
            stack.callback(layer.register_forward_hook(_leaving(base, take, number)).remove)
        return forward(base, batch)


def forward(base: Base, batch: Batch) -> Float[Tensor, "B T D"]:
    """The last hidden states of a batch."""
    return base.hidden(batch.ids, None if bool(batch.is_real.all()) else batch.is_real.long())


@contextmanager
def full_precision(base: Base) -> Iterator[None]:
    """What is computed within a pass, but isn't part of it, is not rounded as the pass's products are."""
    with torch.autocast(base.device.type, enabled=False):
        yield


@contextmanager
def tuned_side(subject: Subject) -> Iterator[Callable[[], AbstractContextManager[Base]]]:
    """A function that opens the tuned model, as often as wanted; while it isn't open, the base is untouched.

    Putting an update on takes little, but a full update on a base that isn't float32 is worn by a copy: made once.
    """
    with ExitStack() as stack:
        tuned = stack.enter_context(subject.worn())
        if tuned is not subject.base:
            yield lambda: nullcontext(tuned)
            return
    yield subject.worn


def _entering(base: Base, take: Take) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
        with full_precision(base):
            take(None, args[0] if args else kwargs["hidden_states"])

    return hook


def _leaving(base: Base, take: Take, number: int) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple, output: object) -> None:
        with full_precision(base):
            take(number, output[0] if isinstance(output, tuple) else output)

    return hook


def _padded(base: Base, rows: Sequence[Example]) -> Batch:
    longest = max(len(row.ids) for row in rows)
    pad = base.tokenizer.pad_token_id or 0
    ids = torch.tensor([[*row.ids, *[pad] * (longest - len(row.ids))] for row in rows])  # (B, T)
    is_real = torch.arange(longest) < torch.tensor([len(row.ids) for row in rows])[:, None]  # (B, T)
    return Batch(tuple(rows), ids.to(base.device), is_real.to(base.device))


def _digest(row: Example) -> bytes:
    return hashlib.sha256(repr(row.ids).encode()).digest()
