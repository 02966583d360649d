"""Adapters from elsewhere: what PEFT saved is read so that the logits are PEFT's, and the rest is refused by name."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from rankscope.errors import ModelError
from rankscope.models.base import Base
from rankscope.models.given import read_given, wearing
from rankscope.models.locate import adapter_folder
from rankscope.records import ModelRef
from rankscope.testing import tiny_tokenizer

HEAD = Path(__file__).parents[3]
REAL = [folder for folder in (Path(os.environ.get("RANKSCOPE_DATA", HEAD)), HEAD / "shared" / "data")
        if (folder / "adapters").is_dir()]  # fmt: skip


def made(config: hf.PretrainedConfig) -> Base:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    return Base(ModelRef("made"), model, tiny_tokenizer(), torch.device("cpu"), torch.float32)


def llama(**more) -> hf.LlamaConfig:
    return hf.LlamaConfig(vocab_size=132, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                          num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                          pad_token_id=0, bos_token_id=1, eos_token_id=2, **more)  # fmt: skip


def gpt2() -> hf.GPT2Config:
    return hf.GPT2Config(vocab_size=132, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)


def ids() -> torch.Tensor:
    return torch.arange(3, 33).reshape(2, 15)


def logits(base: Base) -> torch.Tensor:
    with torch.inference_mode():
        return base.logits(base.hidden(ids()))


def saved_by_peft(base: Base, folder: Path, dtype: torch.dtype = torch.float32, **settings) -> torch.Tensor:
    """A PEFT adapter with random weights everywhere, saved; its own logits."""
    config = LoraConfig(**{"r": 4, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
                        | settings)  # fmt: skip
    twin = get_peft_model(copy.deepcopy(base.model), config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for parameter in twin.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
                parameter.copy_(parameter.to(dtype))
    twin.save_pretrained(folder)
    if dtype != torch.float32:
        path = folder / "adapter_model.safetensors"
        save_file({k: v.to(dtype) for k, v in load_file(path).items()}, path, {"format": "pt"})
    with torch.inference_mode():
        return twin.eval()(ids()).logits


CASES = {
    "plain": (llama(), {}),
    "rsLoRA": (llama(), {"use_rslora": True}),
    "ranks by pattern": (llama(), {"rank_pattern": {"q_proj": 7, "layers.1.mlp.up_proj": 2}}),
    "alphas by pattern": (llama(), {"alpha_pattern": {"down_proj": 64, "^model.layers.0.self_attn.k_proj": 1}}),
    "all patterns and rsLoRA": (
        llama(), {"rank_pattern": {r".*\.v_proj": 9}, "alpha_pattern": {"v_proj": 3}, "use_rslora": True},
    ),
    "some modules of some layers": (llama(), {"target_modules": ["q_proj", "o_proj"], "layers_to_transform": [1]}),
    "a head saved whole": (llama(), {"modules_to_save": ["lm_head"]}),
    "a norm saved whole": (llama(), {"modules_to_save": ["input_layernorm"]}),
    "an update of the head": (llama(), {"target_modules": ["q_proj", "lm_head"]}),
    "trained biases": (llama(attention_bias=True, mlp_bias=True), {"bias": "lora_only"}),
    "Conv1D": (gpt2(), {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "Conv1D with biases": (gpt2(), {"target_modules": ["c_attn"], "fan_in_fan_out": True, "bias": "all"}),
    "float16": (llama(), {"dtype": torch.float16}),
    "bfloat16": (llama(), {"dtype": torch.bfloat16}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Setting .save_embedding_layers. to")
@pytest.mark.parametrize("name", CASES)
def test_what_peft_saved_gives_pefts_logits_and_leaves_no_trace(name, tmp_path):
    config, settings = CASES[name]
    base = made(config)
    before, expected = logits(base), saved_by_peft(base, tmp_path / "out", **settings)
    assert not torch.allclose(before, expected, atol=1e-3)
    with wearing(base, read_given(tmp_path / "out")):
        torch.testing.assert_close(logits(base), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(logits(base), before)
    assert "LoraLinear" not in {type(m).__name__ for m in base.model.modules()}


@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings=True", "ignore:Model with .tie_word_embeddings")
@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
def test_one_of_two_tied_modules_saved_whole_leaves_the_other_as_it_is(name, tmp_path):
    base = made(llama(tie_word_embeddings=True))
    before, expected = logits(base), saved_by_peft(base, tmp_path / "out", modules_to_save=[name])
    with wearing(base, read_given(tmp_path / "out")):
        torch.testing.assert_close(logits(base), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(logits(base), before)
    assert base.model.lm_head.weight is base.model.model.embed_tokens.weight


def plain_folder(folder: Path, **config) -> Path:
    saved_by_peft(made(llama()), folder, target_modules=["q_proj"])
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


REFUSED = {
    "another method": ({"peft_type": "IA3"}, r"only LoRA adapters are read \(got 'IA3'\)"),
    "another task": ({"task_type": "SEQ_CLS"}, r"only adapters of causal language models.*'SEQ_CLS'"),
    "DoRA": ({"use_dora": True}, r"needs what can't be applied here \(got \{'use_dora': True\}\)"),
    "PiSSA": ({"init_lora_weights": "pissa_niter_4"}, r"whose own weights were changed too \(got 'pissa_niter_4'\)"),
    "a start that is no word": ({"init_lora_weights": ["pissa"]}, "init_lora_weights must be true, false or a word"),
    "alpha that is no number": ({"lora_alpha": float("nan")}, "not valid JSON: NaN is no number in JSON"),
    "a setting of the future": ({"use_flora": {"x": 1}}, r"needs what can't be applied here.*use_flora"),
    "trained tokens": ({"trainable_token_indices": [3]}, "needs what can't be applied here.*trainable_token_indices"),
    "no rank": ({"r": 0}, r"r must be a number above 0 \(got 0\)"),
    "alpha as text": ({"lora_alpha": "16"}, "lora_alpha must be a number above 0"),
    "a rank that is another": ({"r": 5}, "are not of rank 5, as the config says"),
    "a pattern of words": ({"rank_pattern": {"q_proj": "four"}}, "rank_pattern must map patterns"),
    "a pattern that is none": ({"alpha_pattern": {"q_(proj": 4}}, "alpha_pattern holds a pattern that is none"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_applied_wrongly_is_refused_by_name(name, tmp_path):
    change, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        read_given(plain_folder(tmp_path / "out", **change))


def change_tensors(folder: Path, change) -> Path:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})
    return folder


def test_nan_in_an_adapter_is_an_error(tmp_path):
    folder = change_tensors(plain_folder(tmp_path / "out"), lambda t: next(iter(t.values())).fill_(float("nan")))
    with pytest.raises(ModelError, match="1 tensors of this adapter hold NaN or infinity"):
        read_given(folder)


def test_the_file_of_weights_in_place_of_its_folder_is_told_so(tmp_path, monkeypatch):
    plain_folder(tmp_path / "out")
    monkeypatch.chdir(tmp_path)  # where "out/adapter_model.safetensors" could be a hub id
    with pytest.raises(ModelError, match="this is a file, and an adapter is a folder.*adapter_config.json"):
        adapter_folder("out/adapter_model.safetensors")


def test_a_pickle_is_not_opened(tmp_path):
    folder = plain_folder(tmp_path / "out")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"a pickle can run any code \(got 'adapter_model.bin'\)"):
        read_given(folder)


def test_an_adapter_of_another_model_is_refused_and_says_which(tmp_path):
    folder = plain_folder(tmp_path / "out", base_model_name_or_path="some/other-model")
    given = read_given(folder)
    for base, why in ((made(gpt2()), "2 of its 2 modules are not there"),
                      (made(llama(head_dim=4)), "has 32 inputs and 16 outputs, its update has 32 and 32")):  # fmt: skip
        before = logits(base)
        with (
            pytest.raises(ModelError, match=why + ".*The model it was made for: some/other-model"),
            wearing(base, given),
        ):
            pass
        assert torch.equal(logits(base), before)


def test_a_head_of_a_grown_vocabulary_is_refused(tmp_path):
    bigger = made(llama())
    bigger.model.resize_token_embeddings(140)
    saved_by_peft(bigger, tmp_path / "out", modules_to_save=["lm_head"])
    base = made(llama())
    with (
        pytest.raises(ModelError, match=r"lm_head.weight has the shape \(132, 32\), its own copy \(140, 32\)"),
        wearing(base, read_given(tmp_path / "out")),
    ):
        pass


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="no adapters/ in a local mirror (RANKSCOPE_DATA)")
def test_an_adapter_that_others_trained_gives_pefts_logits_on_a_model_of_its_shape(tmp_path):
    from peft import PeftModel

    folder = shutil.copytree(REAL[-1] / "adapters" / "gpt2-tigrinya-lora", tmp_path / "real")
    base = made(hf.GPT2Config(vocab_size=132, bos_token_id=1, eos_token_id=2))
    before, given = logits(base), read_given(folder)
    assert len(given.pieces) == 36 and given.arm.rank == 8 and given.made_for == "gpt2"
    twin = PeftModel.from_pretrained(copy.deepcopy(base.model), folder)
    with torch.inference_mode():
        expected = twin(ids()).logits
    with wearing(base, given):
        torch.testing.assert_close(logits(base), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(before, expected, atol=1e-3)


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="no adapters/ in a local mirror (RANKSCOPE_DATA)")
def test_a_rank_one_float16_adapter_is_read_in_float32():
    given = read_given(REAL[-1] / "adapters" / "open-calm-1b-delta-compression")
    assert len(given.pieces) == 24 and {len(p.a) for p in given.pieces.values()} == {1}
    assert {p.scale for p in given.pieces.values()} == {32.0} and given.made_for == "cyberagent/open-calm-1b"
    assert all(p.a.dtype == torch.float32 for p in given.pieces.values())
