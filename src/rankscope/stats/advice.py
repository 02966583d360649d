"""The sentences of a recommendation. In: the comparison and what was chosen. Out: text, with the numbers.

Decides nothing; to say what would change the answer it asks ``choice.choose`` again under other terms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rankscope.records import Needed
from rankscope.stats.choice import Candidate, Prefer, Rule, Tier, choose, falls_short, preference
from rankscope.stats.mcb import Best, Gap
from rankscope.stats.wording import Unit, amount, listed, number

_WORDS = {
    "cheapest within margin": "is the cheapest",
    "most kept within margin": "has kept the most",
    "best within margin": "has the best score",
}
_FIRST = {"cost": "With cost first", "retention": "With retention first", "gain": "With the score first"}


@dataclass(frozen=True)
class Excluded:
    """An arm that isn't recommended because something is shown against it.

    ``by``: the arm that beats it, by ``gap`` as estimated and by ``at_least`` as shown; none if retention excludes it.
    """

    arm: str
    rank: int
    why: str
    by: str = ""
    gap: float | None = None
    at_least: float | None = None


@dataclass(frozen=True)
class RunnerUp:
    """An arm that can be the best too, and why it isn't the one recommended."""

    arm: str
    rank: int
    why: str


def not_yet(awaited: Sequence[str]) -> list[str]:
    """That some arms were in no comparison, because they are still to be scored."""
    return [f"{listed(awaited)} {'is' if len(awaited) == 1 else 'are'} not scored yet"] if awaited else []


def caveat(tier: Tier, able: Sequence[Candidate], chosen: Candidate, retain: float | None = None) -> list[str]:
    """What must be said of retention with whatever arm is chosen from this tier; nothing for the first."""
    words, falls_behind = {c.kept for c in able}, all(falls_short(c, retain) for c in able)
    if tier != "none shown to be kept":
        return []
    if words == {"no data"}:
        return ["what was kept wasn't measured"]
    if words == {"lost"} and not falls_behind:
        return ["every rank left is shown to forget"]
    said = "no rank is shown to keep "
    said += "as much as asked for" if "shown" in words or falls_behind else "what the base knew"
    said += ": each is shown to keep less" if falls_behind else ""
    return [said + (f", and {chosen.arm} is shown to forget" if chosen.kept == "lost" else "")]


def reason(
    chosen: Candidate,
    rule: Rule,
    ranks: tuple[int, int],
    found: Best,
    said: Sequence[str],
    is_told_apart: bool,
    unit: Unit,
) -> str:
    """One sentence: what the arm is, and what must be said with it."""
    within, margin = span(ranks), amount(found.margin, unit)
    if rule == "only one" and not is_told_apart:
        parts = [f"{chosen.arm} is the only arm scored so far"]
    elif rule == "only one":
        parts = [f"{chosen.arm} is the only arm that is left to choose"]
    elif rule == "best seen":
        parts = [f"{chosen.arm} has the best score seen, but no arm is shown to be within {margin} of the best"]
    else:
        parts = [f"{chosen.arm} {_WORDS[rule]} among the arms shown to be within {margin} of the best"]
    if not is_told_apart and len(found.arms) > 1:
        parts.insert(
            0, f"Nothing can be told apart: each of the {len(found.arms)} arms ({within}) can still be the best"
        )
    elif len(found.possible) > 1:
        parts.append(f"{within} can be the best")
    parts += said
    if chosen.has_gain is False:
        parts.append(f"no gain over the base is shown for {chosen.arm}")
    if found.num_seeds == 1:
        parts.append("this speaks for this seed only")
    return "; ".join(parts)


def runners_up(able: Sequence[Candidate], found: Best, chosen: Candidate, prefer: Prefer, unit: Unit) -> list[RunnerUp]:
    """The other arms that can be the best, the best first."""
    others = [c for c in able if c.arm in found.possible and c is not chosen]
    return [RunnerUp(c.arm, c.rank, _behind(c, found, chosen, prefer, unit))
            for c in sorted(others, key=lambda c: preference(c, found, "gain"))]  # fmt: skip


def _behind(candidate: Candidate, found: Best, chosen: Candidate, prefer: Prefer, unit: Unit) -> str:
    if candidate.arm not in found.within:
        low = found.lower(candidate.arm)
        most = f"up to {amount(-low, unit)}" if math.isfinite(low) else "any amount"
        return f"can be the best, but may be {most} below it"
    start = "also shown within the margin, but"
    kept = [c.retention for c in (candidate, chosen)]
    if prefer == "retention" and None not in kept and kept[0].value < kept[1].value:
        return f"{start} kept {kept[0].value:.1%} against {kept[1].value:.1%}"
    behind = found.gap(candidate.arm, chosen.arm).difference
    if prefer == "gain" and behind < 0:
        return f"{start} scores {amount(-behind, unit)} lower"
    if candidate.cost > chosen.cost > 0:
        return f"{start} costs {candidate.cost / chosen.cost:.2g} times as much"
    return f"{start} comes after {chosen.arm} by {prefer}"


def beaten(candidate: Candidate, found: Best, unit: Unit) -> Excluded:
    """The arm that can't be the best, by whom it is beaten most clearly, and whether that matters."""
    rival = found.rival(candidate.arm)
    gap, least = -rival.difference, -rival.upper
    why = f"beaten by {rival.other}: {amount(gap, unit)} lower, at least {amount(least, unit)}"
    if candidate.arm in found.within:
        why += f"; and yet shown to be within {amount(found.margin, unit)} of the best"
    return Excluded(candidate.arm, candidate.rank, why, rival.other, gap, least)


def unscored(candidate: Candidate) -> str:
    """Why an arm is in no comparison."""
    if candidate.stopped:
        return candidate.stopped
    return "is not scored yet" if candidate.is_awaited else "has no in-domain scores"


def barred(candidate: Candidate, tier: Tier, retain: float | None, asked: str = "") -> Excluded:
    """Why retention keeps the arm out; ``asked`` is how the share is written (empty: in per cent)."""
    kept, asked = candidate.retention, asked or (f"{retain:.1%}" if retain is not None else "")
    if falls_short(candidate, retain):
        why = f"keeps {kept.high:.1%} at most, {asked} is asked for"
    elif tier == "none shown to be kept":
        why = "shown to keep less than another rank, by more than the margin"
    elif candidate.kept == "lost":
        why = "shown to have lost what the base knew"
    elif candidate.kept == "no data" or (retain is not None and kept is None):
        why = "what it kept wasn't measured, and other arms are shown to have kept it"
    elif candidate.kept == "shown":
        why = f"shown to keep {kept.low:.1%}, less than the {asked} asked for"
    else:
        why = "not shown to have kept what the base knew, as other arms are"
    return Excluded(candidate.arm, candidate.rank, why)


def question(decisive: Gap | None, found: Best, margin: float, unit: Unit) -> str:
    if decisive is None:
        return ""
    low, d = found.lower(decisive.arm), decisive.difference
    seen = f"{amount(abs(d), unit)} {'below' if d < 0 else 'above'} it by estimate"
    most = f"up to {amount(-low, unit)}" if math.isfinite(low) else "any amount"
    return (f"Is {decisive.arm} within {amount(margin, unit)} of {decisive.other}? It is {seen} and may be {most} "
            "below the best")  # fmt: skip


def more_data(decisive: Gap | None, more: Needed | None) -> list[str]:
    if decisive is None or more is None:
        return []
    counts = [number(n, word) for n, word in ((more.items, "item"), (more.seeds, "seed")) if n is not None]
    if not counts:
        return [f"How many items or seeds would decide between {decisive.arm} and {decisive.other} can't be said"]
    return [f"{' or '.join(counts)} in all would decide between {decisive.arm} and {decisive.other} with 80 % power if "
            "the difference seen is the true one"]  # fmt: skip


def other_margins(able: Sequence[Candidate], found: Best, chosen: Candidate, prefer: Prefer, unit: Unit) -> list[str]:
    """The nearest smaller and the nearest larger margin that would change the arm."""
    lines, lows = [], {c.arm: -found.lower(c.arm) for c in able if c.arm in found.possible}
    for edge in sorted((e for e in lows.values() if 0 < e < found.margin), reverse=True):
        other, _ = choose(able, found, edge, prefer)
        if other is not chosen:
            lines.append(f"With a margin of {amount(edge, unit)} or less, {other.arm} would be recommended")
            break
    for edge in sorted(e for e in lows.values() if found.margin <= e < math.inf):
        other, _ = choose(able, found, math.nextafter(edge, math.inf), prefer)
        if other is not chosen:
            lines.append(f"With a margin above {amount(edge, unit)}, {other.arm} would be recommended")
            break
    return lines


def other_preferences(
    able: Sequence[Candidate], found: Best, chosen: Candidate, margin: float, prefer: Prefer
) -> list[str]:
    others = {p: choose(able, found, margin, p)[0] for p in _FIRST if p != prefer}
    return [f"{_FIRST[p]}, {c.arm} would be recommended" for p, c in others.items() if c is not chosen]


def without_retention(
    scored: Sequence[Candidate], found: Best, chosen: Candidate, margin: float, prefer: Prefer
) -> list[str]:
    other, _ = choose(scored, found, margin, prefer)
    ranks = [c.rank for c in scored if c.arm in found.possible]
    if other is chosen:
        return []
    return [f"Were retention not asked for, {other.arm} would be recommended ({span((min(ranks), max(ranks)))} can be "
            "the best)"]  # fmt: skip


def span(ranks: tuple[int, int]) -> str:
    """A range of ranks in words."""
    return f"rank {ranks[0]}" if ranks[0] == ranks[1] else f"ranks {ranks[0]} to {ranks[1]}"
