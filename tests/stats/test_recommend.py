"""Recommendations on planted truth: too small a rank is excluded, a tie is a tie, a rank that forgets is kept out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rankscope.records import Contrast, Estimate, Needed
from rankscope.stats.mcb import Scores
from rankscope.stats.recommend import Candidate, recommend

MARGIN = 0.03
RANKS = (4, 8, 16, 32)


def _share(value, half=0.02):
    return Estimate(value, value - half, value + half, half / 2, 100, 3)


def _gain(low):
    estimate = Estimate(low + 0.05, low, low + 0.1, 0.02, 100, 3)
    word = "better" if low > 0 else "undecided"
    return Contrast("a", "base", "t", estimate, low, low + 0.1, 0.01, MARGIN, word, 0.1)


def _study(rng, rates, kept=None, items=1500, seeds=3, seed_sd=0.005, noise=0.15):
    """LoRA arms by rank: scores share how hard an item is; ``kept`` holds each rank's word."""
    hard, found = 0.3 * rng.standard_normal(items), []
    for rank, rate in rates.items():
        table = rate + hard + seed_sd * rng.standard_normal((seeds, 1)) + noise * rng.standard_normal((seeds, items))
        word = (kept or {}).get(rank, "shown")
        found.append(Candidate(f"r{rank}", rank, word, None, float(rank), Scores(f"r{rank}", table)))
    return found


def _with(candidates, **changes):
    """The candidates with fields replaced, each given by rank."""
    return [dataclasses.replace(c, **{k: v[c.rank] for k, v in changes.items() if c.rank in v}) for c in candidates]


def _world(seed, rates, **options):
    return _study(np.random.default_rng(seed), dict(zip(RANKS, rates, strict=True)), **options)


def test_a_rank_too_small_is_excluded_and_the_cheapest_that_is_enough_is_recommended():
    found = recommend(_world(0, (0.40, 0.45, 0.60, 0.60)), MARGIN)
    assert found.ranks == (16, 32) and found.arm == "r16" and found.rule == "cheapest within margin"
    assert found.is_told_apart and found.tier == "shown to be kept" and not found.open_question and not found.needed
    small = next(e for e in found.excluded if e.arm == "r4")
    assert small.by in ("r16", "r32") and small.gap == pytest.approx(0.2, abs=0.02) and 0 < small.at_least < small.gap
    assert f"beaten by {small.by}" in small.why and "ranks 16 to 32 can be the best" in found.reason
    assert [r.arm for r in found.runners_up] == ["r32"] and "costs 2 times as much" in found.runners_up[0].why


def test_equal_arms_have_the_whole_range_and_nothing_can_be_told_apart():
    found = recommend(_world(1, (0.5,) * 4, items=60), 0.001)
    assert found.ranks == (4, 32) and not found.is_told_apart and not found.excluded
    assert found.reason.startswith(
        "Nothing can be told apart: each of the 4 arms (ranks 4 to 32) can still be the best"
    )
    assert found.rule == "best seen" and "no arm is shown to be within 0.1 points" in found.reason
    assert found.open_question and found.needed is not None and "would decide between" in found.would_change[0]


def test_equal_arms_with_many_items_give_the_cheapest_and_leave_no_question():
    found = recommend(_world(2, (0.5,) * 4, items=4000, seed_sd=0.0), MARGIN)
    assert (found.ranks, found.arm, found.is_told_apart, found.open_question) == ((4, 32), "r4", False, "")
    assert set(found.within) == {"r4", "r8", "r16", "r32"}


def test_the_best_rank_is_kept_out_if_it_forgets_and_the_answer_says_what_it_would_have_been():
    found = recommend(_world(3, (0.4, 0.5, 0.5, 0.7), kept={32: "lost"}), MARGIN)
    assert found.ranks == (8, 16) and found.arm == "r8"
    assert next(e for e in found.excluded if e.arm == "r32").why == "shown to have lost what the base knew"
    assert "Were retention not asked for, r32 would be recommended (rank 32 can be the best)" in found.would_change


@pytest.mark.parametrize(
    ("kept", "tier", "able", "said"),
    [
        ({4: "not shown", 8: "shown", 16: "lost", 32: "no data"}, "shown to be kept", {"r8"}, "only arm"),
        ({4: "not shown", 8: "not shown", 16: "lost", 32: "no data"}, "none shown to be kept",
         {"r4", "r8", "r16", "r32"}, "no rank is shown to keep what the base knew"),
        ({r: "lost" for r in RANKS}, "none shown to be kept", {"r4", "r8", "r16", "r32"}, "left is shown to forget"),
        ({r: "no data" for r in RANKS}, "none shown to be kept", {"r4", "r8", "r16", "r32"}, "wasn't measured"),
    ],
)  # fmt: skip
def test_tiers_by_retention(kept, tier, able, said):
    found = recommend(_world(4, (0.5,) * 4, kept=kept), MARGIN)
    assert found.tier == tier and set(found.possible) == able and said in found.reason
    assert {e.arm for e in found.excluded} == {"r4", "r8", "r16", "r32"} - able and all(e.why for e in found.excluded)


def test_an_arm_that_is_only_measured_badly_does_not_come_before_one_known_to_keep_more():
    """Rank 4 keeps far less but its seeds vary, so no loss is shown; rank 16 is shown to lose a little."""
    rng = np.random.default_rng(11)
    hard = 0.3 * rng.standard_normal(1000)

    def kept(rate, seed_sd):
        seeds = rate + seed_sd * np.array([[-1.0], [0.0], [1.0]])
        return Scores("", seeds + hard + 0.1 * rng.standard_normal((3, 1000)))

    tables = {4: kept(0.60, 0.02), 8: kept(0.78, 0.005), 16: kept(0.80, 0.002), 32: kept(0.80, 0.002)}
    words = {4: "not shown", 8: "lost", 16: "lost", 32: "lost"}
    arms = _world(12, (0.5, 0.6, 0.6, 0.6), kept=words, seed_sd=0.0)
    arms = [dataclasses.replace(c, kept_scores=dataclasses.replace(tables[c.rank], arm=c.arm)) for c in arms]
    found = recommend(arms, MARGIN)
    assert found.tier == "none shown to be kept" and found.arm == "r8" and set(found.possible) == {"r8", "r16", "r32"}
    assert "and r8 is shown to forget" in found.reason or "every rank left is shown to forget" in found.reason
    why = {e.arm: e.why for e in found.excluded}
    assert why == {"r4": "shown to keep less than another rank, by more than the margin"}


def test_a_share_to_retain_asks_for_the_whole_interval():
    shares = {4: _share(0.99, 0.01), 8: _share(0.96), 16: _share(0.90), 32: None}
    arms = _with(_world(5, (0.5,) * 4), retention=shares)
    first = recommend(arms, MARGIN, retain=0.95)
    assert first.possible == ("r4",) and first.tier == "shown to be kept"
    why = {e.arm: e.why for e in first.excluded}
    assert why["r8"] == "shown to keep 94.0%, less than the 95.0% asked for" and "92.0% at most" in why["r16"]
    second = recommend(_with(arms, kept=dict.fromkeys(RANKS, "not shown")), MARGIN, retain=0.95)
    assert second.tier == "none shown to be kept" and set(second.possible) == {"r4", "r8", "r32"}
    third = recommend([c for c in arms if c.rank == 8], MARGIN, retain=0.95)
    assert third.tier == "none shown to be kept" and "no rank is shown to keep as much as asked for" in third.reason
    none = recommend([c for c in arms if c.rank == 16], MARGIN, retain=0.95)
    assert none.tier == "none shown to be kept" and none.arm == "r16"
    assert "no rank is shown to keep as much as asked for: each is shown to keep less" in none.reason


def test_an_arm_is_not_left_out_for_a_share_that_none_can_keep():
    """All fall short of it, so who is left out keeps less than the best keeper, and that is what is said."""
    rng = np.random.default_rng(21)
    known = 0.3 * rng.standard_normal(400)
    arms = _with(_world(5, (0.5,) * 4, kept=dict.fromkeys(RANKS, "lost")), retention={r: _share(0.6) for r in RANKS})
    rates = {4: 0.5, 8: 0.7, 16: 0.7, 32: 0.7}
    tables = {r: Scores(f"r{r}", rate + known + 0.05 * rng.standard_normal((3, 400))) for r, rate in rates.items()}
    found = recommend(_with(arms, kept_scores=tables), MARGIN, retain=0.95)
    why = {e.arm: e.why for e in found.excluded}
    assert why == {"r4": "shown to keep less than another rank, by more than the margin"}
    assert "no rank is shown to keep as much as asked for: each is shown to keep less" in found.reason


def test_an_arm_without_a_shown_gain_is_recommended_only_with_that_said():
    arms = _with(_world(6, (0.5,) * 4, items=4000, seed_sd=0.0), gain={4: _gain(-0.01), 8: _gain(0.02)})
    assert "no gain over the base is shown for r4" in recommend(arms, MARGIN).reason
    assert "no gain" not in recommend(arms[1:], MARGIN).reason


def test_preferences_choose_among_those_within_the_margin_only():
    shares = {4: _share(1.0), 8: _share(0.9), 16: _share(0.97), 32: _share(0.95)}
    arms = _with(_world(7, (0.3, 0.6, 0.6, 0.602), items=1000, seed_sd=0.0), retention=shares)
    found = {p: recommend(arms, MARGIN, prefer=p) for p in ("cost", "retention", "gain")}
    assert {p: r.arm for p, r in found.items()} == {"cost": "r8", "retention": "r16", "gain": "r32"}
    assert found["retention"].rule == "most kept within margin" and found["gain"].rule == "best within margin"
    assert "With retention first, r16 would be recommended" in found["cost"].would_change
    assert "kept 90.0% against 97.0%" in {r.arm: r.why for r in found["retention"].runners_up}["r8"]


def test_what_would_change_it_does():
    arms = _world(8, (0.55, 0.58, 0.60, 0.60), items=500)
    found = recommend(arms, MARGIN)
    lower = next(s for s in found.would_change if "or less" in s)
    margin = float(lower.removeprefix("With a margin of ").split()[0]) / 100
    assert recommend(arms, margin - 0.001).arm == lower.split(", ")[1].split()[0] != found.arm
    assert recommend(arms, margin + 0.001).arm == found.arm
    wide = [s for s in recommend(arms, 0.001).would_change if "above" in s]
    if wide:
        margin = float(wide[0].removeprefix("With a margin above ").split()[0]) / 100
        assert recommend(arms, margin + 0.001).arm == wide[0].split(", ")[1].split()[0]


def test_an_arm_beaten_by_less_than_the_margin_says_so():
    found = recommend(_study(np.random.default_rng(15), {4: 0.59, 16: 0.60}, items=8000, seed_sd=0.0), MARGIN)
    assert found.ranks == (16, 16) and found.within == ("r4", "r16")
    assert found.excluded[0].why.endswith("and yet shown to be within 3.0 points of the best")


def test_a_cheaper_arm_in_doubt_is_the_open_question_with_what_it_would_take():
    arms = _study(np.random.default_rng(9), {4: 0.59, 16: 0.60, 32: 0.60}, items=300, seed_sd=0.0, noise=0.5)
    found = recommend(arms, 0.02)
    assert "r4" in found.possible and "r4" not in found.within
    assert found.open_question.startswith("Is r4 within 2.0 points of ") and isinstance(found.needed, Needed)
    assert found.needed.items > 300


@pytest.mark.parametrize("rates", [(0.40, 0.50, 0.60, 0.60), (0.5, 0.5, 0.5, 0.5)])
def test_ten_fresh_sets_of_three_seeds_overlap_and_hold_the_truth(rates):
    """The same items, new seeds: nine of ten ranges hold the best rank by construction, and share a rank."""
    items = 0.3 * np.random.default_rng(10).standard_normal(800)
    ranges = []
    for seed in range(10):
        rng, arms = np.random.default_rng(100 + seed), []
        for rank, rate in zip(RANKS, rates, strict=True):
            table = rate + items + 0.01 * rng.standard_normal((3, 1)) + 0.15 * rng.standard_normal((3, 800))
            arms.append(Candidate(f"r{rank}", rank, "shown", None, float(rank), Scores(f"r{rank}", table)))
        ranges.append(recommend(arms, MARGIN).ranks)
    assert max(sum(low <= rank <= high for low, high in ranges) for rank in RANKS) >= 9
    if rates[0] < rates[-1]:
        assert sum(low > 8 for low, _ in ranges) >= 9


def test_several_arms_of_one_rank_and_the_order_of_candidates():
    arms = _world(11, (0.4, 0.45, 0.6, 0.6))
    twin = dataclasses.replace(arms[2], arm="r16-rslora", scores=dataclasses.replace(arms[2].scores, arm="r16-rslora"))
    found, turned = recommend([*arms, twin], MARGIN), recommend([twin, *arms[::-1]], MARGIN)
    assert found.ranks == (16, 32) and "r16-rslora" in found.possible and found.arm == turned.arm == "r16"
    assert found.reason == turned.reason and found.would_change == turned.would_change


def test_one_seed_is_said_and_an_arm_without_scores_is_left_out_with_the_reason():
    arms = _world(12, (0.5,) * 4, seeds=1)
    found = recommend([*arms, Candidate("r64", 64, "shown", None, 64.0, None)], MARGIN)
    assert found.reason.endswith("this speaks for this seed only") and found.ranks == (4, 32)
    assert [(e.arm, e.why) for e in found.excluded] == [("r64", "has no in-domain scores")]
    assert found.needed is None or found.needed.seeds is None


def test_one_candidate_is_the_only_one_and_none_is_none():
    one = recommend(_world(13, (0.5,) * 4)[:1], MARGIN)
    assert (one.arm, one.rule, one.ranks, one.is_told_apart) == ("r4", "only one", (4, 4), True)
    none = recommend([], MARGIN)
    assert (none.arm, none.rule, none.ranks, none.tier, none.possible) == (None, "none", None, "none", ())


def test_losses_are_told_in_nats():
    arms = _world(14, (0.4, 0.45, 0.6, 0.6))
    assert "nats" in recommend(arms, MARGIN, unit="nats").reason


def _awaiting(*ranks):
    return [Candidate(f"r{rank}", rank, "no data", None, float(rank), None, is_awaited=True) for rank in ranks]


def test_the_only_arm_scored_so_far_is_not_told_apart_from_those_still_to_come():
    found = recommend([*_world(13, (0.5,) * 4)[:1], *_awaiting(8, 16)], MARGIN)
    assert (found.arm, found.is_told_apart, found.awaited) == ("r4", False, ("r8", "r16"))
    assert found.reason.startswith("r4 is the only arm scored so far; r8 and r16 are not scored yet")
    assert {e.why for e in found.excluded} == {"is not scored yet"}


def test_arms_still_to_come_are_named_beside_those_that_are_compared():
    whole = _world(0, (0.40, 0.45, 0.60, 0.60))
    found = recommend([*whole, *_awaiting(64)], MARGIN)
    assert found.is_told_apart and found.arm == recommend(whole, MARGIN).arm  # rank 4 is beaten, come what may
    assert "r64 is not scored yet" in found.reason
    level = recommend([*_world(1, (0.5,) * 4, items=60), *_awaiting(64)], 0.001)
    assert not level.is_told_apart and "each of the 4 arms" in level.reason and "r64 is not scored yet" in level.reason
