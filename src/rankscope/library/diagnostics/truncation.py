"""How much of an update's effect its largest singular values carry: the truncation curve.

Every delta is replaced by its best approximation of rank k, k = 1, 2, 4, ... below the rank it was trained at (Eckart &
Young 1936), and the score of every task and the loss on validation rows are measured again; for full fine-tuning up to
rank 64. What full fine-tuning changed beside linear modules (norms, embeddings) stays whole at every rank. It tells
what rank the trained update needs, which is not the rank that training needs: beside it belong the arms trained at
rank k. The definition is this project's own.

A worked instance: an adapter of rank 8 whose updates have two singular values above 0: the scores at rank 2 and 4 are
those of the whole update, the score at rank 1 is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rankscope.analysis.diagnostic import Diagnostic, Quantity
from rankscope.records import Reading

if TYPE_CHECKING:
    from rankscope.analysis.subject import Subject


def check(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the options, in phrases."""
    ranks = options["ranks"]
    found = [] if _is_count(options["items"]) else ["items must be a whole number from 1"]
    if ranks is not None and not (isinstance(ranks, list | tuple) and ranks and all(map(_is_count, ranks))):
        found.append("ranks must be a list of whole numbers from 1")
    return found


def measure(subject: Subject, options: Mapping[str, Any]) -> Iterator[Reading]:
    """Scores and losses at every rank, from the lowest, then those of the whole update. A rank that no delta has is
    left out: there the whole update stands for it."""
    from rankscope.analysis.cuts import compressed, cut, powers, spent
    from rankscope.analysis.variants import at_home, outcomes

    subject = at_home(subject)
    most = max(map(spent, subject.update.deltas.values()), default=0)
    is_full = subject.update.kind == "full"
    ranks = options["ranks"] or powers(most + is_full)  # a full update isn't of rank 64: that is one more to ask
    small = compressed(subject.update)
    variants = {
        f"rank {rank}": cut(small, dict.fromkeys(small.deltas, rank))
        for rank in sorted(set(ranks))
        if rank < most + is_full
    }
    for variant, outcome in outcomes(subject, variants | {"": subject.update}, options["items"]).items():
        yield from outcome.readings(variant)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


PLUGIN = Diagnostic(
    name="truncation",
    summary="Scores and losses of the best approximation of the update at every lower rank",
    quantities=(
        Quantity("score", "points", "score of every item under the update cut to a rank", "Eckart & Young 1936"),
        Quantity("loss", "nats", "loss of every validation row under the update cut to a rank", "Eckart & Young 1936"),
    ),
    measure=measure,
    reads=("base", "tasks", "validation"),
    options={"items": 100, "ranks": None},
    check=check,
    is_costly=True,
)
