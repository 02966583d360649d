"""Truncated adapters: PEFT loads them, they are the best of their rank, and what they say they kept is true."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from made_adapters import REAL, SPOILED, change_tensors, gpt2, save_adapter, zeroed
from rankscope.errors import InputError, ModelError
from rankscope.models.given import read_given
from rankscope.study.truncate import truncate
from rankscope.testing import tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:Setting .save_embedding_layers. to")


def merged(model, folder) -> dict[str, torch.Tensor]:
    """A model's parameters with PEFT's own merge of an adapter, by their names in the model."""
    twin = PeftModel.from_pretrained(copy.deepcopy(model), folder).merge_and_unload()
    return {name: parameter.detach().double() for name, parameter in twin.named_parameters()}


def best(delta: torch.Tensor, rank: int) -> torch.Tensor:
    """The plain twin: the dense update's float64 SVD, cut."""
    u, s, vh = torch.linalg.svd(delta, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vh[:rank]


CASES = {
    "plain": (tiny_model, {}),
    "rsLoRA": (tiny_model, {"use_rslora": True}),
    "ranks and alphas by pattern": (
        tiny_model,
        {"rank_pattern": {"q_proj": 7, "layers.1.mlp.up_proj": 2}, "alpha_pattern": {"down_proj": 64, "k_proj": 3}},
    ),
    "Conv1D": (gpt2, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "a rank above the matrix's size": (tiny_model, {"r": 40}),
}


@pytest.mark.parametrize("asked", [{"rank": 3}, {"energy": 0.9}], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_peft_merges_the_best_approximation_of_every_module(name, asked, tmp_path):
    make, settings = CASES[name]
    model = make()
    own = {n: p.detach().double() for n, p in model.named_parameters()}
    save_adapter(tmp_path / "whole", model, **settings)
    before = merged(model, tmp_path / "whole")
    done = truncate(str(tmp_path / "whole"), str(tmp_path / "small"), **asked)
    after = merged(model, tmp_path / "small")
    assert len(done.modules) > 3 and len({cut.rank for cut in done.modules}) > ("energy" in asked)
    for cut in done.modules:
        weight = f"{cut.name}.weight"
        delta = before[weight] - own[weight]
        expected = best(delta, cut.rank)
        largest = float(torch.linalg.matrix_norm(delta, 2))
        torch.testing.assert_close(after[weight] - own[weight], expected, atol=1e-6 * largest, rtol=0)
        share = float(expected.square().sum() / delta.square().sum())
        assert cut.energy == pytest.approx(share, abs=1e-6)
        if "energy" in asked:
            assert cut.energy >= 0.9 - 1e-9
            less = best(delta, cut.rank - 1) if cut.rank > 1 else torch.zeros_like(delta)
            assert float(less.square().sum() / delta.square().sum()) < 0.9
        else:
            assert cut.rank == min(3, cut.before)
    assert set(before) == set(after)
    untouched = set(own) - {f"{cut.name}.weight" for cut in done.modules}
    assert all(torch.equal(after[n], own[n]) for n in untouched)


def test_the_energy_kept_in_all_weighs_modules_by_their_energy(tmp_path):
    save_adapter(tmp_path / "whole")
    done = truncate(str(tmp_path / "whole"), str(tmp_path / "small"), rank=1)
    given, kept, total = read_given(tmp_path / "whole"), 0.0, 0.0
    for piece in given.pieces.values():
        values = torch.linalg.svdvals(piece.dense().double())
        kept, total = kept + float(values[0] ** 2), total + float(values.square().sum())
    assert done.kept == pytest.approx(kept / total, rel=1e-6)
    assert done.least == min(cut.energy for cut in done.modules) < done.kept
    assert done.params_before == given.num_params
    assert done.params == read_given(tmp_path / "small").num_params < done.params_before / 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_the_type_of_the_tensors_is_kept(dtype, tmp_path):
    save_adapter(tmp_path / "whole", dtype=dtype)
    truncate(str(tmp_path / "whole"), str(tmp_path / "small"), rank=2)
    tensors = load_file(tmp_path / "small" / "adapter_model.safetensors")
    assert {t.dtype for t in tensors.values()} == {dtype}
    assert set(tensors) == set(load_file(tmp_path / "whole" / "adapter_model.safetensors"))


def test_modules_saved_whole_and_biases_are_carried_over(tmp_path):
    model = gpt2()
    save_adapter(tmp_path / "whole", model, target_modules=["c_attn"], fan_in_fan_out=True, bias="lora_only",
                 modules_to_save=["ln_f"])  # fmt: skip
    truncate(str(tmp_path / "whole"), str(tmp_path / "small"), rank=2)
    before, after = merged(model, tmp_path / "whole"), merged(model, tmp_path / "small")
    for name in ("transformer.ln_f.weight", "transformer.h.0.attn.c_attn.bias"):
        assert torch.equal(before[name], after[name])
        assert not torch.equal(after[name], model.get_parameter(name).double())


def test_a_rank_above_the_adapter_s_leaves_it_bit_for_bit_as_it_was_and_says_so(tmp_path):
    save_adapter(tmp_path / "whole", use_rslora=True, rank_pattern={"q_proj": 3})
    done = truncate(str(tmp_path / "whole"), str(tmp_path / "same"), rank=6)
    assert len(done.unchanged) == len(done.modules) and done.kept == 1.0
    before, after = read_given(tmp_path / "whole").pieces, read_given(tmp_path / "same").pieces
    assert all(torch.equal(before[m].a, after[m].a) and torch.equal(before[m].b, after[m].b) for m in before)
    assert all(after[m].scale == pytest.approx(before[m].scale, rel=1e-12) for m in before)


def test_the_config_says_no_more_than_it_must(tmp_path):
    save_adapter(tmp_path / "whole", alpha_pattern={"q_proj": 32})
    truncate(str(tmp_path / "whole"), str(tmp_path / "small"), rank=3)
    config = json.loads((tmp_path / "small" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"], config["rank_pattern"]) == (3, 8, False, {})
    assert config["alpha_pattern"] == {f"model.layers.{i}.self_attn.q_proj": 16 for i in (0, 1)}
    assert config["base_model_name_or_path"] == json.loads(
        (tmp_path / "whole" / "adapter_config.json").read_text())["base_model_name_or_path"]  # fmt: skip


@pytest.mark.parametrize("asked", [{"rank": 3}, {"energy": 0.99}], ids=str)
def test_a_zero_update_stays_zero_and_its_energy_is_not_defined(asked, tmp_path):
    zeroed(save_adapter(tmp_path / "whole"))
    done = truncate(str(tmp_path / "whole"), str(tmp_path / "small"), **asked)
    assert done.kept is None and done.least is None and {cut.energy for cut in done.modules} == {None}
    assert all(float(p.dense().abs().max()) == 0 for p in read_given(tmp_path / "small").pieces.values())


def test_one_zero_module_hides_no_other(tmp_path):
    zeroed(save_adapter(tmp_path / "whole"), "0.self_attn.q_proj.lora_B")
    done = truncate(str(tmp_path / "whole"), str(tmp_path / "small"), energy=0.9)
    assert [cut.name for cut in done.modules if cut.energy is None] == ["model.layers.0.self_attn.q_proj"]
    assert done.least >= 0.9 - 1e-9


@pytest.mark.parametrize("name", SPOILED)
def test_what_can_t_be_read_is_one_clear_error_and_nothing_is_written(name, tmp_path):
    spoil, message = SPOILED[name]
    spoil(save_adapter(tmp_path / "whole"))
    with pytest.raises(ModelError, match=message):
        truncate(str(tmp_path / "whole"), str(tmp_path / "small"), rank=2)
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "exactly one of"),
        ({"rank": 2, "energy": 0.9}, "exactly one of"),
        ({"rank": 0}, r"at least 1 \(got 0\)"),
        ({"energy": 0.0}, r"above 0 and at most 1 \(got 0.0\)"),
        ({"energy": 1.5}, r"above 0 and at most 1 \(got 1.5\)"),
        ({"energy": float("nan")}, "above 0 and at most 1"),
    ],
)
def test_wrong_wishes_are_refused(asked, message, tmp_path):
    save_adapter(tmp_path / "whole", target_modules=["q_proj"])
    with pytest.raises(InputError, match=message):
        truncate(str(tmp_path / "whole"), str(tmp_path / "small"), **asked)


def test_nothing_is_overwritten(tmp_path):
    save_adapter(tmp_path / "whole", target_modules=["q_proj"])
    with pytest.raises(InputError, match="this exists already, and nothing is overwritten"):
        truncate(str(tmp_path / "whole"), str(tmp_path / "whole"), rank=2)


def test_a_folder_below_a_file_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="no folder can be made below a file.*file'"):
        truncate(str(tmp_path / "nowhere"), str(tmp_path / "file" / "deep" / "small"), rank=2)


def test_factors_too_large_for_their_type_are_an_error(tmp_path):
    folder = save_adapter(tmp_path / "whole", target_modules=["q_proj"], dtype=torch.float16, lora_alpha=1)
    change_tensors(folder, lambda tensors: {k: torch.full_like(v, 6e4) for k, v in tensors.items()})
    with pytest.raises(ModelError, match="too large for the type"):
        truncate(str(folder), str(tmp_path / "small"), rank=1)


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="no adapters/ in a local mirror (RANKSCOPE_DATA)")
def test_an_adapter_that_others_trained_is_truncated_as_promised(tmp_path):
    model = gpt2(n_embd=768, n_layer=12, n_head=12)
    folder = REAL[-1] / "gpt2-tigrinya-lora"
    done = truncate(str(folder), str(tmp_path / "small"), energy=0.99)
    assert sorted({cut.rank for cut in done.modules}) == [2, 3, 4, 5, 6, 7]
    assert 0.99 <= done.least < done.kept < 1 and done.params < 0.6 * done.params_before
    own, before, after = dict(model.named_parameters()), merged(model, folder), merged(model, tmp_path / "small")
    for cut in done.modules[::9]:
        weight = f"{cut.name}.weight"
        delta = before[weight] - own[weight].detach().double()
        expected = best(delta, cut.rank)
        torch.testing.assert_close(after[weight] - own[weight].detach(), expected, atol=1e-5, rtol=0)
