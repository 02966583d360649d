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

from rankscope.errors import ModelError
from rankscope.models.files import save
from rankscope.models.lora import AdapterBank, find_targets
from rankscope.records import Arm

_PREFIX = "base_model.model."


def write_adapter(path: Path, tensors: dict[str, Tensor], arm: Arm, targets: list[str], base: str) -> None:
    """One safetensors file with PEFT's tensor names; its config travels in the file's metadata."""
    config = peft_config(arm, targets, base)
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
    folder.mkdir(parents=True, exist_ok=True)
    save({_PREFIX + k: v for k, v in tensors.items()}, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(metadata["adapter_config"] + "\n")


def read_adapter_folder(folder: Path) -> tuple[dict[str, Tensor], Arm]:
    """Tensors and settings of a plain PEFT LoRA folder (one rank and alpha for all modules)."""
    config_path, config = folder / "adapter_config.json", _folder_config(folder)
    unsupported = [k for k in ("rank_pattern", "alpha_pattern", "modules_to_save", "use_dora", "bias") if
                   config.get(k) not in (None, {}, [], False, "none")]  # fmt: skip
    if config.get("peft_type") != "LORA" or unsupported:
        raise ModelError("only plain LoRA adapters are read in this version", where=str(config_path),
                         got=unsupported or config.get("peft_type"))  # fmt: skip
    tensors, _ = read_tensors(folder / "adapter_model.safetensors")
    modules = tuple(sorted(k.removesuffix(".lora_A.weight") for k in tensors if k.endswith(".lora_A.weight")))
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1 or not modules:
        raise ModelError("this adapter has no rank, no alpha or no tensors", where=str(config_path),
                         got={"r": rank, "lora_alpha": alpha}, hint="Give the folder that PEFT saved")  # fmt: skip
    arm = Arm(name=folder.name, kind="lora", rank=rank, alpha=float(alpha), targets=modules,
              scaling="rslora" if config.get("use_rslora") else "standard")  # fmt: skip
    return tensors, arm


def attach(bank: AdapterBank, name: str, folder: Path) -> None:
    """Put a PEFT folder's adapter on the bank's base. Raises ModelError if it was made for another model."""
    tensors, arm = read_adapter_folder(folder)
    here = set(find_targets(bank.base.model, ("all-linear",)))
    if strange := [module for module in arm.targets if module not in here]:
        raise _misfit(folder, f"{len(strange)} of its {len(arm.targets)} modules are not there, such as {strange[0]}")
    bank.add(name, arm, 0)
    try:
        bank.load(name, tensors)
    except ModelError as error:
        raise _misfit(folder, f"{error.what} (got {error.got!r})") from error


def _misfit(folder: Path, why: str) -> ModelError:
    made_for = _folder_config(folder).get("base_model_name_or_path") or "its config doesn't say"
    return ModelError(f"this adapter is not one for this model: {why}", where=str(folder),
                      hint=f"The model it was made for: {made_for}")  # fmt: skip


def _folder_config(folder: Path) -> dict:
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise ModelError("no adapter_config.json here", got=str(folder), hint="Give the folder that PEFT saved")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"not valid JSON: {error}", where=str(path), hint="Copy it again") from error
    if not isinstance(config, dict):
        raise ModelError("must be a JSON object", got=type(config).__name__, where=str(path), hint="Copy it again")
    return config


def peft_config(arm: Arm, targets: list[str], base: str) -> dict:
    """PEFT's LoraConfig as it stands in adapter_config.json."""
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True,
        "r": arm.rank, "lora_alpha": arm.alpha, "lora_dropout": arm.dropout, "use_rslora": arm.scaling == "rslora",
        "target_modules": targets, "bias": "none", "fan_in_fan_out": False,
    }  # fmt: skip


def peft_targets(model: nn.Module, asked: tuple[str, ...]) -> list[str]:
    """Shortest names that select exactly the adapted modules by PEFT's suffix rule: leaf names, or else full names."""
    modules = set(find_targets(model, asked))
    leaves = sorted({m.rsplit(".", 1)[-1] for m in modules})
    selected = {m for m in _candidates(model) if m.rsplit(".", 1)[-1] in leaves}
    return leaves if selected == modules else sorted(modules)


def _candidates(model: nn.Module) -> list[str]:
    every = find_targets(model, ("all-linear",))
    head = [n for n, m in model.named_modules() if m is model.get_output_embeddings()]
    return [*every, *head]
