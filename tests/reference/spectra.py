"""Plain twins of ``rankscope.analysis.spectra`` and ``.intruders``: everything written out and decomposed whole."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from rankscope.models.delta import DenseDelta, FactoredDelta


def dense(delta: FactoredDelta | DenseDelta) -> np.ndarray:
    """The update in float64."""
    if isinstance(delta, FactoredDelta):
        return delta.b.double().numpy() @ delta.a.double().numpy() * delta.scale
    return delta.after.double().numpy() - delta.before.double().numpy()


def singular_values(delta: FactoredDelta | DenseDelta) -> np.ndarray:
    return np.linalg.svd(dense(delta), compute_uv=False)


def stable_rank(values: list[float]) -> float:
    return sum(s * s for s in values) / max(values) ** 2


def effective_rank(values: list[float]) -> float:
    shares = [s / sum(values) for s in values]
    return math.exp(-sum(p * math.log(p) for p in shares if p > 0))


def energy_rank(values: list[float], share: float) -> int:
    kept = 0.0
    for count, value in enumerate(values, 1):
        kept += value * value
        if kept >= share * sum(s * s for s in values):
            return count
    return len(values)


def intruder_cosines(weight: Tensor, delta: FactoredDelta | DenseDelta, k: int = 10) -> list[float]:
    """The definition in float32, one pair of vectors at a time."""
    before = torch.linalg.svd(weight, full_matrices=False).U
    after = torch.linalg.svd(weight + torch.from_numpy(dense(delta)).float(), full_matrices=False).U
    return [max(abs(float(after[:, j] @ u)) for u in before.T) for j in range(min(k, after.shape[1]))]


def interference(weight: Tensor, delta: FactoredDelta | DenseDelta, k: int = 10) -> float:
    """With projections on both sides written out."""
    u, _, vh = np.linalg.svd(weight.double().numpy(), full_matrices=False)
    left, right = u[:, :k] @ u[:, :k].T, vh[:k].T @ vh[:k]
    change = dense(delta)
    return float(np.square(left @ change @ right).sum() / np.square(change).sum())
