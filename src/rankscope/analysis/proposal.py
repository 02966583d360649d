"""Which layers and modules to adapt next time, and at which ranks. In: an update, its parts, and the validation losses
under any update. Out: the sets of parts that were tried, and a ``Proposal``.

Backward elimination: from the whole update one part after another is left out, first the one whose absence alone costs
least. It stays out if what is left keeps a share of the gain (the validation loss of the base minus that under the
whole update), else it comes back. The effects of parts don't add up, so every set is measured: of two parts that can
stand in for each other one goes and one stays. Then the ranks: the least that hold 50, 75, 90 or 99 % of each kind's
energy, whichever is the first to keep the share when the update is cut to them.

A LoRA arm adapts linear modules inside the layers: whatever else an update changes is left out first. No item that a
verdict is made of is asked here. Knows nothing about how losses are found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rankscope.analysis.cuts import compressed, cut, shared_rank, spent
from rankscope.analysis.variants import Part, names_of
from rankscope.models.delta import Delta, Update
from rankscope.models.names import kind_of, layer_of

SHARE = 0.95
"""The share of the gain that a proposal is to keep."""
ENERGIES = (0.5, 0.75, 0.9, 0.99)

Losses = Callable[[Update], Sequence[float]]


@dataclass(frozen=True)
class Kept:
    """What is left of an update, and the loss of every validation row under it."""

    update: Update
    losses: Sequence[float]

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted({layer_of(name) for name in names_of(self.update)} - {None}))

    @property
    def mean(self) -> float:
        """Infinite where some loss isn't finite: such a set keeps nothing."""
        mean = sum(self.losses) / len(self.losses)
        return mean if math.isfinite(mean) else math.inf


@dataclass(frozen=True)
class Proposal:
    """``kept``: the update cut to ``ranks``, by kind of module; 0: that kind is left out.

    A full update's ranks end at 64 and may then keep less than the share: ``kept`` says what they do keep.
    """

    kept: Kept
    ranks: Mapping[str, int]


def bound(base: Kept, whole: Kept) -> float | None:
    """The largest mean loss that still keeps the share of the gain; None if nothing was gained."""
    gain = base.mean - whole.mean
    return base.mean - SHARE * gain if gain > 0 and math.isfinite(gain) else None


def eliminate(whole: Kept, parts: Sequence[tuple[Part, float]], losses: Losses, most: float) -> list[Kept]:
    """The sets that keep a mean loss of at most ``most``, each a part smaller than the one before. ``parts`` come with
    the mean loss of the whole update without them. Empty if already what LoRA can't adapt is needed."""
    path, now = [], whole
    unfit = _unfit(whole.update)
    for names in (unfit, *(part.names for part, _ in sorted(parts, key=lambda pair: pair[1]))):
        left = now.update.only(lambda name, gone=names: name not in gone)
        if not left.deltas or names_of(left) == names_of(now.update):
            continue
        tried = Kept(left, losses(left))
        if tried.mean <= most:
            path.append(tried)
            now = tried
        elif names == unfit:
            break
    return path


def propose(whole: Kept, path: Sequence[Kept], losses: Losses, most: float) -> Proposal | None:
    """Ranks for the last set of the path. None if not even all that LoRA can adapt keeps the share."""
    last = path[-1] if path else whole
    if _unfit(last.update):
        return None
    by_kind: dict[str, list[Delta]] = {}
    for name, delta in last.update.deltas.items():
        by_kind.setdefault(kind_of(name), []).append(delta)
    choices = [{kind: shared_rank(deltas, energy) for kind, deltas in by_kind.items()} for energy in ENERGIES]
    choices.append({kind: max(map(spent, deltas)) for kind, deltas in by_kind.items()})
    small = compressed(last.update)
    for ranks in (choice for i, choice in enumerate(choices) if choice not in choices[:i]):
        update = cut(small, {name: ranks[kind_of(name)] for name in small.deltas})
        found = Kept(update, losses(update))
        if found.mean <= most:
            break
    left_out = {kind_of(name): 0 for name in whole.update.deltas if layer_of(name) is not None}
    return Proposal(found, left_out | ranks)


def _unfit(update: Update) -> frozenset[str]:
    """What no LoRA arm adapts: norms, biases, embeddings, the head."""
    return names_of(update) - {name for name in update.deltas if layer_of(name) is not None}
