"""Who may be recommended, and who is. In: candidates and which of them can be the best. Out: a tier, an arm and a rule.

Tiers by retention: if some arms are shown to have kept what the base knew, only those; else all but those shown to keep
less than the arm that keeps most, by more than the margin (Hsu's comparison with the best, on the retention tasks).
That nothing is shown against an arm must not put it before one that is known better: what is "not shown to be lost" may
only be measured badly. A share to ``retain`` asks more: the interval must lie above it for the first tier, and those
whose interval lies below it leave the second unless all do. Whether an arm is shown to have kept is decided elsewhere,
from simultaneous intervals.

Then, among those that can be the best, the first by preference of those shown within the margin of the best; if none is
shown to be, the one with the best score.

Knows nothing about words, and about ranks only how they are ordered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from rankscope.records import Contrast, Estimate
from rankscope.stats.mcb import Best, Scores, best

KeptWord = Literal["shown", "not shown", "lost", "no data"]
Prefer = Literal["cost", "retention", "gain"]
PREFERENCES: tuple[Prefer, ...] = get_args(Prefer)
Tier = Literal["shown to be kept", "none shown to be kept", "none"]
Rule = Literal[
    "cheapest within margin", "most kept within margin", "best within margin", "best seen", "only one", "none"
]
_RULES: dict[Prefer, Rule] = {
    "cost": "cheapest within margin",
    "retention": "most kept within margin",
    "gain": "best within margin",
}


@dataclass(frozen=True)
class Candidate:
    """One arm: its in-domain ``scores`` (None: not scored), what it kept and cost, and its gain over the base.

    ``kept`` is decided from simultaneous intervals; ``retention`` is the chance-corrected share; ``cost`` is in any
    unit, the same for all; ``gain`` is arm - base on the same items as the scores. ``kept_scores`` are those on the
    retention tasks, pooled, the same items for all arms, with (N,) clusters and strata as ``kept_labels``.
    ``is_awaited``: its scores are still to come. ``stopped``: why a race stopped it, so that they never come.
    """

    arm: str
    rank: int
    kept: KeptWord
    retention: Estimate | None
    cost: float
    scores: Scores | None
    gain: Contrast | None = None
    kept_scores: Scores | None = None
    kept_labels: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    is_awaited: bool = False
    stopped: str = ""

    @property
    def has_gain(self) -> bool | None:
        """Whether a gain over the base is shown; None if it wasn't compared."""
        return None if self.gain is None else self.gain.low > 0


def by_tier(
    candidates: Sequence[Candidate],
    margin: float,
    retain: float | None = None,
    level: float = 0.95,
    absent: int = 0,
    compare: Callable[..., Best] = best,
) -> tuple[Tier, list[Candidate]]:
    """The first tier that isn't empty, and who is in it; ``absent`` arms were stopped.

    Raises ValueError as ``mcb.best`` does.
    """
    first = [c for c in candidates if c.kept == "shown" and _keeps(c, retain)]
    if first:
        return "shown to be kept", first
    if not candidates:
        return "none", []
    enough = [c for c in candidates if not falls_short(c, retain)] or list(candidates)
    behind = {c.arm for c in forgetful(enough, margin, level, absent, compare)}
    return "none shown to be kept", [c for c in enough if c.arm not in behind]


def forgetful(
    candidates: Sequence[Candidate],
    margin: float,
    level: float = 0.95,
    absent: int = 0,
    compare: Callable[..., Best] = best,
) -> list[Candidate]:
    """Those shown to keep less than the one that keeps most, by more than the margin; their scores on what was kept."""
    able = [c for c in candidates if c.kept_scores is not None]
    if len(able) < 2:
        return []
    labels = able[0].kept_labels
    found = compare([c.kept_scores for c in able], margin, *labels, level=level, absent=absent)
    return [c for c in able if found.rival(c.arm).upper < -margin]


def falls_short(candidate: Candidate, retain: float | None) -> bool:
    """Whether the arm is shown to keep less than the share asked for."""
    return retain is not None and candidate.retention is not None and candidate.retention.high < retain


def binding(able: Sequence[Candidate], retain: float | None) -> float | None:
    """The share asked for, if it decides who is ``able``; None if all of them fall short of it, so that it can't."""
    return None if all(falls_short(c, retain) for c in able) else retain


def choose(tier: Sequence[Candidate], found: Best, margin: float, prefer: Prefer) -> tuple[Candidate, Rule]:
    """The arm to recommend and by which rule; ``found`` compares the arms of the tier, one at least."""
    if len(tier) == 1:
        return tier[0], "only one"
    possible = [c for c in tier if c.arm in found.possible]
    pool = [c for c in possible if found.lower(c.arm) > -margin]
    if not pool:
        return best_seen(possible, found), "best seen"
    return min(pool, key=lambda c: preference(c, found, prefer)), _RULES[prefer]


def best_seen(candidates: Sequence[Candidate], found: Best) -> Candidate:
    """The one with the highest score by estimate; of equals the cheapest."""
    return min(candidates, key=lambda c: preference(c, found, "gain"))


def preference(candidate: Candidate, found: Best, prefer: Prefer) -> tuple:
    """What candidates are ordered by, the preferred first: never by name unless they are equal in all else."""
    score = -found.estimate[found.arms.index(candidate.arm)]
    kept = math.inf if candidate.retention is None else -candidate.retention.value
    rest = (candidate.cost, candidate.rank, score, kept, candidate.arm)
    return {"cost": rest, "retention": (kept, *rest), "gain": (score, *rest)}[prefer]


def _keeps(candidate: Candidate, retain: float | None) -> bool:
    return retain is None or (candidate.retention is not None and candidate.retention.low >= retain)
