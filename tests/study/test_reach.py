"""A time budget is told before it is spent: what will be reached, in the order of the work, and what was left out."""

from __future__ import annotations

from rankscope.study.reach import Part, Reach, _arm_and_seed
from rankscope.study.sizing import Prediction
from rankscope.study.study import Study

HOUR = 3600.0


def test_seeds_that_a_budget_does_not_reach_are_named():
    parts = tuple(Part("m", seed, (seed + 1) * HOUR) for seed in (0, 1, 2))
    found = Reach(1.5 * HOUR, Prediction(3 * HOUR, "measured"), parts)
    assert [part.seed for part in found.beyond] == [1, 2]
    assert found.sentence == (
        "The budget of 1.5 h is not enough: up to 3 h (measured) of work is left. It reaches seed 0 of all arms; "
        "seeds 1 and 2 will not be finished. The same command goes on later, with up to 1.5 h left."
    )
    assert Reach(4 * HOUR, Prediction(3 * HOUR, "measured"), parts).sentence.startswith(
        "The budget of 4 h should be enough: up to 3 h"
    )


def test_several_models_are_named_and_a_first_seed_that_ends_in_part():
    parts = (Part("a", 0, 100.0), Part("a", 1, 200.0), Part("b", 0, 300.0), Part("b", 1, 400.0))
    told = Reach(250.0, Prediction(400.0, "measured"), parts).sentence
    assert "seeds 0 and 1 with a of all arms; seeds 0 and 1 with b will not be finished" in told
    told = Reach(150.0, Prediction(400.0, "measured"), parts).sentence
    assert (
        "It reaches seed 0 with a of all arms" in told
        and "seed 1 with a, seeds 0 and 1 with b will not be finished" in told
    )
    assert "It reaches a part of the first seed" in Reach(50.0, Prediction(400.0, "measured"), parts).sentence
    told = Reach(150.0, Prediction(400.0, "uncalibrated", least_seconds=100.0), parts).sentence
    assert (
        "The budget of 2 min may not be enough: 2 min to 7 min (uncalibrated)" in told and "may not be finished" in told
    )


def test_a_model_s_label_may_have_slashes():
    names = ("m/qa/lora-r4/lr0.001/seed2", "team/llama/qa/lora-r4/lr0.001/seed2", "a/b/c/d/mine", "m/mine")
    assert [*map(_arm_and_seed, names)] == [("lora-r4", "2"), ("lora-r4", "2"), ("mine", ""), ("mine", "")]


def test_without_a_prediction_nothing_is_promised():
    assert Reach(HOUR, None).sentence.startswith("No time can be predicted")
    assert Reach(HOUR, Prediction(0.0, "measured")).sentence == "Nothing is left to train or to score."


def test_what_was_left_out_goes_by_seed():
    runs = [("m/t/lora-r1/lr0.001/seed0", True), ("m/t/lora-r1/lr0.001/seed1", False), ("m/t/full/lr0.1/seed0", False),
            ("m/t/full/lr0.1/seed1", False), ("m/given", False)]  # fmt: skip
    told = Reach(90.0, None).after(runs)
    assert told == "Left out for the budget of 2 min: seed 1 of all arms; seed 0 of full; given."
    assert "seeds 0 and 1 of all arms." in Reach(90.0, None).after([(name, False) for name, _ in runs[:-1]])


def test_the_parts_follow_the_order_of_the_work_and_what_is_done_costs_nothing(small, store, tmp_path):
    study = Study.load(small)
    found = study.reach(tmp_path / "none", 1e-3)
    assert [(part.model, part.seed) for part in found.parts] == [("demo", 0), ("demo", 1)]
    assert 0 < found.parts[0].seconds < found.parts[1].seconds
    assert study.reach(store, 1e-3).sentence == "Nothing is left to train or to score."
    assert study.config.seeds == (0, 1)
