"""Flips by subject and the scale of updates: counted and computed by hand here."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from rankscope.records import Arm
from rankscope.report import render
from rankscope.report.changes import MOST
from rankscope.report.page import sections
from rankscope.report.tables import LEAST_ITEMS
from rankscope.report.view import build

SIZES = {"law": 300, "biology": 200, "poetry": LEAST_ITEMS, "rare": LEAST_ITEMS - 1}


def section(view, id):
    return next((s for s in sections(view) if s.id == id), None)


def with_subjects(evidence, names):
    """The evidence with a subject for each of the first items of trivia; the rest has none."""

    def named(found):
        return replace(found, scores=tuple(replace(s, subject=n) for s, n in zip(found.scores, names, strict=True)))

    return replace(evidence, evals={k: named(e) if k[1] == "trivia" else e for k, e in evidence.evals.items()})


@pytest.fixture(scope="module")
def names():
    listed = [name for name, size in SIZES.items() for _ in range(size)]
    return listed + [""] * (600 - len(listed))


@pytest.fixture(scope="module")
def told(evidence, names):
    return build(with_subjects(evidence, names))


def test_flips_by_subject_are_those_counted_by_hand(evidence, told, names):
    before = np.array([s.value for s in evidence.evals["base-key", "trivia"].scores])
    after = [np.array([s.value for s in evidence.evals[f"qa-a-full-0.0001-{n}", "trivia"].scores]) for n in range(3)]
    rows = {f.subject: f for f in told.subject_flips if (f.train, f.arm) == ("qa-a", "full")}
    assert set(rows) == {"law", "biology", "poetry"}
    for subject, row in rows.items():
        mine = np.array(names) == subject
        assert row.lost == sum(int(((before == 1) & (a == 0) & mine).sum()) for a in after) > 0
        assert row.won == sum(int(((before == 0) & (a == 1) & mine).sum()) for a in after)
        assert (row.num_items, row.num_seeds, row.task, row.role) == (SIZES[subject], 3, "trivia", "retention")


def test_subjects_add_up_to_the_tasks_flips_where_all_are_large_enough(evidence):
    view = build(with_subjects(evidence, ["one", "two"] * 300))
    for whole in (f for f in view.flips if f.task == "trivia"):
        parts = [f for f in view.subject_flips if (f.train, f.arm) == (whole.train, whole.arm)]
        assert [sum(f.lost for f in parts), sum(f.won for f in parts)] == [whole.lost, whole.won]
        assert sum(f.num_items for f in parts) == whole.num_items


def test_a_task_with_one_subject_or_none_has_no_section(evidence, view):
    assert view.subject_flips == () and section(view, "subjects") is None
    assert build(with_subjects(evidence, ["same"] * 600)).subject_flips == ()


def test_the_section_shows_the_largest_net_changes_and_says_how_many_there_are(evidence):
    many = [f"subject_{i % 12}" for i in range(600)]
    view = build(with_subjects(evidence, many))
    table = section(view, "subjects").tables[0]
    arms = len({f.arm for f in view.subject_flips})
    assert len(table.rows) == arms * MOST and f"{arms * MOST} of {12 * arms} rows" in table.caption
    rows = [f for f in view.subject_flips if (f.train, f.arm) == ("qa-a", "full")]
    net = {f.subject.replace("_", " "): f.won - f.lost for f in rows}
    shown = [row[2].text for row in table.rows if row[0].text == "full"]
    assert sorted(net[s] for s in shown) == [net[s] for s in shown] == sorted(net.values())[:MOST]
    assert len(json.loads(render(view, "json"))["subject_flips"]) == 12 * arms * 2


def lora(name, rank, alpha, scaling="standard"):
    return Arm(name, "lora", lr=(1e-3,), rank=rank, alpha=alpha, scaling=scaling)


def scales_of(evidence, *arms):
    return build(replace(evidence, arms=(evidence.arms[0], *arms), runs=(), evals={}))


def test_fixed_alpha_shrinks_the_update_as_one_over_rank(view):
    assert [(s.rule, s.scale, s.relative, s.lowest) for s in view.scales] == [
        ("fixed alpha", 32.0, 1.0, 1),
        ("fixed alpha", 8.0, 0.25, 1),
        ("fixed alpha", 2.0, 0.0625, 1),
    ]
    assert "With alpha fixed the scale falls as 1 / r: at rank 16 it is 0.0625 times that at rank 1." in (
        section(view, "scales").intro
    )


def test_two_r_keeps_the_update_and_rslora_shrinks_it_as_one_over_the_root(evidence):
    pairs = [lora("a", 4, 8.0), lora("b", 64, 128.0), lora("c", 4, 16.0, "rslora"), lora("d", 64, 16.0, "rslora")]
    view = scales_of(evidence, *pairs)
    found = {s.arm: s for s in view.scales}
    assert [found[n].rule for n in "abcd"] == ["alpha = 2r"] * 2 + ["rsLoRA"] * 2
    assert (found["a"].scale, found["b"].scale, found["b"].relative) == (2.0, 2.0, 1.0)
    assert found["d"].scale == pytest.approx(16 / math.sqrt(64)) and found["d"].relative == pytest.approx(0.25)
    intro = section(view, "scales").intro
    assert "the same at every rank (2)." in intro and "falls as 1 / √r: at rank 64 it is 0.25 times" in intro


def test_an_alpha_that_happens_to_be_two_r_at_one_rank_of_a_sweep_is_still_fixed(evidence):
    view = scales_of(evidence, lora("a", 8, 32.0), lora("b", 16, 32.0), lora("c", 8, 16.0), lora("d", 16, 16.0))
    assert {s.rule for s in view.scales} == {"fixed alpha"}
    assert [s.relative for s in view.scales] == [1.0, 0.5, 1.0, 0.5]


def test_the_rule_is_the_one_that_joins_the_ranks(evidence):
    grows = [lora(n, r, 2.0 * r, "rslora") for n, r in (("a", 8), ("b", 16), ("c", 32))]
    view = scales_of(evidence, *grows)
    assert {s.rule for s in view.scales} == {"rsLoRA, alpha = 2r"} and view.scales[2].relative == pytest.approx(2.0)
    intro = section(view, "scales").intro
    assert "With rsLoRA, alpha = 2r the scale grows as √r: at rank 32 it is 2 times that at rank 8." in intro
    view = scales_of(evidence, lora("a", 8, 8.0), lora("b", 16, 16.0))
    assert "With alpha = 1r the scale is the same at every rank (1)." in section(view, "scales").intro


def test_an_arm_with_ranks_of_its_own_for_some_modules_has_no_one_scale(evidence):
    lean = replace(lora("lean", 8, 32.0), rank_pattern=(("q_proj", 2),))
    view = scales_of(evidence, lora("a", 8, 32.0), lean)
    assert [s.arm for s in view.scales] == ["a"] and "in some modules: lean." in section(view, "scales").intro


def test_a_study_without_lora_has_no_section_and_one_rank_says_so(evidence):
    assert section(scales_of(evidence, evidence.arms[-1]), "scales") is None
    assert "one rank under it" in section(scales_of(evidence, lora("a", 8, 32.0)), "scales").intro
