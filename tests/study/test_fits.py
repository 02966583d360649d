"""What fits a GPU, and what would make it fit: an 8B model against cards of 24 and 80 GB."""

from __future__ import annotations

import pytest

from rankscope.errors import InputError
from rankscope.records import Arm, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.stats.gpus import GPUS, gpu
from rankscope.study.fits import fits, remedies
from rankscope.study.host import Host, named
from rankscope.study.memory import train_need
from rankscope.study.sizes import model_size
from rankscope.study.span import Span

LLAMA = {"hidden": 4096, "inner": 14336, "layers": 32, "q": 4096, "kv": 1024, "vocab": 128256, "untied": 1}


def _spec(kind: str, dtype: str = "bfloat16", **recipe) -> RunSpec:
    arm = Arm(kind, "full") if kind == "full" else Arm(kind, "lora", rank=16, alpha=32.0)
    settings = {"max_steps": 1000, "batch_tokens": 8192, **recipe}
    return RunSpec(ModelRef("llama", dtype=dtype), arm, 1e-4, TaskRef("gsm8k"), Recipe(**settings), 0)


def _verdict(spec: RunSpec, host: Host) -> str:
    return fits(train_need(model_size(spec.model, LLAMA, True), [spec], True).span, host)


def _with(spec: RunSpec, settings: tuple[str, ...]) -> RunSpec:
    """The spec with settings written as --set takes them."""
    from dataclasses import replace

    for one in settings:
        key, value = one.split("=")
        part, name = key.split(".")
        value = {"true": True}.get(value, int(value) if value.isdigit() else value)
        held = "recipe" if part == "training" else "model"
        spec = replace(spec, **{held: replace(getattr(spec, held), **{name: value})})
    return spec


def test_a_card_is_known_by_any_spelling_or_by_its_memory():
    assert gpu("nvidia a100-80gb").memory_bytes == 80 * 10**9 and gpu("GeForce RTX 4090").flops == 165e12
    assert gpu("24GB").flops is None and gpu("24GB").memory_bytes == 24 * 10**9
    assert gpu("A10").name == "A10" and gpu("h200").name == "H200"
    assert all(gpu(card.name) is card for card in GPUS)
    with pytest.raises(InputError, match="several GPUs are called this.*A100 40GB, A100 80GB"):
        gpu("A100")
    with pytest.raises(InputError, match="no such GPU is known.*Did you mean 'L40S'"):
        gpu("L40X")


def test_full_sft_of_8b_fits_no_24_gb_card_whatever_is_set_and_lora_does_with_settings():
    small = named("RTX 4090")
    full = _spec("full")
    assert _verdict(full, small) == "no"
    found = remedies(full, LLAMA, small, 0)
    assert found.settings == () and found.gpu == "B200 with training.gradient_checkpointing=true"
    lora = _spec("lora")
    assert _verdict(lora, small) == "no"
    settings = remedies(lora, LLAMA, small, 0).settings
    assert settings and _verdict(_with(lora, settings), small) == "yes"
    assert all(one.split("=")[0] in ("training.gradient_checkpointing", "training.batch_tokens",
                                     "models[0].quantization", "models[0].dtype") for one in settings)  # fmt: skip


def test_the_mildest_change_comes_first_and_none_where_all_is_well():
    large = named("A100 80GB")
    assert _verdict(_spec("lora", gradient_checkpointing=True), large) == "yes"
    assert remedies(_spec("lora", batch_tokens=16384), LLAMA, large, 1).settings[0].startswith("training.")
    half = remedies(_spec("lora", dtype="float32", batch_tokens=1024, gradient_checkpointing=True), LLAMA,
                    named("24GB"), 1)  # fmt: skip
    assert half.settings == ("models[1].dtype=bfloat16",)


def test_what_is_measured_decides_and_a_range_may_leave_it_open():
    host = Host("x", 10 * 10**9, None, True)
    assert fits(Span(9e9, 12e9, 9.5e9), host) == "yes" and fits(Span(9e9, 12e9, 11e9), host) == "no"
    assert [fits(Span(low, high), host) for low, high in ((1e9, 9e9), (9e9, 11e9), (11e9, 12e9))] == [
        "yes", "perhaps", "no"]  # fmt: skip
    assert fits(Span(1.0, 2.0), Host("x", None, None, True)) == ""
