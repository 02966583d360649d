"""Published claims about LoRA rank as questions to the user's own study. In: pairs and tables. Out: ``Answer``.

The claims are those of "How Much is Too Much? Exploring LoRA Rank Trade-offs for Retaining Knowledge and Domain
Robustness" (arXiv 2512.15634). Each claim is a family of its own: its intervals hold together at 95 %, but not with
those of other claims or with the verdicts of the report.

"Holds" means that the intervals show it and "does not hold" that they show its opposite. All else is undecided: what
isn't shown isn't refuted. A claim that the study has no arms or tasks for is not asked, with the reason. ``absent`` is
the number of comparisons (of arms, where arms are given) that a race left out; they count in the intervals.

Knows nothing about where the tables come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rankscope.records import ALARM, Contrast
from rankscope.stats.contrast import Pair, contrasts
from rankscope.stats.mcb import Scores, best
from rankscope.stats.wording import amount, listed, minus, number

SOURCE = "arXiv 2512.15634"
RANKS = (32, 64)
AS_GOOD = "LoRA of rank 32 to 64 is as good as full fine-tuning on the task it was trained on"
FLAT = "Recall hardly depends on the rank"
INTERMEDIATE = "Reasoning is best at an intermediate rank"
DROP = "Training on one task lowers others"
ABOVE_FULL = "LoRA keeps more general knowledge than full fine-tuning"


@dataclass(frozen=True)
class Answer:
    """What the study says about a claim: ``test`` is the rule that was applied, ``why`` what came out of it."""

    claim: str
    answer: Literal["holds", "does not hold", "undecided", "not asked"]
    test: str
    why: str


def as_good_as_full(
    pairs: Sequence[tuple[int, Pair]], margin: float = 0.02, level: float = 0.95, absent: int = 0
) -> Answer:
    """In: (rank, LoRA - full on an in-domain task) for every LoRA arm; ranks outside 32 to 64 aren't asked."""
    test = _rule("holds if every arm is shown to lose less than the margin, and not if one loses more", margin)
    if not pairs:
        return _not_asked(AS_GOOD, test, "the study has no LoRA arm beside full fine-tuning on the task trained on")
    asked = [pair for rank, pair in pairs if RANKS[0] <= rank <= RANKS[1]]
    if not asked:
        has = listed(sorted({rank for rank, _ in pairs}))
        return _not_asked(AS_GOOD, test, f"the study has no rank from {RANKS[0]} to {RANKS[1]} (it has {has})")
    found = contrasts(asked, margin, level, absent)
    worst = min(found, key=lambda c: c.low)
    if lost := [c for c in found if c.high <= -c.margin]:
        return Answer(AS_GOOD, "does not hold", test, f"{_said(lost[0], asked, found)}: a loss beyond the margin")
    if all(c.is_non_inferior for c in found):
        return Answer(AS_GOOD, "holds", test, f"the least sure of {number(len(found), 'comparison')}: "
                                              f"{_said(worst, asked, found)}")  # fmt: skip
    return Answer(AS_GOOD, "undecided", test, f"{_said(worst, asked, found)}: a loss of the margin isn't excluded")


def recall_is_flat(pairs: Sequence[Pair], margin: float = 0.02, level: float = 0.95, absent: int = 0) -> Answer:
    """In: the differences of all pairs of ranks on all recall tasks."""
    test = _rule("holds if all pairs of ranks are shown to differ by less than the margin, and not if one pair is "
                 "shown to differ by more", margin)  # fmt: skip
    if not pairs:
        return _not_asked(FLAT, test, "the study has no two ranks scored on a recall task")
    found = contrasts(pairs, margin, level, absent)
    widest = max(found, key=lambda c: max(c.high, -c.low))
    if apart := [c for c in found if c.low >= c.margin or c.high <= -c.margin]:
        return Answer(FLAT, "does not hold", test, f"{_said(apart[0], pairs, found)}: a difference beyond the margin")
    if all(c.verdict == "equivalent" for c in found):
        return Answer(FLAT, "holds", test, f"the widest of {number(len(found), 'pair')}: {_said(widest, pairs, found)}")
    open_pairs = sum(c.verdict != "equivalent" for c in found)
    why = (
        f"{open_pairs} of {number(len(found), 'pair')} could still differ by the margin; {_said(widest, pairs, found)}"
    )
    return Answer(FLAT, "undecided", test, why)


def reasoning_is_best_between(
    tasks: Mapping[str, Sequence[Scores]],
    ranks: Mapping[str, int],
    clusters: Mapping[str, np.ndarray | None] | None = None,
    level: float = 0.95,
    absent: int = 0,
) -> Answer:
    """In: by reasoning task the scores of all LoRA arms on the same items; the rank of each arm, by name."""
    test = (
        "multiple comparisons with the best on each reasoning task, all at 95 % together: holds if on each neither the "
        "lowest nor the highest rank can be the best, and not if on one only the lowest or the highest can"
    )
    if not tasks:
        return _not_asked(INTERMEDIATE, test, "the study has no reasoning task")
    counts = {task: sorted({ranks[a.arm] for a in arms}) for task, arms in tasks.items()}
    if few := [task for task, found in counts.items() if len(found) < 3]:
        return _not_asked(INTERMEDIATE, test, f"three ranks are needed, {few[0]} has {len(counts[few[0]])}")
    possible = {}
    for task, arms in tasks.items():
        labels = (clusters or {}).get(task)
        found = best(arms, 0.0, labels, level=1 - (1 - level) / len(tasks), absent=absent)
        possible[task] = sorted({ranks[name] for name in found.possible})
    edges = {task: {found[0], found[-1]} for task, found in counts.items()}
    why = "; ".join(f"on {task} the best can be rank {_either(found)}" for task, found in possible.items())
    if all(not edges[task] & set(found) for task, found in possible.items()):
        return Answer(INTERMEDIATE, "holds", test, why)
    if any(set(found) <= edges[task] for task, found in possible.items()):
        return Answer(INTERMEDIATE, "does not hold", test, why)
    return Answer(INTERMEDIATE, "undecided", test, why)


def training_lowers_others(
    pairs: Sequence[Pair], margin: float = 0.02, level: float = 0.95, alarm: float = ALARM, absent: int = 0
) -> Answer:
    """In: arm - base for each arm on each task that it wasn't trained on (cross-domain)."""
    test = _rule("holds if a drop is shown somewhere (and not one within the margin), and not if every drop of the "
                 "margin is excluded", margin)  # fmt: skip
    if not pairs:
        return _not_asked(DROP, test, "the study scores no task of another domain")
    found = contrasts(pairs, margin, level, absent)
    worst = min(found, key=lambda c: c.estimate.value)
    if drops := sorted((c for c in found if c.verdict == "worse"), key=lambda c: c.estimate.value):
        far = sum(c.high < -alarm for c in drops)
        why = f"{len(drops)} of {number(len(found), 'comparison')} show a drop, {far} beyond {amount(alarm)}"
        return Answer(DROP, "holds", test, f"{why}; the largest: {_said(drops[0], pairs, found)}")
    if all(c.is_non_inferior for c in found):
        return Answer(DROP, "does not hold", test, f"the largest drop: {_said(worst, pairs, found)}")
    return Answer(DROP, "undecided", test, f"no drop is shown; the largest: {_said(worst, pairs, found)}")


def lora_is_above_full(pairs: Sequence[Pair], margin: float = 0.02, level: float = 0.95, absent: int = 0) -> Answer:
    """In: LoRA - full, pooled over the retention tasks, one pair per LoRA arm (``strata``: each item's task)."""
    test = _rule("holds if more than half of the LoRA arms are shown above full fine-tuning (and not within the margin "
                 "of it), and not if at least half are shown within the margin or below", margin)  # fmt: skip
    if not pairs:
        return _not_asked(ABOVE_FULL, test, "the study has no LoRA arm beside full fine-tuning on a retention task")
    found = contrasts(pairs, margin, level, absent)
    above = [c for c in found if c.verdict == "better"]
    not_above = [c for c in found if c.verdict in ("equivalent", "worse")]
    high, low = (pick(found, key=lambda c: c.estimate.value) for pick in (max, min))
    why = f"{len(above)} of {number(len(found), 'arm')} above, {len(not_above)} within the margin or below; "
    why += f"from {_said(low, pairs, found)}" + (f" to {_said(high, pairs, found)}" if high is not low else "")
    if 2 * len(above) > len(found):
        return Answer(ABOVE_FULL, "holds", test, why)
    return Answer(ABOVE_FULL, "does not hold" if 2 * len(not_above) >= len(found) else "undecided", test, why)


def _rule(text: str, margin: float) -> str:
    return f"simultaneous 95 % intervals within this claim, margin {amount(margin)}: {text}"


def _not_asked(claim: str, test: str, why: str) -> Answer:
    return Answer(claim, "not asked", test, why)


def _said(found: Contrast, family: Sequence[Pair], all_found: Sequence[Contrast]) -> str:
    """One comparison with its simultaneous interval in words."""
    pair = family[next(i for i, c in enumerate(all_found) if c is found)]
    unit = "points" if pair.higher_is_better else "nats"
    scale, digits = (100, 1) if unit == "points" else (1, 3)
    low, high = (minus(f"{scale * x:+.{digits}f}") for x in (found.low, found.high))
    sign = "+" if found.estimate.value > 0 else ""
    seeds = "" if found.estimate.num_seeds > 1 else ", this seed only"
    return (
        f"{found.arm} − {found.other} on {found.task} {sign}{amount(found.estimate.value, unit)} [{low}, {high}]{seeds}"
    )


def _either(ranks: Sequence[int]) -> str:
    return listed(ranks).replace(" and ", " or ")
