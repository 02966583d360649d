"""What the study answers: range of ranks, LoRA beside full SFT, claims, matched gain, distance from the base."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rankscope.records import EvalResult, Score
from rankscope.report import answers, moved
from rankscope.report.advice import silences, under_terms
from rankscope.report.evidence import with_margin
from rankscope.report.view import build
from report.conftest import ARMS, EVALUATIONS, NUM_ITEMS, arm_values, evaluation


def kl(key: str, name: str, mean: float) -> EvalResult:
    values = mean + 0.01 * np.sin(np.arange(50))
    return EvalResult(key, f"kl-{name}", "done", metric="kl",
                      scores=tuple(Score(str(i), float(v)) for i, v in enumerate(values)))  # fmt: skip


@pytest.fixture(scope="module")
def whole(evidence):
    """The planted study with scored trials, KL, a second scoring of the base, and skills."""
    evals, divergences = dict(evidence.evals), {}
    for spec, key, result, role in evidence.runs:
        if spec.train is None or result.status != "done":
            continue
        if role == "trial":
            for task, kind in EVALUATIONS[spec.train.name]:
                if kind != "cross_domain":
                    values = arm_values(spec.train.name, spec.arm.name, task, spec.seed)
                    metric = "cross_entropy" if task == "neutral_text" else "accuracy"
                    evals[key, task] = evaluation(key, task, values, metric)
        else:
            for name in (spec.train.name, "neutral_text"):
                divergences[key, name] = kl(key, name, 0.1 * (spec.arm.rank or 50))
    base = evidence.evals["base-key", "trivia"]
    again = tuple(replace(s, value=1 - s.value) if i < 3 else s for i, s in enumerate(base.scores[:200]))
    noise = {("base-key", "trivia"): replace(base, scores=again)}
    skills = {"qa-a": "reasoning", "qa-b": "recall", "trivia": "recall"}
    return replace(evidence, evals=evals, divergences=divergences, noise=noise, skills=skills)


@pytest.fixture(scope="module")
def told(whole):
    return build(whole)


def test_the_range_leaves_out_the_rank_planted_too_small(told):
    found = {a.train: a.choice for a in told.advice}
    assert set(found) == {"qa-a", "qa-b"}
    assert found["qa-a"].possible == ("lora-r4",)  # rank 1 learns less, rank 16 is shown to forget
    assert {e.arm for e in found["qa-a"].excluded} == {"lora-r1", "lora-r16"}
    assert found["qa-a"].arm == "lora-r4" and found["qa-a"].ranks == (4, 4)


def test_the_lead_names_the_recommended_range_and_arm(told):
    lead = next(v.lead for v in told.verdicts if v.train == "qa-a")
    assert "Recommended: rank 4; of these lora-r4." in lead


def test_other_terms_give_another_choice(whole, told):
    row = next(a for a in told.advice if a.train == "qa-a")
    asked = under_terms(whole, told.headlines, told.base, row, (None, "gain"))
    assert asked.arm == "lora-r4"
    strict = under_terms(whole, told.headlines, told.base, row, (1.0, None))
    assert strict.tier != row.choice.tier


def test_every_aspect_is_compared_with_full_or_said_to_be_missing(told):
    row = next(a for a in told.advice if a.train == "qa-a")
    names = {a.name for a in row.aspects}
    assert names == {"Efficiency", "Learning", "Retention", "Generalisation", "Reasoning", "Recall", "Neutral text"}
    retained = next(a for a in row.aspects if a.name == "Retention")
    assert (
        retained.what == "retention, pooled" and retained.effect.contrast.verdict == "better"
    )  # full was planted to forget
    parameters = next(a for a in row.aspects if a.what == "Trained parameters")
    assert (parameters.ours, parameters.theirs) == (16_000, 80_000_000)
    assert all(a.effect or a.unit or a.what == "" for a in row.aspects)


def test_an_arm_beaten_in_gain_forgetting_and_cost_is_off_the_frontier(told):
    rows = {f.arm: f for f in told.frontier if f.train == "qa-a"}
    assert rows["lora-r4"].is_on and rows["lora-r1"].is_on  # the cheapest stays
    assert not rows["full"].is_on and "lora-r16" in rows["full"].dominated_by  # as much learned, more forgotten, dearer
    assert "no verdict" in answers.frontier(told).intro


def test_a_study_without_full_sft_has_no_points_against_it(whole):
    arms = tuple(a for a in ARMS if a.kind != "full")
    runs = tuple(r for r in whole.runs if r[0].arm.kind != "full")
    view = build(replace(whole, arms=arms, runs=runs))
    assert all(a.aspects == () for a in view.advice) and answers.against_full(view) is None


def test_a_rank_without_runs_yet_is_named_in_the_lead_and_in_the_reason(whole):
    def later(key):
        return key.startswith(("qa-a-lora-r1-", "qa-a-lora-r16"))

    runs = tuple(r for r in whole.runs if not later(r[1]))
    view = build(replace(whole, runs=runs))
    choice = next(a.choice for a in view.advice if a.train == "qa-a")
    assert (choice.arm, choice.is_told_apart, choice.awaited) == ("lora-r4", False, ("lora-r1", "lora-r16"))
    assert "only arm scored so far; lora-r1 and lora-r16 are not scored yet" in choice.reason
    lead = next(v.lead for v in view.verdicts if v.train == "qa-a")
    assert "Recommended so far: rank 4; of these lora-r4 (lora-r1 and lora-r16 not scored yet)." in lead
    other = next(a.choice for a in view.advice if a.train == "qa-b")
    assert other.awaited == () and "not scored yet" not in other.reason  # a run that failed is not awaited


def test_scores_that_are_still_to_come_are_awaited_and_failed_ones_are_not(whole):
    evals = {own: e for own, e in whole.evals.items() if not (own[0].startswith("qa-a-lora-r1-") and own[1] == "qa-a")}
    view = build(replace(whole, evals=evals))
    assert next(a.choice for a in view.advice if a.train == "qa-a").awaited == ("lora-r1",)
    failed = {own: e if own in evals else replace(e, status="failed", scores=()) for own, e in whole.evals.items()}
    choice = next(a.choice for a in build(replace(whole, evals=failed)).advice if a.train == "qa-a")
    assert choice.awaited == () and "has no in-domain scores" in [e.why for e in choice.excluded]


def test_a_study_without_recommendation_says_why(whole):
    full = tuple(a for a in ARMS if a.kind != "lora")
    alone = replace(whole, arms=full, runs=tuple(r for r in whole.runs if r[0].arm.kind != "lora"))
    assert silences(whole, build(whole).advice) == []
    assert silences(alone, build(alone).advice) == [
        f"tiny-model, trained on {train}: the study trains no LoRA arm, so there is no rank to choose"
        for train in ("qa-a", "qa-b")
    ]
    both = {"qa-a": (("qa-a", "in_domain"), ("neutral_text", "in_domain")), "qa-b": whole.evaluations["qa-b"]}
    mixed = replace(whole, evaluations=both)
    (told,) = silences(mixed, build(mixed).advice)
    assert told.startswith("tiny-model, trained on qa-a:") and "points and in nats" in told


def test_the_claims_are_answered_with_their_test(told):
    found = {q.claim: q for q in told.questions if q.train == "qa-a"}
    assert len(found) == 5 and all(q.test and q.why for q in found.values())
    above = next(q for claim, q in found.items() if "general knowledge" in claim)
    assert above.answer == "holds"  # full SFT was planted to forget 16 points
    rank = next(q for claim, q in found.items() if "32 to 64" in claim)
    assert rank.answer == "not asked" and "no rank from 32 to 64" in rank.why


def test_forgetting_at_matched_gain_needs_two_scored_rates(evidence, told):
    assert build(evidence).matched == ()  # trials without scores
    rows = [m for m in told.matched if (m.train, m.metric) == ("qa-a", "accuracy")]
    assert {m.arm for m in rows} == {a.name for a in ARMS[1:]}
    full = [m for m in rows if m.arm == "full" and m.forgetting]
    assert full and all(m.forgetting.scope == "this seed only" for m in full)
    for m in full:  # straight from the base to a gain of 15 and a loss of 16 points
        assert m.forgetting.value == pytest.approx(m.gain * 0.16 / 0.15, rel=0.15)
    points = [p for p in told.matched_points if (p.train, p.arm, p.metric) == ("qa-a", "full", "accuracy")]
    assert [p.is_chosen for p in sorted(points, key=lambda p: p.lr)] == [True, False]


def test_kl_is_shown_by_arm_and_what_was_not_measured_is_no_number(told):
    rows = {(d.train, d.arm, d.name): d.estimate for d in told.divergences}
    assert rows["qa-a", "lora-r1", "qa-a"].value == pytest.approx(0.1, abs=0.01)
    assert rows["qa-a", "full", "neutral_text"].value == pytest.approx(5.0, abs=0.01)
    assert ("qa-a", "full", "qa-b") not in rows  # the other train task's rows are not this one's


def test_a_study_without_further_measures_has_no_section_for_them(view):
    assert moved.divergence(view) is None and moved.noise(view) is None and moved.matched(view) is None


def test_the_noise_floor_counts_what_changed_between_two_scorings_of_the_base(told):
    (row,) = told.noise
    assert (row.task, row.num_items, row.changed, row.largest) == ("trivia", 200, 3, 1.0)


def test_the_margin_is_what_the_smallest_test_can_reach_unless_one_is_named(evidence):
    assert NUM_ITEMS < 2000
    assert with_margin(replace(evidence, margin=None)).margin == 0.03
    assert with_margin(evidence).margin == 0.02


def test_the_alarm_is_the_study_s_own(evidence):
    near = build(replace(evidence, alarm=0.01))
    far = build(replace(evidence, alarm=0.5))
    assert sum(e.is_alarm for e in near.effects) > sum(e.is_alarm for e in far.effects) == 0
    assert any("beyond 1 points" in text for v in near.verdicts for _, text in v.points)


def test_one_seed_is_said_wherever_a_seed_matters(whole):
    runs = tuple(r for r in whole.runs if r[0].train is None or r[0].seed == 0)
    view = build(replace(whole, runs=runs, seeds=(0,)))
    assert all(e.contrast.estimate.scope == "this seed only" for e in view.effects)
    assert all(a.choice.compared.scope == "this seed only" for a in view.advice)
    assert all(m.forgetting.scope == "this seed only" for m in view.matched if m.forgetting)
    assert all(d.estimate.scope == "this seed only" for d in view.divergences if d.estimate)
    assert all("this seed only" in v.lead for v in view.verdicts)
    section = answers.recommendation(view)
    assert all("this seed only" in t.caption for t in section.tables if t.id.startswith("range"))
