"""K low-rank adapters of any ranks over one frozen linear layer. In: a Base and adapter specs. Out: an ``AdapterBank``.

Rows of a batch are grouped by adapter; the frozen layer sees all rows in one product, each adapter only its own rows.
K = 1 is the plain case of Hu et al. 2021 (2106.09685); the scale is alpha/r, or alpha/sqrt(r) for rsLoRA (2312.03732).
Which adapter applies to which rows is held in one ``Routing`` that all layers share, so nothing is global.
Knows nothing about training or files.

Legend: B rows, T tokens, D inputs, O outputs, R rank, K adapters.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rankscope.config.layers import layer_text
from rankscope.errors import ModelError
from rankscope.models import lowrank
from rankscope.models.base import Base
from rankscope.models.delta import FactoredDelta
from rankscope.models.names import by_pattern, has_name, is_met, kind_of, layer_of, pattern_of
from rankscope.plugins import did_you_mean
from rankscope.records import Arm

Groups = tuple[tuple[str, int, int], ...]
Draw = tuple[int, ...]
"""What a dropout mask is drawn from: seed, step, micro-batch, part. Never what else is trained at the same time."""


@dataclass
class Routing:
    """Which rows belong to which adapter: (name, first row, row after the last). Rows in no group get the base."""

    groups: Groups = ()
    whole: str | None = None
    draw: Draw | None = None


class LoraLinear(nn.Module):
    """A frozen linear layer (``nn.Linear``, a quantised one, or GPT-2's transposed ``Conv1D``) and its adapters.

    Without routed rows the output is the frozen layer's, bit for bit.
    """

    def __init__(self, base: nn.Module, routing: Routing, name: str):
        super().__init__()
        self.base, self.routing, self.name = base, routing, name
        self.a, self.b = nn.ParameterDict(), nn.ParameterDict()
        self.scale: dict[str, float] = {}
        self.dropout: dict[str, float] = {}

    def forward(self, x: Float[Tensor, "B *T D"]) -> Float[Tensor, "B *T O"]:
        parts = self._parts(x)
        if not parts:
            return self.base(x)
        if not _is_plain(self.base) or torch.is_autocast_enabled(x.device.type):
            return self._apart(x, parts)
        weight = self.base.weight.T if isinstance(self.base, Conv1D) else self.base.weight
        return lowrank.linear(x, weight, self.base.bias, parts)

    def _parts(self, x: Float[Tensor, "B *T D"]) -> tuple[lowrank.Part, ...]:
        """The adapters that this layer has for these rows."""
        whole = self.routing.whole
        groups = ((whole, 0, len(x)),) if whole is not None else self.routing.groups
        if whole is None and groups and x.dim() == 2:
            groups = self._by_tokens(groups, len(x))
        found = []
        for name, start, stop in groups:
            if name in self.a:
                is_on = self.dropout[name] > 0 and self.routing.draw is not None
                rows = x[start:stop].to(self.a[name].dtype) if is_on else None
                mask = self._mask(rows, self.dropout[name]) if is_on else None
                found.append(lowrank.Part(start, stop, self.a[name], self.b[name], self.scale[name], mask))
        return tuple(found)

    def _by_tokens(self, groups: Groups, tokens: int) -> Groups:
        """The groups where a model hands a layer the tokens of all rows as one list (OPT, some shared experts)."""
        rows = groups[-1][2]
        if tokens % rows:
            raise ModelError("this layer isn't given every row's tokens, so runs can't be told apart in it",
                             got=self.name, hint="Leave it out of the arm's targets")  # fmt: skip
        each = tokens // rows
        return tuple((name, start * each, stop * each) for name, start, stop in groups)

    def _apart(self, x: Float[Tensor, "B *T D"], parts: tuple[lowrank.Part, ...]) -> Float[Tensor, "B *T O"]:
        """The frozen layer by its own code, whatever it is, and the updates beside it."""
        y = self.base(x)
        pieces, done = [], 0
        for part in parts:
            if part.start > done:
                pieces.append(y[done : part.start])
            rows = x[part.start : part.stop].to(part.a.dtype)
            rows = rows if part.mask is None else rows * part.mask
            update = F.linear(F.linear(rows, part.a), part.b) * part.scale
            pieces.append(y[part.start : part.stop] + update.to(y.dtype))
            done = part.stop
        if done < len(y):
            pieces.append(y[done:])
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _mask(self, x: Tensor, share: float) -> Tensor:
        """Zeros, and 1 / (1 - share) elsewhere: the same for the same draw, also when a layer is computed again."""
        generator = torch.Generator(x.device).manual_seed(_stream("dropout", *self.routing.draw, self.name))
        return (torch.rand(x.shape, generator=generator, device=x.device) >= share).to(x.dtype) / (1 - share)


@dataclass
class AdapterBank:
    """All adapters on one base. Adapters are float32 whatever the base's dtype (as PEFT's autocast default)."""

    base: Base
    routing: Routing = field(default_factory=Routing)
    layers: dict[str, LoraLinear] = field(default_factory=dict)
    arms: dict[str, Arm] = field(default_factory=dict)

    def add(self, name: str, arm: Arm, seed: int) -> None:
        """A new adapter: A uniform as in Kaiming's rule (a = sqrt 5), B zero, so the first delta is exactly 0.

        Each module's A has a random stream of its own (seed, module), so packing and order change nothing.
        Raises ModelError as ``adapted_modules`` does.
        """
        pieces = {}
        for module, rank in adapted_modules(self.base.model, arm).items():
            num_out, num_in = sizes(self.base.model.get_submodule(module))
            generator = torch.Generator().manual_seed(_stream("lora-init", seed, module))
            a = torch.empty(rank, num_in)
            nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
            pieces[module] = FactoredDelta(a, torch.zeros(num_out, rank), scale(arm, module))
        self.put(name, arm, pieces)

    def put(self, name: str, arm: Arm, pieces: dict[str, FactoredDelta]) -> None:
        """An adapter as it is given: any rank and scale for each module. The modules must be linear layers."""
        for module, piece in pieces.items():
            layer = self._layer(module)
            layer.a[name] = nn.Parameter(piece.a.to(self.base.device))
            layer.b[name] = nn.Parameter(piece.b.to(self.base.device))
            layer.scale[name], layer.dropout[name] = piece.scale, arm.dropout
        self.arms[name] = arm

    def remove(self, name: str) -> None:
        """Take an adapter off; the last one takes the wrapping layers with it."""
        self.arms.pop(name, None)
        for layer in self.layers.values():
            if name in layer.a:
                del layer.a[name], layer.b[name]
                layer.scale.pop(name), layer.dropout.pop(name)
        if not self.arms:
            for module, layer in self.layers.items():
                _put(self.base.model, module, layer.base)
            self.layers.clear()

    def parameters(self, name: str) -> dict[str, nn.Parameter]:
        """Trainable tensors by PEFT's names: ``<module>.lora_A.weight`` (R, D), ``<module>.lora_B.weight`` (O, R)."""
        found = {}
        for module, layer in self.layers.items():
            if name in layer.a:
                found[f"{module}.lora_A.weight"] = layer.a[name]
                found[f"{module}.lora_B.weight"] = layer.b[name]
        return found

    def load(self, name: str, tensors: dict[str, Float[Tensor, "_ _"]]) -> None:
        """Overwrite an adapter's tensors. Raises ModelError if names or shapes don't fit this base."""
        own = self.parameters(name)
        if missing := sorted(set(own) ^ set(tensors)):
            raise ModelError(f"this adapter doesn't fit the base: {len(missing)} tensors differ", got=missing[0])
        with torch.no_grad():
            for key, parameter in own.items():
                if parameter.shape != tensors[key].shape:
                    raise ModelError(f"{key} has another shape than {tuple(parameter.shape)}",
                                     got=tuple(tensors[key].shape))  # fmt: skip
                parameter.copy_(tensors[key])

    @contextmanager
    def use(self, name: str | None) -> Iterator[None]:
        """All rows through one adapter; None is the untouched base."""
        before = (self.routing.groups, self.routing.whole)
        self.routing.groups, self.routing.whole = (), name
        try:
            yield
        finally:
            self.routing.groups, self.routing.whole = before

    @contextmanager
    def route(self, groups: Groups, draw: Draw | None = None) -> Iterator[None]:
        """Contiguous groups of rows, each through its own adapter; with ``draw`` their dropout is on.

        The last group ends where the batch does, if the model hands a layer the tokens of all rows as one list.
        """
        before = (self.routing.groups, self.routing.whole, self.routing.draw)
        self.routing.groups, self.routing.whole, self.routing.draw = groups, None, draw
        try:
            yield
        finally:
            self.routing.groups, self.routing.whole, self.routing.draw = before

    @torch.no_grad()
    def merge(self, name: str) -> None:
        """Add an adapter's update to the frozen weights and take it off. The base is another model afterwards.

        Raises ModelError for quantised weights: rounded again, the sum would not be what was scored.
        """
        for module, layer in self.layers.items():
            if name not in layer.a:
                continue
            weight = layer.base.weight
            if not weight.is_floating_point():
                raise ModelError("an adapter can't be merged into quantised weights", got=module,
                                 hint="Load the base without quantization and merge there")  # fmt: skip
            delta = (layer.b[name] @ layer.a[name]) * layer.scale[name]  # (O, D)
            weight += (delta.T if isinstance(layer.base, Conv1D) else delta).to(weight.dtype)
        self.remove(name)

    def _layer(self, module: str) -> LoraLinear:
        if module not in self.layers:
            layer = LoraLinear(self.base.model.get_submodule(module), self.routing, module)
            _put(self.base.model, module, layer)
            self.layers[module] = layer
        return self.layers[module]


def _is_plain(module: nn.Module) -> bool:
    """Whether a layer is a product with a frozen floating-point matrix and nothing else."""
    is_known = type(module) in (nn.Linear, Conv1D)
    return is_known and module.weight.is_floating_point() and not module.weight.requires_grad


def rank_of(arm: Arm, module: str) -> int:
    """The rank of an arm's update of one module."""
    return by_pattern(arm.rank_pattern, module, arm.rank)


def scale(arm: Arm, module: str) -> float:
    """alpha/r of one module, or alpha/sqrt(r) for rsLoRA."""
    rank = rank_of(arm, module)
    return by_pattern(arm.alpha_pattern, module, arm.alpha) / (math.sqrt(rank) if arm.scaling == "rslora" else rank)


def sizes(module: nn.Module) -> tuple[int, int]:
    """Outputs and inputs of a linear layer, whichever way round its weight lies."""
    module = module.base if isinstance(module, LoraLinear) else module
    if isinstance(module, Conv1D):
        return int(module.weight.shape[1]), int(module.weight.shape[0])
    return module.out_features, module.in_features


def linear_modules(model: nn.Module) -> tuple[str, ...]:
    """Full names of all layers that an adapter can be put on, the language-model head among them."""
    found = []
    for name, module in model.named_modules():
        is_free = isinstance(module, nn.Linear | Conv1D) and not name.endswith(".base")
        if isinstance(module, LoraLinear) or is_free:
            found.append(name)
    return tuple(found)


def find_targets(model: nn.Module, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Full names of the modules to adapt: every linear layer but the head for ``all-linear``, else by name or suffix.

    Experts that transformers keeps as one fused tensor are no linear layers: of a mixture of experts, attention and
    shared experts are adapted. Raises ModelError, naming the linear modules there are, if any asked name matches
    nothing.
    """
    head = model.get_output_embeddings()
    linear = tuple(n for n in linear_modules(model) if model.get_submodule(n) is not head)
    if not linear:
        raise ModelError("this model has no linear layer to adapt", got=type(model).__name__)
    if asked == ("all-linear",):
        return linear
    found: list[str] = []
    for want in asked:
        hits = [n for n in linear if has_name(n, want)]
        if not hits:
            leaves = sorted({n.rsplit(".", 1)[-1] for n in linear})
            raise ModelError(f"no linear module named {want!r}{did_you_mean(want, leaves)}",
                             hint=f"This model has: {', '.join(leaves)}; or use all-linear")  # fmt: skip
        found += hits
    return tuple(n for n in linear if n in set(found))


def adapted_modules(model: nn.Module, arm: Arm) -> dict[str, int]:
    """Full names of the modules that a LoRA arm adapts, each with its rank. Raises ModelError where a target, a layer
    or a pattern names nothing that is there."""
    found = in_layers(find_targets(model, arm.targets), arm.layers)
    check_patterns([pattern for pattern, _ in arm.alpha_pattern], found)
    check_patterns([pattern for pattern, _ in arm.rank_pattern], found)
    check_ranks(model, arm, found)
    return {module: rank_of(arm, module) for module in found}


def in_layers(modules: Sequence[str], layers: tuple[int, ...] | None) -> tuple[str, ...]:
    """Those of the modules that are in the layers; None: all. Raises ModelError for a layer without such a module."""
    if layers is None:
        return tuple(modules)
    there = {layer_of(module) for module in modules} - {None}
    if missing := [layer for layer in layers if layer not in there]:
        has = f"The layers with modules to adapt: {layer_text(there)}" if there else "None of its modules has a number"
        raise ModelError("the model has no such layer to adapt", got=layer_text(missing), hint=has)
    return tuple(module for module in modules if layer_of(module) in layers)


def check_patterns(patterns: Sequence[str], modules: Sequence[str]) -> None:
    """Raises ModelError for a pattern that no adapted module is given its value by: PEFT would ignore it silently."""
    used = {pattern_of(patterns, module) for module in modules}
    for pattern in patterns:
        if pattern in used:
            continue
        if hits := [module for module in modules if is_met(pattern, module)]:
            raise ModelError("this pattern never counts: an earlier one matches all that it does", got=pattern,
                             hint=f"Write it before {pattern_of(patterns, hits[0])!r}")  # fmt: skip
        kinds = sorted({kind_of(module) for module in modules})
        raise ModelError(f"this pattern matches no adapted module{did_you_mean(pattern, kinds)}", got=pattern,
                         hint=f"The adapted modules are: {', '.join(kinds)}")  # fmt: skip


def check_ranks(model: nn.Module, arm: Arm, modules: Sequence[str]) -> None:
    """Raises ModelError where a pattern asks for a rank that the module's matrix can't have."""
    for module in modules:
        if pattern_of([pattern for pattern, _ in arm.rank_pattern], module) is None:
            continue
        most = min(sizes(model.get_submodule(module)))
        if rank_of(arm, module) > most:
            raise ModelError(f"no update of {module} can have this rank", got=rank_of(arm, module),
                             hint=f"Its matrix has rank {most} at most")  # fmt: skip


def num_below(base: Base, modules: Iterable[str]) -> int:
    """The base's parameters in the layers under the lowest of these modules: no gradient runs through them."""
    layers = [layer_of(module) for module in modules]
    if None in layers:  # outside the layers: it may be at the very bottom
        return 0
    lowest, count = min(layers), 0
    for name, parameter in base.model.named_parameters():
        layer = layer_of(name)
        if layer is not None and layer < lowest and not parameter.requires_grad:  # the others are adapters
            count += parameter.numel() * (1 if parameter.is_floating_point() else 2)  # 4 bits: two in one byte
    return count


def _stream(*parts: object) -> int:
    """A seed of 56 bits for one purpose."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:7], "big")


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent) if parent else model, leaf, module)
