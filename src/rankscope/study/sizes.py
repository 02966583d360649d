"""A model's sizes and what follows from them by count. In: sizes from config.json, run specs. Out: parameters, FLOPs.

Reads no weights and loads no torch.

Legend: N parameters of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from rankscope.models.names import by_pattern, has_name
from rankscope.records import Arm, ModelRef, RunSpec
from rankscope.stats.cost import flops_per_token, layer_params, linear_shapes, model_params

_NAMES = (*(f"self_attn.{kind}_proj" for kind in "qkvo"), *(f"mlp.{kind}_proj" for kind in ("gate", "up", "down")))
_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}
_PACKED = 0.52  # bytes of a weight in 4 bits with its share of the block's scales, themselves quantised


@dataclass(frozen=True)
class Size:
    """One model's sizes; ``shape`` as ``models.locate.shape`` gives it, ``width`` bytes a weight, ``is_packed``: the
    linear layers' in 4 bits."""

    shape: dict
    width: int
    is_packed: bool = False
    _known: dict[Arm, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def num_params(self) -> int:
        return model_params(self.shape)

    @property
    def weight_bytes(self) -> int:
        """The frozen weights in memory."""
        packed = self.shape["layers"] * layer_params(self.shape) if self.is_packed else 0
        return round((self.num_params - packed) * self.width + packed * _PACKED)

    def trainable(self, spec: RunSpec) -> int:
        """Trained parameters; an upper bound where targets have other names than Llama's."""
        if spec.arm.kind == "full":
            return self.num_params
        if spec.arm not in self._known:
            self._known[spec.arm] = sum(rank * (o + i) for rank, (o, i) in self.adapted(spec.arm))
        return self._known[spec.arm]

    def adapted(self, arm: Arm) -> list[tuple[int, tuple[int, int]]]:
        """(rank, (outputs, inputs)) of every linear layer that a LoRA arm adapts, as far as its targets are known."""
        named = [f"model.layers.{layer}.{name}" for layer in self.layers(arm) for name in _NAMES]
        sizes = linear_shapes(self.shape) * len(self.layers(arm))
        is_known = arm.targets != ("all-linear",) and all(any(has_name(n, t) for n in named) for t in arm.targets)
        return [(by_pattern(arm.rank_pattern, name, arm.rank), size) for name, size in zip(named, sizes, strict=True)
                if not is_known or any(has_name(name, target) for target in arm.targets)]  # fmt: skip

    def below(self, spec: RunSpec) -> int:
        """Parameters under the lowest adapted layer."""
        return min(self.layers(spec.arm), default=0) * layer_params(self.shape) if spec.arm.kind == "lora" else 0

    def layers(self, arm: Arm) -> tuple[int, ...]:
        """The layers that a LoRA arm adapts."""
        every = range(self.shape["layers"])
        return tuple(every) if arm.layers is None else tuple(layer for layer in arm.layers if layer in every)


def size_of(shape: dict | None, dtype: str, is_gpu: bool = False, quantization: str | None = None) -> Size | None:
    """None where the model's sizes can't be known without reading its weights. ``auto`` is bfloat16 on a GPU."""
    width = _WIDTH.get(dtype, 2 if is_gpu else 4)
    return None if shape is None else Size(shape, width, quantization is not None)


def model_size(ref: ModelRef, shape: dict | None, is_gpu: bool) -> Size | None:
    return size_of(shape, ref.dtype, is_gpu, ref.quantization)


def train_flops(size: Size, spec: RunSpec, tokens: int) -> float:
    return flops_per_token(spec.arm.kind, size.num_params, size.trainable(spec), size.below(spec)) * tokens


def score_flops(size: Size, tokens: int) -> float:
    """One forward pass: 2 N a token."""
    return 2.0 * size.num_params * tokens


def rank_warnings(size: Size, specs: Sequence[RunSpec]) -> list[str]:
    """Ranks that reach a matrix's own rank, and ranks at which LoRA costs as many FLOPs a token as full SFT."""
    full = flops_per_token("full", size.num_params, 0)
    lora = sorted((s for s in specs if s.arm.kind == "lora"), key=lambda s: s.arm.top_rank)
    high: dict[int, int] = {}  # a rank, and the rank of the smallest matrix that it is given to
    for spec in lora:
        for rank, matrix in size.adapted(spec.arm):
            if rank >= min(matrix):
                high[rank] = min(high.get(rank, min(matrix)), *matrix)
    told = [f"rank {r} is not low: the smallest adapted matrix has rank {m}" for r, m in sorted(high.items())]
    for rank, group in groupby(lora, key=lambda s: s.arm.top_rank):
        cost = max(train_flops(size, spec, 1) for spec in group)
        if cost >= full:
            told.append(f"rank {rank} costs {cost / full:.2f} x the FLOPs of full SFT per token")
    return told
