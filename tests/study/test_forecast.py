"""What a plan predicts, against counts that are known and past work that is planted."""

from __future__ import annotations

import pytest

from rankscope.records import Arm, Ledger, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.study import forecast as fc
from rankscope.study import sizes
from rankscope.study.calibration import Calibration, Job
from rankscope.study.host import Host
from rankscope.study.memory import train_bytes, train_need
from rankscope.study.span import Span
from rankscope.study.tokens import CHARS, Counter
from rankscope.tasks.samples import Sample

# SmolLM2-135M's sizes; its parameters without norms are 134,479,872.
SHAPE = {"hidden": 576, "inner": 1536, "layers": 30, "q": 576, "kv": 192, "vocab": 49152}
HOST = Host("cpu", 25 * 10**9, None, is_here=True)


def _spec(rank: int, recipe: Recipe = Recipe()) -> RunSpec:
    arm = Arm("x", "lora" if rank else "full", rank=rank or None, alpha=32.0)
    return RunSpec(ModelRef("m"), arm, 1e-3, TaskRef("t"), recipe, 0)


def test_sizes_count_the_weights():
    size = sizes.size_of(SHAPE, "float32")
    assert size.num_params == 134_479_872
    assert size.trainable(_spec(0)) == size.num_params
    per_layer = 576 + 576 + (576 + 192) * 2 + 576 + 576 + (576 + 1536) * 3
    assert size.trainable(_spec(4)) == 30 * 4 * per_layer
    assert sizes.size_of(None, "float32") is None
    untied = sizes.size_of({**SHAPE, "untied": 1}, "float32")
    assert untied.num_params - size.num_params == 49152 * 576


def test_auto_is_half_a_weight_s_bytes_on_a_gpu_and_four_bits_are_a_quarter_of_that():
    assert [sizes.size_of(SHAPE, "auto", is_gpu).width for is_gpu in (False, True)] == [4, 2]
    whole, packed = (sizes.size_of(SHAPE, "bfloat16", True, q).weight_bytes for q in (None, "nf4"))
    table = 2 * 49152 * 576
    assert (packed - table) / (whole - table) == pytest.approx(0.26, abs=0.01)


def test_ranks_that_are_not_low_are_named():
    size = sizes.size_of(SHAPE, "float32")
    told = sizes.rank_warnings(size, [_spec(r) for r in (4, 64, 192, 512)])
    assert [t.split(" is ")[0].split(" costs ")[0] for t in told] == ["rank 192", "rank 512", "rank 192", "rank 512"]
    assert "the smallest adapted matrix has rank 192" in told[0]


def test_tokens_are_the_steps_batches_or_about_the_text():
    samples = [Sample(str(k), "x" * 40, "y" * 36) for k in range(10)]  # 19 tokens and one that ends them
    recipe = Recipe(max_steps=7, batch_tokens=100, accumulate=2, validation=0.0)
    assert Counter().train_tokens(recipe, samples) == 7 * 2 * 100
    uneven = Recipe(max_steps=8, batch_tokens=90, validation=0.0)  # four rows a batch; of ten the last batch has two
    assert Counter().train_tokens(uneven, samples) in (500, 520, 540)
    assert Counter().train_tokens(Recipe(epochs=2.0, validation=0.5), samples) == 2 * 5 * 20
    assert Counter().train_tokens(Recipe(epochs=1.0, validation=0.0, max_length=8), samples) == 80
    assert Counter().row_tokens(Recipe(validation=0.2), samples) == 40
    assert Counter().written(samples, 30) == 10 * (30 + 1 + 10)


def test_the_model_s_own_tokenizer_is_asked_where_it_is_here(tmp_path):
    from rankscope.models.locate import place

    own = Counter(place(ModelRef("demo")).source)
    samples = [Sample(str(k), f"Who lives in house {k}?", " Ann", (" Ann", " Bob"), 0) for k in range(30)]
    assert 0 < own.weighed(samples) < own.written(samples, 8)
    (tmp_path / "tokenizer.json").write_text("not one")
    assert Counter(str(tmp_path)).weighed(samples) == Counter().weighed(samples)


def test_a_cpu_s_memory_grows_with_what_is_trained_and_not_with_the_batch():
    size = sizes.size_of(SHAPE, "float32")
    one, two = (train_bytes(size, [_spec(4)] * k, is_gpu=False) for k in (1, 2))
    assert two - one < 40e6, "passes of as many tokens; another adapter alone"
    large = train_bytes(size, [_spec(4, Recipe(batch_tokens=16384))], is_gpu=False)
    assert large == pytest.approx(one, rel=0.05)
    full = train_need(size, [_spec(0)], is_gpu=False)
    assert full.fixed == 20 * size.num_params, "the base, and a copy with gradients and two moments"
    small = train_need(size, [_spec(4, Recipe(batch_tokens=128))], is_gpu=False)
    assert small.about < train_need(size, [_spec(4)], is_gpu=False).about / 2


def test_a_gpu_s_memory_grows_with_the_batch_and_shrinks_with_checkpointing():
    size = sizes.size_of(SHAPE, "float32")
    one, two = train_bytes(size, [_spec(4)]), train_bytes(size, [_spec(4), _spec(4)])
    saved = train_bytes(size, [_spec(4, Recipe(gradient_checkpointing=True))])
    assert saved < one < two and two - one > 4096 * 30 * 4 * 4 * 1536
    half = sizes.size_of(SHAPE, "bfloat16")
    assert train_need(half, [_spec(0)]).fixed == 20 * half.num_params
    assert train_bytes(half, [_spec(4)]) < one


def _forecast(train: Span, score: Span, basis: str) -> fc.Forecast:
    return fc.Forecast(train, score, Span(0.0, 0.0, 0.0), Span(0.0, 0.0, 0.0), Span(1e9, 2e9), basis)


def test_a_forecast_is_a_range_unless_it_is_measured():
    guess = _forecast(Span(100.0, 900.0), Span(20.0, 60.0), fc.UNCALIBRATED)
    assert "2 min to 16 min" in str(guess) and "uncalibrated" in str(guess) and "memory 1.0 to 2.0 GB" in str(guess)
    assert guess.as_dict()["seconds"] is None and guess.as_dict()["low_seconds"] == 120.0
    known = _forecast(Span(5000.0, 7000.0, 6000.0), Span(10.0, 30.0, 20.0), fc.MEASURED)
    assert "about 1.7 h" in str(known) and known.as_dict()["seconds"] == 6020.0
    nothing = _forecast(Span(0.0, 0.0, 0.0), Span(0.0, 0.0, 0.0), fc.MEASURED)
    assert str(nothing) == "nothing left to do"


def _past(kind: str, model: str, seconds: float, flops: float = 0.0, **more):
    from rankscope.provenance import plain
    from rankscope.storage.history import Past

    spec = plain(_spec(more.pop("rank", 4)))
    spec["model"]["key"] = model
    ledger = Ledger(seconds=seconds, flops=flops, tokens=1000, peak_bytes=more.pop("peak", 0))
    where = {"device": more.pop("device", "cpu"), "dtype": more.pop("dtype", "float32"), "processors": None}
    key = more.pop("key", f"{kind}-{seconds}")
    return Past(kind, key, more.pop("measure", ""), more.pop("name", "t"), ledger, spec, where)


MODEL = ModelRef("m", key="mine")


def test_a_time_is_the_median_of_this_model_s_own_work_on_this_device():
    slow, others = 40.0, [4.8, 5.0, 5.0, 5.2, 5.4]
    past = [_past("train", "mine", s, 1e12) for s in (*others, slow)]
    past += [_past("train", "mine", 900.0, 1e12, device="NVIDIA H200", dtype="bfloat16"),
             _past("train", "mine", 900.0, 1e12, dtype="bfloat16")]  # fmt: skip
    found = Calibration(past).seconds(Job("train", MODEL, "lora", "t", "", 2e12, 4))
    assert found.value == pytest.approx(10.2, rel=0.02) and found.low < 9 and found.high > 11
    assert Calibration(past, "NVIDIA L4").seconds(Job("train", MODEL, "lora", "t", "", 2e12, 4)) is None


def test_other_models_work_gives_a_range_and_no_number():
    past = [_past("train", "other", 5.0, 1e12), _past("train", "other", 10.0, 1e12)]
    found = Calibration(past).seconds(Job("train", MODEL, "lora", "t", "", 1e12, 4))
    assert (found.value, found.low, found.high) == (None, 2.5, 20.0)
    clock = fc.Clockwork(HOST, sizes.size_of(SHAPE, "float32"), Calibration(past))
    clock.seconds(Job("train", MODEL, "lora", "t", "", 1e12, 4))
    assert fc.basis_of(clock.bases) == fc.OTHERS
    clock.seconds(Job("generate", MODEL, "lora", "t", "", 1e12))
    assert fc.basis_of(clock.bases) == fc.UNCALIBRATED


def test_other_models_work_is_believed_as_far_as_it_is_plausible_for_this_one(monkeypatch):
    monkeypatch.setattr(fc, "machine_rate", lambda: 1e11)  # 1e12 FLOPs of training: from 11.1 to 33.3 s
    job, size = Job("train", MODEL, "lora", "t", "", 1e12, 4), sizes.size_of(SHAPE, "float32")

    def told(*seconds: float) -> Span:
        past = [_past("train", "other", each, 1e12) for each in seconds]
        return fc.Clockwork(HOST, size, Calibration(past)).seconds(job)

    wide = told(10.0, 400.0)
    assert (wide.value, wide.low, wide.high) == (None, pytest.approx(11.11, rel=0.01), pytest.approx(33.33, rel=0.01))
    assert (told(30.0).low, told(30.0).high) == (15.0, pytest.approx(33.33, rel=0.01))
    assert (told(100.0).low, told(100.0).high) == (50.0, 200.0)  # nothing in common: what was measured stays


def test_the_same_measurement_takes_as_long_as_it_took_and_diagnoses_too():
    past = [_past("weigh", "mine", s, 1e9, measure="a") for s in (2.0, 2.2, 2.1)]
    past += [_past("weigh", "mine", 50.0, 1e9, measure="b"), _past("diagnose", "mine", 7.0, name="spectrum")]
    known = Calibration(past)
    assert known.seconds(Job("weigh", MODEL, "full", "t", "a", 9e9)).value == pytest.approx(2.1)
    assert known.seconds(Job("diagnose", MODEL, "lora", "spectrum", "new key")).value == pytest.approx(7.0)
    assert known.seconds(Job("diagnose", MODEL, "lora", "drift", "new key")) is None
    assert known.tokens(MODEL, "a") == 1000 and known.tokens(MODEL, "c") is None


def test_memory_is_the_count_and_what_this_machine_s_process_takes():
    size, spec = sizes.size_of(SHAPE, "float32"), _spec(4)
    need = train_need(size, [spec], is_gpu=False)
    peak = round(need.fixed + need.about + 8e8)  # 0.8 GB of runtime, planted
    past = [_past("train", "mine", 5.0, 1e12, key=f"k{i}", peak=peak) for i in range(3)]
    known = Calibration(past, shapes=lambda ref: SHAPE)
    mine = RunSpec(MODEL, spec.arm, 1e-3, spec.train, spec.recipe, 0)
    assert known.train_bytes(size, [mine]).value == pytest.approx(peak, rel=1e-6)
    other = known.train_bytes(size, [RunSpec(ModelRef("n", key="new"), spec.arm, 1e-3, spec.train, spec.recipe, 0)])
    assert other.value is None and other.low < peak < other.high
    none = Calibration(shapes=lambda ref: SHAPE).train_bytes(size, [mine])
    assert none.value is None and none.low < none.high


def test_without_calibration_small_models_and_unknown_cards_have_wider_ranges():
    size = sizes.size_of(SHAPE, "bfloat16")
    tiny = sizes.size_of({**SHAPE, "layers": 1, "vocab": 500}, "bfloat16")
    a100, card = Host("A100 80GB", 80 * 10**9, 312e12, False), Host("24 GB", 24 * 10**9, None, False)
    spans = [fc.plausible(host, s, "train") for host, s in ((a100, size), (a100, tiny), (card, size))]
    ratios = [span.high / span.low for span in spans]
    assert ratios[0] < ratios[1] < ratios[2] and all(span.value is None for span in spans)
    slow = fc.plausible(a100, sizes.size_of(SHAPE, "float32"), "train")
    assert slow.low > spans[0].low


def _part(**more) -> RunSpec:
    return RunSpec(ModelRef("m"), Arm("x", "lora", rank=4, alpha=32.0, **more), 1e-3, TaskRef("t"), Recipe(), 0)


def test_an_arm_of_some_modules_is_counted_by_what_it_adapts():
    size = sizes.size_of(SHAPE, "float32")
    assert size.trainable(_part(layers=(28, 29))) == size.trainable(_part()) * 2 // 30
    assert size.trainable(_part(targets=("q_proj",))) == 30 * 4 * (576 + 576)
    assert size.trainable(_part(targets=("q_proj", "v_proj"), rank_pattern=(("v_proj", 1),), layers=(3,))) == (
        4 * (576 + 576) + 192 + 576
    )
    assert size.trainable(_part(targets=("c_attn",))) == size.trainable(_part())


def test_layers_under_the_lowest_adapted_one_need_no_backward_pass():
    size = sizes.size_of(SHAPE, "float32")
    under = 15 * (576 * 576 * 2 + 576 * 192 * 2 + 576 * 1536 * 3)
    upper, adapter = _part(layers=tuple(range(15, 30))), size.trainable(_part()) // 2
    assert sizes.train_flops(size, upper, 10) == 10 * (4 * size.num_params - 2 * under + 6 * adapter)
    assert sizes.train_flops(size, _part(), 10) == 10 * (4 * size.num_params + 6 * 2 * adapter)


def test_a_rank_of_a_pattern_that_is_not_low_is_named():
    size = sizes.size_of(SHAPE, "float32")
    assert sizes.rank_warnings(size, [_part(rank_pattern=(("q_proj", 192),))]) == []
    told = sizes.rank_warnings(size, [_part(rank_pattern=(("k_proj", 192),))])
    assert told == ["rank 192 is not low: the smallest adapted matrix has rank 192"]


def test_texts_that_are_weighed_count_what_they_share_once():
    header, letters = "An example. " * 100, (" A", " B")
    samples = [Sample(str(k), f"{header}{k}?" + "x" * 40, " A", letters, 0) for k in range(10)]
    apart = sum(2 * len(s.prompt) + 4 for s in samples) / CHARS
    assert Counter().weighed(samples) == 10 + (1200 + 10 * (42 + 3)) // 4 < apart / 5
    own = Sample("own", "abcd", " it", (" it", " it"), 0, prompts=("abcd", "efgh"))
    assert Counter().weighed([own]) == 1 + round(14 / 4)
