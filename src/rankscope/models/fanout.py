"""Frozen lower layers once for all runs side by side. In: a Base and what is adapted. Out: a ``FanOut``, or None.

Runs of one seed see the same rows, and under the lowest adapted layer nothing tells them apart. A batch that holds the
same B rows for each of K runs, one run after the other, is cut to the first B rows where it enters the decoder, and
hidden states, masks and positions are repeated K times where they enter the lowest adapted layer. That is done by hooks
on modules, so it knows no architecture; the first time it is used, what it gives is held against the plain path, and
where the two differ the plain path stays. Knows nothing about losses or runs.

Legend: B distinct rows, K runs, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rankscope.models.base import Base, is_out_of_memory
from rankscope.models.names import layer_of

_NEAR = {torch.float32: 1e-4, torch.float64: 1e-8}
_NEAR_HALF = 5e-2  # bfloat16 and float16: a product of another shape rounds another way


@dataclass
class FanOut:
    """``layers`` are the decoder's layers from the lowest adapted one on, in their order. ``sizes``: of the model, its
    heads among them: with as many rows, a tensor may look as if it held rows."""

    decoder: nn.Module
    layers: tuple[nn.Module, ...]
    near: float
    sizes: frozenset[int] = frozenset()
    known: dict[tuple[int, bool], bool] = field(default_factory=dict)

    @contextmanager
    def over(self, rows: int, times: int) -> Iterator[_Spread]:
        """Inside, the decoder computes a batch of ``times`` x ``rows`` rows as described above.

        The backward pass belongs inside too: gradient checkpointing may compute layers again there.
        """
        spread = _Spread(rows, times)
        with ExitStack() as hooks:
            for module, hook in ((self.decoder, spread.narrow), *((layer, spread.widen) for layer in self.layers)):
                hooks.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
            yield spread

    def is_right(self, compute: Callable[[], Tensor], rows: int, times: int, is_ragged: bool) -> bool:
        """Whether ``compute`` gives inside what it gives outside. Tried once for each kind of batch."""
        kind = (rows if rows in self.sizes else min(rows, 2), is_ragged)
        if kind not in self.known:
            with torch.no_grad():
                plain, (fast, is_narrow) = compute(), self._tried(compute, rows, times)
            is_right = fast is not None and torch.allclose(fast, plain, rtol=self.near, atol=self.near)
            if not is_narrow:  # the plain path both times: nothing is known yet
                return is_right
            self.known[kind] = is_right
        return self.known[kind]

    def _tried(self, compute: Callable[[], Tensor], rows: int, times: int) -> tuple[Tensor | None, bool]:
        """None where a layer is given something of B rows that the hooks can't see as such, as ALiBi's biases are; and
        whether the batch was cut at all."""
        with self.over(rows, times) as spread:
            try:
                return compute(), spread.is_narrow
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                return None, spread.is_narrow


class _Spread:
    """The hooks of one batch. Whatever is repeated for one layer is kept for the next."""

    def __init__(self, rows: int, times: int):
        self.rows, self.times = rows, times
        self.is_narrow = False
        self.made: dict[int, tuple[Tensor, Tensor]] = {}  # by id; the first is held so that its id stays its own

    def narrow(self, _: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """The first run's rows alone. As many tokens as rows, and a layer's inputs would not say which is which."""
        self.made.clear()
        ids = [t for t in (*args, *kwargs.values()) if isinstance(t, Tensor) and t.dim() == 2]
        self.is_narrow = any(len(t) == self.rows * self.times and t.shape[1] != self.rows for t in ids)
        return self._changed(args, kwargs, self._cut) if self.is_narrow else None

    def widen(self, _: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        return self._changed(args, kwargs, self._repeated) if self.is_narrow else None

    def _changed(self, args: tuple, kwargs: dict, change: Callable[[Tensor], Tensor]) -> tuple[tuple, dict]:
        return _mapped(args, change), {name: _mapped(value, change) for name, value in kwargs.items()}

    def _cut(self, tensor: Tensor) -> Tensor:
        return tensor[: self.rows] if tensor.dim() > 1 and len(tensor) == self.rows * self.times else tensor

    def _repeated(self, tensor: Tensor) -> Tensor:
        if tensor.dim() < 2 or len(tensor) != self.rows:
            return tensor
        if id(tensor) not in self.made:
            self.made[id(tensor)] = (tensor, tensor.repeat(self.times, *[1] * (tensor.dim() - 1)))
        return self.made[id(tensor)][1]


def fan_out(base: Base, names: Iterable[str]) -> FanOut | None:
    """For the modules or parameters of these names; None where no layer lies under all of them."""
    places = {_place(name) for name in names}
    if None in places or len({prefix for prefix, _ in places}) != 1:
        return None
    prefix, lowest = min(places)
    layers = base.model.get_submodule(prefix)
    if not lowest or not isinstance(layers, nn.ModuleList):
        return None
    near = _NEAR.get(base.autocast or base.dtype, _NEAR_HALF)
    sizes = frozenset(n for n in base.model.config.get_text_config().to_dict().values() if type(n) is int)
    return FanOut(base.model.base_model, tuple(layers)[lowest:], near, sizes)


def _place(name: str) -> tuple[str, int] | None:
    """Where the layers of a module lie, and which of them it is in."""
    layer = layer_of(name)
    return None if layer is None else (name[: f".{name}.".index(f".{layer}.")].rstrip("."), layer)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    return tuple(_mapped(v, change) for v in value) if type(value) is tuple else value
