"""Which rank to use, and how sure that is. In: candidates with scores, retention and cost. Out: ``Recommendation``.

Among the arms whose retention allows it (``choice.by_tier``), the range is that of the ranks that can still be the best
in domain (``mcb``); inside it the preferred arm shown within the margin of the best is recommended, else the best one
seen with the question left open. It comes with what would change the answer. Intervals of the comparison with the best
hold together at 95 % within the tier; retention was judged before, in a family of its own. Arms that a race stopped
can't be chosen, and yet count in both, so that the rest is not judged more boldly for their absence.

Knows nothing about tasks, models or how a page looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rankscope.records import Needed
from rankscope.stats import advice
from rankscope.stats.advice import Excluded, RunnerUp
from rankscope.stats.choice import Candidate, Prefer, Rule, Tier, best_seen, binding, by_tier, choose, preference
from rankscope.stats.mcb import Best, Gap, Remembered
from rankscope.stats.power import needed
from rankscope.stats.wording import Unit


@dataclass(frozen=True)
class Recommendation:
    """The range of ranks that can be the best, the arm to use, and what that rests on.

    ``ranks``: lowest and highest rank of the ``possible`` arms (None without a candidate). ``within``: arms shown
    within the margin of the best. ``is_told_apart`` is False if there are several arms and none could be excluded.
    ``awaited``: arms whose scores are still to come, of which nothing is known.
    ``open_question`` is empty if nothing is left to decide; ``needed`` belongs to it. ``compared``: the comparison.
    """

    ranks: tuple[int, int] | None
    possible: tuple[str, ...]
    within: tuple[str, ...]
    arm: str | None
    rule: Rule
    reason: str
    tier: Tier
    is_told_apart: bool
    runners_up: tuple[RunnerUp, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    would_change: tuple[str, ...] = ()
    open_question: str = ""
    needed: Needed | None = None
    compared: Best | None = None
    awaited: tuple[str, ...] = ()

    @property
    def span(self) -> str:
        """The range in words: 'rank 4', 'ranks 2 to 16' or 'no range'."""
        return "no range" if self.ranks is None else advice.span(self.ranks)


def recommend(
    candidates: Sequence[Candidate],
    margin: float,
    retain: float | None = None,
    prefer: Prefer = "cost",
    clusters: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    level: float = 0.95,
    unit: Unit = "points",
) -> Recommendation:
    """Recommend one of the candidates, all scored on the same items, with (N,) ``clusters`` and ``strata`` of them.

    ``retain``: the share of what the base knew that must be kept. Several candidates may have one rank. Those that were
    stopped have no scores. Raises
    ValueError as ``mcb.best`` does.
    """
    return Recommender(candidates, margin, clusters, strata, level, unit).under(retain, prefer)


class Recommender:
    """Recommends among the same candidates, under one set of terms after another; arguments as of ``recommend``.

    The same sets of arms come again under other terms, and are compared once.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        margin: float,
        clusters: np.ndarray | None = None,
        strata: np.ndarray | None = None,
        level: float = 0.95,
        unit: Unit = "points",
    ):
        self.scored = [c for c in candidates if c.scores is not None]
        self._unscored = [c for c in candidates if c.scores is None]
        self._margin, self._level, self._unit, self._labels = margin, level, unit, (clusters, strata)
        self._absent = sum(bool(c.stopped) for c in candidates)
        self._best = Remembered()

    def _compare(self, arms: Sequence[Candidate]) -> Best:
        return self._best([c.scores for c in arms], self._margin, *self._labels, self._level, self._absent)

    def under(self, retain: float | None = None, prefer: Prefer = "cost") -> Recommendation:
        """The recommendation under these terms. Raises ValueError as ``mcb.best`` does."""
        margin, unit, scored = self._margin, self._unit, self.scored
        awaited = tuple(c.arm for c in self._unscored if c.is_awaited)
        unscored = [Excluded(c.arm, c.rank, advice.unscored(c)) for c in self._unscored]
        tier, able = by_tier(scored, margin, retain, self._level, self._absent, self._best)
        if not able:
            return Recommendation(None, (), (), None, "none", "no arm has in-domain scores to compare", "none", False,
                                  excluded=tuple(unscored), awaited=awaited)  # fmt: skip
        found = self._compare(able)
        chosen, rule = choose(able, found, margin, prefer)
        ranks = [c.rank for c in able if c.arm in found.possible]
        span = min(ranks), max(ranks)
        names = {c.arm for c in able}
        asked = binding(able, retain)
        barred = [advice.barred(c, tier, asked) for c in scored if c.arm not in names]
        beaten = [advice.beaten(c, found, unit) for c in able if c.arm not in found.possible]
        is_told_apart = bool(barred or beaten) or len(scored) + len(awaited) == 1
        said = [*advice.not_yet(awaited), *advice.caveat(tier, able, chosen, retain)]
        decisive = _decisive(able, found, chosen, rule, prefer)
        more = _more(decisive, found)
        without = self._compare(scored) if barred else None
        return Recommendation(
            ranks=span,
            possible=found.possible,
            within=found.within,
            arm=chosen.arm,
            rule=rule,
            reason=advice.reason(chosen, rule, span, found, said, is_told_apart, unit),
            tier=tier,
            is_told_apart=is_told_apart,
            runners_up=tuple(advice.runners_up(able, found, chosen, prefer, unit)),
            excluded=(*beaten, *barred, *unscored),
            would_change=tuple([
                *advice.more_data(decisive, more),
                *advice.other_margins(able, found, chosen, prefer, unit),
                *advice.other_preferences(able, found, chosen, margin, prefer),
                *([] if without is None else advice.without_retention(scored, without, chosen, margin, prefer)),
            ]),
            open_question=advice.question(decisive, found, margin, unit),
            needed=more,
            compared=found,
            awaited=awaited,
        )  # fmt: skip


def _more(decisive: Gap | None, found: Best) -> Needed | None:
    """How much more data brings a verdict on the comparison (equivalent, better or worse) with 80 % power."""
    if decisive is None:
        return None
    d = decisive
    return needed(d.difference, d.parts, found.num_items, 2 * d.alpha, found.margin, d.changed)


def _decisive(able: Sequence[Candidate], found: Best, chosen: Candidate, rule: Rule, prefer: Prefer) -> Gap | None:
    """The comparison that the recommendation hangs on: of an arm that would come first, were it shown to be as good.

    None if no such arm is left. The other side is the best one seen, or its strongest rival if it is that arm itself.
    """
    possible = [c for c in able if c.arm in found.possible]
    doubtful = [c for c in possible if c.arm not in found.within]
    if rule != "best seen":
        doubtful = [c for c in doubtful if preference(c, found, prefer) < preference(chosen, found, prefer)]
    if not doubtful:
        return None
    first, top = min(doubtful, key=lambda c: preference(c, found, prefer)), best_seen(possible, found)
    if first is not top:
        return found.gap(first.arm, top.arm)
    rival = max((g for g in found.gaps if g.other == top.arm and g.arm in found.possible), key=lambda g: g.upper)
    return found.gap(top.arm, rival.arm)
