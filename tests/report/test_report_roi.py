"""What the calculator gets of a study: measured numbers with their intervals, and no price."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rankscope.report.roi import payload, script
from rankscope.report.view import build
from rankscope.stats.mechanism import over_seeds
from rankscope.stats.roi import NO_FULL, ONE_RUN


def by_name(case):
    return {arm.name: arm for arm in case.arms}


def test_measured_numbers_are_those_of_the_ledger_and_the_headlines(view):
    first, second = view.cases
    assert (first.model, first.train, second.train) == ("tiny-model", "qa-a", "qa-b")
    arms = by_name(first)
    assert list(arms) == ["lora-r1", "lora-r4", "lora-r16", "full"]
    row = next(h for h in view.headlines if (h.train, h.arm) == ("qa-a", "lora-r4"))
    found = arms["lora-r4"].measured
    assert (found["seconds"].value, found["tokens"].value, found["flops"].value) == (64.0, 128_000.0, 1e15)
    assert (found["trainable"].value, found["blob_bytes"].value) == (16_000.0, 64_000.0)
    estimate = row.gain.contrast.estimate
    assert (found["gain"].value, found["gain"].low) == (100 * estimate.value, 100 * estimate.low)
    assert found["forgotten"].high == 100 * row.forgotten.high
    assert [a.name for a in first.arms if a.is_recommended] == [view.advice[0].choice.arm]


def test_the_difference_to_full_sft_is_the_paired_one(view):
    arms = by_name(view.cases[0])
    found = arms["lora-r16"].measured["gain_over_full"]
    effect = next(e for e in view.effects if (e.train, e.role, e.contrast.arm, e.contrast.other)
                  == ("qa-a", "in_domain", "lora-r16", "full"))  # fmt: skip
    assert (found.value, found.high) == (100 * effect.contrast.estimate.value, 100 * effect.contrast.estimate.high)
    assert arms["full"].measured["gain_over_full"].value == 0.0


def test_seconds_have_an_interval_over_seeds_and_one_run_says_it_has_none(view, unfinished):
    seconds = by_name(view.cases[0])["lora-r4"].measured["seconds"]
    wanted = over_seeds([64.0] * 3)
    assert (seconds.low, seconds.high) == (wanted.low, wanted.high)
    (case,) = build(unfinished).cases
    assert by_name(case)["lora-r4"].measured["seconds"].reason == ONE_RUN


def test_parameters_come_from_counted_flops_and_every_measured_second_counts_once(view, evidence):
    (case, _) = view.cases
    assert case.shared["params"].value == round((1e15 / 128_000 - 6 * 4000) / 4)
    total = sum(r[2].ledger.seconds for r in evidence.runs) + sum(e.ledger.seconds for e in evidence.evals.values())
    assert case.shared["study_seconds"].value == pytest.approx(total)


def test_of_two_tasks_in_domain_every_gain_is_about_the_first(evidence):
    own = evidence.evaluations["qa-a"]
    both = {**evidence.evaluations, "qa-a": tuple((t, "in_domain" if t == "trivia" else role) for t, role in own)}
    found = build(replace(evidence, evaluations=both))
    arms = by_name(found.cases[0])
    effect = next(e for e in found.effects if (e.train, e.task, e.contrast.arm, e.contrast.other)
                  == ("qa-a", "qa-a", "lora-r16", "full"))  # fmt: skip
    assert arms["lora-r16"].measured["gain_over_full"].value == 100 * effect.contrast.estimate.value
    lost = {k for k in evidence.evals if k[0].startswith("qa-a-lora-r4") and k[1] == "qa-a"}
    evals = {k: e for k, e in evidence.evals.items() if k not in lost}
    gains = {h.arm: h.gain for h in build(replace(evidence, evaluations=both, evals=evals)).headlines
             if h.train == "qa-a"}  # fmt: skip
    assert len(lost) == 3 and gains["lora-r4"] is None
    assert {g.task for g in gains.values() if g} == {"qa-a"} and gains["lora-r1"]


def test_a_study_without_full_sft_says_so(evidence):
    arms = tuple(a for a in evidence.arms if a.kind != "full")
    runs = tuple(r for r in evidence.runs if r[0].arm.kind != "full")
    lean = replace(evidence, arms=arms, runs=runs)
    found = build(lean).cases[0]
    assert {arm.measured["gain_over_full"].reason for arm in found.arms} == {NO_FULL}


def test_a_study_with_nothing_trained_has_no_calculator(evidence):
    bare = replace(evidence, runs=tuple(r for r in evidence.runs if r[0].train is None))
    assert payload("bare", build(bare).cases) is None


def test_the_payload_is_json_without_a_price_or_an_infinity(view):
    data = payload(view.name, view.cases)
    assert json.loads(json.dumps(data, allow_nan=False))["study"] == "planted"
    assert not any(entry["assumed"] for entry in data["inputs"] if entry["group"] == "price")


def test_the_script_builds_text_as_text_and_evaluates_nothing():
    code = script()
    for word in ("innerHTML", "eval(", "Function(", "document.write", "fetch(", "XMLHttp", "insertAdjacent"):
        assert word not in code
    assert code.count('rankscope.widget("roi"') == 1
