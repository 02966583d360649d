"""Opening models: whose code runs, what is refused, and what a checkpoint must hold."""

from __future__ import annotations

import json
import types
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from rankscope.errors import ModelError
from rankscope.models.base import is_out_of_memory, load, outline
from rankscope.models.locate import place, resolve
from rankscope.records import ModelRef
from rankscope.study.plan import base_spec, run_key
from rankscope.testing import tiny_model, tiny_tokenizer

CODE = """\
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path({marker!r}).write_text("ran")

class OwnConfig(LlamaConfig):
    model_type = "own-kind"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def folder(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.fixture
def own_code(folder, tmp_path, monkeypatch):
    """A model that brings Python code, and the file that this code writes when it runs."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    marker = tmp_path / "marker"
    (folder / "own.py").write_text(CODE.format(marker=str(marker)))
    change(folder, model_type="own-kind", architectures=["OwnModel"],
           auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"})  # fmt: skip
    return folder, marker


def test_ids_without_an_owner_that_adapters_still_name_are_those_of_the_hub():
    assert place(ModelRef("gpt2")).source == "openai-community/gpt2"
    with pytest.raises(ModelError, match="no such model folder"):
        place(ModelRef("gpt3"))


def test_a_folder_called_like_an_old_id_comes_first(folder, monkeypatch):
    monkeypatch.chdir(folder.rename(folder.parent / "gpt2").parent)
    assert place(ModelRef("gpt2")).source == "gpt2"


def test_a_file_in_place_of_a_models_folder_is_told_so(folder):
    with pytest.raises(ModelError, match="this is a file, and a model is a folder"):
        place(ModelRef(str(folder / "config.json")))


def test_rotary_frequencies_stay_float32_where_the_weights_are_not(folder):
    half, whole = (load(ModelRef(str(folder), dtype=dtype)).model for dtype in ("bfloat16", "float32"))
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    found = {name: buffer for name, buffer in half.named_buffers() if "inv_freq" in name}
    assert found and all(torch.equal(buffer, whole.get_buffer(name)) for name, buffer in found.items())


def test_lengths_and_spans_of_a_composite_model_are_those_of_its_text_part(folder):
    base = load(ModelRef(str(folder)))
    text = types.SimpleNamespace(max_position_embeddings=70_000, layer_types=["chunked_attention", "full_attention"],
                                 attention_chunk_size=8192, sliding_window=None)  # fmt: skip
    base.model.config = types.SimpleNamespace(get_text_config=lambda: text)
    assert (base.max_length, base.window) == (70_000, 8192)
    text.layer_types, text.max_position_embeddings = ["full_attention"], None
    assert (base.max_length, base.window) == (2048, None)


@pytest.mark.parametrize(
    "said",
    [
        "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes",
        "CUDA error: out of memory\nCompile with ...",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
    ],
)
def test_memory_that_ends_is_known_by_what_is_said_too(said):
    assert is_out_of_memory(RuntimeError(said)) and is_out_of_memory(torch.OutOfMemoryError("x"))
    assert not is_out_of_memory(RuntimeError("shapes don't match"))


@pytest.mark.parametrize("opened", [load, outline])
def test_a_models_own_code_runs_only_if_asked_for(own_code, opened):
    folder, marker = own_code
    with pytest.raises(ModelError, match="Python code of its own, which was not run.*trust_remote_code: true"):
        opened(ModelRef(str(folder)))
    assert not marker.exists()
    opened(ModelRef(str(folder), trust_remote_code=True))
    assert marker.read_text() == "ran"


def test_trusted_code_is_part_of_a_models_identity(own_code):
    folder, _ = own_code
    ref = ModelRef(str(folder), trust_remote_code=True)
    before = resolve(ref).key
    (folder / "own.py").write_text("# other")
    assert resolve(ref).key != before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_an_error(folder, value):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"NaN or infinity \(got 'model.layers.1.mlp.up_proj.weight'\)"):
        load(ModelRef(str(folder)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="here 4-bit weights may work")
def test_four_bits_are_refused_with_what_is_missing(folder):
    with pytest.raises(ModelError, match="4-bit weights need .*a CUDA GPU.*rankscope doctor"):
        load(ModelRef(str(folder), quantization="nf4"))


@pytest.mark.parametrize("opened", [load, outline])
def test_a_checkpoint_saved_quantised_is_not_read_as_something_else(folder, opened):
    change(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ModelError, match=r"saved in a quantised format, which is not read \(got 'gptq'\)"):
        opened(ModelRef(str(folder)))


def test_weights_as_a_pickle_are_not_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"a pickle can run any code \(got 'pytorch_model.bin'\)"):
        resolve(ModelRef(str(folder)))


def test_quantisation_is_part_of_a_runs_identity_and_its_absence_changes_no_key():
    model = ModelRef("demo", key="k")
    keys = {name: run_key(base_spec(replace(model, quantization=name))) for name in (None, "nf4", "fp4")}
    assert len(set(keys.values())) == 3
    assert keys[None] == "b8d55925a5eb2cc73b83"  # what stores made before there was a choice hold
