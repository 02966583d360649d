"""Audits of what exists: planted ranks are found, damage is one clear error, what is undefined is called no number."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch

from made_adapters import REAL, SPOILED, change_tensors, gpt2, save_adapter, save_model, zeroed
from rankscope.cli.answer import to_json
from rankscope.errors import InputError, ModelError
from rankscope.study.audit import audit
from rankscope.testing import tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:Setting .save_embedding_layers. to")
FACTORS = [
    "name", "layer", "kind", "rank", "alpha", "scale", "singular_values", "stable_rank", "effective_rank",
    "energy_rank_90", "energy_rank_99", "utilisation", "frobenius", "spectral",
]  # fmt: skip
BESIDE = ["relative_frobenius", "relative_spectral", "intruders", "intruder_cosines", "near_ties", "interference"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(save_model(tmp_path_factory.mktemp("base")))


def has_nan(page: Path) -> bool:
    """Whether the page's text or data say NaN anywhere; the scripts, whose code may, are left out."""
    shown = re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.DOTALL)
    assert 'id="chart-specs"' in shown
    return re.search(r"\b(nan|infinity)\b", shown, re.IGNORECASE) is not None


def planted(folder, singular: list[float]):
    """An adapter whose every module has these singular values: orthonormal factors, scale 2."""
    save_adapter(folder, r=len(singular), lora_alpha=2 * len(singular))

    def plant(tensors):
        made = {}
        for name, tensor in tensors.items():
            rows = tensor if "lora_A" in name else tensor.T
            frame = torch.linalg.qr(rows.double().T).Q.T  # (R, D)
            frame = frame * torch.tensor(singular).double()[:, None] / 2 if "lora_B" in name else frame
            made[name] = (frame if "lora_A" in name else frame.T).float().contiguous()
        return made

    return change_tensors(folder, plant)


def test_the_object_holds_exactly_what_is_promised(tmp_path, base):
    save_adapter(tmp_path / "mine", rank_pattern={"q_proj": 3}, use_rslora=True)
    bare = audit(str(tmp_path / "mine")).as_dict()
    assert list(bare) == ["adapter", "base", "modules", "summary", "advice", "left_out"]
    assert (bare["adapter"], bare["base"]) == ("mine", None)
    assert all(list(module) == FACTORS for module in bare["modules"]) and len(bare["modules"]) == 14
    whole = audit(str(tmp_path / "mine"), base).as_dict()
    assert all(list(module) == FACTORS + BESIDE for module in whole["modules"])
    first = {m["name"]: m for m in whole["modules"]}["model.layers.1.self_attn.q_proj"]
    assert (first["layer"], first["kind"], first["rank"], first["alpha"]) == (1, "q_proj", 3, 16)
    assert first["scale"] == pytest.approx(16 / math.sqrt(3)) and len(first["intruder_cosines"]) == 10
    assert to_json(whole).count("NaN") == 0


def test_planted_singular_values_are_found_and_summed_up(tmp_path):
    values = [3.0, 1.0, 0.2, 0.0]
    found = audit(str(planted(tmp_path / "mine", values)))
    for module in found.modules:
        assert module.singular_values == pytest.approx(values, abs=1e-5)
        assert module.stable_rank == pytest.approx(10.04 / 9, rel=1e-5)
        assert (module.energy_rank_90, module.energy_rank_99) == (2, 2)
        assert module.utilisation == pytest.approx(10.04 / 36, rel=1e-5)
    assert found.summary["total_frobenius"] == pytest.approx(math.sqrt(14 * 10.04), rel=1e-5)
    cut = found.summary["truncation"]
    assert (cut["uniform_rank"], cut["parameters_before"]) == (2, 2 * cut["parameters_after"])
    assert cut["bytes_saved"] == 4 * cut["parameters_after"]
    assert cut["command"] == f"rankscope adapter truncate {tmp_path / 'mine'} --energy 0.99 -o mine-99"


def test_the_advised_command_keeps_what_it_says(tmp_path, monkeypatch):
    from rankscope.cli.main import main

    save_adapter(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    about = audit("mine").summary["truncation"]
    assert main(about["command"].split()[1:]) == 0
    small = audit("mine-99").summary
    assert small["parameters"] == about["parameters_after"] and small["rank"] == about["ranks"]


def test_relative_change_is_that_of_the_base_s_weights(tmp_path, base):
    found = audit(str(planted(tmp_path / "mine", [3.0, 1.0])), base)
    weights = dict(tiny_model().named_parameters())
    for module in found.modules:
        weight = weights[f"{module.place.name}.weight"].detach().double()
        assert module.base.relative_frobenius == pytest.approx(math.sqrt(10) / float(weight.norm()), rel=1e-4)
        assert module.base.relative_spectral == pytest.approx(3 / float(torch.linalg.matrix_norm(weight, 2)), rel=1e-4)


def test_an_intruder_that_was_planted_is_found_in_its_module_alone(tmp_path, base):
    name = "model.layers.1.mlp.down_proj"
    folder = change_tensors(save_adapter(tmp_path / "mine"), lambda tensors: {k: v * 1e-4 for k, v in tensors.items()})
    u = torch.linalg.svd(dict(tiny_model().named_parameters())[f"{name}.weight"].double())[0]

    def plant(tensors):
        mixed = u.sum(1) / math.sqrt(len(u))  # as far from every left vector as can be: cosine 1 / sqrt(32)
        key = f"base_model.model.{name}.lora_"
        b = torch.zeros_like(tensors[f"{key}B.weight"])
        b[:, 0] = 100 * mixed.float()
        a = torch.nn.functional.normalize(tensors[f"{key}A.weight"])
        return tensors | {f"{key}B.weight": b, f"{key}A.weight": a}

    found = audit(str(change_tensors(folder, plant)), base)
    assert {m.place.name for m in found.modules if m.base.intruders} == {name}
    assert found.summary["intruders"] == 1
    assert any(f"1 intruder dimension in 1 of 14 modules, most in {name} (1)" in text for text in found.advice)


def test_a_checkpoint_is_compared_with_its_base(tmp_path, base):
    tuned = tiny_model()
    with torch.no_grad():
        tuned.model.layers[1].mlp.up_proj.weight.mul_(1.5)
        tuned.model.norm.weight.mul_(1.25)
    found = audit(str(save_model(tmp_path / "tuned", tuned)), base)
    changed = [m for m in found.modules if not m.is_zero]
    assert found.kind == "full" and [m.place.name for m in changed] == ["model.layers.1.mlp.up_proj"]
    assert changed[0].base.relative_frobenius == pytest.approx(0.5, rel=1e-6)
    assert (changed[0].place.rank, changed[0].utilisation, found.summary["rank"]) == (None, None, None)
    norms = {w.name: w.relative_frobenius for w in found.whole}
    assert norms["model.norm.weight"] == pytest.approx(0.25, rel=1e-6)
    assert found.summary["truncation"]["command"] is None
    assert not has_nan(found.report(tmp_path / "page.html"))


def test_a_checkpoint_needs_no_tokenizer_of_its_own(tmp_path, base):
    tuned = tiny_model()
    with torch.no_grad():
        tuned.model.layers[0].mlp.up_proj.weight += 0.01
    tuned.save_pretrained(tmp_path / "tuned")
    assert audit(str(tmp_path / "tuned"), base).summary["total_frobenius"] > 0


def test_without_the_base_it_says_what_is_left_out_and_how_to_get_it(tmp_path):
    found = audit(str(save_adapter(tmp_path / "mine", target_modules=["q_proj"])))
    assert found.left_out[0].startswith("Relative change, intruder dimensions and interference")
    assert f"rankscope audit {tmp_path / 'mine'} --base MODEL" in found.left_out[0]


@pytest.mark.parametrize("with_base", [False, True])
def test_what_is_saved_whole_is_named_as_not_measured(with_base, tmp_path, base):
    save_adapter(tmp_path / "mine", target_modules=["q_proj"], modules_to_save=["lm_head"])
    found = audit(str(tmp_path / "mine"), base if with_base else None)
    assert [w.name for w in found.whole] == ["lm_head.weight"]
    measured = found.whole[0].relative_frobenius is not None
    assert any("saved whole" in t and "lm_head.weight" in t for t in found.left_out) != measured


@pytest.mark.parametrize("with_base", [False, True])
def test_a_zero_update_has_no_rank_and_no_nan(with_base, tmp_path, base):
    zeroed(save_adapter(tmp_path / "mine"))
    found = audit(str(tmp_path / "mine"), base if with_base else None)
    for module in found.modules:
        assert module.frobenius == module.spectral == 0
        assert module.stable_rank is module.effective_rank is module.energy_rank_99 is module.utilisation is None
    assert found.advice == ("This update is zero in every linear module: it changes nothing, and no rank is defined.",)
    assert found.summary["truncation"] is None and found.summary["stable_rank"] is None
    json.dumps(json.loads(to_json(found.as_dict())), allow_nan=False)
    assert not has_nan(found.report(tmp_path / "page.html"))


@pytest.mark.parametrize("with_base", [False, True])
def test_one_zero_module_is_named_and_hides_no_other(with_base, tmp_path, base):
    zeroed(save_adapter(tmp_path / "mine"), "0.self_attn.q_proj.lora_B")
    found = audit(str(tmp_path / "mine"), base if with_base else None)
    assert found.summary["zero_modules"] == ["model.layers.0.self_attn.q_proj"]
    assert "Not changed at all, and without a rank: 1 of 14 modules (model.layers.0.self_attn.q_proj)." in found.advice
    assert found.summary["stable_rank"]["min"] >= 1
    assert not has_nan(found.report(tmp_path / "page.html"))


@pytest.mark.parametrize("name", SPOILED)
def test_a_damaged_or_unknown_adapter_is_one_clear_error(name, tmp_path):
    spoil, message = SPOILED[name]
    spoil(save_adapter(tmp_path / "mine"))
    with pytest.raises(ModelError, match=message):
        audit(str(tmp_path / "mine"))


def test_an_adapter_for_a_base_of_other_shapes_is_one_clear_error(tmp_path, base):
    save_adapter(tmp_path / "mine", gpt2(), target_modules=["c_attn"], fan_in_fan_out=True)
    with pytest.raises(ModelError, match="not one for this model: 2 of its 2 modules are not there"):
        audit(str(tmp_path / "mine"), base)
    wide = save_adapter(tmp_path / "wide", gpt2(n_embd=64), target_modules=["c_attn"], fan_in_fan_out=True)
    narrow = save_model(tmp_path / "narrow", gpt2())
    with pytest.raises(ModelError, match="c_attn has 32 inputs and 96 outputs, its update has 64 and 192"):
        audit(str(wide), str(narrow))


def test_a_checkpoint_without_its_base_says_what_to_type(base):
    with pytest.raises(InputError, match=f"can only be compared with the model .*rankscope audit {base} --base MODEL"):
        audit(base)


def test_a_checkpoint_of_other_shapes_is_one_clear_error(tmp_path, base):
    with pytest.raises(ModelError, match="this checkpoint is not one of this model"):
        audit(str(save_model(tmp_path / "other", gpt2())), base)


def test_a_checkpoint_cut_short_is_one_clear_error(tmp_path, base):
    file = save_model(tmp_path / "tuned") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cut short"):
        audit(str(tmp_path / "tuned"), base)


@pytest.mark.parametrize("path", ["", "nowhere", "./nowhere"])
def test_what_is_neither_is_one_clear_error(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="neither an adapter|no such folder of an adapter"):
        audit(path or str(tmp_path))


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="no adapters/ in a local mirror (RANKSCOPE_DATA)")
def test_a_gpt2_adapter_that_others_trained_spends_a_sixth_of_its_rank():
    found = audit(str(REAL[-1] / "gpt2-tigrinya-lora"))
    stable = found.summary["stable_rank"]
    assert (round(stable["mean"], 2), round(stable["min"], 2), round(stable["max"], 2)) == (1.36, 1.04, 2.35)
    assert found.summary["rank"] == {"min": 8, "max": 8} and round(found.summary["utilisation"]["mean"], 2) == 0.17
    assert found.summary["truncation"]["ranks"] == {"min": 2, "max": 7}


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="no adapters/ in a local mirror (RANKSCOPE_DATA)")
def test_a_gpt2_adapter_is_read_the_right_way_round_beside_a_base_of_its_shapes(tmp_path):
    base = gpt2(n_embd=768, n_layer=4, n_head=12)
    folder = shutil.copytree(REAL[-1] / "gpt2-tigrinya-lora", tmp_path / "one")
    change_tensors(folder, lambda tensors: {k: v for k, v in tensors.items() if ".h.3." in k})  # one layer is enough
    found = audit(str(folder), str(save_model(tmp_path / "base", base)))
    weight = base.get_parameter("transformer.h.3.mlp.c_proj.weight")
    module = {m.place.name: m for m in found.modules}["transformer.h.3.mlp.c_proj"]
    assert module.base.relative_frobenius == pytest.approx(
        module.frobenius / float(weight.detach().double().norm()), rel=1e-5
    )
    assert len(found.modules) == 3 and all(len(m.base.intruder_cosines) == 10 for m in found.modules)


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="no adapters/ in a local mirror (RANKSCOPE_DATA)")
def test_a_rank_one_float16_adapter_has_nothing_to_truncate():
    found = audit(str(REAL[-1] / "open-calm-1b-delta-compression"))
    assert found.summary["stable_rank"] == {"mean": 1, "min": 1, "max": 1} and found.num_bytes == 2
    assert found.summary["truncation"]["bytes_saved"] == 0
    assert any(text.startswith("Nothing to truncate") for text in found.advice)
