"""Score by rank: which arms a line joins, and that arms of one rank don't cover each other."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rankscope.records import Arm
from rankscope.report.rank_chart import MARKS, beside, families, rank_charts
from rankscope.report.view import build


def _arm(name: str, rank: int, **more) -> Arm:
    return Arm(name, "lora", rank=rank, **{"alpha": 32.0, **more})


def test_a_family_differs_in_rank_and_in_alpha_where_it_goes_with_the_rank():
    tied = [_arm(f"tied-{r}", r, alpha=2.0 * r) for r in (2, 8)]
    narrow = [_arm(f"q-{r}", r, targets=("q_proj",), lr=(r * 1e-3,)) for r in (2, 8)]
    twice = [_arm(f"a{a:g}-{r}", r, alpha=a, dropout=0.1) for a in (16.0, 32.0) for r in (2, 8)]
    found = families([Arm("base", "base"), *tied, *narrow, *twice, Arm("full", "full"), Arm("old", "adapter", rank=4)])
    groups = {n: {name for name, of in found.items() if of == n} for n in found.values()}
    assert list(groups.values()) == [{"tied-2", "tied-8"}, {"q-2", "q-8"}, {"a16-2", "a16-8"}, {"a32-2", "a32-8"}]


def test_arms_of_one_rank_stand_around_it_and_those_of_others_at_theirs():
    assert beside([1, 4, 16]) == [1, 4, 16]
    left, middle, right, alone = beside([4, 4, 4, 8])
    assert middle == pytest.approx(4) and alone == 8
    assert math.log2(right / 4) == pytest.approx(math.log2(4 / left)) == pytest.approx(0.2)
    assert beside([16]) == [16] and max(beside([6, 6, 7])[:2]) < 6.25


@pytest.fixture
def crowded(evidence):
    """The planted study where rank 4's arm is said to be of rank 1, with targets of its own."""
    arms = tuple(replace(a, rank=1, targets=("q_proj",)) if a.name == "lora-r4" else a for a in evidence.arms)
    runs = tuple((replace(s, arm=next(a for a in arms if a.name == s.arm.name)), k, r, role)
                 for s, k, r, role in evidence.runs)  # fmt: skip
    return build(replace(evidence, arms=arms, runs=runs))


def _points(spec: dict) -> dict[str, float]:
    """Arm to place on the axis, of the layer with marks."""
    layer = spec["layer"][-1]
    return {row["arm"]: row["at"] for row in layer["data"]["values"]}


def test_arms_of_one_rank_are_told_apart_by_place_mark_and_legend(crowded, view):
    plain, full = rank_charts(view)[0].spec, rank_charts(crowded)[0]
    assert _points(plain) == {"lora-r1": 1, "lora-r4": 4, "lora-r16": 16}
    places = _points(full.spec)
    assert places["lora-r1"] < 1 < places["lora-r4"] < 2 and places["lora-r16"] == 16
    encoding = full.spec["layer"][-1]["encoding"]
    assert encoding["shape"]["scale"] == {"domain": ["lora-r1", "lora-r4", "lora-r16"],
                                          "range": [MARKS[0], MARKS[1], MARKS[0]]}  # fmt: skip
    assert encoding["color"]["legend"] == encoding["shape"]["legend"] and "side by side" in full.caption
    assert "shape" not in plain["layer"][-1]["encoding"] and plain["layer"][-1]["encoding"]["color"]["legend"] is None
