"""Samples say what was computed: planted products, planted idling, known FLOPs; and they change nothing."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from rankscope.clock import Clock
from rankscope.models import sampling
from rankscope.models.sampling import part_of, passes, product_flops, product_rate, sample_of, step


@pytest.fixture
def clock():
    return Clock(is_sampling=True, most=1.0)


def _only(clock, stage, kind):
    (sample,) = clock._samples[stage, kind]
    return sample


def test_planted_products_and_their_flops_are_found(base, clock, capfd):
    x, weight = torch.ones(512, 512), torch.ones(512, 256)
    with clock.stage("training"), step(clock, "training", base):
        for _ in range(20):
            x @ weight
    found = _only(clock, "training", "step")
    assert found.flops == 20 * 2 * 512 * 512 * 256
    assert 0.5 < found.products / found.seconds <= 1
    assert (found.attention, found.optimiser) == (0, 0)
    assert max(found.operators, key=found.operators.get) == ("products", "aten::mm")
    assert capfd.readouterr().err == ""


def test_planted_idling_is_rest(base, clock):
    with clock.stage("training"), step(clock, "training", base):
        torch.ones(64, 64) @ torch.ones(64, 64)
        time.sleep(0.2)
    work = clock.breakdown().work["training"]
    assert work.rest > 0.5
    assert work.products + work.attention + work.optimiser + work.rest == pytest.approx(1)


def test_the_optimiser_and_attention_are_told_apart_from_products(base, clock):
    parameter = torch.nn.Parameter(torch.ones(64, 64))
    optim, x = torch.optim.AdamW([parameter]), torch.ones(1, 2, 64, 16)
    with step(clock, "training", base):
        torch.nn.functional.scaled_dot_product_attention(x, x, x)
        (parameter @ parameter).sum().backward()
        optim.step()
    found = _only(clock, "training", "step")
    assert min(found.products, found.attention, found.optimiser) > 0
    assert found.products + found.attention + found.optimiser <= found.seconds
    assert found.flops == 3 * 2 * 64**3  # forward and both gradients


def test_an_operator_s_own_time_is_without_the_operators_in_it():
    def event(name, start, end, thread=1, shapes=()):
        return SimpleNamespace(name=lambda: name, start_ns=lambda: start, duration_ns=lambda: end - start,
                               start_thread_id=lambda: thread, device_type=lambda: DeviceType.CPU,
                               shapes=lambda: list(shapes))  # fmt: skip

    events = [event("aten::mul", 0, 10), event("aten::linear", 20, 100), event("aten::addmm", 30, 90, 1,
              [[4], [2, 3], [3, 4]]), event("Optimizer.step#AdamW.step", 200, 300), event("aten::mm", 210, 250),
              event("aten::add_", 0, 1000, thread=2)]  # fmt: skip
    found = sample_of(events, 2e-6)
    own = {"aten::mul": 10, "aten::linear": 20, "aten::addmm": 60, "Optimizer.step#AdamW.step": 60, "aten::mm": 40,
           "aten::add_": 1000}  # fmt: skip
    by_name = {name: seconds for (_, name), seconds in found.operators.items()}
    assert by_name == pytest.approx({name: nanoseconds * 1e-9 for name, nanoseconds in own.items()})
    assert ("optimiser", "aten::mm") in found.operators
    assert (found.products, found.optimiser) == pytest.approx((60e-9, 100e-9))
    assert found.flops == 2 * 2 * 3 * 4 + 0  # the product inside the optimiser has no shapes here


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("aten::addmm_", "products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::_softmax", "attention"),
        ("aten::_log_softmax", "rest"),
        ("aten::_foreach_mul_", "optimiser"),
        ("aten::linear", "rest"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "products"),
        ("void pytorch_flash::flash_fwd_kernel<...>", "attention"),
        ("MmBackward0", "rest"),
    ],
)
def test_operators_and_kernels_belong_to_a_part(name, part):
    assert part_of(name) == part
    assert part_of(name, "optimiser") == "optimiser"


def test_flops_of_products_come_from_their_shapes():
    assert product_flops("aten::mm", [[2, 3], [3, 5]]) == 60
    assert product_flops("aten::addmm_", [[5], [2, 3], [3, 5], []]) == 60
    assert product_flops("aten::bmm", [[4, 2, 3], [4, 3, 5]]) == 240
    assert product_flops("aten::mv", [[2, 3], [3]]) == 12
    assert product_flops("aten::mm", []) == 0


def test_passes_of_many_tokens_and_of_one_are_two_kinds(base, clock):
    ids = torch.arange(3, 67)[None]
    with clock.stage("scoring"), passes(clock, "scoring", base), torch.inference_mode():
        for part in (ids, ids[:, :8], ids, ids[:, :1], ids[:, :1]):
            base.hidden(part)
    assert {own: len(samples) for own, samples in clock._samples.items()} == {("scoring", "text"): 2,
                                                                              ("scoring", "token"): 2}  # fmt: skip
    work = clock.breakdown().work["scoring"]
    assert work.products > 0 and work.attention > 0 and work.optimiser == 0


def test_work_that_fails_leaves_no_profiler_and_no_hook(base, clock):
    decoder = base.model.base_model
    with pytest.raises(RuntimeError), passes(clock, "scoring", base):
        base.hidden(torch.arange(3, 67)[None])
        raise RuntimeError("planted")
    assert not torch.autograd._profiler_enabled() and not decoder._forward_pre_hooks
    with pytest.raises(RuntimeError), step(clock, "training", base):
        raise RuntimeError("planted")
    assert not torch.autograd._profiler_enabled()
    assert not clock._samples


def test_somebody_else_s_profile_goes_first(base, clock):
    with sampling._hushed(), torch.profiler.profile() as other, step(clock, "training", base):
        torch.ones(4, 4) @ torch.ones(4, 4)
    assert "aten::mm" in {e.key for e in other.key_averages()}
    assert not clock._samples and clock._measured["training", "step"] > 0


def test_the_rate_of_products_is_measured_in_the_model_s_own_shapes(base):
    rate = product_rate(base.model.base_model)
    assert rate is not None and 1e8 < rate < 1e15
    assert product_rate(torch.nn.Embedding(4, 4)) is None
