"""Who may stop early. In: what first-seed runs showed on validation rows at a look. Out: ``Drop`` objects.

Runs that can't win are stopped at looks fixed in advance. No alpha spending: between looks the runs go on learning, so
what is estimated moves (a low rate lags early and may win late). Limits are what calibration allowed instead: on
planted curves and on recorded full grids (benchmarks/racing.py).

A run's lag is the share of the leader's gain that it lacks: the mean paired loss difference to the leader over
(start - leader's loss). It is dropped only if the lag, less ``Z`` standard errors, is above the look's limit. The base
is no racer; the best full SFT seen so far is never dropped, nor the last rate of the leading arm. What a dropped run
showed is partial and no estimate.

Knows nothing about stores, models or pages.

Legend: N validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LOOKS = (0.125, 0.25, 0.5)
"""Shares of the steps at which runs are compared."""
Z = 2.0
LIMIT = {0.125: 0.6, 0.25: 0.4, 0.5: 0.2}
"""Placeholders until calibrated."""


@dataclass(frozen=True)
class Racer:
    """One run of the first seed: an arm at one learning rate. ``kind`` is 'lora' or 'full' (no rank)."""

    arm: str
    kind: str
    rank: int | None
    lr: float


@dataclass(frozen=True)
class Look:
    """What a run showed once ``share`` of its steps were done.

    ``losses``: nats per completion token of every validation row, the same rows in the same order for all. ``drift``:
    KL(base || run) in nats per token on the same rows; it goes with forgetting (Shenfeld et al. 2025, RL's Razor).
    """

    racer: Racer
    share: float
    losses: tuple[float, ...]
    drift: tuple[float, ...]


@dataclass(frozen=True)
class Drop:
    """A run stopped at a look, ``by`` the run that beat it.

    ``reason``: 'rate' (another rate of its arm is ahead), 'gain' (another arm is), 'retention' (an arm that gains as
    much moved far less), 'tie' (a cheaper rank does as well). ``lag``: the share of the leader's gain that it lacks;
    for 'retention' how many times the other's drift. ``limit``: what was allowed.
    """

    racer: Racer
    share: float
    reason: str
    by: Racer
    lag: float
    limit: float


def race(looks: Sequence[Look], share: float, start: Sequence[float], prefer: str = "cost") -> tuple[Drop, ...]:
    """Whom to stop at this look; ``looks`` are of all live runs, ``start`` are the base's losses (N,) of the rows.

    Runs whose loss isn't finite are no racers: left out here, they are failed rows elsewhere.
    """
    drops, live = [], [k for k in looks if np.isfinite(k.losses).all()]
    if not live:
        return ()
    leader = min(live, key=lambda k: float(np.mean(k.losses)))
    gained = float(np.mean(start)) - float(np.mean(leader.losses))
    best_full = min((k for k in live if k.racer.kind == "full"), key=lambda k: float(np.mean(k.losses)), default=None)
    for k in live:
        if k in (leader, best_full) or gained <= 0:
            continue
        lag, se = _lag(k, leader, gained)
        if lag - Z * se > LIMIT[share]:
            reason = "rate" if k.racer.arm == leader.racer.arm else "gain"
            drops.append(Drop(k.racer, share, reason, leader.racer, lag, LIMIT[share]))
    return tuple(drops)


def _lag(look: Look, leader: Look, gained: float) -> tuple[float, float]:
    """The share of the leader's gain that a run lacks, and its standard error over rows."""
    difference = np.subtract(look.losses, leader.losses) / gained  # (N,)
    return float(difference.mean()), float(difference.std(ddof=1)) / math.sqrt(len(difference))


def order(ranks: Sequence[int], kept: dict[int, float], enough: float = 0.95) -> tuple[int, ...]:
    """The order in which ranks are raced, from ``kept``: the share of a high-rank run's validation gain that its
    truncation to each rank keeps. First the smallest rank that keeps ``enough``, then those nearest to it.

    A preview of where to look first, never a verdict: a truncated run is not a run trained at that rank.
    """
    known = sorted(r for r in ranks if math.isfinite(kept.get(r, math.nan)))
    able = [r for r in known if kept[r] >= enough]
    centre = math.log2(able[0] if able else max(ranks))
    return tuple(sorted(ranks, key=lambda r: (abs(math.log2(r) - centre), r)))
