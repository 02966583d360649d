"""Claims get 'holds' only from what holds by construction, 'does not hold' from its opposite, else 'undecided'."""

from __future__ import annotations

import numpy as np
import pytest

from rankscope.stats import claims
from rankscope.stats.contrast import Pair
from rankscope.stats.mcb import Scores


def _pair(mean, items=2000, noise=0.1, seed=0, arm="lora-r32", other="full", seeds=3):
    table = mean + noise * np.random.default_rng(seed).standard_normal((seeds, items))
    return Pair(arm, other, "t", table - table.mean() + mean)


def _noisy(mean):
    return _pair(mean, items=30, noise=0.5)


@pytest.mark.parametrize(
    ("pairs", "answer"),
    [
        ([(32, _pair(0.0)), (64, _pair(-0.01))], "holds"),
        ([(32, _pair(0.0)), (64, _pair(-0.05))], "does not hold"),
        ([(32, _pair(0.0)), (64, _noisy(-0.05))], "undecided"),
        ([(64, _pair(-0.019))], "undecided"),
        ([(8, _pair(-0.3)), (48, _pair(0.1))], "holds"),
        ([(8, _pair(0.0)), (128, _pair(0.0))], "not asked"),
        ([], "not asked"),
    ],
)
def test_lora_of_rank_32_to_64_as_good_as_full(pairs, answer):
    found = claims.as_good_as_full(pairs)
    assert found.answer == answer and "95 %" in found.test and "within this claim" in found.test
    if answer == "not asked" and pairs:
        assert "8 and 128" in found.why


@pytest.mark.parametrize(
    ("pairs", "answer"),
    [
        ([_pair(0.0), _pair(0.01), _pair(-0.01)], "holds"),
        ([_pair(0.0), _pair(0.05), _noisy(0.0)], "does not hold"),
        ([_pair(0.0), _pair(-0.05)], "does not hold"),
        ([_pair(0.0), _noisy(0.0)], "undecided"),
        ([], "not asked"),
    ],
)
def test_recall_is_flat(pairs, answer):
    assert claims.recall_is_flat(pairs).answer == answer


def test_a_difference_shown_but_not_beyond_the_margin_leaves_flat_recall_undecided():
    found = claims.recall_is_flat([_pair(0.019)])
    assert found.answer == "undecided" and "1 of 1 pair" in found.why and "+1.9 points [+" in found.why


RANKS = {"r4": 4, "r16": 16, "r16-rslora": 16, "r64": 64}


def _tables(means, items=600):
    rng = np.random.default_rng(0)
    return [Scores(a, m + 0.1 * rng.standard_normal((3, items))) for a, m in means.items()]


@pytest.mark.parametrize(
    ("tasks", "answer", "why"),
    [
        ([{"r4": 0.3, "r16": 0.5, "r64": 0.4}], "holds", "on t0 the best can be rank 16"),
        ([{"r4": 0.3, "r16": 0.4, "r64": 0.5}], "does not hold", "rank 64"),
        ([{"r4": 0.5, "r16": 0.4, "r64": 0.5}], "does not hold", "rank 4 or 64"),
        ([{"r4": 0.3, "r16": 0.5, "r64": 0.5}], "undecided", "rank 16 or 64"),
        ([{"r4": 0.3, "r16": 0.5, "r16-rslora": 0.5, "r64": 0.4}], "holds", "rank 16"),
        ([{"r4": 0.3, "r16": 0.5, "r64": 0.4}, {"r4": 0.3, "r16": 0.5, "r64": 0.5}], "undecided", "on t1"),
        ([{"r4": 0.3, "r16": 0.5, "r64": 0.4}, {"r4": 0.3, "r16": 0.4, "r64": 0.5}], "does not hold", "on t1"),
        ([{"r4": 0.3, "r16": 0.5}], "not asked", "three ranks"),
        ([], "not asked", "no reasoning task"),
    ],
)
def test_reasoning_is_best_at_an_intermediate_rank(tasks, answer, why):
    found = claims.reasoning_is_best_between({f"t{i}": _tables(m) for i, m in enumerate(tasks)}, RANKS)
    assert found.answer == answer and why in found.why


@pytest.mark.parametrize(
    ("pairs", "answer"),
    [
        ([_pair(-0.12), _pair(0.0), _noisy(0.0)], "holds"),
        ([_pair(-0.01), _pair(0.05)], "does not hold"),
        ([_noisy(-0.05), _pair(0.0)], "undecided"),
        ([], "not asked"),
    ],
)
def test_training_on_one_task_lowers_others(pairs, answer):
    found = claims.training_lowers_others(pairs)
    assert found.answer == answer
    if answer == "holds":
        assert (
            found.why.startswith("1 of 3 comparisons show a drop, 1 beyond 10.0 points") and "−12.0 points" in found.why
        )


@pytest.mark.parametrize(
    ("pairs", "answer"),
    [
        ([_pair(0.05), _pair(0.06), _pair(0.0)], "holds"),
        ([_pair(0.05), _pair(0.0)], "does not hold"),
        ([_pair(-0.05), _pair(0.0), _pair(0.05)], "does not hold"),
        ([_pair(0.05), _noisy(0.0), _noisy(0.0)], "undecided"),
        ([], "not asked"),
    ],
)
def test_lora_keeps_more_than_full(pairs, answer):
    assert claims.lora_is_above_full(pairs).answer == answer


def test_one_seed_and_losses_are_said_as_such():
    rng = np.random.default_rng(1)
    pair = Pair("a", "base", "text", 0.3 + 0.05 * rng.standard_normal((1, 300)), higher_is_better=False)
    found = claims.training_lowers_others([pair])
    assert found.answer == "holds" and "nats [" in found.why and "this seed only" in found.why


def test_under_no_true_difference_a_claim_is_wrongly_answered_once_in_twenty_at_most():
    rng, wrong = np.random.default_rng(2), []
    for _ in range(60):
        tables = [Scores(a, 0.5 + 0.2 * rng.standard_normal((3, 100))) for a in ("r4", "r16", "r64")]
        pairs = [Pair(s.arm, "base", "t", s.values - 0.5) for s in tables]
        wrong.append(
            [
                claims.training_lowers_others(pairs, 0.001).answer == "holds",
                claims.recall_is_flat(pairs, 0.001).answer == "does not hold",
                claims.reasoning_is_best_between({"t": tables}, RANKS).answer == "holds",
            ]
        )
    assert np.mean(wrong, axis=0).max() <= 0.08


def test_numbers_have_a_true_minus_and_names_keep_their_hyphens():
    said = claims.as_good_as_full([(32, _pair(-0.05, arm="lora-32", other="full-2"))]).why
    assert "lora-32 − full-2" in said and "−5.0 points [−" in said
