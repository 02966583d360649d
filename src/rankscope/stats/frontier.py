"""Which arms nobody beats at everything. In: gain, forgetting and cost of each arm. Out: ``Place`` by arm.

An arm is dominated if another gains at least as much, forgets no more and costs no more, and does better in one of them
(Pareto). These are point estimates: noise alone moves arms on and off the frontier, so nothing here is a verdict
(``LABEL`` says so wherever it is shown). Knows nothing about how the numbers were found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LABEL = "point estimates, no verdict: intervals may overlap"


@dataclass(frozen=True)
class Spot:
    """One arm: ``gain`` (more is better), ``forgetting`` and ``cost`` (less is better); None: not measured."""

    arm: str
    gain: float | None
    forgetting: float | None
    cost: float | None

    @property
    def losses(self) -> tuple[float, float, float] | None:
        """The three numbers, less is better in each; None if one is missing."""
        if any(x is None or not math.isfinite(x) for x in (self.gain, self.forgetting, self.cost)):
            return None
        return -self.gain, self.forgetting, self.cost


@dataclass(frozen=True)
class Place:
    """Whether the arm is on the frontier (None: a number is missing), and the arms that dominate it."""

    spot: Spot
    is_on: bool | None
    dominated_by: tuple[str, ...] = ()


def frontier(spots: Sequence[Spot]) -> list[Place]:
    """The place of each arm, in the order given. Arms with equal numbers don't dominate each other."""
    places = []
    for spot in spots:
        if spot.losses is None:
            places.append(Place(spot, None))
            continue
        beaten = tuple(o.arm for o in spots if o.losses is not None and _dominates(o.losses, spot.losses))
        places.append(Place(spot, not beaten, beaten))
    return places


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
