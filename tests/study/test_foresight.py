"""What a study can show before it runs, against simulated studies and planted stores."""

from __future__ import annotations

import numpy as np
import pytest

from rankscope.records import ModelRef
from rankscope.stats.contrast import Pair, contrasts
from rankscope.stats.estimate import Flips, flips, parts
from rankscope.stats.power import detectable, needed, planned, power
from rankscope.storage.history import Moved
from rankscope.study import foresight
from rankscope.study.foresight import comparisons
from rankscope.study.study import Study


def _scores(rng, items: int, seeds: int, flipped: float, effect: float) -> np.ndarray:
    """Differences of right and wrong answers (S, N): half of what flips does under every seed, half anew with each."""

    def flip(share: float, size: tuple[int, ...]) -> np.ndarray:
        draw = rng.random(size)
        gain = (share + effect) / 2
        return np.where(draw < gain, 1.0, np.where(draw < share, -1.0, 0.0))

    is_own = rng.random(items) < 0.5
    return np.where(is_own, flip(flipped, (items,))[None], flip(flipped, (seeds, items)))


def test_the_planned_parts_are_those_of_studies_drawn_as_planned():
    rng = np.random.default_rng(0)
    drawn = [parts(_scores(rng, 500, 3, 0.2, 0.0)) for _ in range(150)]
    meant = planned(500, 3, 0.2)
    assert np.mean([p.item for p in drawn]) == pytest.approx(meant.item, rel=0.05)
    assert np.mean([p.rest for p in drawn]) == pytest.approx(meant.rest, rel=0.05)
    above = np.mean([max(p.seed - p.rest, 0.0) for p in drawn])
    assert above == pytest.approx(meant.seed - meant.rest, rel=0.25)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_difference_of_the_smallest_size_is_shown_in_about_80_of_100_studies(seeds):
    items, flipped = 400, 0.2
    meant, changed = planned(items, seeds, flipped, 0.0, 1), Flips(400.0, 40.0, 40.0)
    effect = detectable(meant.spread, 0.05, changed)
    rng = np.random.default_rng(1)
    shown = 0
    for _ in range(200):
        values = _scores(rng, items, seeds, flipped, effect)
        pair = Pair("a", "base", "t", values, changed=flips(values))
        shown += contrasts([pair])[0].verdict in ("better", "equivalent") and values.mean() > 0 and (
            contrasts([pair])[0].low > 0)  # fmt: skip
    assert 0.7 < shown / 200 < 0.9


def test_the_items_needed_for_a_margin_are_enough_and_not_many_too_many():
    few = planned(300, 1, 0.2)
    count = needed(0.0, few, 300, 0.05, 0.02, Flips(300.0, 30.0, 30.0)).items
    at = {n: power(0.0, planned(n, 1, 0.2).spread, 0.05, 0.02, Flips(float(n), n / 10, n / 10))
          for n in (count, round(0.9 * count))}  # fmt: skip
    assert at[count] >= 0.8 > at[round(0.9 * count)]
    assert 4000 < count < 5000, "of 20 % discordant items a margin of 2 points takes thousands"


def test_seeds_that_lie_apart_are_no_matter_of_items():
    far = planned(100_000, 3, 0.2, seed_sd=0.02, arms=5)
    assert detectable(far.spread, 0.001) > 0.04 > detectable(planned(100_000, 3, 0.2).spread, 0.001)
    more = planned(100_000, 6, 0.2, seed_sd=0.02, arms=5)
    assert detectable(more.spread, 0.001) < detectable(far.spread, 0.001)


def test_a_new_study_assumes_and_a_stored_one_knows(small, store):
    assumed = Study.load(small).plan().effects
    assert {e.task for e in assumed} == {"demo_people", "demo_facts"}, "texts, in nats, are left out"
    assert all(not e.is_measured and e.low < e.high and not e.supports_margin for e in assumed)
    known = Study.load(small).plan(store).effects
    assert all(e.is_measured for e in known)
    small["training"]["seeds"] = [0, 1, 2]  # something is left: a finished study says in its report what it showed
    plan = Study.load(small).plan(store)
    assert any(note.startswith("too few items to show equality within the margin 0.03: ") for note in plan.notes)
    assert "points (as runs here flip answers)" in str(plan)


def test_arms_that_had_other_settings_under_the_same_name_are_no_seeds_of_each_other(monkeypatch):
    def spec(alpha: float, seed: int) -> dict:
        return {"arm": {"name": "lora-r4", "kind": "lora", "rank": 4, "alpha": alpha, "lr": [1e-3], "path": None},
                "lr": 1e-3, "train": {"task": "t"}, "recipe": {}, "seed": seed}  # fmt: skip

    far = [Moved("a", 100, 0.3, 0.1), Moved("b", 100, 0.0, 0.1)]
    monkeypatch.setattr(foresight, "moved", lambda store, base, task: far)
    model = ModelRef("m", key="mine")
    variance, sd = foresight._known("a store", {"a": spec(16.0, 0), "b": spec(64.0, 0)}, model, "t")
    assert (variance, sd) == (0.1, None)
    _, sd = foresight._known("a store", {"a": spec(16.0, 0), "b": spec(16.0, 1)}, model, "t")
    assert sd == pytest.approx((0.045 - 0.0005) ** 0.5)


def test_comparisons_are_counted_as_the_report_makes_them(small, store):
    study = Study.load(small)
    made = study.result(store).view().effects
    assert len(made) <= comparisons(study) <= len(made) + 3
