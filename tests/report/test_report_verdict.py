"""The verdict's words: only what simultaneous intervals show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rankscope.records import Contrast, Estimate
from rankscope.report.rows import BaseRow, Effect, FewShot, Headline
from rankscope.report.verdict import Block, judge


def effect(arm, other, value, word, seeds=3, task="qa", role="in_domain", **more):
    estimate = Estimate(value, value - 0.01, value + 0.01, 0.005, 500, seeds)
    contrast = Contrast(arm, other, task, estimate, value - 0.02, value + 0.02, 0.01, 0.02, word, 0.031)
    return Effect("m", "qa", task, role, "accuracy", contrast, True, **more)


def row(arm, kind, rank, word, kept="shown", seeds=3):
    gain = effect(arm, "base", 0.1, word, seeds) if word else None
    return Headline(
        "m", "qa", arm, kind, rank, 1e-3, gain, None, None, kept, "", None, None, None, None, None, None, seeds, 3, 0
    )


def block(rows, against_full=(), base=(), extra=()):
    effects = (
        *(r.gain for r in rows if r.gain),
        *(effect(arm, "full", 0.0, word) for arm, word in against_full),
        *extra,
    )
    return Block("m", "qa", tuple(rows), effects, tuple(base), 0.02)


FULL = row("full", "full", None, "better")


def test_ranks_shown_within_the_margin_of_full_are_named():
    rows = [row("r4", "lora", 4, "better"), row("r16", "lora", 16, "better"), FULL]
    lead = judge(block(rows, [("r4", "worse"), ("r16", "equivalent")])).lead
    assert "rank 16 is the lowest rank shown to learn as much as full SFT" in lead
    assert lead.endswith("and retention is shown within the margin.")


@pytest.mark.parametrize(
    ("kept", "said"), [("not shown", "but it is not shown to be retained."), ("lost", "but it forgot.")]
)
def test_retention_that_was_not_shown_is_never_called_kept(kept, said):
    rows = [row("r4", "lora", 4, "better", kept), FULL]
    verdict = judge(block(rows, [("r4", "equivalent")]))
    assert verdict.lead.endswith(said)
    assert "shown retained: r4" not in dict(verdict.points)["Kept"].lower().replace("not shown to be retained", "")


def test_undecided_ranks_are_left_open_and_the_detectable_effect_is_told():
    verdict = judge(block([row("r4", "lora", 4, "better"), FULL], [("r4", "undecided")]))
    assert "no rank is shown to be within 2.0 points of full SFT; rank 4 can't be ruled out either" in verdict.lead
    assert "the study could see 3.1 points" in dict(verdict.points)["Not decided"]


def test_full_that_did_not_learn_is_no_yardstick():
    rows = [row("r4", "lora", 4, "better"), row("full", "full", None, "undecided")]
    assert "full SFT is not shown to have learned" in judge(block(rows, [("r4", "equivalent")])).lead


def test_rank_that_did_not_learn_is_not_enough_even_if_full_is_close():
    rows = [row("r1", "lora", 1, "undecided"), FULL]
    assert "lowest rank" not in judge(block(rows, [("r1", "equivalent")])).lead


def test_without_full_nothing_is_called_enough():
    lead = judge(block([row("r4", "lora", 4, "better"), row("r8", "lora", 8, "undecided")])).lead
    assert "rank 4 learned; there is no full SFT to say whether that is enough" in lead


@pytest.mark.parametrize(("failed", "said"), [(0, "full SFT has no score in domain yet"), (2, "(runs failed)")])
def test_full_sft_without_a_score_is_not_called_absent(failed, said):
    rows = [row("r4", "lora", 4, "better"), replace(row("full", "full", None, ""), num_failed=failed)]
    lead = judge(block(rows)).lead
    assert said in lead and "there is no full SFT" not in lead


def test_arms_of_one_rank_are_called_by_their_names():
    rows = [row("r8", "lora", 8, "better"), row("q8", "lora", 8, "better"), FULL]
    lead = judge(block(rows, [("r8", "undecided"), ("q8", "worse")])).lead
    assert "r8 can't be ruled out either; q8 learned less than full SFT" in lead
    lead = judge(block(rows, [("r8", "equivalent"), ("q8", "worse")])).lead
    assert "r8 is the one arm shown to learn as much as full SFT" in lead and "rank 8" not in lead
    lead = judge(block(rows, [("r8", "equivalent"), ("q8", "equivalent")])).lead
    assert "r8 and q8 are shown to learn as much as full SFT" in lead


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("accuracy", 0.07, "so part of the gain may be format"),
        ("accuracy", -0.07, "so format alone does not explain a gain"),
        ("cross_entropy", -0.07, "so part of the gain may be format"),
        ("cross_entropy", 0.07, "so format alone does not explain a gain"),
        ("cross_entropy", 0.01, "which does not show an effect of format"),
    ],
)
def test_what_examples_in_the_prompt_give_is_better_as_the_metric_goes(metric, value, said):
    lift = Estimate(value, value - 0.02, value + 0.02, 0.01, 500, 1, scope="items")
    base = [BaseRow("m", "qa", ("in_domain",), metric, lift, None, None, (FewShot("qa@5shot", 5, lift, lift),))]
    assert said in dict(judge(block([row("r4", "lora", 4, "better"), FULL], base=base)).points)["Format"]


@pytest.mark.parametrize(
    ("gain", "against_full", "said"),
    [
        (
            "undecided",
            "equivalent",
            "rank 1 did not fall behind full SFT beyond 2.0 points, but no gain of its own is shown",
        ),
        (
            "undecided",
            "better",
            "rank 1 did not fall behind full SFT beyond 2.0 points, but no gain of its own is shown",
        ),
        ("better", "worse", "rank 1 learned less than full SFT"),
        ("better", None, "rank 1 has not been compared with full SFT"),
    ],
)
def test_only_ranks_shown_to_be_worse_are_said_to_have_learned_less(gain, against_full, said):
    lead = judge(block([row("r1", "lora", 1, gain), FULL], [("r1", against_full)] if against_full else [])).lead
    assert lead == f"Trained on qa: {said}."


def test_ranks_of_several_fates_each_get_their_clause():
    rows = [row("r1", "lora", 1, "undecided"), row("r2", "lora", 2, "better"), row("r4", "lora", 4, "better"), FULL]
    lead = judge(block(rows, [("r1", "equivalent"), ("r2", "worse"), ("r4", "undecided")])).lead
    assert "no rank is shown to learn as much as full SFT; rank 4 can't be ruled out either" in lead
    assert "rank 1 did not fall behind" in lead and "rank 2 learned less than full SFT" in lead


def test_one_seed_is_said_in_the_lead():
    rows = [row("r4", "lora", 4, "better", seeds=1), row("full", "full", None, "better", seeds=1)]
    assert judge(block(rows, [("r4", "equivalent")])).lead.endswith("All of it speaks for this seed only.")
    mixed = [rows[0], FULL]
    assert judge(block(mixed, [("r4", "equivalent")])).lead.endswith("What is said of r4 speaks for this seed only.")


def test_alarms_failures_format_and_chance_are_points_of_the_verdict():
    lift = Estimate(0.07, 0.05, 0.09, 0.01, 500, 1, scope="items")
    base = [BaseRow("m", "qa", ("in_domain",), "accuracy", lift, 0.2, True, (FewShot("qa@5shot", 5, lift, lift),)),
            BaseRow("m", "letters", ("retention",), "accuracy", lift, 0.25, False)]  # fmt: skip
    rows = [replace(row("r4", "lora", 4, "better"), num_failed=1), FULL]
    more = {"role": "cross_domain", "mark": "negative", "is_large": True}
    drops = [
        effect("full", "base", -0.2, "worse", task="maths", is_alarm=True, **more),
        effect("full", "base", -0.11, "worse", task="law", **more),
    ]
    points = dict(judge(block(rows, [("r4", "equivalent")], base, drops)).points)
    assert points["Alarm"] == (
        "Shown drops beyond 10 points: full −20.0 [−22.0, −18.0] on maths (simultaneous intervals)."
    )
    assert points["Large drop"] == (
        "Shown drops, estimated beyond 10 points: full −11.0 [−13.0, −9.0] on law (simultaneous intervals)."
    )
    assert points["Learned"].startswith("r4 +10.0 [+8.0, +12.0], full +10.0 [+8.0, +12.0] (points on qa, against")
    assert points["Missing"] == "r4: 1 run failed and is in no mean."
    assert "part of the gain may be format" in points["Format"]
    assert "letters, which is left out" in points["At chance"]


def test_planted_study_gets_the_planted_verdict(view):
    lead = view.verdicts[0].lead
    assert "rank 4 and 16" not in lead
    assert "ranks 4 and 16 are shown to learn as much as full SFT" in lead
    assert "of these retention is shown within the margin for rank 4" in lead
