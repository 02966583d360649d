"""Intruder dimensions: large directions of a tuned weight that the base's weight does not have. In: a weight, its
update, the base's spectrum. Out: cosines and a count.

Definition (Shuttleworth et al., "LoRA vs Full Fine-tuning: An Illusion of Equivalence", 2410.21228, and its code): of
the top k = 10 left singular vectors of W + dW, those whose largest absolute cosine with every left singular vector of W
(reduced SVD, float32) is below 0.5.

W + dW is not decomposed. Its top k vectors are sought in a small subspace that starts from the base's own top vectors
and the update's columns and grows by corrected residuals (Davidson 1975; ``tuned`` knows the two kinds of update). The
answer is taken only if a bound says that no other one is possible: the residuals bound the angle to the true vectors
(Davis & Kahan 1970) once the eigenvalue after the k-th is known to lie below. Otherwise W + dW is decomposed after all.

Legend: D inputs, O outputs, K number of the base's singular values, k vectors looked at, n coordinates, p basis.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from rankscope.analysis.base_spectra import BaseSpectrum
from rankscope.analysis.spectra import finite
from rankscope.analysis.tuned import DenseTuned, FactoredTuned, Ritz, Tuned, factors, merged
from rankscope.errors import ModelError
from rankscope.models.delta import Delta, FactoredDelta

NEAR = 1e-3
"""Cosines nearer than this to the threshold are ties for all that float32 can say."""
_STEPS, _MORE = 8, 2  # growths of the basis at most; residuals added a growth beyond the k
_ROUNDING = 1e-6  # of float32 products and of the base's float32 SVD, relative to the largest eigenvalue
_EXACT = 1e-12  # a residual of this size has no direction
_CLOSE = 5e-4  # how near a vector has to be, in any case


@dataclass(frozen=True)
class Intruders:
    """``cosines``: the largest absolute cosine of each top vector of W + dW with all of W's. ``was_dense``: whether W +
    dW had to be decomposed for it."""

    cosines: Float64[Tensor, " k"]
    count: int
    near_ties: int
    was_dense: bool


def find(
    weight: Float[Tensor, "O D"],
    delta: Delta,
    base: BaseSpectrum,
    k: int = 10,
    threshold: float = 0.5,
    steps: int = _STEPS,
) -> Intruders:
    """The intruders of one module. ``steps`` 0 decomposes W + dW.

    Raises ModelError if a weight is NaN or infinite, or if the update is of another shape.
    """
    if delta.shape != tuple(weight.shape):
        raise ModelError("an update doesn't fit the base's weight", got=f"{delta.shape} on {tuple(weight.shape)}")
    k = min(k, len(base.values))
    cosines = _in_subspace(weight, delta, base, k, threshold, steps) if float(base.values[0]) > 0 else None
    was_dense = cosines is None
    if was_dense:
        top = torch.linalg.svd(finite(merged(weight, delta)), full_matrices=False).U[:, :k]
        cosines = (base.left.T @ top).abs().amax(0).double()
    count, near = (cosines < threshold).sum(), ((cosines - threshold).abs() < NEAR).sum()
    return Intruders(cosines, int(count), int(near), was_dense)


def interference(weight: Float[Tensor, "O D"], delta: Delta, base: BaseSpectrum, k: int = 10) -> float | None:
    """The share of the update's energy in the base's top k singular subspaces: ||U'dW V||^2 / ||dW||^2, both norms
    Frobenius (the subspaces after OPLoRA, 2510.13003). None for a zero update, and for a zero weight."""
    left, values = base.left[:, :k].double(), base.values[:k].double()
    is_real = values > _ROUNDING * values[0]  # to a singular value of zero belongs any right vector
    left, values = left[:, is_real], values[is_real]
    right = weight.detach().double().T @ left / values  # (D, k)
    if isinstance(delta, FactoredDelta):
        a, b = factors(delta, weight.device, torch.float64)
        b = b * delta.scale
        inner, whole = (left.T @ b) @ (a @ right), ((b.T @ b) * (a @ a.T)).sum()
    else:
        dense = delta.dense().detach().double()
        inner, whole = left.T @ (dense @ right), dense.square().sum()
    if not whole > 0 or not len(values):
        return None
    return min(1.0, float(inner.square().sum() / whole))


def _in_subspace(
    weight: Tensor, delta: Delta, base: BaseSpectrum, k: int, threshold: float, steps: int
) -> Float64[Tensor, " k"] | None:
    """Cosines of the top k vectors, or None if the basis would be too large or no bound held."""
    kind = FactoredTuned if isinstance(delta, FactoredDelta) else DenseTuned
    tuned = kind(weight, delta, base, k) if steps else None
    basis = tuned.start() if tuned else None
    if basis is None:
        return None
    through = tuned.apply(basis)
    core = basis.T @ through
    first = None
    for step in range(steps):
        ritz = _ritz(basis, through, core, tuned.top)
        first = first or ritz
        cosines = tuned.cosines(ritz.vectors[:, :k])
        if _is_proven(tuned, (first, ritz), cosines, threshold):
            return cosines
        if step == steps - 1:
            break
        is_open = ritz.residuals[:, : k + _MORE].norm(dim=0) > _EXACT * ritz.values[0]
        chosen = torch.nonzero(is_open)[:, 0]
        fresh = _orthonormal(tuned.corrected(ritz.residuals[:, chosen], ritz.values[chosen]), basis)
        gone = tuned.apply(fresh)
        side = basis.T @ gone
        core = torch.cat([torch.cat([core, side], 1), torch.cat([side.T, fresh.T @ gone], 1)])
        basis, through = torch.cat([basis, fresh], 1), torch.cat([through, gone], 1)
    return None


def _ritz(basis: Tensor, through: Tensor, core: Tensor, top: int) -> Ritz:
    values, rotation = torch.linalg.eigh((core + core.T) / 2)
    values, rotation = values.flip(0)[:top], rotation.flip(1)[:, :top]
    vectors = basis @ rotation
    return Ritz(values, vectors, through @ rotation - vectors * values)


def _is_proven(tuned: Tuned, pairs: tuple[Ritz, Ritz], cosines: Tensor, threshold: float) -> bool:
    """Whether each cosine is near the true one, and on the true one's side of the threshold.

    With ||R|| the norm of the k residuals together, k eigenvalues lie pairwise within ||R|| above the k Ritz values
    (Kahan); they are the largest k if the next one is known to lie below the last. A vector whose residual is r, a gap
    g away from all other eigenvalues, is then wrong by an angle whose sine is at most r / g, so that no cosine with it
    is wrong by more than sqrt(2) r / g.
    """
    (first, ritz), k = pairs, len(cosines)
    values = ritz.values[: k + 1]
    sizes = ritz.residuals[:, :k].norm(dim=0)
    block = float(sizes.norm())
    above = torch.cat([values.new_tensor([torch.inf]), values[: k - 1] - values[1:k]])
    below = values[:k] - values[1:] - block
    if not bool((2 * sizes < _CLOSE * torch.minimum(above, below)).all()):
        return False  # a bound on the next eigenvalue costs more than this, and can't help
    if (next_at_most := tuned.ceiling(first, ritz, k)) is None:
        return False
    below[k - 1] = values[k - 1] - block - next_at_most
    gaps = torch.minimum(above, below) - _ROUNDING * values[0]
    if not bool((gaps > 0).all()):
        return False
    wrong = 2**0.5 * sizes / gaps
    with_rounding = wrong + 2**0.5 * _ROUNDING * values[0] / gaps
    return bool(((wrong < 4 * _CLOSE) & (with_rounding < (cosines - threshold).abs())).all())


def _orthonormal(fresh: Tensor, basis: Tensor) -> Tensor:
    """New directions made orthonormal to the basis and to each other; twice is enough (Kahan)."""
    for _ in range(2):
        fresh = fresh / fresh.norm(dim=0).clamp(min=torch.finfo(fresh.dtype).tiny)
        fresh = torch.linalg.qr(fresh - basis @ (basis.T @ fresh)).Q
    return fresh - basis @ (basis.T @ fresh)
