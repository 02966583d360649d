"""A tuned weight as an operator that is never decomposed. In: a weight, its update, the base's spectrum. Out: products
with H = (W + dW)(W + dW)', a start for the search of its top vectors, and a bound on the eigenvalues left out of it.

Both kinds have ``start`` (None where a search isn't worth it), ``apply``, ``corrected``, ``cosines`` and ``ceiling``,
which bounds the (k + 1)-th eigenvalue from above, from the start's Ritz pairs and the latest; ``top`` pairs are needed.

H is divided by the base's largest eigenvalue, so that it is of size one. A factored update is a change of rank 2R at
most: in the base's own coordinates, U and what the update's columns have outside U, H is diagonal plus that change, and
how many eigenvalues lie above a number can be counted without computing any (Haynsworth 1968). With a dense update,
products go through the matrices, and the bound is the update's Frobenius norm. Knows nothing about intruders.

Legend: D inputs, O outputs, K number of the base's singular values, R rank, n coordinates, p basis.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from rankscope.analysis.base_spectra import BaseSpectrum
from rankscope.analysis.spectra import finite
from rankscope.models.delta import Delta, DenseDelta, FactoredDelta

_GUARD, _COLUMNS = 8, 32  # the base's vectors at the start beyond the k; of the update's columns at most
_ROOM = 0.9  # how far below the k-th eigenvalue those left out of a dense update's start have to lie
_NEAREST = 1e-3  # a correction divides by no less


@dataclass(frozen=True)
class Ritz:
    """The best approximations in a basis, largest first: eigenvalues, vectors, and what H leaves of them."""

    values: Float64[Tensor, " p"]
    vectors: Float64[Tensor, "n p"]
    residuals: Float64[Tensor, "n p"]


class FactoredTuned:
    """W + b a in the base's coordinates: H = diag(d) + C E' + E C' + C F C'.

    C: the update's columns (n, R). E: those of U'W a' (n, R). F: a a' (R, R).
    """

    def __init__(self, weight: Float[Tensor, "O D"], delta: FactoredDelta, base: BaseSpectrum, k: int):
        self.known, self.top, size = len(base.values), k + _GUARD, float(base.values[0])
        a, b = factors(delta, weight.device, torch.float32)
        rank = delta.rank
        both = torch.cat([b, weight.detach().float() @ a.T], 1)  # (O, 2R)
        inside = finite(base.left.T @ both)  # (K, 2R)
        columns, rows = inside[:, :rank].double(), inside[:, rank:].double()
        diagonal = (base.values.double() / size) ** 2
        if len(weight) > self.known:  # the base's vectors don't span the outputs: what is outside, as coordinates
            rest = b - base.left @ inside[:, :rank]
            energy, axes = torch.linalg.eigh((rest.T @ rest).double())
            columns = torch.cat([columns, energy.clamp(min=0).sqrt()[:, None] * axes.T])
            rows = torch.cat([rows, rows.new_zeros(rank, rank)])
            diagonal = torch.cat([diagonal, diagonal.new_zeros(rank)])
        self.diagonal, self.columns, self.rows = diagonal, columns * (delta.scale / size), rows / size
        self.inner = (a @ a.T).double()
        half = self.rows + self.columns @ self.inner / 2
        self.outer, self.across = torch.cat([half, self.columns], 1), torch.cat([self.columns, half], 1)

    def start(self) -> Float64[Tensor, "n p"] | None:
        """The base's top vectors, and the update's largest columns outside them. None: nearly everything."""
        lower = self.columns[self.top :]
        if len(lower) < self.top + min(_COLUMNS, lower.shape[1]):
            return None
        energy, axes = torch.linalg.eigh(lower.T @ lower)
        is_kept = energy > 1e-8 * energy[-1]
        is_kept[:-_COLUMNS] = False
        basis = self.diagonal.new_zeros(len(self.diagonal), self.top + int(is_kept.sum()))
        basis[: self.top, : self.top].fill_diagonal_(1)
        basis[self.top :, self.top :] = lower @ (axes[:, is_kept] * energy[is_kept].rsqrt())
        return basis

    def apply(self, vectors: Float64[Tensor, "n m"]) -> Float64[Tensor, "n m"]:
        return self.diagonal[:, None] * vectors + self.outer @ (self.across.T @ vectors)

    def corrected(self, residuals: Float64[Tensor, "n m"], values: Float64[Tensor, " m"]) -> Tensor:
        """The residuals solved by the diagonal part."""
        return residuals / _away(self.diagonal[:, None] - values)

    def cosines(self, vectors: Float64[Tensor, "n m"]) -> Float64[Tensor, " m"]:
        return vectors[: self.known].abs().amax(0)

    def ceiling(self, first: Ritz, last: Ritz, k: int) -> float | None:
        """Half way between the k-th and the next Ritz value, if exactly k eigenvalues lie above; else None.

        H - t is what remains of [[D - t, Z], [Z', -1/M]] when its lower part is eliminated, with Z = [C E] and
        M = [[F, 1], [1, 0]], so that 1/M = [[0, 1], [1, -F]] has as many positive as negative eigenvalues, R of each.
        Eliminating the upper part instead gives the same signs in all.
        """
        at = float(last.values[k - 1] + last.values[k]) / 2
        away = self.diagonal - at
        if float(away.abs().min()) == 0:
            return None
        rank = len(self.inner)
        both = torch.cat([self.columns, self.rows], 1)  # (n, 2R)
        schur = both.T @ (both / away[:, None])
        one = torch.eye(rank, dtype=schur.dtype, device=schur.device)
        schur[:rank, rank:] += one
        schur[rank:, :rank] += one
        schur[rank:, rank:] -= self.inner
        above = int((away > 0).sum()) + int((torch.linalg.eigvalsh(schur) < 0).sum()) - rank
        return at if above == k else None


class DenseTuned:
    """W + dW of full fine-tuning, in the coordinates of the outputs."""

    def __init__(self, weight: Float[Tensor, "O D"], delta: DenseDelta, base: BaseSpectrum, k: int):
        self.base, self.k, self.size = base, k, float(base.values[0])
        dense = finite(delta.dense().detach().float())
        self.matrix = weight.detach().float() + dense
        self.change = float(dense.double().norm()) / self.size
        self.diagonal = (base.values.double() / self.size) ** 2
        self.left = base.left.double()
        self.top = 0

    def start(self) -> Float64[Tensor, "n p"] | None:
        """As many of the base's top vectors as it takes for all directions left out to be smaller for sure."""
        rest = (self.diagonal.sqrt() + self.change) ** 2
        low = torch.nonzero(rest < _ROOM * self.diagonal[self.k - 1])
        self.top = max(int(low[0]), self.k + _GUARD) if len(low) else len(self.diagonal)
        if 3 * self.top > len(self.diagonal):
            return None
        return torch.linalg.qr(self.left[:, : self.top]).Q

    def apply(self, vectors: Float64[Tensor, "n m"]) -> Float64[Tensor, "n m"]:
        return (self.matrix @ (self.matrix.T @ (vectors / self.size).float())).double() / self.size

    def corrected(self, residuals: Float64[Tensor, "n m"], values: Float64[Tensor, " m"]) -> Tensor:
        """The residuals solved by the base's part: what lies outside its vectors has an eigenvalue of zero there."""
        inside = self.left.T @ residuals
        solved = inside / _away(self.diagonal[:, None] - values)
        return self.left @ (solved + inside / values) - residuals / values

    def cosines(self, vectors: Float64[Tensor, "n m"]) -> Float64[Tensor, " m"]:
        return (self.left.T @ vectors).abs().amax(0)

    def ceiling(self, first: Ritz, last: Ritz, k: int) -> float | None:
        """At most this: the larger eigenvalue of [[a, r], [r, c]], a the start's next Ritz value, r the norm of its
        residuals from there on, c the most that H can be on directions outside the start."""
        most = (float(self.diagonal[self.top]) ** 0.5 + self.change) ** 2
        after = first.residuals[:, k:]
        square = float(torch.linalg.eigvalsh(after.T @ after)[-1])
        value = float(first.values[k])
        return (value + most) / 2 + ((value - most) ** 2 / 4 + max(square, 0.0)) ** 0.5


Tuned = FactoredTuned | DenseTuned


def merged(weight: Float[Tensor, "O D"], delta: Delta) -> Float32[Tensor, "O D"]:
    """W + dW written out, in float32."""
    if isinstance(delta, DenseDelta):
        return weight.detach().float() + delta.dense().detach().float()
    a, b = factors(delta, weight.device, torch.float32)
    return weight.detach().float() + (b @ a) * delta.scale


def factors(delta: FactoredDelta, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``a`` and ``b`` where and as they are needed, without the scale."""
    return delta.a.detach().to(device, dtype), delta.b.detach().to(device, dtype)


def _away(differences: Tensor) -> Tensor:
    """Differences kept from zero."""
    return torch.where(differences.abs() > _NEAREST, differences, _NEAREST)
