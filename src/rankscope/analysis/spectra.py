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
_BLOCK, _STEPS, _CLOSE = 6, 16, 5e-7
"""Of the search for a largest singular value: vectors a step, steps at most, and how near its square has to be."""


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
        return _through_gram(finite(delta.dense().detach().double()))
    b, a = delta.b.detach().double(), delta.a.detach().double()
    core = torch.linalg.qr(b, mode="r").R @ torch.linalg.qr(a.T, mode="r").R.T * delta.scale  # (K', K'')
    return torch.linalg.svdvals(finite(core))


def svd(delta: Delta) -> tuple[Float64[Tensor, "O K"], Float64[Tensor, " K"], Float64[Tensor, "K D"]]:
    """Left vectors, singular values and right vectors, largest first. Raises ModelError as ``singular_values``."""
    if isinstance(delta, DenseDelta):
        return torch.linalg.svd(finite(delta.dense().detach().double()), full_matrices=False)
    left, right = torch.linalg.qr(delta.b.detach().double()), torch.linalg.qr(delta.a.detach().double().T)
    u, s, vh = torch.linalg.svd(finite(left.R @ right.R.T * delta.scale), full_matrices=False)
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


def spectral_norm(weight: Float[Tensor, "O D"]) -> float:
    """The largest singular value of one matrix, right to 1e-6 of itself, without the others.

    Block Krylov steps on the shorter side's Gram matrix, which is never written out; the start is random but fixed. An
    eigenvalue of it lies within the squared residual by the gap to the next Ritz value, or within the residual. Where
    neither gets small enough, all values are computed.
    """
    dense = finite(weight.detach().float())
    short = dense if dense.shape[0] <= dense.shape[1] else dense.T
    if (largest := float(short.abs().max())) == 0:
        return 0.0
    short = short / largest
    basis = torch.randn(len(short), _BLOCK, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(basis.to(short.device)).Q
    for _ in range(_STEPS if len(short) > 4 * _BLOCK * _STEPS else 0):
        through = (short @ (short.T @ basis.float())).double()
        ritz, rotation = torch.linalg.eigh(basis.T @ through)  # ascending
        residual = through @ rotation[:, -1] - basis @ rotation[:, -1] * ritz[-1]
        size, gap = float(residual.norm()), float(ritz[-1] - ritz[-2])
        if min(size, size * size / gap if gap > size else size) < _CLOSE * float(ritz[-1]):
            return math.sqrt(float(ritz[-1])) * largest
        fresh = through[:, -_BLOCK:] - basis @ (basis.T @ through[:, -_BLOCK:])
        basis = torch.linalg.qr(torch.cat([basis, fresh], 1)).Q
    return float(_through_gram(short.double())[0]) * largest


def finite(matrix: Tensor) -> Tensor:
    """The matrix itself. Raises ModelError if a weight is NaN or infinite."""
    if not torch.isfinite(matrix).all():
        raise ModelError("a weight is NaN or infinite", hint="Train it again with a lower learning rate")
    return matrix


def _through_gram(dense: Float64[Tensor, "O D"]) -> Float64[Tensor, " K"]:
    short = dense if dense.shape[0] <= dense.shape[1] else dense.T
    largest = short.abs().max()
    if largest == 0:
        return torch.zeros(len(short), dtype=torch.float64, device=short.device)
    short = short / largest  # squares of small weights must not underflow
    squares = torch.linalg.eigvalsh(short @ short.T).clamp(min=0)
    return squares.sqrt().flip(0) * largest
