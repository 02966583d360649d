"""The pieces of what must be kept: whatever share is asked for, its piece says what ``recommend`` says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rankscope.records import Estimate
from rankscope.stats.choice import PREFERENCES, Candidate
from rankscope.stats.mcb import Remembered, Scores, best
from rankscope.stats.recommend import Recommender, recommend
from rankscope.stats.thresholds import ASKED, ends, pieces

MARGIN = 0.03
WORDS = ("shown", "shown", "shown", "not shown", "lost", "no data")


def _share(value, half):
    return Estimate(value, value - half, value + half, half / 2, 100, 3)


def _world(seed, count, words=WORDS, items=120):
    """Arms of growing rank, the higher the better in domain and the worse at keeping, all at random around that."""
    rng = np.random.default_rng(seed)
    hard, base, found = 0.3 * rng.standard_normal(items), 0.3 * rng.standard_normal(80), []
    for i in range(count):
        rate, kept = 0.45 + 0.15 * i / count, 1.02 - 0.2 * i / count + 0.05 * rng.standard_normal()
        table = rate + hard + 0.01 * rng.standard_normal((3, 1)) + 0.2 * rng.standard_normal((3, items))
        known = 0.6 * kept + base + 0.05 * rng.standard_normal((3, 80))
        share = None if rng.random() < 0.1 else _share(kept, 0.01 + 0.05 * rng.random())
        word = words[rng.integers(len(words))]
        found.append(Candidate(f"r{i}", 2**i, word, share, float(2**i), Scores(f"r{i}", table), None,
                               Scores(f"r{i}", known)))  # fmt: skip
    return found


def _said(found, retain=None):
    """All that a page shows of a recommendation; with a share its sentences are made for it."""
    asked = "" if retain is None else f"{retain:.1%}"
    why = {e.arm: e.why.replace(ASKED, asked) for e in found.excluded}
    return (found.arm, found.ranks, found.rule, found.tier, found.reason, found.possible, found.within, why,
            found.runners_up, found.would_change, found.open_question, found.needed)  # fmt: skip


@pytest.mark.parametrize(
    ("seed", "words"), [(0, WORDS), (1, WORDS), (2, ("not shown", "lost")), (3, ("shown",)), (4, ("no data",))]
)
def test_any_share_gets_from_its_piece_what_recommend_says(seed, words):
    arms = _world(seed, 4, words)
    again = Recommender(arms, MARGIN)
    found = pieces(again)
    bounds = ends(arms)
    near = [f(b, way) for b in bounds for f, way in ((math.nextafter, 0.0), (max, 0.0), (math.nextafter, 1.0))]
    shares = [*np.random.default_rng(seed).random(40).tolist(), *near, 1.0]
    for share in [None, *shares]:
        (piece,) = [p for p in found if p.holds(share)]
        for prefer in PREFERENCES:
            assert _said(piece.choices[prefer], share) == _said(again.under(share, prefer), share)
    for share in [None, *bounds[:2], 0.93]:  # what is remembered from other terms changes nothing
        assert _said(again.under(share)) == _said(recommend(arms, MARGIN, share))


def test_pieces_cover_all_shares_once_and_neighbours_differ():
    found = pieces(Recommender(_world(1, 5), MARGIN))
    assert found[0].above is None and found[0].upto is None
    asked = found[1:]
    assert asked[0].above == 0.0 and asked[-1].upto == 1.0
    assert [p.upto for p in asked[:-1]] == [p.above for p in asked[1:]]
    assert all(a.choices != b.choices for a, b in zip(asked, asked[1:], strict=False)) and len(asked) > 2


def test_a_planted_order_of_leaving_moves_the_recommendation_where_an_interval_ends():
    """Each rank is better in domain and keeps less: the best one that still keeps enough is recommended."""
    rng, arms = np.random.default_rng(5), []
    hard = 0.3 * rng.standard_normal(400)
    for rank, rate, kept in ((4, 0.4, 0.98), (16, 0.5, 0.92), (64, 0.6, 0.80)):
        table = rate + hard + 0.05 * rng.standard_normal((3, 400))
        arms.append(Candidate(f"r{rank}", rank, "shown", _share(kept, 0.02), float(rank), Scores(f"r{rank}", table)))
    unasked, *asked = pieces(Recommender(arms, MARGIN))
    moves = [(p.above, p.choices["cost"].arm, p.choices["cost"].tier) for p in asked]
    moves = [m for before, m in zip([(), *moves], moves, strict=False) if before[1:] != m[1:]]
    kept, none = "shown to be kept", "none shown to be kept"
    assert unasked.choices["cost"].arm == "r64"
    assert [m[1:] for m in moves] == [("r64", kept), ("r16", kept), ("r4", kept), ("r4", none)]
    assert [m[0] for m in moves] == pytest.approx([0.0, 0.78, 0.90, 0.96])
    why = {e.arm: e.why for e in next(p for p in asked if p.holds(0.85)).choices["cost"].excluded}
    assert why["r64"] == "keeps 82.0% at most, {asked} is asked for"
    assert asked[-1].choices["cost"].reason.endswith("no rank is shown to keep as much as asked for")


def test_without_any_share_measured_there_is_one_piece_for_whatever_is_asked():
    arms = [Candidate(c.arm, c.rank, "no data", None, c.cost, c.scores) for c in _world(6, 3)]
    assert ends(arms) == () and [p.upto for p in pieces(Recommender(arms, MARGIN))] == [None, 1.0]


def test_what_is_remembered_equals_what_is_compared_afresh():
    rng = np.random.default_rng(7)
    hard = rng.random(90)
    arms = [Scores(f"a{i}", (hard + 0.2 * rng.standard_normal((2, 90)) < 0.6).astype(float)) for i in range(5)]
    clusters, strata, compare = np.arange(90) // 3, np.arange(90) // 45, Remembered()
    for some in (arms, arms[1:], arms[:3], arms[2:1:-1], arms[::-2], arms):
        assert compare(some, MARGIN, clusters, strata, absent=1) == best(some, MARGIN, clusters, strata, absent=1)
    assert compare(arms, MARGIN, clusters, strata, absent=1) is compare(arms, MARGIN, clusters, strata, absent=1)
    assert compare(arms, 0.1, clusters, strata).margin == 0.1


def test_each_set_of_arms_is_compared_once_whatever_is_preferred(monkeypatch):
    sets = []
    monkeypatch.setattr("rankscope.stats.mcb.best", lambda arms, *rest: sets.append(len(arms)) or best(arms, *rest))
    arms = _world(8, 6, ("shown",))
    assert len(pieces(Recommender(arms, MARGIN))) > 6
    assert len(sets) <= 2 * len(arms) + 6  # in domain: one per tier's set; on what was kept: the second tier's sets
