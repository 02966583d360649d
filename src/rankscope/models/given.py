"""Adapters and checkpoints that someone already has, read right or refused by name. In: a folder. Out: ``Given``
or a Base.

Ranks are those of the tensors and must be those of the config (``rank_pattern``); scales follow ``alpha_pattern`` and
rsLoRA. Modules saved whole (``modules_to_save``) and trained biases take the place of the base's while the adapter is
in use. What would change the result and isn't known here (DoRA's magnitude, PiSSA's changed base, ...) is an error
that names it: an adapter that is half applied scores as a model that nobody has. Format and reference: huggingface/peft
``LoraConfig``, ``get_pattern_key``.

Legend: R rank, D inputs, O outputs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from rankscope.errors import ModelError
from rankscope.models.adapter import read_tensors
from rankscope.models.base import Base, load
from rankscope.models.delta import FactoredDelta
from rankscope.models.lora import AdapterBank, linear_modules, sizes
from rankscope.models.names import by_pattern
from rankscope.records import Arm, ModelRef

# Settings that either are applied here or change nothing once the training is over.
_KNOWN = frozenset({
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out", "bias", "use_rslora",
    "modules_to_save", "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern",
    "megatron_core", "qalora_group_size", "runtime_config", "eva_config",
})  # fmt: skip
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_A, _B = ".lora_A.weight", ".lora_B.weight"
_HINT = "Merge it with PEFT and give the merged model as a checkpoint"


@dataclass(frozen=True)
class Given:
    """An adapter as read: an update for each module, and whole tensors by their name in the base model."""

    arm: Arm
    pieces: dict[str, FactoredDelta]
    whole: dict[str, Tensor]
    made_for: str
    folder: Path

    @property
    def num_params(self) -> int:
        tensors = [*self.whole.values(), *(t for p in self.pieces.values() for t in (p.a, p.b))]
        return sum(t.numel() for t in tensors)


def read_given(folder: Path) -> Given:
    """Read a PEFT folder. Raises ModelError if it is none, is damaged, or holds what can't be applied exactly."""
    config = _config(folder)
    where = str(folder / "adapter_config.json")
    _refuse_unknown(config, where)
    tensors, _ = read_tensors(_weights(folder))
    if bad := [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]:
        raise ModelError(f"{len(bad)} tensors of this adapter hold NaN or infinity", got=bad[0], where=str(folder),
                         hint="The training that made it has diverged")  # fmt: skip
    modules = _modules(tensors, str(folder))
    pieces = {module: _piece(module, tensors, config, where) for module in modules}
    if not pieces:
        raise ModelError("this adapter has no LoRA tensors", where=str(folder), hint="Give the folder that PEFT saved")
    factors = {module + end for module in pieces for end in (_A, _B)}
    # A trained bias is saved under the layer that PEFT wraps.
    whole = {k.replace(".base_layer.", "."): v for k, v in tensors.items() if k not in factors}
    if strange := sorted(k for k in whole if "lora_" in k):
        raise ModelError(f"{len(strange)} tensors of this adapter are of a kind that isn't known here", got=strange[0],
                         where=str(folder), hint=_HINT)  # fmt: skip
    arm = Arm(folder.name, "adapter", rank=max(len(p.a) for p in pieces.values()), alpha=float(config["lora_alpha"]),
              targets=tuple(pieces), scaling="rslora" if config.get("use_rslora") else "standard")  # fmt: skip
    return Given(arm, pieces, whole, str(config.get("base_model_name_or_path") or ""), folder)


@contextmanager
def wearing(base: Base, given: Given) -> Iterator[Base]:
    """The base with the adapter in effect. Raises ModelError, naming the right base, if it was made for another."""
    check_fit(base.model, given)
    bank = AdapterBank(base)
    swapped: list[tuple[nn.Module, str, Tensor]] = []
    try:
        for name, tensor in given.whole.items():
            module, leaf = _owner(base.model, name)
            own = module._parameters[leaf]
            swapped.append((module, leaf, own))
            # A parameter of its own, so that tied embeddings keep theirs, as PEFT's copies of whole modules do.
            module._parameters[leaf] = nn.Parameter(tensor.to(own.device, own.dtype), requires_grad=False)
        bank.put("given", given.arm, given.pieces)
        with bank.use("given"):
            yield base
    finally:
        bank.remove("given")
        for module, leaf, own in swapped:
            module._parameters[leaf] = own


def checkpoint(base: Base, arm: Arm) -> Base:
    """A fully fine-tuned model as an arm of the base: its weights under the base's tokenizer, so that all arms answer
    the same tokens. Raises ModelError if it isn't one of this base."""
    ref = ModelRef(arm.path, dtype=base.ref.dtype, quantization=base.ref.quantization)
    other = load(ref, base.device.type, base.tokenizer)
    check_same_shape(base.model, other.model, arm)
    return Base(other.ref, other.model, base.tokenizer, base.device, base.dtype)


def check_same_shape(model: nn.Module, other: nn.Module, arm: Arm) -> None:
    """Raises ModelError if two models don't have parameters of the same names and shapes."""
    own, found = ({n: tuple(p.shape) for n, p in m.named_parameters()} for m in (model, other))
    if strange := sorted(set(own.items()) ^ set(found.items())):
        name = strange[0][0]
        what = f"this checkpoint is not one of this model: {name} is {own.get(name)} there and {found.get(name)} here"
        raise ModelError(what, where=arm.path, hint="To score it on its own: rankscope score MODEL TASK")


def check_fit(model: nn.Module, given: Given) -> None:
    """Raises ModelError, naming the model it was made for, if an adapter doesn't fit. Also for a model without
    weights."""
    linear, named = set(linear_modules(model)), dict(model.named_parameters(remove_duplicate=False))
    if strange := [module for module in given.pieces if module not in linear]:
        if ".experts" in strange[0] and hasattr(model.config, "num_experts_per_tok"):
            raise ModelError("adapters on the experts of a mixture are not read: transformers keeps those fused",
                             got=strange[0], where=str(given.folder), hint=_HINT)  # fmt: skip
        why = f"{len(strange)} of its {len(given.pieces)} modules are not there, such as {strange[0]}"
        raise _misfit(given, why)
    for module, piece in given.pieces.items():
        own, found = sizes(model.get_submodule(module)), (piece.b.shape[0], piece.a.shape[1])
        if own != found:
            raise _misfit(given, f"{module} has {own[1]} inputs and {own[0]} outputs, its update has "
                                         f"{found[1]} and {found[0]}")  # fmt: skip
    for name, tensor in given.whole.items():
        if name not in named:
            raise _misfit(given, f"it holds {name}, which is not there")
        if named[name].shape != tensor.shape:
            raise _misfit(given, f"{name} has the shape {tuple(named[name].shape)}, its own copy "
                                         f"{tuple(tensor.shape)}")  # fmt: skip


def _misfit(given: Given, why: str) -> ModelError:
    made_for = given.made_for or "its config doesn't say"
    return ModelError(f"this adapter is not one for this model: {why}", where=str(given.folder),
                      hint=f"The model it was made for: {made_for}")  # fmt: skip


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    parent, _, leaf = name.rpartition(".")
    return model.get_submodule(parent), leaf


def _modules(tensors: dict[str, Tensor], where: str) -> list[str]:
    """The modules that have both factors. Raises ModelError, naming it, if one stands alone."""
    has_a, has_b = ({k.removesuffix(end) for k in tensors if k.endswith(end)} for end in (_A, _B))
    if alone := sorted(has_a ^ has_b):
        missing = alone[0] + (_B if alone[0] in has_a else _A)
        raise ModelError(f"{len(alone)} modules of this adapter have only one of their two factors", where=where,
                         got=f"no {missing}", hint="Give the folder as PEFT saved it")  # fmt: skip
    return sorted(has_a)


def _piece(module: str, tensors: dict[str, Tensor], config: dict, where: str) -> FactoredDelta:
    a, b = tensors[module + _A], tensors[module + _B]
    rank = by_pattern(tuple((config.get("rank_pattern") or {}).items()), module, config["r"])
    alpha = by_pattern(tuple((config.get("alpha_pattern") or {}).items()), module, config["lora_alpha"])
    if a.dim() != 2 or b.dim() != 2 or not len(a) == b.shape[1] == rank:
        shapes = {"lora_A": tuple(a.shape), "lora_B": tuple(b.shape)}
        raise ModelError(f"the tensors of {module} are not of rank {rank}, as the config says", got=shapes, where=where,
                         hint="Give the folder as PEFT saved it")  # fmt: skip
    return FactoredDelta(a.float(), b.float(), alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _refuse_unknown(config: dict, where: str) -> None:
    if config.get("peft_type") != "LORA":
        raise ModelError("only LoRA adapters are read", got=config.get("peft_type"), where=where, hint=_HINT)
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        raise ModelError("only adapters of causal language models are read", got=config["task_type"], where=where)
    for name, kind in (("r", int), ("lora_alpha", int | float)):
        if not isinstance(config.get(name), kind) or isinstance(config[name], bool) or config[name] <= 0:
            raise ModelError(f"{name} must be a number above 0", got=config.get(name), where=where,
                             hint="Give the folder that PEFT saved")  # fmt: skip
    for name in ("rank_pattern", "alpha_pattern"):
        _check_patterns(config.get(name) or {}, name, where)
    init = config.get("init_lora_weights")
    if not isinstance(init, bool | str | None):
        raise ModelError("init_lora_weights must be true, false or a word", got=init, where=where)
    if isinstance(init, str) and init.lower().startswith(_CHANGES_THE_BASE):
        raise ModelError("this kind of adapter belongs to a base whose own weights were changed too", got=init,
                         where=where, hint=_HINT)  # fmt: skip
    if unknown := sorted(k for k, v in config.items() if k not in _KNOWN and v not in (None, {}, [], False, "")):
        raise ModelError("this adapter needs what can't be applied here", got={k: config[k] for k in unknown},
                         where=where, hint=_HINT)  # fmt: skip


def _check_patterns(patterns: object, name: str, where: str) -> None:
    is_right = isinstance(patterns, dict) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and v > 0 for v in patterns.values()
    )
    if not is_right:
        raise ModelError(f"{name} must map patterns of module names to numbers above 0", got=patterns, where=where,
                         hint="Write it as PEFT does: {\"q_proj\": 4}")  # fmt: skip
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ModelError(
                f"{name} holds a pattern that is none: {error}",
                got=pattern,
                where=where,
                hint="Give a module's name, the end of one or a regular expression",
            ) from error


def _weights(folder: Path) -> Path:
    path = folder / "adapter_model.safetensors"
    if not path.is_file() and (pickles := sorted(p.name for p in folder.glob("adapter_model.*"))):
        raise ModelError("adapters are read from safetensors only: a pickle can run any code", got=pickles[0],
                         where=str(folder), hint="Save it again with PEFT's save_pretrained")  # fmt: skip
    return path


def _config(folder: Path) -> dict:
    path = folder / "adapter_config.json"
    if not path.is_file():
        raise ModelError("no adapter_config.json here", got=str(folder), hint="Give the folder that PEFT saved")
    try:
        config = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"not valid JSON: {error}", where=str(path), hint="Copy it again") from error
    if not isinstance(config, dict):
        raise ModelError("must be a JSON object", got=type(config).__name__, where=str(path), hint="Copy it again")
    return config


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number in JSON")
