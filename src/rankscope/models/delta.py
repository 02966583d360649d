"""What fine-tuning changed: W - W0 of each linear module, factored (LoRA) or dense (full SFT). In: tensors. Out: types.

A type of its own, so that a rank-16 update is never densified by accident (after TransformerLens' FactoredMatrix). All
deltas stand as (O, D), whichever way round a layer keeps its weight. Knows nothing about files or forward passes.

Legend: R rank, D inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FactoredDelta:
    """``scale * b @ a``: what a LoRA adapter adds to one module. Only the product means anything, not the factors."""

    a: Float[Tensor, "R D"]
    b: Float[Tensor, "O R"]
    scale: float

    @property
    def rank(self) -> int:
        """The rank spent: the number of columns of ``b``, whatever the product's own rank is."""
        return len(self.a)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.b), self.a.shape[1]

    def dense(self) -> Float[Tensor, "O D"]:
        """The product written out, in the factors' own type. For one module at a time, and never to measure it."""
        return (self.b @ self.a) * self.scale


@dataclass(frozen=True)
class DenseDelta:
    """``after - before``: what full fine-tuning did to one module. Both are views; nothing is copied."""

    before: Float[Tensor, "O D"]
    after: Float[Tensor, "O D"]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.after), self.after.shape[1]

    def dense(self) -> Float[Tensor, "O D"]:
        """The difference, in float32 at least, where the base is (stored weights are read on the CPU)."""
        wide = torch.promote_types(self.after.dtype, torch.float32)
        return self.after.to(self.before.device, wide) - self.before


Delta = FactoredDelta | DenseDelta


@dataclass(frozen=True)
class Update:
    """All that fine-tuning changed of one model, by full names in the base model.

    ``deltas``: linear modules. ``whole``: the tuned values of further parameters (norms, biases, embeddings).
    ``ties``: whether a parameter that several modules share is changed in all of them (full SFT) or in the named one
    alone (PEFT's modules saved whole).
    """

    kind: Literal["lora", "full"]
    deltas: dict[str, Delta]
    whole: dict[str, Tensor] = field(default_factory=dict)
    ties: bool = False

    def only(self, keep: Callable[[str], bool]) -> Update:
        """The part of the update that sits in modules and parameters whose full name ``keep`` wants."""
        deltas = {name: delta for name, delta in self.deltas.items() if keep(name)}
        return replace(self, deltas=deltas, whole={n: t for n, t in self.whole.items() if keep(n)})

    def mapped(self, change: Callable[[str, Delta], Delta]) -> Update:
        """The update with every delta replaced; the whole parameters stay as they are."""
        return replace(self, deltas={name: change(name, delta) for name, delta in self.deltas.items()})
