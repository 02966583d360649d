"""Updates read from what is stored, and put on a base. In: a Base and weights in files. Out: an ``Update``, or the Base
with one in effect for as long as a context lasts.

Any part of an update can be worn: some layers only, a truncated rank, a mixture. Knows nothing about why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rankscope.errors import ModelError
from rankscope.models.adapter import read_tensors
from rankscope.models.base import Base
from rankscope.models.delta import DenseDelta, FactoredDelta, Update
from rankscope.models.given import Given, checkpoint
from rankscope.models.lora import AdapterBank, adapted_modules, find_targets, scale, sizes
from rankscope.records import Arm, RunSpec

_NAME = "worn"


def stored_update(base: Base, spec: RunSpec, path: Path) -> Update:
    """What a run's stored weights changed. Raises ModelError if the file is damaged or doesn't fit the base."""
    tensors, _ = read_tensors(path)
    if spec.arm.kind == "full":
        return _full(base, tensors, str(path))
    ranks = adapted_modules(base.model, spec.arm)
    wanted = {f"{module}.lora_{letter}.weight" for module in ranks for letter in "AB"}
    if strange := sorted(wanted ^ set(tensors)):
        raise ModelError(f"this adapter doesn't fit the base: {len(strange)} tensors differ", got=strange[0],
                         where=str(path))  # fmt: skip
    deltas = {}
    for module, rank in ranks.items():
        a, b = (tensors[f"{module}.lora_{letter}.weight"] for letter in "AB")
        num_out, num_in = sizes(base.model.get_submodule(module))
        if a.shape != (rank, num_in) or b.shape != (num_out, rank):
            raise ModelError(f"the tensors of {module} have other shapes than this run's", got=tuple(a.shape),
                             where=str(path))  # fmt: skip
        deltas[module] = FactoredDelta(a, b, scale(spec.arm, module))
    return Update("lora", deltas)


def given_update(given: Given) -> Update:
    """What an adapter that exists already changes."""
    return Update("lora", dict(given.pieces), given.whole)


def checkpoint_update(base: Base, arm: Arm) -> Update:
    """What a fully fine-tuned checkpoint changed. Raises ModelError if it isn't one of this base."""
    return _full(base, dict(checkpoint(base, arm).model.named_parameters()), str(arm.path))


def base_weight(base: Base, module: str) -> Tensor:
    """A linear module's own weight as (O, D). Raises ModelError for weights in 4 bits."""
    layer = base.model.get_submodule(module)
    layer = getattr(layer, "base", layer)
    if not layer.weight.is_floating_point():
        raise ModelError("the weights of a base in 4 bits can't be measured", got=module,
                         hint="Load the base without quantization")  # fmt: skip
    return layer.weight.T if isinstance(layer, Conv1D) else layer.weight


@contextmanager
def worn(base: Base, update: Update) -> Iterator[Base]:
    """The base with an update in effect. A full update on a base that isn't float32 is worn by a float32 copy, as it
    was trained."""
    dense = {name: delta for name, delta in update.deltas.items() if isinstance(delta, DenseDelta)}
    if (dense or update.ties) and base.dtype != torch.float32:
        base = base.trainable_copy()
    swapped: list[tuple[nn.Module, str, nn.Parameter]] = []
    bank = AdapterBank(base)
    try:
        for name, delta in dense.items():
            layer = base.model.get_submodule(name)
            after = delta.after.T if isinstance(layer, Conv1D) else delta.after
            swapped += _swap(base.model, f"{name}.weight", after, update.ties)
        for name, tensor in update.whole.items():
            swapped += _swap(base.model, name, tensor, update.ties)
        factored = {n: d for n, d in update.deltas.items() if isinstance(d, FactoredDelta)}
        if factored:
            bank.put(_NAME, Arm(_NAME, "lora"), factored)
        with bank.use(_NAME) if factored else contextlib.nullcontext():
            yield base
    finally:
        bank.remove(_NAME)
        for module, leaf, own in reversed(swapped):
            module._parameters[leaf] = own


def tensors_of(update: Update) -> dict[str, Tensor]:
    """Every stored tensor of an update, by a name that says where it is."""
    found = dict(update.whole)
    for name, delta in update.deltas.items():
        parts = {"after": delta.after} if isinstance(delta, DenseDelta) else {"lora_A": delta.a, "lora_B": delta.b}
        found |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
    return found


def _full(base: Base, tensors: dict[str, Tensor], where: str) -> Update:
    own = dict(base.model.named_parameters(remove_duplicate=False))
    buffers = {name for name, _ in base.model.named_buffers()}
    tensors = {name: tensor for name, tensor in tensors.items() if name not in buffers}
    if strange := sorted(set(tensors) - set(own)):
        raise ModelError("this checkpoint doesn't fit the base", got=strange[0], where=where)
    linear = set(find_targets(base.model, ("all-linear",)))
    deltas, whole = {}, {}
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise ModelError("this checkpoint doesn't fit the base", got=f"{name} {tuple(tensor.shape)}", where=where)
        module = name.removesuffix(".weight")
        if module in linear and name.endswith(".weight"):
            before = base_weight(base, module)
            after = tensor.T if isinstance(base.model.get_submodule(module), Conv1D) else tensor
            deltas[module] = DenseDelta(before.detach(), after.detach())
        else:
            whole[name] = tensor.detach()
    return Update("full", deltas, whole, ties=True)


def _swap(model: nn.Module, name: str, tensor: Tensor, ties: bool) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """Put a tensor in a parameter's place, and say what was there: in all modules that share it, if they are tied."""
    parent, _, leaf = name.rpartition(".")
    owner = model.get_submodule(parent)
    own = owner._parameters[leaf]
    places = [(owner, leaf)]
    if ties:
        places = [(m, n) for m in model.modules() for n, p in m._parameters.items() if p is own]
    fresh = nn.Parameter(tensor.to(own.device, own.dtype), requires_grad=False)
    for module, place in places:
        module._parameters[place] = fresh
    return [(module, place, own) for module, place in places]
