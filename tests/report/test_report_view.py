"""The view's numbers against hand computation on the planted study."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from rankscope.records import Diagnosis, EvalResult, Ledger, RunResult, Score
from rankscope.report import render
from rankscope.report.evidence import Index, Panel, difference
from rankscope.report.family import _is_exact
from rankscope.report.page import sections
from rankscope.report.pooling import pool
from rankscope.report.questions import _Asked
from rankscope.report.rows import Measured
from rankscope.report.view import build
from rankscope.stats.estimate import flips, mean_estimate, parts, shared
from report.conftest import evaluation, nats


def means(evidence, train, arm, task):
    """Mean score by hand, over the final runs that are done."""
    keys = [
        r[1] for r in evidence.runs if r[0].train and (r[0].train.name, r[0].arm.name, r[3]) == (train, arm, "final")
    ]
    found = [evidence.evals[key, task] for key in keys if (key, task) in evidence.evals]
    return np.mean([[s.value for s in e.scores] for e in found])


def headline(view, train, arm):
    return next(h for h in view.headlines if (h.train, h.arm) == (train, arm))


def base_mean(evidence, task):
    return np.mean([s.value for s in evidence.evals["base-key", task].scores])


@pytest.mark.parametrize("train", ["qa-a", "qa-b"])
@pytest.mark.parametrize("arm", ["lora-r1", "lora-r4", "lora-r16", "full"])
def test_gain_forgetting_and_cross_entropy_equal_the_plain_means(evidence, view, train, arm):
    row = headline(view, train, arm)
    gain = means(evidence, train, arm, train) - base_mean(evidence, train)
    lost = np.mean([base_mean(evidence, t) - means(evidence, train, arm, t) for t in ("trivia", "recall")])
    rise = means(evidence, train, arm, "neutral_text") - base_mean(evidence, "neutral_text")
    assert row.gain.contrast.estimate.value == pytest.approx(gain)
    assert row.forgotten.value == pytest.approx(lost)
    assert row.ce_rise.value == pytest.approx(rise)


def test_retention_is_the_mean_chance_corrected_share_without_the_task_at_chance(evidence, view):
    shares = [
        (means(evidence, "qa-a", "full", task) - chance) / (base_mean(evidence, task) - chance)
        for task, chance in (("trivia", 0.25), ("recall", 0.30))
    ]
    row = headline(view, "qa-a", "full")
    assert row.retention.value == pytest.approx(np.mean(shares))
    assert row.retention.low < row.retention.value < row.retention.high


def test_pooling_gives_the_mean_of_means_and_the_variance_within_tasks():
    rng = np.random.default_rng(0)
    small, large = rng.normal(0.0, 1, (1, 50)), rng.normal(9.0, 1, (1, 400))
    panels = {"a": Panel(small, tuple(map(str, range(50))), (0,), None, "accuracy"),
              "b": Panel(large, tuple(map(str, range(400))), (0,), None, "accuracy")}  # fmt: skip
    pooled = mean_estimate(pool(panels).values)
    assert pooled.value == pytest.approx((small.mean() + large.mean()) / 2)
    assert pooled.se == pytest.approx(np.sqrt(small.var() / 50 + large.var() / 400) / 2, rel=0.02)


def test_a_pool_of_a_large_and_a_small_task_has_the_small_ones_degrees_of_freedom():
    rng = np.random.default_rng(1)
    tables = {"a": rng.normal(0, 1, (1, 2000)), "b": rng.normal(0, 1, (1, 15))}
    panels = {
        t: Panel(v, tuple(map(str, range(v.shape[1]))), (0,), None, "accuracy", changed=flips(v))
        for t, v in tables.items()
    }
    found = pool(panels)
    spread = parts(found.values, strata=found.strata).spread
    assert 14 <= spread.df < 14.5
    assert spread.se == pytest.approx(np.sqrt(tables["a"].var(ddof=1) / 2000 + tables["b"].var(ddof=1) / 15) / 2)
    assert found.changed.items == 30


def test_family_holds_every_arm_against_base_pooled_retention_and_lora_against_full(view):
    mine = [e for e in view.effects if e.train == "qa-a"]
    against_base = {(e.contrast.arm, e.task) for e in mine if e.contrast.other == "base"}
    assert len(against_base) == 4 * 7  # four arms, six tasks and the pooled retention
    against_full = [e.contrast for e in mine if e.contrast.other == "full"]
    aspects = ("qa-a", "retention, pooled", "qa-b", "neutral_text")
    assert {(c.arm, c.task) for c in against_full} == {(f"lora-r{r}", task) for r in (1, 4, 16) for task in aspects}
    assert len(view.effects) == 2 * (4 * 7 + 3 * 4)


def test_a_rise_of_cross_entropy_counts_as_worse(view):
    effect = next(e for e in view.effects if (e.train, e.contrast.arm, e.task) == ("qa-a", "full", "neutral_text"))
    assert effect.contrast.estimate.value < 0
    assert effect.contrast.verdict == "worse"
    assert headline(view, "qa-a", "full").ce_rise.value > 0


def test_transfer_marks_only_what_the_simultaneous_interval_shows_and_alarms_beyond_ten_points(view):
    cells = {(t.arm, t.train, t.task): t.effect for t in view.transfer}
    assert (cells["full", "qa-a", "qa-b"].mark, cells["full", "qa-a", "qa-b"].is_alarm) == ("negative", True)
    assert (cells["lora-r16", "qa-a", "qa-b"].mark, cells["lora-r16", "qa-a", "qa-b"].is_alarm) == ("negative", False)
    assert cells["lora-r1", "qa-a", "qa-b"].mark == ""
    assert cells["lora-r4", "qa-a", "qa-a"].mark == "positive"
    for effect in cells.values():
        assert bool(effect.mark) == (effect.contrast.low > 0 or effect.contrast.high < 0)


def test_task_at_chance_is_flagged_wherever_it_is_shown(view):
    assert [b.is_above_chance for b in view.base if b.task == "letters"] == [False]
    assert all(s.is_above_chance is False for s in view.scores if s.task == "letters")
    assert all(e.is_above_chance is False for e in view.effects if e.task == "letters")
    assert all(f.is_above_chance is False for f in view.flips if f.task == "letters")
    assert all(e.is_above_chance for e in view.effects if e.task == "trivia")


def test_base_is_shown_few_shot_beside_zero_shot(evidence, view):
    row = next(b for b in view.base if b.task == "qa-a")
    assert [s.shots for s in row.few_shot] == [5]
    expected = base_mean(evidence, "qa-a@5shot") - base_mean(evidence, "qa-a")
    assert row.few_shot[0].lift.value == pytest.approx(expected)
    assert row.estimate.scope == "items"


def test_failed_run_is_a_row_with_its_message_and_in_no_mean(view):
    rows = [r for r in view.runs if r.status == "failed"]
    assert [(r.stage, r.message, r.validation_loss, r.steps) for r in rows] == [
        ("train", "loss is not finite at step 31", None, None)
    ]
    row = headline(view, "qa-b", "lora-r16")
    assert (row.num_seeds, row.num_seeds_planned, row.num_failed) == (2, 3, 1)
    assert row.gain.contrast.estimate.num_seeds == 2
    assert row.gain.contrast.estimate.value > 0.1
    assert "loss is not finite at step 31" in view.failures[0].message


def test_flips_are_counted_over_items_and_seeds(evidence, view):
    row = next(f for f in view.flips if (f.train, f.arm, f.task) == ("qa-a", "full", "trivia"))
    before = np.array([s.value for s in evidence.evals["base-key", "trivia"].scores])
    after = np.array(
        [[s.value for s in evidence.evals[f"qa-a-full-0.0001-{seed}", "trivia"].scores] for seed in range(3)]
    )
    assert row.lost == int(((before == 1) & (after == 0)).sum())
    assert row.won == int(((before == 0) & (after == 1)).sum())


def test_learning_rates_tried_are_all_listed_and_one_is_chosen(view):
    rows = [t for t in view.trials if (t.train, t.arm) == ("qa-a", "lora-r4")]
    assert [(t.lr, t.is_chosen) for t in rows] == [(0.001, True), (0.003, False)]


def test_curves_are_averaged_into_few_points_that_end_at_the_last_step(view):
    assert all(len(c.steps) == 60 and c.steps[-1] == 200 for c in view.curves)
    assert all(c.losses[0] > c.losses[-1] for c in view.curves)


def test_tuning_share_counts_the_trials_that_lost(evidence, view):
    *parts, total = view.costs
    tuning = parts[1]
    assert tuning.num_runs == 8
    assert total.seconds.value == pytest.approx(sum(p.seconds.value for p in parts))
    by_hand = sum(r[2].ledger.seconds for r in evidence.runs if r[3] == "trial")
    assert tuning.share == pytest.approx(by_hand / total.seconds.value)


def test_costs_that_were_not_measured_are_in_no_sum_and_are_told(evidence, view):
    training, tuning, evaluation, total = view.costs
    num_evals, failed = len(evidence.evals), 1
    assert training.flops == Measured(
        1e15 * (training.num_runs - failed), 0
    )  # a run that failed before its first token
    assert evaluation.flops == Measured(None, num_evals)
    assert total.flops == Measured(training.flops.value + tuning.flops.value, num_evals)
    cells = {row[0].text: row for row in next(s for s in sections(view) if s.id == "cost").tables[0].rows}
    assert cells["Evaluation"][5].text == "–"
    assert (cells["Total"][5].text, cells["Total"][5].note) == ("at least 3.10e+16", f"{num_evals} pieces not measured")
    bare = replace(evidence, runs=tuple((s, k, replace(r, ledger=Ledger()), x) for s, k, r, x in evidence.runs))
    rows = next(s for s in sections(build(bare)) if s.id == "cost").tables[0].rows
    assert [cell.text for cell in rows[0][2:]] == ["–"] * 4


def test_what_the_kl_and_the_second_scoring_cost_has_parts_of_its_own(evidence, view):
    cost = Ledger(seconds=40.0, tokens=10, flops=1e9)
    kl = EvalResult("qa-a-full-0.0001-1", "kl", "done", metric="kl", ledger=cost)
    noise = EvalResult("base-key", "noise", "done", metric="accuracy", ledger=replace(cost, seconds=2.0))
    more = build(replace(evidence, divergences={(kl.run_key, "trivia"): kl}, noise={("base-key", "trivia"): noise}))
    found = {part.part: part.seconds.value for part in more.costs}
    assert (found["KL divergence from the base"], found["Second scoring of the base"]) == (40.0, 2.0)
    assert found["Total"] == pytest.approx(view.costs[-1].seconds.value + 42)
    assert len(more.costs) == len(view.costs) + 2


def test_the_look_inside_costs_time_and_its_tokens_are_not_counted_as_none(evidence, view):
    look = Diagnosis("qa-a-full-0.0001-1", "d", "drift", "done", ledger=Ledger(seconds=30.0))
    more = build(replace(evidence, diagnoses={(look.run_key, "drift"): look})).costs
    inside, total = more[-2:]
    assert (inside.part, inside.seconds.value, inside.tokens) == ("Looking inside the model", 30.0, Measured(None, 1))
    assert total.seconds.value == pytest.approx(view.costs[-1].seconds.value + 30)
    before = view.costs[-1].tokens
    assert total.tokens == Measured(before.value, before.num_unknown + 1)


def test_failed_evaluation_that_cost_something_is_in_the_sum(evidence):
    key = ("qa-a-full-0.0001-1", "trivia")
    broken = EvalResult(key[0], "key-trivia", "failed", "no answer", ledger=Ledger(seconds=50.0, tokens=7, flops=1e9))
    before, after = (build(e).costs[2] for e in (evidence, replace(evidence, evals={**evidence.evals, key: broken})))
    assert after.seconds.value == pytest.approx(before.seconds.value + 47)
    assert after.flops == Measured(1e9, len(evidence.evals) - 1)


def test_runs_trained_side_by_side_say_so_beside_their_time(evidence):
    runs = tuple((s, k, replace(r, environment={"packing": ["a", "b", "c"] if s.arm.kind == "lora" else [k]}), role)
                 for s, k, r, role in evidence.runs)  # fmt: skip
    view = build(replace(evidence, runs=runs))
    assert headline(view, "qa-a", "lora-r4").side_by_side == (3,)
    table = next(s for s in sections(view) if s.id == "headline").tables[0]
    place = table.titles.index("Time a run (its share)")
    assert [row[place].note for row in table.rows] == ["3 side by side"] * 3 + [""]


def test_origin_is_that_of_the_runs_and_not_of_the_process_that_draws_the_page(evidence):
    def of(spec, key):
        versions = {"torch": "2.8" if spec.train is None else "2.9", "peft": None}
        return {"versions": versions, "python": "3.12", "device": "cpu", "dtype": "float32", "threads": 1,
                "packing": [key, "another-key"]}  # fmt: skip

    runs = tuple((s, k, replace(r, environment=of(s, k)), role) for s, k, r, role in evidence.runs)
    runs = (*runs[:-1], (*runs[-1][:2], replace(runs[-1][2], environment={}), runs[-1][3]))
    view = build(replace(evidence, runs=runs, environment={"versions": {"numpy": "9.9", "peft": None}, "threads": 77}))
    facts = {f.name: f.value for f in view.provenance}
    assert facts["Made on (the base)"] == "cpu, float32, 1 thread, Python 3.12, torch 2.8, peft not installed"
    assert "torch 2.9" in facts[f"Made on ({len(runs) - 2} runs)"]
    assert facts["Made on (1 run)"] == "not recorded"
    assert facts["Rendered with"] == "numpy 9.9"
    assert "77" not in str(facts) and "another-key" not in str(facts)


def test_arms_of_one_block_share_their_seed_part(evidence, view):
    arms = ("lora-r1", "lora-r4", "lora-r16", "full")
    lr = {"full": "0.0001"}
    base = np.array([s.value for s in evidence.evals["base-key", "neutral_text"].scores])
    tables = [
        base - [[s.value for s in evidence.evals[f"qa-a-{a}-{lr.get(a, '0.001')}-{n}", "neutral_text"].scores]
                for n in range(3)]
        for a in arms
    ]  # fmt: skip
    mine = [e for e in view.effects if e.contrast.other == "base"]
    effects = {e.contrast.arm: e for e in mine if (e.train, e.task) == ("qa-a", "neutral_text")}
    for arm, found in zip(arms, shared([parts(t) for t in tables]), strict=True):
        assert effects[arm].contrast.estimate.se == pytest.approx(found.spread.se)
    scores = {s.arm: s for s in view.scores if (s.train, s.task) == ("qa-a", "neutral_text")}
    for arm, found in zip(arms, shared([parts(t - base) for t in tables]), strict=True):
        assert scores[arm].estimate.se == pytest.approx(found.spread.se)


def test_sixty_items_without_a_flip_are_not_shown_retained_and_six_hundred_are(evidence):
    def kept(count):
        evals = {k: replace(e, scores=e.scores[:count]) for k, e in evidence.evals.items()}
        for (key, task), found in evals.items():
            if task in ("trivia", "recall"):
                evals[key, task] = replace(found, scores=evals["base-key", task].scores)
        view = build(replace(evidence, evals=evals))
        words = {e.contrast.verdict for e in view.effects if e.task in ("trivia", "recall")}
        return headline(view, "qa-a", "lora-r4").kept, words

    assert kept(60) == ("not shown", {"undecided"})
    assert kept(600) == ("shown", {"equivalent"})


def with_nats(evidence, rise, tasks=None):
    """The evidence with neutral text shifted by ``rise`` for every arm, and only those retention tasks."""
    evals = {(k, t): e if t != "neutral_text" or k == "base-key" else evaluation(k, t, nats(rise, 0), "cross_entropy")
             for (k, t), e in evidence.evals.items()}  # fmt: skip
    declared = {
        train: tuple((t, role) for t, role in pairs if role != "retention" or tasks is None or t in tasks)
        for train, pairs in evidence.evaluations.items()
    }
    return build(replace(evidence, evals=evals, evaluations=declared))


def test_cross_entropy_shown_to_rise_forbids_shown_retained(evidence):
    quiet, loud = (headline(with_nats(evidence, rise), "qa-a", "lora-r4") for rise in (0.0, 0.3))
    assert (quiet.kept, quiet.kept_reason[:12]) == ("shown", "loss at most")
    assert loud.kept == "not shown"
    assert loud.kept_reason.startswith("CE on neutral_text rose by at least 0.29")
    lost = headline(with_nats(evidence, 0.3), "qa-a", "full")
    assert lost.kept == "lost" and "worse on trivia" in lost.kept_reason and "CE on neutral_text" in lost.kept_reason


@pytest.mark.parametrize(("rise", "word"), [(0.3, "lost"), (0.0, "shown")])
def test_where_only_cross_entropy_is_measured_it_decides(evidence, rise, word):
    view = with_nats(evidence, rise, ("neutral_text",))
    row = headline(view, "qa-a", "lora-r4")
    assert row.kept == word and row.kept_reason.startswith("CE")
    assert "retention has not been measured" not in view.verdict


def test_a_drop_estimated_beyond_ten_points_is_an_alarm_only_if_the_whole_interval_is(evidence):
    def rescored(count, share):
        """Full SFT trained on qa-a loses ``share`` of the items of qa-b."""
        before = np.array([s.value for s in evidence.evals["base-key", "qa-b"].scores])[:count]
        after = before.copy()
        after[np.flatnonzero(before)[: round(share * count)]] = 0
        changed = {("base-key", "qa-b"): before} | {(f"qa-a-full-0.0001-{n}", "qa-b"): after for n in range(3)}
        evals = {**evidence.evals, **{(k, t): evaluation(k, t, v) for (k, t), v in changed.items()}}
        effects = build(replace(evidence, evals=evals)).effects
        return next(e for e in effects if (e.train, e.contrast.arm, e.task) == ("qa-a", "full", "qa-b"))

    clear, unclear = rescored(600, 0.2), rescored(600, 0.12)
    assert (clear.mark, clear.is_large, clear.is_alarm) == ("negative", True, True)
    assert (unclear.mark, unclear.is_large, unclear.is_alarm) == ("negative", True, False)
    assert unclear.contrast.estimate.value < -0.10 < unclear.contrast.high


def test_the_base_gets_wilsons_interval_for_right_or_wrong_answers(evidence, view):
    row = next(b for b in view.base if b.task == "trivia")
    right = sum(s.value for s in evidence.evals["base-key", "trivia"].scores)
    exact = stats.binomtest(int(right), 600).proportion_ci(method="wilson")
    assert (row.estimate.low, row.estimate.high) == pytest.approx((exact.low, exact.high))
    assert next(b for b in view.base if b.task == "neutral_text").estimate.method.startswith("two-way")


def test_one_seed_of_right_or_wrong_answers_has_mcnemars_p_beside_it(evidence, view):
    runs = tuple(r for r in evidence.runs if r[0].seed == 0)
    single = build(replace(evidence, runs=runs, seeds=(0,)))
    effect = next(e for e in single.effects if (e.train, e.contrast.arm, e.task) == ("qa-a", "full", "trivia"))
    flipped = next(f for f in single.flips if (f.train, f.arm, f.task) == ("qa-a", "full", "trivia"))
    assert effect.exact_p == pytest.approx(stats.binomtest(flipped.won, flipped.won + flipped.lost).pvalue)
    assert {e.exact_p for e in single.effects if e.metric == "cross_entropy" or "pooled" in e.task} == {None}
    assert {e.exact_p for e in view.effects} == {None}
    assert "McNemar < 0.001" in render(single, "html").replace("&lt;", "<")


def test_unfinished_study_says_what_is_missing_and_shows_no_zero(unfinished):
    view = build(unfinished)
    text = "\n".join(view.missing)
    assert "tiny-model, qa-a, lora-r1: seeds 0, 1, 2 not run yet." in text
    assert "tiny-model, qa-a, lora-r4: seeds 1, 2 not run yet." in text
    assert "not evaluated yet on trivia" in text
    row = headline(view, "qa-a", "lora-r1")
    assert (row.gain, row.forgotten, row.retention, row.seconds, row.lr) == (None,) * 5
    gone = next(s for s in view.scores if (s.train, s.arm, s.task) == ("qa-a", "full", "trivia"))
    assert (gone.estimate, gone.missing) == (None, "not evaluated")
    assert "speaks for this seed only" in view.verdicts[0].lead
    assert "nothing can be said yet" in view.verdicts[1].lead


def test_study_that_has_not_started_is_a_page_that_says_so(evidence):
    view = build(replace(evidence, runs=(), evals={}))
    assert view.verdict == "No run has started: there is nothing to show yet."
    assert view.headlines == ()


def test_failed_evaluation_is_a_failure_and_not_a_zero(evidence):
    key = ("qa-a-full-0.0001-1", "trivia")
    broken = EvalResult(key[0], "key-trivia", "failed", message="out of memory")
    view = build(replace(evidence, evals={**evidence.evals, key: broken}))
    assert any(f.message == "out of memory" and "trivia" in f.what for f in view.failures)
    score = next(s for s in view.scores if (s.train, s.arm, s.task) == ("qa-a", "full", "trivia"))
    assert score.estimate.num_seeds == 2
    assert score.estimate.value > 0.3


def test_items_in_another_order_are_paired_by_name(evidence, view):
    key = ("base-key", "trivia")
    turned = replace(evidence.evals[key], scores=tuple(reversed(evidence.evals[key].scores)))
    again = build(replace(evidence, evals={**evidence.evals, key: turned}))
    assert [e.contrast.estimate.se for e in again.effects] == pytest.approx(
        [e.contrast.estimate.se for e in view.effects]
    )


def test_json_form_is_finite_and_complete(view):
    data = view.as_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["headlines"][0]["gain"]["contrast"]["estimate"]["num_items"] == 600
    assert data["verdict"].startswith("Trained on qa-a")


def test_nan_losses_become_missing_and_never_numbers(evidence):
    spec, key, result, role = evidence.runs[2]
    sick = replace(result, validation_loss=float("nan"), validation_se=float("inf"))
    view = build(replace(evidence, runs=((spec, key, sick, role),)))
    assert view.runs[0].validation_loss is None
    json.dumps(view.as_dict(), allow_nan=False)


def test_run_without_measured_cost_has_no_cost_in_its_row(evidence):
    runs = tuple((s, k, replace(r, ledger=Ledger()), role) for s, k, r, role in evidence.runs)
    row = headline(build(replace(evidence, runs=runs)), "qa-a", "full")
    assert (row.seconds, row.peak_bytes, row.trainable, row.blob_bytes) == (None,) * 4


def test_two_models_are_reported_apart(evidence):
    other = replace(evidence.runs[0][0].model, id="hub/other-model")
    runs = (*evidence.runs, (replace(evidence.runs[0][0], model=other), "other", RunResult("other", "done"), "final"))
    scores = (Score("trivia-0", 1.0), Score("trivia-1", 0.0), Score("trivia-2", 1.0))
    evals = {
        **evidence.evals,
        ("other", "trivia"): EvalResult("other", "key-trivia", "done", chance=0.25, scores=scores),
    }
    view = build(replace(evidence, runs=runs, evals=evals))
    assert view.models == ("tiny-model", "other-model")
    assert len(view.verdicts) == 4
    assert [b.estimate.num_items for b in view.base if b.task == "trivia"] == [600, 3]


def test_few_shot_task_that_the_arms_are_judged_on_has_its_own_chance_flag(evidence):
    name = "trivia@5shot"
    evals = {(k, name if t == "letters" else t): e for (k, t), e in evidence.evals.items()}
    evaluations = {train: tuple((name if t == "letters" else t, role) for t, role in pairs)
                   for train, pairs in evidence.evaluations.items()}  # fmt: skip
    view = build(replace(evidence, evals=evals, evaluations=evaluations))
    assert {b.task: b.is_above_chance for b in view.base}[name] is False
    assert {e.is_above_chance for e in view.effects if e.task == name} == {False}
    assert next(h for h in view.headlines if h.arm == "full").retention.num_items == 1200


def test_items_without_a_finite_score_are_left_out_and_named(evidence):
    key = ("qa-a-full-0.0001-1", "neutral_text")
    scores = list(evidence.evals[key].scores)
    scores[3] = replace(scores[3], value=float("nan"))
    view = build(replace(evidence, evals={**evidence.evals, key: replace(evidence.evals[key], scores=tuple(scores))}))
    row = next(s for s in view.scores if (s.train, s.arm, s.task) == ("qa-a", "full", "neutral_text"))
    assert row.estimate.num_items == 599
    assert any("1 of 600 items have no finite score" in f.message for f in view.failures)


def test_one_item_gives_a_number_without_an_interval_and_no_invalid_json(evidence):
    evals = {k: replace(e, scores=e.scores[:1]) for k, e in evidence.evals.items()}
    view = build(replace(evidence, evals=evals))
    assert {e.contrast.verdict for e in view.effects} == {"undecided"}
    assert "[no interval]" in render(view, "html")
    json.loads(render(view, "json"))


@pytest.mark.parametrize(
    "given, shown",
    [
        ("org/model", "org/model"),
        ("demo", "demo"),
        ("/home/me/models/x", "x (local)"),
        ("../a/m.gguf", "m.gguf (local)"),
    ],
)
def test_a_report_names_no_path_of_its_author(given, shown):
    from rankscope.provenance import public_name

    assert public_name(given) == shown


def test_an_arm_that_lacks_a_retention_task_is_not_said_to_be_retained(evidence):
    """Its pooled retention would be of fewer tasks than the others', and the one that lacks may be what was lost."""
    lost = {k for k in evidence.evals if k[0].startswith("qa-a-lora-r4") and k[1] == "recall"}
    found = build(replace(evidence, evals={k: e for k, e in evidence.evals.items() if k not in lost}))
    rows = {h.arm: h for h in found.headlines if h.train == "qa-a"}
    assert len(lost) == 3 and (rows["lora-r4"].kept, rows["lora-r4"].kept_reason) == ("no data", "not scored on recall")
    assert rows["lora-r4"].retention is None and rows["lora-r4"].forgotten is None
    assert rows["lora-r1"].retention is not None and rows["full"].kept == "lost"


def test_items_that_go_together_have_no_mcnemar_beside_them(evidence):
    index = Index(evidence)
    base, runs = index.base(index.models[0]), index.finals(index.models[0], "qa-a", "lora-r4")[:1]
    panel = difference(index.panel(runs, "trivia"), index.panel((base,), "trivia"), True)
    assert _is_exact(replace(panel, clusters=None))
    assert not _is_exact(replace(panel, clusters=np.arange(panel.values.shape[1]) // 2))


def test_each_arm_is_compared_with_full_sft_once_on_what_was_taught(evidence):
    """A pool of one skill that holds the same task alone is the same comparison."""
    asked = _Asked(Index(replace(evidence, skills={"qa-a": "reasoning"})), "tiny-model", "qa-a", {})
    assert sorted(pair.arm for _, pair in asked.against_full("in_domain")) == ["lora-r1", "lora-r16", "lora-r4"]


def test_which_rank_reasons_best_is_asked_of_a_lower_loss_where_scores_are_nats(evidence):
    asked = _Asked(Index(replace(evidence, skills={"neutral_text": "reasoning"})), "tiny-model", "qa-a", {})
    tables, _, _ = asked.by_task("reasoning")
    assert {s.arm: float(s.values.mean()) < 0 for s in tables["neutral_text"]} == dict.fromkeys(
        ("lora-r1", "lora-r4", "lora-r16"), True)  # fmt: skip
