"""Arms that adapt some layers with a rank for each module, against PEFT under the same settings."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from rankscope.errors import ModelError
from rankscope.models import adapter
from rankscope.models.base import Base
from rankscope.models.given import read_given, wearing
from rankscope.models.lora import AdapterBank, adapted_modules, num_below, rank_of, scale
from rankscope.models.update import stored_update, worn
from rankscope.records import Arm, ModelRef, RunSpec
from rankscope.testing import tiny_model, tiny_tokenizer


def arm(**more) -> Arm:
    return Arm("x", "lora", (1e-3,), **{"rank": 8, "alpha": 32.0} | more)


@pytest.fixture
def base():
    model = tiny_model().requires_grad_(False)
    return Base(ModelRef("tiny"), model, tiny_tokenizer(), torch.device("cpu"), torch.float32)


def ids() -> torch.Tensor:
    return torch.arange(3, 33).reshape(2, 15)


def logits(base: Base) -> torch.Tensor:
    with torch.inference_mode():
        return base.logits(base.hidden(ids()))


def filled(base: Base, wanted: Arm) -> AdapterBank:
    """An adapter whose B is not zero."""
    bank = AdapterBank(base)
    bank.add("a", wanted, 0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for name, parameter in bank.parameters("a").items():
            if "lora_B" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    return bank


CASES = {
    "layers": {"layers": (1,)},
    "layers of named modules": {"layers": (0,), "targets": ("q_proj", "up_proj")},
    "one module of one layer by its full name": {"layers": (1,), "targets": ("layers.1.self_attn.q_proj",)},
    "full names and layers that share no rule": {
        "layers": (0, 1), "targets": ("layers.0.self_attn.q_proj", "layers.1.mlp.up_proj"),
    },
    "ranks by pattern": {"rank_pattern": (("q_proj", 2), (r".*layers\.0\.mlp\.\w+", 3), ("up_proj", 16))},
    "alphas by pattern": {"alpha_pattern": (("layers.1.self_attn.k_proj", 4.0), ("k_proj", 64.0))},
    "all of it under rsLoRA": {
        "layers": (1,), "targets": ("q_proj", "v_proj"), "rank_pattern": (("v_proj", 2),),
        "alpha_pattern": (("q_proj", 5.0),), "scaling": "rslora",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_peft_loads_what_is_exported_and_gives_the_same_logits(name, base, tmp_path):
    wanted = arm(**CASES[name])
    before = logits(base)
    bank = filled(base, wanted)
    with bank.use("a"):
        ours = logits(base)
    assert not torch.allclose(ours, before, atol=1e-3)
    blob = tmp_path / "blob.safetensors"
    adapter.write_adapter(blob, bank.parameters("a"), wanted, base.model, "tiny")
    bank.remove("a")
    adapter.export_adapter(blob, tmp_path / "out")
    loaded = PeftModel.from_pretrained(copy.deepcopy(base.model), tmp_path / "out")
    with torch.inference_mode():
        theirs = loaded(input_ids=ids(), use_cache=False).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)

    with wearing(base, read_given(tmp_path / "out")):
        assert torch.equal(logits(base), ours)
    spec = RunSpec(ModelRef("tiny"), wanted, 1e-3, None, None, 0)
    with worn(base, stored_update(base, spec, blob)) as tuned:
        assert torch.equal(logits(tuned), ours)
    bank = filled(base, wanted)
    bank.merge("a")
    torch.testing.assert_close(logits(base), ours, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_peft_adapts_the_same_modules_with_the_same_ranks_and_scales(name, base):
    wanted = arm(**CASES[name])
    config = adapter.peft_config(wanted, base.model, "tiny")
    settings = {k: v for k, v in config.items() if k not in ("peft_type", "base_model_name_or_path")}
    twin = get_peft_model(copy.deepcopy(base.model), LoraConfig(**settings))
    theirs = {
        name.removeprefix("base_model.model."): (module.r["default"], module.scaling["default"])
        for name, module in twin.named_modules() if hasattr(module, "lora_A")
    }  # fmt: skip
    assert theirs == {
        m: (rank_of(wanted, m), pytest.approx(scale(wanted, m))) for m in adapted_modules(base.model, wanted)
    }


def test_the_config_says_which_layers_and_which_patterns(base):
    found = adapter.peft_config(arm(layers=(1,), rank_pattern=(("q_proj", 2),)), base.model, "tiny")
    assert (found["layers_to_transform"], found["rank_pattern"]) == ([1], {"q_proj": 2})
    plain = adapter.peft_config(arm(), base.model, "tiny")
    assert not {"layers_to_transform", "rank_pattern", "alpha_pattern"} & set(plain)
    json.dumps(found)


def test_an_arm_starts_as_before_where_it_has_the_rank_of_the_whole(base):
    """A module's first factors depend on the seed, its name and its rank alone."""
    bank = AdapterBank(base)
    bank.add("whole", arm(), 3)
    bank.add("part", arm(layers=(1,), rank_pattern=(("q_proj", 2),)), 3)
    whole, part = bank.parameters("whole"), bank.parameters("part")
    assert {name.split(".")[2] for name in part} == {"1"} and len(part) == len(whole) // 2
    assert all(torch.equal(part[name], whole[name]) for name in part if "q_proj" not in name)
    assert part["model.layers.1.self_attn.q_proj.lora_A.weight"].shape == (2, 32)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"layers": (1, 2, 3)}, r"no such layer to adapt \(got '2-3'\). The layers with modules to adapt: 0-1"),
        ({"layers": (0, 1), "targets": ("layers.1.mlp.up_proj",)}, r"\(got '0'\). The layers with modules to adapt: 1"),
        ({"rank_pattern": (("q_prj", 4),)}, "matches no adapted module. Did you mean 'q_proj'"),
        ({"alpha_pattern": (("k_proj", 4.0),), "targets": ("q_proj",)}, "matches no adapted module"),
        ({"rank_pattern": (("layers.0.mlp.up_proj", 4),), "layers": (1,)}, "matches no adapted module"),
        ({"rank_pattern": (("q_proj", 4), ("layers.0.self_attn.q_proj", 2))}, "never counts.*Write it before 'q_proj'"),
        ({"rank_pattern": (("k_proj", 17),)}, r"k_proj can have this rank \(got 17\). Its matrix has rank 16 at most"),
    ],
)  # fmt: skip
def test_parts_that_are_not_there_are_named(more, sentence, base):
    with pytest.raises(ModelError, match=sentence):
        adapted_modules(base.model, arm(**more))


def test_no_gradient_runs_below_the_lowest_adapted_layer(base):
    layer = sum(p.numel() for n, p in base.model.named_parameters() if ".layers.0." in n)
    bank = AdapterBank(base)
    bank.add("all", arm(), 0), bank.add("upper", arm(layers=(1,)), 0)
    assert num_below(base, bank.parameters("all")) == 0
    assert num_below(base, bank.parameters("upper")) == layer
    seen = []
    base.model.model.layers[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with bank.use("upper"):
        base.logits(base.hidden(ids())).sum().backward()
    with bank.use("all"):
        base.logits(base.hidden(ids()))
    first, second = (output[0] if isinstance(output, tuple) else output for output in seen)
    assert not first.requires_grad and second.requires_grad
