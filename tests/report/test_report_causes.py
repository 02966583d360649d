"""What each part of an update carries, and what a smaller one keeps: the same items, seeds and sets, or no number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rankscope.records import Arm
from rankscope.report import causes, cut_ranks, depth
from rankscope.report.answer_rows import Advice
from rankscope.report.depth import Readings
from rankscope.report.evidence import Index
from rankscope.report.family import POOLED
from rankscope.report.inside import inside
from rankscope.report.inside_questions import findings, log_ratio, questions, swept
from rankscope.report.page import sections
from rankscope.report.view import build
from rankscope.stats import mechanism
from rankscope.stats.recommend import Recommendation
from report.inside_planted import SEEDS, attribution, losses, one, with_inside

FULL = "qa-a-full-0.0001-"
STATUS = {("tiny-model", "letters"): False}


@pytest.fixture(scope="module")
def looked(evidence):
    return with_inside(evidence)


def put(evidence, key, name, readings):
    """The evidence with these readings of one run's diagnostic."""
    known = next(d for (_, own), d in evidence.diagnoses.items() if own == name)
    mine = replace(known, run_key=key, readings=tuple(readings))
    return replace(evidence, diagnoses=evidence.diagnoses | {(key, name): mine})


def changed(evidence, name, change):
    """The evidence with every diagnosis of that name put through ``change``."""
    found = {key: replace(d, readings=tuple(change(d.readings))) if key[1] == name else d
             for key, d in evidence.diagnoses.items()}  # fmt: skip
    return replace(evidence, diagnoses=found)


def readings_of(evidence):
    return Readings(Index(evidence))


def kept_of(evidence, arm):
    return {k.variant: k for k in cut_ranks.kept(readings_of(evidence)) if k.arm == arm}


def test_steps_of_another_seed_that_kept_other_layers_are_in_no_share(looked):
    readings = [replace(r, values=tuple(v + 0.5 for v in r.values)) if r.variant in ("kept 1", "proposal")
                and r.name == "loss" else r for r in losses(1)]  # fmt: skip
    readings = [replace(r, values=(0.0, 1.0)) if r.name == "kept_layers" else r for r in readings]
    kept = kept_of(put(looked, FULL + "1", "attribution", readings), "full")
    assert kept["kept 1"].layers == (6, 7, 8) and kept["kept 1"].share.value == pytest.approx(0.6, abs=0.01)
    assert kept["proposal"].share.value == pytest.approx(0.96, abs=0.01)
    assert {k.share.num_seeds for k in kept.values()} == {1}


def test_a_proposal_that_two_seeds_agree_on_has_the_share_of_both(looked):
    kept = kept_of(put(looked, FULL + "1", "attribution", losses(1)), "full")
    assert kept["proposal"].share.num_seeds == 2 and kept["kept 1"].share.num_seeds == 1


def test_items_that_are_not_the_stored_ones_are_set_beside_no_trained_arm(looked):
    """The task's items are called 0, 1, 2, ...: so were those of readings that fit none of them."""
    renamed = {key: replace(e, scores=tuple(replace(s, item=str(i)) for i, s in enumerate(e.scores)))
               for key, e in looked.evals.items()}  # fmt: skip
    turned = changed(replace(looked, evals=renamed), "truncation", lambda found: [
        replace(r, values=tuple(1 - v for v in r.values)) if r.part == "qa-a" else r for r in found])  # fmt: skip
    for evidence, is_beside in ((replace(looked, evals=renamed), True), (turned, False)):
        rows = {(t.arm, t.rank): t for t in cut_ranks.truncated(readings_of(evidence)) if t.task == "qa-a"}
        assert (rows["lora-r16", 4].trained is not None) is is_beside


def test_only_an_arm_that_differs_in_rank_alone_stands_beside_a_cut_one(looked):
    def with_arm(**other):
        arms = tuple(replace(a, **other) if a.name == "lora-r4" else a for a in looked.arms)
        runs = tuple((replace(s, arm=replace(s.arm, **other)) if s.arm.name == "lora-r4" else s, *rest)
                     for s, *rest in looked.runs)  # fmt: skip
        rows = cut_ranks.truncated(readings_of(replace(looked, arms=arms, runs=runs)))
        return next(t for t in rows if (t.task, t.arm, t.rank) == ("qa-a", "lora-r16", 4)).trained_arm

    assert with_arm(alpha=8.0) == "lora-r4"
    for other in ({"layers": (0, 1)}, {"targets": ("q_proj",)}, {"scaling": "rslora"},
                  {"rank_pattern": (("q_proj", 64),)}, {"dropout": 0.1}):  # fmt: skip
        assert with_arm(**other) == "", other


def test_pooled_tasks_vary_within_themselves(looked):
    """Of one pooled task only four items are asked: their few degrees of freedom are those of the pool's interval."""
    few = changed(looked, "attribution", lambda found: [
        replace(r, values=r.values[:4]) if r.part == "trivia" else r for r in found])  # fmt: skip
    name, carried = "only layers 9-11", causes.carried(readings_of(few), STATUS)
    (row,) = [c for c in carried if (c.arm, c.task, c.place) == ("full", POOLED, name[5:])]
    found = few.diagnoses[FULL + "0", "attribution"].readings
    readings = {(r.part, r.variant): np.array(r.values) for r in found if r.name == "score"}
    parts = [readings[task, name] - readings[task, "none"] for task in ("trivia", "recall")]
    assert [len(p) for p in parts] == [4, 300]
    assert row.gained.value == pytest.approx(np.mean([p.mean() for p in parts]))
    assert row.gained.se == pytest.approx(np.sqrt(sum(p.var(ddof=1) / len(p) for p in parts)) / 2)


def test_a_head_counts_once_in_the_change_of_the_whole_model(looked):
    def with_head(found):
        return [*found, one("frobenius", 30.0, module="lm_head"), one("relative_frobenius", 0.3, module="lm_head")]

    rows = depth.rows(readings_of(changed(looked, "spectrum", with_head)))
    (row,) = [r for r in rows if (r.arm, r.name, r.layer, r.kind) == ("full", "relative change", None, "")]
    norms = [r.values[0] for r in looked.diagnoses[FULL + "0", "spectrum"].readings if r.name == "frobenius"]
    want = [np.sqrt(900 + sum(n * n for n in norms)) / np.sqrt(100**2 + len(norms) * 10**2) for _ in SEEDS]
    assert row.estimate.value == pytest.approx(want[0], rel=2e-3)


def test_claims_about_rank_ask_arms_that_differ_in_rank_alone():
    plain = [Arm(f"r{rank}", "lora", rank=rank, alpha=32.0) for rank in (1, 4, 16)]
    others = [
        Arm("twice-4", "lora", rank=4, alpha=8.0),
        Arm("root", "lora", rank=8, alpha=32.0, scaling="rslora"),
        Arm("lean", "lora", rank=4, alpha=32.0, layers=(2, 3)),
        Arm("patterned", "lora", rank=4, alpha=32.0, rank_pattern=(("q_proj", 32),)),
        Arm("full", "full"),
    ]
    assert [a.name for a in swept([*others, *plain])] == ["r1", "r4", "r16"]
    twice = [Arm(f"t{rank}", "lora", rank=rank, alpha=2.0 * rank) for rank in (2, 8)]
    assert [a.name for a in swept([plain[0], *twice])] == ["t2", "t8"]
    assert swept([others[-1]]) == ()


def test_an_arm_of_the_same_rank_but_other_layers_is_left_out_of_claims_about_rank_and_named(looked):
    """Its norm is ten times as large: with it among the others the norm would not be straight over log rank."""
    other = replace(next(a for a in looked.arms if a.name == "lora-r4"), name="some-layers-4", layers=(0, 1))
    runs, found = list(looked.runs), dict(looked.diagnoses)
    for spec, key, result, role in looked.runs:
        if spec.arm.name == "lora-r4":
            mine = replace(found[key, "spectrum"], run_key=f"{key}-some")
            runs.append((replace(spec, arm=other), f"{key}-some", replace(result, key=f"{key}-some"), role))
            found[f"{key}-some", "spectrum"] = replace(
                mine, readings=tuple(replace(r, values=(50.0 + spec.seed,)) if r.name == "total_frobenius" else r
                                     for r in mine.readings))  # fmt: skip
    grown = replace(looked, arms=(*looked.arms, other), runs=tuple(runs), diagnoses=found)
    before, after = ({q.claim: q for q in questions(readings_of(e))} for e in (looked, grown))
    assert after[mechanism.LOG_RANK].answer == before[mechanism.LOG_RANK].answer == "holds"
    assert after[mechanism.LOG_RANK].why.endswith("left out, for more than rank is different: some-layers-4")
    assert "left out" not in after[mechanism.UPWARD].why + before[mechanism.LOG_RANK].why


def lead(evidence, at_chance):
    rows = build(only_base(evidence)).base
    rows = tuple(replace(r, is_above_chance=r.task not in at_chance) for r in rows)
    return inside(Index(evidence), rows, ()).leads[0][2]


def only_base(evidence):
    """What is left of it when nothing was trained: quick to build a view from."""
    return replace(evidence, diagnoses={}, arms=evidence.arms[:1], runs=evidence.runs[:1])


def test_what_is_forgotten_is_read_off_a_task_that_the_base_could_do(looked):
    """Three of four retention tasks are at chance: there is no pool, and only the one left can show forgetting."""
    at_chance = ("trivia", "letters", "qa-a")
    mine = {key: d for key, d in looked.diagnoses.items() if key[0].startswith(FULL)}
    full = replace(looked, diagnoses=mine)
    assert "The forgetting (recall) sits" in lead(full, at_chance)
    assert "The gain (qa-a) sits" in lead(full, at_chance)  # taught, so it may be at chance before


def test_the_lead_says_that_scores_are_of_one_seed_where_the_weights_are_of_two(looked):
    key = FULL + "1", "attribution"
    second = attribution(looked, key[0], "qa-a", 1)
    full = replace(looked, diagnoses={k: d for k, d in looked.diagnoses.items() if k[0].startswith(FULL)})
    assert "(2 seeds)" in lead(full, ()) and lead(full, ()).endswith("Scores without a block are of one seed.")
    assert "one seed" not in lead(put(full, key[0], "attribution", second), ())


def test_where_no_change_is_shown_no_block_is_said_to_carry_it(looked):
    same = np.arange(300) % 2.0

    def flattened(found):
        """Half of the answers are right, the other half without a block: which half means nothing."""
        for r in found:
            is_other = r.variant in ("", "without layers 0-2")
            yield replace(r, values=tuple(map(float, 1 - same if is_other else same))) if r.part == "qa-a" else r

    flat = changed(looked, "attribution", flattened)
    (table,) = [t for s in sections(build(flat)) for t in s.tables if t.id == "seats-0"]
    said = {row[3].text for row in table.rows if row[1].text == "qa-a"}
    assert said == {"no change is shown"}
    assert "No gain on qa-a is shown on the items asked." in lead(flat, ())


@pytest.mark.parametrize(("wrong", "mark"), [(5, ""), (12, "positive")])
def test_a_mark_needs_the_interval_that_holds_over_all_blocks(looked, wrong, mark):
    """Without one of four blocks 5 (or 12) of 300 answers turn wrong: a t of 2.3 (3.5), and 2.5 are needed."""
    key = (FULL + "0", "attribution")
    whole = next(r for r in looked.diagnoses[key].readings if (r.part, r.variant, r.name) == ("qa-a", "", "score"))
    lost = np.array(whole.values)
    lost[np.flatnonzero(lost)[:wrong]] = 0

    def planted(found):
        for r in found:
            is_it = (r.part, r.variant) == ("qa-a", "without layers 0-2")
            yield replace(r, values=tuple(map(float, lost))) if is_it else r

    rows = causes.carried(readings_of(changed(looked, "attribution", planted)), STATUS)
    (row,) = [c for c in rows if (c.arm, c.task, c.place) == ("full", "qa-a", "layers 0-2")]
    assert row.lost.value == pytest.approx(wrong / 300) and row.lost.low > 0  # the ordinary one excludes 0 either way
    assert row.lost_mark == mark


def test_numbers_of_a_run_are_means_over_matrices_and_differences_tuned_less_base(looked):
    readings = readings_of(changed(looked, "spectrum", lambda found: [
        replace(r, values=(100.0,)) if r.name == "stable_rank" and r.layer == 0 else r for r in found]))  # fmt: skip
    (run,) = [r for r in readings.index.runs if r.key == FULL + "0"]
    numbers = readings.numbers(run)
    ranks = [r.values[0] for r in readings.of(run, "spectrum", "stable_rank")]
    assert numbers[depth.Place("stable rank", "", None, "")] == pytest.approx(np.mean(ranks))
    moved = [10 * r.values[0] for r in readings.of(run, "drift", "cka_distance") if (r.part, r.module) == ("train", "")]
    assert numbers[depth.Place("hidden rank", "train", None, "")] == pytest.approx(-np.mean(moved))


def seat_without(looked, counts):
    """Where the gain of full sits if so many of 300 answers turn wrong without a block, always the first ones."""
    key = (FULL + "0", "attribution")
    whole = next(r for r in looked.diagnoses[key].readings if (r.part, r.variant, r.name) == ("qa-a", "", "score"))

    def planted(found):
        for r in found:
            values = np.array(whole.values)
            values[np.flatnonzero(values)[: counts.get(r.variant.removeprefix("without "), 0)]] = 0
            is_it = r.part == "qa-a" and r.variant.startswith("without layers")
            yield replace(r, values=tuple(map(float, values))) if is_it else r

    evidence = replace(looked, diagnoses={key: looked.diagnoses[key]})
    seats = causes.seats(readings_of(changed(evidence, "attribution", planted)), STATUS)
    (seat,) = [s for s in seats if s.task == "qa-a"]
    return seat


@pytest.mark.parametrize(("fewer", "places"), [(5, ("layers 6-8", "layers 9-11")), (20, ("layers 6-8",))])
def test_blocks_are_told_apart_only_where_all_pairs_together_show_it(looked, fewer, places):
    seat = seat_without(looked, {"layers 6-8": 60, "layers 9-11": 60 - fewer})
    assert seat.places == places and seat.largest.value == pytest.approx(0.2)


@pytest.mark.parametrize(("wrong", "is_shown"), [(5, False), (12, True)])
def test_the_largest_of_four_blocks_is_shown_only_at_the_level_of_four(looked, wrong, is_shown):
    assert seat_without(looked, {"layers 6-8": wrong}).is_shown is is_shown


def test_the_lower_third_of_the_layers_is_set_against_all_above():
    sizes = [1.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 30.0]  # two of eight below
    numbers = {depth.Place(depth.CHANGE, "", i, ""): size for i, size in enumerate(sizes)}
    assert log_ratio(numbers) == pytest.approx(np.log(np.mean(sizes[2:]) / 2.0))


def test_estimates_of_the_rank_needed_are_of_the_largest_arm_against_the_smallest_rank_within_the_margin(looked):
    within = ("lora-r16", "lora-r4")
    choice = Recommendation((1, 16), ("lora-r1", *within), within, "lora-r4", "only one", "", "none", True)
    advice = Advice("tiny-model", "qa-a", "accuracy", "cost", None, choice, ())
    readings = readings_of(looked)
    (found,) = [f for f in findings(readings, (), (advice,)) if f.name.startswith("Spectral estimate")]
    runs = [r for r in readings.index.runs if r.spec.arm.name == "lora-r16"]
    away = {}
    for name, reading in (("stable rank", "stable_rank"), ("effective rank", "effective_rank"),
                          ("energy rank .9", "energy_rank_90"), ("energy rank .99", "energy_rank_99")):  # fmt: skip
        mean = np.mean([r.values[0] for run in runs for r in readings.of(run, "spectrum", reading)])
        away[name] = abs(np.log2(mean) - np.log2(4))
        assert f"{name} {mean:.3g}, {away[name]:.2f} doublings away" in found.why
    assert found.value == f"nearest: {min(away, key=away.get)}"
    assert "is 4; read off lora-r16" in found.why
