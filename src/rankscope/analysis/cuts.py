"""Whole updates at lower ranks. In: an ``Update`` and ranks. Out: the nearest update of these ranks, and the ranks that
hold a share of its energy. Knows nothing about models or scores.

Best approximation after Eckart & Young (1936): the largest singular values of every delta by itself. The best
approximation of rank 4 of the best one of rank 16 is that of the delta, so a dense delta is decomposed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from rankscope.analysis.spectra import energy_rank, singular_values, truncated
from rankscope.models.delta import Delta, FactoredDelta, Update

MOST = 64
"""The largest rank that a full update is cut to."""


def spent(delta: Delta) -> int:
    """The rank a delta was trained at; of a dense one the largest rank it may be cut to."""
    return delta.rank if isinstance(delta, FactoredDelta) else min(MOST, *delta.shape)


def compressed(update: Update) -> Update:
    """The update with every dense delta cut to ``MOST``; factored ones stay as they are."""
    return update.mapped(lambda name, delta: delta if isinstance(delta, FactoredDelta) else truncated(delta, MOST))


def cut(update: Update, ranks: Mapping[str, int]) -> Update:
    """Every delta at most of the rank that is given for its name, 0 leaving it out; one that has no more is itself."""
    deltas = {name: _cut(delta, ranks[name]) for name, delta in update.deltas.items() if ranks[name] > 0}
    return replace(update, deltas=deltas)


def powers(below: int) -> tuple[int, ...]:
    """1, 2, 4, ... below a rank."""
    return tuple(1 << i for i in range(max(0, below - 1).bit_length()))


def shared_rank(deltas: Sequence[Delta], share: float) -> int:
    """The least power of two such that all deltas, cut to it, keep this share of their energy together; at most the
    rank spent. 0 if all are zero."""
    energy = torch.zeros(max(min(delta.shape) for delta in deltas), dtype=torch.float64)
    for delta in deltas:
        values = singular_values(delta).cpu()
        energy[: len(values)] += values * values
    least = energy_rank(energy.sqrt(), share)
    return 0 if least is None else min(1 << (least - 1).bit_length(), max(map(spent, deltas)))


def _cut(delta: Delta, rank: int) -> Delta:
    return delta if isinstance(delta, FactoredDelta) and delta.rank <= rank else truncated(delta, rank)
