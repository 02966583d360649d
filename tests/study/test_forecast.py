"""What a plan predicts, against counts that are known."""

from __future__ import annotations

import pytest

from rankscope.records import Arm, Ledger, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.study import forecast as fc
from rankscope.tasks.samples import Sample

# SmolLM2-135M's sizes; its parameters without norms are 134,479,872.
SHAPE = {"hidden": 576, "inner": 1536, "layers": 30, "q": 576, "kv": 192, "vocab": 49152}


def _spec(rank: int, recipe: Recipe = Recipe()) -> RunSpec:
    arm = Arm("x", "lora" if rank else "full", rank=rank or None, alpha=32.0)
    return RunSpec(ModelRef("m"), arm, 1e-3, TaskRef("t"), recipe, 0)


def test_sizes_count_the_weights():
    size = fc.size_of(SHAPE, "float32")
    assert size.num_params == 134_479_872
    assert size.trainable(_spec(0)) == size.num_params
    per_layer = 576 + 576 + (576 + 192) * 2 + 576 + 576 + (576 + 1536) * 3
    assert size.trainable(_spec(4)) == 30 * 4 * per_layer
    assert fc.size_of(None, "float32") is None


def test_ranks_that_are_not_low_are_named():
    size = fc.size_of(SHAPE, "float32")
    told = fc.rank_warnings(size, [_spec(r) for r in (4, 64, 192, 512)])
    assert [t.split(" is ")[0].split(" costs ")[0] for t in told] == ["rank 192", "rank 512", "rank 192", "rank 512"]
    assert "the smallest adapted matrix has rank 192" in told[0]


def test_tokens_are_the_budget_of_the_steps_or_about_the_text():
    samples = [Sample("a", "x" * 40, "y" * 40)] * 10
    assert fc.train_tokens(Recipe(max_steps=7, batch_tokens=100, accumulate=2), samples) == 1400
    assert fc.train_tokens(Recipe(epochs=2.0, validation=0.5), samples) == 10 * 21
    assert fc.train_tokens(Recipe(epochs=1.0, validation=0.0, max_length=8), samples) == 80


def test_a_rate_is_work_over_time_and_missing_without_work():
    assert fc.rate_of([Ledger(seconds=2.0, flops=10.0), Ledger(seconds=3.0, flops=20.0)]) == pytest.approx(6.0)
    assert fc.rate_of([Ledger(), Ledger(seconds=1.0)]) is None
    assert fc.machine_rate() > 1e8


def test_memory_grows_with_what_is_trained_and_how_many_train_side_by_side():
    size = fc.size_of(SHAPE, "float32")
    one, two = fc.train_bytes(size, [_spec(4)]), fc.train_bytes(size, [_spec(4), _spec(4)])
    saved = fc.train_bytes(size, [_spec(4, Recipe(gradient_checkpointing=True))])
    assert saved < one < two
    assert fc.train_bytes(size, [_spec(0)]) - one > 3 * 4 * size.num_params


def test_a_forecast_says_whether_it_is_measured():
    assert "at least 2 min" in str(fc.Forecast(100.0, 20.0, 10**9, fc.FLOOR))
    assert "about 1.7 h" in str(fc.Forecast(6000.0, 20.0, 10**9, fc.MEASURED))
    assert str(fc.Forecast(0.0, 0.0, 0, fc.MEASURED)) == "nothing left to do"


def test_scoring_takes_the_weights_and_a_checkpoint_takes_them_twice():
    size = fc.size_of(SHAPE, "float32")
    one, two = (fc.score_bytes(size, kind) for kind in ("adapter", "checkpoint"))
    assert one > 4 * size.num_params and two - one == 4 * size.num_params


def _part(**more) -> RunSpec:
    return RunSpec(ModelRef("m"), Arm("x", "lora", rank=4, alpha=32.0, **more), 1e-3, TaskRef("t"), Recipe(), 0)


def test_an_arm_of_some_modules_is_counted_by_what_it_adapts():
    size = fc.size_of(SHAPE, "float32")
    assert size.trainable(_part(layers=(28, 29))) == size.trainable(_part()) * 2 // 30
    assert size.trainable(_part(targets=("q_proj",))) == 30 * 4 * (576 + 576)
    assert size.trainable(_part(targets=("q_proj", "v_proj"), rank_pattern=(("v_proj", 1),), layers=(3,))) == (
        4 * (576 + 576) + 192 + 576
    )
    assert size.trainable(_part(targets=("c_attn",))) == size.trainable(_part())


def test_layers_under_the_lowest_adapted_one_need_no_backward_pass():
    size = fc.size_of(SHAPE, "float32")
    under = 15 * (576 * 576 * 2 + 576 * 192 * 2 + 576 * 1536 * 3)
    upper, adapter = _part(layers=tuple(range(15, 30))), size.trainable(_part()) // 2
    assert fc.train_flops(size, upper, 10) == 10 * (4 * size.num_params - 2 * under + 6 * adapter)
    assert fc.train_flops(size, _part(), 10) == 10 * (4 * size.num_params + 6 * 2 * adapter)


def test_a_rank_of_a_pattern_that_is_not_low_is_named():
    size = fc.size_of(SHAPE, "float32")
    assert fc.rank_warnings(size, [_part(rank_pattern=(("q_proj", 192),))]) == []
    told = fc.rank_warnings(size, [_part(rank_pattern=(("k_proj", 192),))])
    assert told == ["rank 192 is not low: the smallest adapted matrix has rank 192"]


def test_texts_that_are_weighed_count_what_they_share_once():
    header, letters = "An example. " * 100, (" A", " B")
    samples = [Sample(str(k), f"{header}{k}?" + "x" * 40, " A", letters, 0) for k in range(10)]
    assert fc.weighed_tokens(samples) == 10 + (1200 + 10 * (42 + 3)) // 4 < sum(map(fc.text_tokens, samples)) / 5
    own = Sample("own", "abcd", " it", (" it", " it"), 0, prompts=("abcd", "efgh"))
    assert fc.weighed_tokens([own]) == 1 + round(14 / 4)
