"""Singular values of an update, and what they say of its shape. In: a ``Delta``. Out: values, vectors, ranks, norms.

A factored update is never written out: with QR of ``b`` and of ``a`` transposed, ``b @ a = Qb (Rb Ra') Qa'``, and the
core in the middle, no larger than the rank, has the same singular values (exact up to rounding in float64). A dense one
is measured through the float64 Gram matrix of its shorter side, whose eigenvalues are the squares: that is wrong by
about 1e-8 of the largest value. Knows nothing about modules, models or the weights below the update.

Definitions: stable rank, energy rank and utilisation as in Gradience and WeightWatcher; effective rank after Roy &
Vetterli, "The effective rank: a measure of effective dimensionality" (EUSIPCO 2007); best approximation of a rank after
Eckart & Young (1936).

Legend: R rank, D inputs, O outputs, K number of singular values, min(R, O, D).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from rankscope.errors import ModelError
from rankscope.models.delta import Delta, DenseDelta, FactoredDelta

_TIE = 1e-9
"""How far below a share of the energy still counts as reaching it: rounding must not cost a rank."""


@dataclass(frozen=True)
class Shape:
    """Ranks and norms of one update. None: not defined, since the update is zero or has no rank of its own (dense).

    ``stable_rank``: sum of squares by the largest square. ``effective_rank``: exp of the entropy of the values' shares
    of their sum. ``energy_rank_90``: the least number of values that hold 90 % of the sum of squares. ``utilisation``:
    stable rank by rank spent.
    """

    stable_rank: float | None
    effective_rank: float | None
    energy_rank_90: int | None
    energy_rank_99: int | None
    utilisation: float | None
    frobenius: float
    spectral: float


def singular_values(delta: Delta) -> Float64[Tensor, " K"]:
    """All singular values, largest first, the scale included. Raises ModelError if a weight is NaN or infinite."""
    if isinstance(delta, DenseDelta):
        return _through_gram(_finite(delta.dense().detach().double()))
    b, a = delta.b.detach().double(), delta.a.detach().double()
    core = torch.linalg.qr(b, mode="r").R @ torch.linalg.qr(a.T, mode="r").R.T * delta.scale  # (K', K'')
    return torch.linalg.svdvals(_finite(core))


def svd(delta: Delta) -> tuple[Float64[Tensor, "O K"], Float64[Tensor, " K"], Float64[Tensor, "K D"]]:
    """Left vectors, singular values and right vectors, largest first. Raises ModelError as ``singular_values``."""
    if isinstance(delta, DenseDelta):
        return torch.linalg.svd(_finite(delta.dense().detach().double()), full_matrices=False)
    left, right = torch.linalg.qr(delta.b.detach().double()), torch.linalg.qr(delta.a.detach().double().T)
    u, s, vh = torch.linalg.svd(_finite(left.R @ right.R.T * delta.scale), full_matrices=False)
    return left.Q @ u, s, vh @ right.Q.T


def truncated(delta: Delta, rank: int) -> FactoredDelta:
    """The nearest update of at most this rank, in the Frobenius and in the spectral norm."""
    return cut(svd(delta), rank)


def cut(parts: tuple[Tensor, Tensor, Tensor], rank: int) -> FactoredDelta:
    """The same from what ``svd`` gave, for many ranks of one update. Raises ModelError on a rank below 1."""
    if rank < 1:
        raise ModelError("an update can't be cut to this rank", got=rank, hint="Use a rank of 1 or more")
    u, s, vh = parts
    root = s[:rank].sqrt()
    return FactoredDelta(a=(root[:, None] * vh[:rank]).float(), b=(u[:, :rank] * root).float(), scale=1.0)


def shape_of(values: Float[Tensor, " K"], rank: int | None) -> Shape:
    """Ranks and norms from singular values, largest first. ``rank``: the rank that was spent, None for a dense one."""
    largest = float(values.max()) if len(values) else 0.0
    if largest == 0:
        return Shape(None, None, None, None, None, 0.0, 0.0)
    relative = values.double() / largest  # so that squares neither underflow nor overflow
    energy = float((relative * relative).sum())
    shares = relative / relative.sum()
    return Shape(
        stable_rank=energy,
        effective_rank=math.exp(-float(torch.xlogy(shares, shares).sum())),
        energy_rank_90=energy_rank(values, 0.9),
        energy_rank_99=energy_rank(values, 0.99),
        utilisation=None if rank is None else energy / rank,
        frobenius=largest * math.sqrt(energy),
        spectral=largest,
    )


def energy_rank(values: Float[Tensor, " K"], share: float) -> int | None:
    """The least number of singular values, largest first, with this share of the sum of squares; None if all are 0."""
    largest = float(values.max()) if len(values) else 0.0
    if largest == 0:
        return None
    energy = torch.cumsum((values.double() / largest) ** 2, 0)
    return min(len(values), int((energy < (share - _TIE) * energy[-1]).sum()) + 1)


def _through_gram(dense: Float64[Tensor, "O D"]) -> Float64[Tensor, " K"]:
    short = dense if dense.shape[0] <= dense.shape[1] else dense.T
    largest = short.abs().max()
    if largest == 0:
        return torch.zeros(len(short), dtype=torch.float64, device=short.device)
    short = short / largest  # squares of small weights must not underflow
    squares = torch.linalg.eigvalsh(short @ short.T).clamp(min=0)
    return squares.sqrt().flip(0) * largest


def _finite(matrix: Tensor) -> Tensor:
    if not torch.isfinite(matrix).all():
        raise ModelError("a weight of this update is NaN or infinite", hint="Train it again with a lower learning rate")
    return matrix
