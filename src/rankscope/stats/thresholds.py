"""How the recommendation depends on what must be kept. In: a ``Recommender``. Out: pieces of the shares to ask for.

An arm is in the first tier while the lower end of its interval is not below the share asked for, and in the second
while the upper end isn't. So the recommendation changes at such ends only: between two of them it is the same for every
share, and it is worked out once, at the piece's own end. Every piece holds its upper end and not its lower one, because
an arm leaves where the share lies above its bound. The first piece is the one where no share is asked for.

The finite set of ends is exact, not a grid: what a page shows for any share is what ``recommend`` says for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rankscope.stats import advice
from rankscope.stats.choice import PREFERENCES, Candidate, Prefer, binding
from rankscope.stats.recommend import Recommendation, Recommender

ASKED = "{asked}"
"""Stands for the share asked for in a piece's sentences, which hold for all shares of the piece."""


@dataclass(frozen=True)
class Piece:
    """The shares above ``above`` and up to ``upto``, and what is recommended for each of them, by preference.

    Both are None where no share is asked for. The choices leave out the comparison itself (``compared``); ``ASKED``
    stands in their sentences where the share does.
    """

    above: float | None
    upto: float | None
    choices: dict[Prefer, Recommendation]

    def holds(self, retain: float | None) -> bool:
        """Whether the share, or None for no share, belongs to this piece."""
        if retain is None or self.above is None or self.upto is None:
            return retain is self.above
        return self.above < retain <= self.upto


def ends(candidates: Sequence[Candidate]) -> tuple[float, ...]:
    """The shares between 0 and 1 above which an arm may leave its tier, in order."""
    known = [c.retention for c in candidates if c.scores is not None and c.retention is not None]
    return tuple(sorted({x for e in known for x in (e.low, e.high) if 0 < x < 1}))


def pieces(recommender: Recommender) -> tuple[Piece, ...]:
    """No share, then the shares from 0 to 1 in order; neighbours of which all is the same are one piece.

    Raises ValueError as ``mcb.best`` does.
    """
    found = [_piece(recommender, None, None)]
    above = 0.0
    for upto in (*ends(recommender.scored), 1.0):
        piece, last = _piece(recommender, above, upto), found[-1]
        if last.upto is not None and last.choices == piece.choices:
            found[-1] = replace(last, upto=upto)
        else:
            found.append(piece)
        above = upto
    return tuple(found)


def _piece(recommender: Recommender, above: float | None, upto: float | None) -> Piece:
    return Piece(above, upto, {p: _at(recommender, upto, p) for p in PREFERENCES})


def _at(recommender: Recommender, retain: float | None, prefer: Prefer) -> Recommendation:
    """The recommendation with sentences that hold for other shares too, and without the comparison."""
    found = recommender.under(retain, prefer)
    names = set(found.compared.arms) if found.compared else set()
    asked = binding([c for c in recommender.scored if c.arm in names], retain)
    barred = {c.arm: advice.barred(c, found.tier, asked, ASKED) for c in recommender.scored if c.arm not in names}
    excluded = tuple(barred.get(e.arm, e) for e in found.excluded)
    return replace(found, excluded=excluded, compared=None)
