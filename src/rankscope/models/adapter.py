"""Weights on disk, as safetensors only. A LoRA run is exactly PEFT's adapter file; a full run is its changed weights.

In: named tensors and an Arm. Out: one file (a blob of the store), or a folder that ``peft.PeftModel`` and vLLM load.
Format and reference: huggingface/peft ``save_pretrained`` (adapter_config.json, adapter_model.safetensors).
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rankscope.errors import ModelError
from rankscope.models.files import save
from rankscope.models.lora import LoraLinear, adapted_modules, linear_modules
from rankscope.models.names import kind_of
from rankscope.records import Arm

_PREFIX = "base_model.model."


def write_adapter(path: Path, tensors: dict[str, Tensor], arm: Arm, model: nn.Module, base: str) -> None:
    """One safetensors file with PEFT's tensor names; its config travels in the file's metadata.

    ``model`` is the one that wears the adapter, ``base`` the id that its config names.
    """
    config = peft_config(arm, model, base)
    renamed = {_PREFIX + k: v for k, v in tensors.items()}
    save(renamed, path, {"format": "pt", "adapter_config": json.dumps(config)})


def write_full(path: Path, model: nn.Module) -> None:
    """All weights of a fully fine-tuned model, tied tensors once."""
    seen: dict[int, str] = {}
    tensors = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen[tensor.data_ptr()] = name
            tensors[name] = tensor
    save(tensors, path, {"format": "pt"})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (PEFT's prefix taken off) and metadata. Raises ModelError on a missing or damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            return {k.removeprefix(_PREFIX): file.get_tensor(k) for k in file.keys()}, metadata  # noqa: SIM118
    except FileNotFoundError as error:
        raise ModelError("no such file of weights", where=str(path), hint="Give the folder that PEFT saved") from error
    except (SafetensorError, OSError) as error:
        raise ModelError("these weights can't be read", where=str(path), got=str(error),
                         hint="Copy it again") from error  # fmt: skip


def load_full(model: nn.Module, path: Path) -> None:
    """Copy stored weights into a model of the same architecture. Raises ModelError if they don't fit."""
    tensors, _ = read_tensors(path)
    own = model.state_dict()
    pointers = {own[k].data_ptr() for k in tensors if k in own}
    if any(k not in own for k in tensors) or any(v.data_ptr() not in pointers for v in own.values()):
        raise ModelError("this checkpoint doesn't fit the base", where=str(path))
    for key, tensor in tensors.items():  # copy_ would stretch a smaller one without a word
        if tensor.shape != own[key].shape:
            raise ModelError(f"{key} has another shape than {tuple(own[key].shape)}", where=str(path),
                             got=tuple(tensor.shape))  # fmt: skip
    with torch.no_grad():
        for key, tensor in tensors.items():
            own[key].copy_(tensor)


def export_adapter(blob: Path, folder: Path) -> None:
    """Write a stored adapter as a PEFT folder."""
    tensors, metadata = read_tensors(blob)
    write_folder(folder, tensors, metadata["adapter_config"])


def write_folder(folder: Path, tensors: dict[str, Tensor], config: str) -> None:
    """A PEFT folder of tensors (without PEFT's prefix) and the text of its config, which comes last: a folder without
    one is no adapter."""
    folder.mkdir(parents=True, exist_ok=True)
    save({_PREFIX + k: v for k, v in tensors.items()}, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(config + "\n", encoding="utf-8")


def peft_config(arm: Arm, model: nn.Module, base: str) -> dict:
    """PEFT's LoraConfig as it stands in adapter_config.json."""
    modules = adapted_modules(model, arm)
    adapted = [model.get_submodule(name) for name in modules]
    inner = [module.base if isinstance(module, LoraLinear) else module for module in adapted]
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True,
        "r": arm.rank, "lora_alpha": arm.alpha, "lora_dropout": arm.dropout, "use_rslora": arm.scaling == "rslora",
        **peft_targets(model, set(modules), arm.layers), "bias": "none",
        "fan_in_fan_out": all(isinstance(module, Conv1D) for module in inner),
        **({"rank_pattern": dict(arm.rank_pattern)} if arm.rank_pattern else {}),
        **({"alpha_pattern": dict(arm.alpha_pattern)} if arm.alpha_pattern else {}),
    }  # fmt: skip


def peft_targets(model: nn.Module, modules: set[str], layers: tuple[int, ...] | None) -> dict[str, list]:
    """PEFT's shortest settings that select exactly the adapted modules: the last parts of their names (in the layers),
    or else full names, for which PEFT doesn't ask for layers."""
    leaves = sorted({kind_of(m) for m in modules})
    named = {m for m in linear_modules(model) if kind_of(m) in leaves}
    if layers is None:
        return {"target_modules": leaves if named == modules else sorted(modules)}
    if {m for m in named if _peft_layer(m) in layers} == modules:
        return {"target_modules": leaves, "layers_to_transform": list(layers)}
    return {"target_modules": sorted(modules)}


def _peft_layer(module: str) -> int | None:
    """The layer that PEFT takes a module to be in where no ``layers_pattern`` is given: the first number that has two
    names before it (huggingface/peft ``check_target_module_exists``)."""
    found = re.match(r".*?\.[^.]*\.(\d+)\.", module)
    return int(found[1]) if found else None
