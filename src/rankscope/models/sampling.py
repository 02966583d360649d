"""Samples of the model's work for a Clock: a few training steps and forward passes under torch's profiler.

In: a Clock, a Base, and a context to work in. Out: measured seconds of every step or pass, and ``Sample``s of a few.
Only leaf seconds count: an operator's own, without those of the operators that it calls. On a GPU they are those of
its kernels. What is computed is the same with and without. Knows nothing about tasks or training.

Legend: B batch, M x K times K x N: a matrix product.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.autograd.profiler import profile

from rankscope.clock import Clock, Sample
from rankscope.models.base import Base

_PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "_grouped_mm", "mkldnn_linear"})
_ATTENTION = ("scaled_dot_product", "flash", "fmha", "efficient_attention")
_OPTIMISER = ("Optimizer.step", "_foreach_", "_fused_adam", "multi_tensor_apply", "linalg_vector_norm")  # clipping too
_KERNELS = ("gemm", "nvjet", "cutlass", "cublas", "splitKreduce")  # how CUDA's matrix products are called
_ROWS, _MOST_FLOPS = 1024, 2e10
_LEAST_TOKENS = 32  # a shorter pass, such as a check of the model, is no picture of the others


@contextmanager
def step(clock: Clock, stage: str, base: Base, is_chosen: bool = True) -> Iterator[None]:
    """Inside is one step of a stage's work; if it ``is_chosen`` and the clock allows it, a sample is taken of it."""
    if not (is_chosen and clock.may_sample(stage, "step")):
        began = time.perf_counter()
        yield
        clock.measured(stage, "step", time.perf_counter() - began)
        return
    pieces = _Pieces(clock, stage, base)
    try:
        pieces.begin("step", is_sampled=True)
        yield
        pieces.end()
    finally:
        pieces.drop()


@contextmanager
def passes(clock: Clock, stage: str, base: Base) -> Iterator[None]:
    """Inside, ``base`` works in forward passes, each with what follows it up to the next; some are sampled.

    Passes of one token (generation) are a kind of their own. Of each kind the 1st, 2nd, 4th, 8th, ... may be sampled.
    """
    if not clock.is_sampling:
        yield
        return
    pieces, seen = _Pieces(clock, stage, base), defaultdict(int)

    def before(_: nn.Module, args: tuple, given: dict[str, Any]) -> None:
        pieces.end()
        ids = args[0] if args else given.get("input_ids")
        kind = "token" if ids is not None and ids.shape[-1] == 1 else "text"
        is_short = kind == "text" and ids is not None and ids.numel() < _LEAST_TOKENS
        seen[kind] += not is_short
        is_due = not is_short and seen[kind] & (seen[kind] - 1) == 0
        pieces.begin(kind, is_due and clock.may_sample(stage, kind))

    hook = base.model.base_model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
        pieces.end()
    finally:
        hook.remove()
        pieces.drop()


class _Pieces:
    """Pieces of one stage's work, one after the other; at most one is going on."""

    def __init__(self, clock: Clock, stage: str, base: Base):
        self.clock, self.stage, self.base = clock, stage, base
        self._kind, self._began = "", 0.0
        self._profile: profile | None = None

    def begin(self, kind: str, is_sampled: bool) -> None:
        if is_sampled and not torch.autograd._profiler_enabled():  # somebody else's profile goes first
            with self.clock.stage("sampling"), _hushed():
                found = product_rate(self.base.model.base_model)  # each time: the best seen is what the machine can do
                self.clock.ceiling = max(found or 0.0, self.clock.ceiling or 0.0) or None
                self._wait()
                self._profile = profile(use_device=_device(self.base), record_shapes=True)
                self._profile.__enter__()
        self._kind, self._began = kind, time.perf_counter()

    def end(self) -> None:
        """Count the piece that is going on, if there is one."""
        if not self._kind:
            return
        if self._profile is not None:
            self._wait()
        seconds = time.perf_counter() - self._began
        self.clock.measured(self.stage, self._kind, seconds)
        if self._profile is not None:
            with self.clock.stage("sampling"):
                events = self._stop()
                self.clock.sampled(self.stage, self._kind, sample_of(events, seconds))
        self._kind = ""

    def drop(self) -> None:
        """Stop without counting: after an error, the piece is not whole."""
        if self._profile is not None:
            self._stop()
        self._kind = ""

    def _stop(self) -> list[Any]:
        profiler, self._profile = self._profile, None
        with _hushed():
            profiler.__exit__(None, None, None)
        return profiler.kineto_results.events()

    def _wait(self) -> None:
        if self.base.device.type == "cuda":
            torch.cuda.synchronize(self.base.device)


def sample_of(events: Iterable[Any], seconds: float) -> Sample:
    """A piece of ``seconds`` by operator and part. If operators ran side by side, their sum stands for the seconds."""
    host, kernels, flops = [], [], 0.0
    for event in events:  # some hundred thousand
        name = event.name()
        if event.device_type() == DeviceType.CPU:
            host.append((event.start_thread_id(), event.start_ns(), -event.duration_ns(), name))
            if is_product(name):
                flops += product_flops(name, event.shapes())
        elif not event.is_user_annotation():
            kernels.append((name, part_of(name), event.duration_ns()))
    parts, operators = defaultdict(float), defaultdict(float)
    for name, part, nanoseconds in kernels or _own(host):
        parts[part] += nanoseconds * 1e-9
        operators[part, name] += nanoseconds * 1e-9
    return Sample(max(seconds, sum(parts.values())), parts["products"], parts["attention"], parts["optimiser"], flops,
                  dict(operators))  # fmt: skip


@lru_cache(maxsize=10_000)
def part_of(name: str, around: str = "rest") -> str:
    """The part of the work that an operator or kernel belongs to; in attention or the optimiser, theirs."""
    if around in ("attention", "optimiser"):
        return around
    if any(word in name for word in _OPTIMISER):
        return "optimiser"
    if any(word in name for word in _ATTENTION) or _word(name) in ("_softmax", "_softmax_backward_data"):
        return "attention"
    return "products" if is_product(name) or any(word in name for word in _KERNELS) else "rest"


@lru_cache(maxsize=10_000)
def is_product(name: str) -> bool:
    """Whether an operator is a matrix product, in place or not (``aten::addmm_``)."""
    return _word(name) in _PRODUCTS


def product_flops(name: str, shapes: list[list[int]]) -> float:
    """2 M K N of a matrix product (times B) by the shapes of its arguments; ``add...`` has the summand first."""
    factors = shapes[1:3] if _word(name) in ("addmm", "baddbmm", "addmv") else shapes[:2]
    if len(factors) < 2 or not all(factors):
        return 0.0
    rows = 1.0
    for size in factors[0]:
        rows *= size
    return 2.0 * rows * (factors[1][-1] if len(factors[1]) > 1 else 1)


def product_rate(decoder: nn.Module) -> float | None:
    """FLOPs a second of matrix products in the shapes of the model's own linear layers, each the best of three.

    None for a model without such layers (their weights packed in 4 bits, say).
    """
    weights = (getattr(m, "weight", None) for m in decoder.modules() if not isinstance(m, nn.Embedding))
    layers = [w for w in weights if w is not None and w.ndim == 2 and w.is_floating_point()]
    counts: dict[tuple[int, int], int] = defaultdict(int)
    for weight in layers:
        counts[tuple(weight.shape)] += 1
    largest = sorted(counts, key=lambda s: -s[0] * s[1] * counts[s])[:3]
    if not largest:
        return None
    device, dtype = layers[0].device, layers[0].dtype
    rows = int(min(_ROWS, max(64, _MOST_FLOPS / (8 * sum(o * i for o, i in largest)))))
    seconds = {shape: _best(rows, shape, device, dtype) for shape in largest}
    flops = sum(2.0 * rows * o * i * counts[o, i] for o, i in largest)
    return flops / sum(seconds[shape] * counts[shape] for shape in largest)


@torch.inference_mode()
def _best(rows: int, shape: tuple[int, int], device: torch.device, dtype: torch.dtype) -> float:
    """Seconds of one product of ``rows`` tokens with a layer's weight, the best of three after one to warm up."""
    x, weight = torch.ones(rows, shape[1], device=device, dtype=dtype), torch.ones(shape, device=device, dtype=dtype)
    found = []
    for _ in range(4):
        began = time.perf_counter()
        x @ weight.T
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - began)
    return min(found[1:])


def _own(events: list[tuple[int, int, int, str]]) -> Iterator[tuple[str, str, int]]:
    """Name, part and own nanoseconds of every operator: its time less that of the operators directly inside it.

    ``events``: thread, start, minus the duration (so that of two that start together the outer one is first), name.
    """
    open_: list[list[Any]] = []  # thread, end, own nanoseconds, name, part
    for thread, start, minus, name in sorted(events):
        while open_ and (open_[-1][0] != thread or open_[-1][1] <= start):
            yield _closed(open_)
        if open_:
            open_[-1][2] += minus
        open_.append([thread, start - minus, -minus, name, part_of(name, open_[-1][4] if open_ else "rest")])
    while open_:
        yield _closed(open_)


def _closed(open_: list[list[Any]]) -> tuple[str, str, int]:
    _, _, own, name, part = open_.pop()
    return name, part, max(0, own)


def _word(name: str) -> str:
    """``aten::addmm_`` as ``addmm``."""
    return name.rpartition("::")[2].rstrip("_")


def _device(base: Base) -> str | None:
    return "cuda" if base.device.type == "cuda" else None


@contextmanager
def _hushed() -> Iterator[None]:
    """Standard error of the process away: torch's profiler writes a line of its own to it when it starts and stops."""
    kept = os.dup(2)
    away = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(away, 2)
        yield
    finally:
        os.dup2(kept, 2)
        for handle in (kept, away):
            with suppress(OSError):
                os.close(handle)
