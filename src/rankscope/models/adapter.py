"""Weights on disk, as safetensors only. A LoRA run is exactly PEFT's adapter file; a full run is its changed weights.

In: named tensors and an Arm. Out: one file (a blob of the store), or a folder that ``peft.PeftModel`` and vLLM load.
Format and reference: huggingface/peft ``save_pretrained`` (adapter_config.json, adapter_model.safetensors).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rankscope.errors import ModelError
from rankscope.models.files import save
from rankscope.models.lora import LoraLinear, find_targets, linear_modules
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
        raise ModelError("these weights can't be read", where=str(path), got=str(error)) from error


def load_full(model: nn.Module, path: Path) -> None:
    """Copy stored weights into a model of the same architecture. Raises ModelError if they don't fit."""
    tensors, _ = read_tensors(path)
    own = model.state_dict()
    pointers = {own[k].data_ptr() for k in tensors if k in own}
    if any(k not in own for k in tensors) or any(v.data_ptr() not in pointers for v in own.values()):
        raise ModelError("this checkpoint doesn't fit the base", where=str(path))
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
    adapted = [model.get_submodule(name) for name in find_targets(model, arm.targets)]
    inner = [module.base if isinstance(module, LoraLinear) else module for module in adapted]
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True,
        "r": arm.rank, "lora_alpha": arm.alpha, "lora_dropout": arm.dropout, "use_rslora": arm.scaling == "rslora",
        "target_modules": peft_targets(model, arm.targets), "bias": "none",
        "fan_in_fan_out": all(isinstance(module, Conv1D) for module in inner),
    }  # fmt: skip


def peft_targets(model: nn.Module, asked: tuple[str, ...]) -> list[str]:
    """Shortest names that select exactly the adapted modules by PEFT's suffix rule: leaf names, or else full names."""
    modules = set(find_targets(model, asked))
    leaves = sorted({m.rsplit(".", 1)[-1] for m in modules})
    selected = {m for m in linear_modules(model) if m.rsplit(".", 1)[-1] in leaves}
    return leaves if selected == modules else sorted(modules)
