"""Who may stop early. In: what first-seed runs showed on validation rows at a look. Out: ``Drop`` objects.

Runs that can't win are stopped at looks fixed in advance. No alpha spending: between looks the runs go on learning, so
what is estimated moves. A low rate lags early and may win late; a high one looks worse until the schedule cools, so it
is allowed a larger lag than a lower one. Limits are what calibration left: on planted curves and on recorded full grids
(benchmarks/racing.py, which also says how often a race loses the full grid's choice).

A run's progress is the logarithm of its loss's fall, ln(base / run): early and late in training, for small gains and
large, one number then says how far behind is hopeless; of the gain in nats none does. Its lag behind another is the
share of the other's progress that it lacks. A run is stopped only if its lag, less ``z`` standard errors over paired
rows, is above the look's limit. The base is no racer; the best full SFT so far is never stopped, nor the best run of
the leading arm. LoRA arms are compared with LoRA arms and full SFT with itself, as the choice is between ranks. What a
stopped run showed is partial and no estimate.

Knows nothing about stores, models or pages.

Legend: N validation rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LOOKS = (0.125, 0.25, 0.375, 0.5)
"""Shares of the steps at which runs are compared."""


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
    KL(base || run) in nats per token on the same rows; it goes with forgetting (RL's Razor, 2509.04259).
    """

    racer: Racer
    share: float
    losses: tuple[float, ...]
    drift: tuple[float, ...]

    @property
    def loss(self) -> float:
        return float(np.mean(self.losses))

    @property
    def moved(self) -> float:
        return float(np.mean(self.drift))


@dataclass(frozen=True)
class Drop:
    """A run stopped at a look, ``by`` the run that beat it.

    ``reason``: 'rate' (another rate of its arm is ahead), 'gain' (its arm is behind another), 'retention' (an arm that
    gains as much moved far less), 'tie' (a cheaper rank does as well). ``lag``: the share of the other's progress that
    it lacks, ``limit`` what was allowed; for 'retention' how many times the other's drift, for 'tie' the other's lag.
    """

    racer: Racer
    share: float
    reason: str
    by: Racer
    lag: float
    limit: float


@dataclass(frozen=True)
class Limits:
    """What is allowed at each of ``LOOKS``; infinite: nobody is stopped for it.

    ``slow`` and ``fast``: lag behind the best rate of the same arm, of a lower and of a higher rate. ``gain``: lag of
    an arm's best run behind the leading arm. ``drift``: times the drift of an arm that gains as much. ``tie``: lag of a
    cheaper rank that does as well.
    """

    slow: tuple[float, ...]
    fast: tuple[float, ...]
    gain: tuple[float, ...]
    drift: tuple[float, ...]
    tie: tuple[float, ...]
    z: float = 2.0


NEVER = math.inf
NOUGHT = 0.02
"""Added to every loss as a share of the base's: below that, twice as low is no better."""
LIMITS = Limits(
    slow=(0.5, 0.47, 0.2, 0.1),
    fast=(0.2, 0.15, 0.12, 0.1),
    gain=(NEVER, 0.6, 0.5, 0.4),
    drift=(NEVER, 6.0, 6.0, 6.0),
    tie=(-NEVER, -NEVER, -NEVER, -NEVER),
    z=1.0,
)
"""As calibrated. Ties stop nobody: of ranks that tie, which one the full grid chooses is luck, and a race that stops
the dearer ones lost it in 18 % of the draws."""


def race(
    looks: Sequence[Look], share: float, start: Sequence[float], prefer: str = "cost", limits: Limits = LIMITS
) -> tuple[Drop, ...]:
    """Whom to stop at this look. ``looks`` are of all live runs, ``start`` are the base's losses (N,) of the same rows.

    A run whose losses aren't finite is no racer: it is left out here, and a failed row elsewhere. Raises ValueError for
    a share that is no look, and for looks at unequal rows.
    """
    stage = _stage(share)
    live = [k for k in looks if np.isfinite(k.losses).all() and np.isfinite(k.drift).all()]
    if any(len(k.losses) != len(start) for k in live):
        raise ValueError("every run must be seen on the same rows as the base")
    if len(start) < 2:
        return ()
    field = Field(float(np.mean(start)), stage, share, limits)
    best = {arm: min((k for k in live if k.racer.arm == arm), key=lambda k: k.loss) for arm in _arms(live)}
    drops = field.rates(live, best)
    fronts = [k for k in best.values() if k.racer.kind == "lora"]
    out = field.arms(fronts)
    if prefer == "cost":
        out |= field.ties([k for k in fronts if k.racer.arm not in out])
    # An arm that is out takes all its rates with it.
    whole = [Drop(k.racer, share, *out[k.racer.arm]) for k in live if k.racer.arm in out]
    return (*[d for d in drops if d.racer.arm not in out], *whole)


Out = dict[str, tuple[str, Racer, float, float]]
"""By arm: reason, by whom, lag and limit."""


@dataclass(frozen=True)
class Field:
    """The comparisons of one look. ``start`` is the base's mean loss."""

    start: float
    stage: int
    share: float
    limits: Limits

    def lag(self, look: Look, other: Look) -> tuple[float, float]:
        """The share of the other's progress that a run lacks, and its standard error; none where there is no progress.

        By the delta method: a row counts as its loss over the mean.
        """
        none = NOUGHT * self.start
        mine, theirs = look.loss + none, other.loss + none
        progress = math.log((self.start + none) / theirs)
        if progress <= 0:
            return 0.0, math.inf
        rows = np.subtract(np.divide(look.losses, mine), np.divide(other.losses, theirs)) / progress  # (N,)
        return math.log(mine / theirs) / progress, float(rows.std(ddof=1)) / math.sqrt(len(rows))

    def rates(self, live: Sequence[Look], best: dict[str, Look]) -> list[Drop]:
        """Runs far behind the best rate of their own arm."""
        drops = []
        for look in live:
            front = best[look.racer.arm]
            limit = (self.limits.slow if look.racer.lr < front.racer.lr else self.limits.fast)[self.stage]
            lag, se = self.lag(look, front)
            if look is not front and lag - self.limits.z * se > limit:
                drops.append(Drop(look.racer, self.share, "rate", front.racer, lag, limit))
        return drops

    def arms(self, fronts: Sequence[Look]) -> Out:
        """LoRA arms far behind the leading one, or far further from the base than one that gains as much."""
        out: Out = {}
        leader = min(fronts, key=lambda k: k.loss, default=None)
        for look in (k for k in fronts if k is not leader):
            limit = self.limits.gain[self.stage]
            lag, se = self.lag(look, leader)
            if lag - self.limits.z * se > limit:
                out[look.racer.arm] = ("gain", leader.racer, lag, limit)
                continue
            calm = min((k for k in fronts if k.loss <= look.loss), key=lambda k: k.moved)
            limit = self.limits.drift[self.stage]
            if calm.moved > 0 and look.moved / calm.moved > limit:
                out[look.racer.arm] = ("retention", calm.racer, look.moved / calm.moved, limit)
        return out

    def ties(self, fronts: Sequence[Look]) -> Out:
        """LoRA arms that a cheaper one, no further from the base, equals: its lag is shown to be within the limit."""
        out: Out = {}
        limit = self.limits.tie[self.stage]
        ordered = sorted(fronts, key=lambda k: k.racer.rank or 0)
        leader = min(fronts, key=lambda k: k.loss, default=None)
        for place, look in enumerate(ordered):
            for other in ordered[:place] if look is not leader else ():
                lag, se = self.lag(other, look)
                if other.moved <= look.moved and lag + self.limits.z * se <= limit:
                    out[look.racer.arm] = ("tie", other.racer, lag, limit)
                    break
        return out


def _stage(share: float) -> int:
    for stage, look in enumerate(LOOKS):
        if math.isclose(share, look):
            return stage
    raise ValueError(f"no look at {share}; there are {LOOKS}")


def _arms(looks: Sequence[Look]) -> list[str]:
    return list(dict.fromkeys(k.racer.arm for k in looks))


def order(ranks: Sequence[int], kept: dict[int, float], enough: float = 0.95) -> tuple[int, ...]:
    """The order in which ranks are raced, from ``kept``: the share of a high-rank run's validation gain that its
    truncation to each rank keeps. First the smallest rank that keeps ``enough``, then those nearest to it.

    A preview of where to look first, never a verdict: a truncated run is not a run trained at that rank. Without a rank
    that keeps enough the highest comes first; of two equally near the lower one does.
    """
    able = sorted(r for r in ranks if kept.get(r, math.nan) >= enough)
    centre = math.log2(able[0] if able else max(ranks, default=1))
    return tuple(sorted(ranks, key=lambda r: (abs(math.log2(r) - centre), r)))
