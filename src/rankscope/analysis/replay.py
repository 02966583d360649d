"""Forward passes that skip their lower layers, because another pass has been through them. In: a Base, whatever is on
it. Out: contexts that record and replay.

Two updates that agree below a layer give the same hidden states up to there. What a layer gave is kept under all that
went into the forward call (tokens, mask, positions); a later pass with the same input takes it from there, and a pass
with another input is computed whole. Calls that fill a cache are never replayed: the layers skipped would leave it
empty. Knows nothing about updates: that the two passes do agree below the layer is the caller's to know.

Legend: B rows, T tokens, D hidden size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rankscope.analysis.capture import layers_of
from rankscope.models.base import Base

Output = Any  # what a layer returns: a tensor (B, T, D), or a tuple that starts with one


@dataclass
class Tape:
    """What layers gave: ``calls[input][start]`` is the output of the layer before ``start``."""

    starts: tuple[int, ...]
    calls: dict[bytes, dict[int, Output]] = field(default_factory=dict)


@contextmanager
def recording(base: Base, starts: Sequence[int]) -> Iterator[Tape]:
    """Inside, what goes into each of the layers ``starts`` (from 1) is kept on the tape, call by call."""
    layers, tape = layers_of(base), Tape(tuple(starts))
    with ExitStack() as stack, _calls(base) as now:
        for start in tape.starts:
            keep = _keeper(tape, now, start)
            stack.callback(layers[start - 1].register_forward_hook(keep).remove)
        yield tape


@contextmanager
def replaying(base: Base, tape: Tape, start: int) -> Iterator[None]:
    """Inside, calls that are on the tape skip the layers below ``start``; 0 skips nothing."""
    if start not in (0, *tape.starts):
        raise ValueError(f"nothing was kept before layer {start}")
    layers = list(layers_of(base))[:start]
    own = [layer.__dict__.get("forward") for layer in layers]  # set only where another library put a forward of its own
    with _calls(base) as now:
        try:
            for layer in layers:
                layer.forward = _player(layer.forward, tape, now, start)
            yield
        finally:
            for layer, forward in zip(layers, own, strict=True):
                del layer.forward
                if forward is not None:
                    layer.forward = forward


@torch.inference_mode()
def can_replay(base: Base, starts: Sequence[int]) -> bool:
    """Whether the layers ``starts`` of this model take nothing but hidden states from those below; found out by trying.

    Some architectures hand keys, values or a running state upwards beside them.
    """
    ids = torch.arange(3, 11, device=base.device)[None]
    with recording(base, starts) as tape:
        expected = base.hidden(ids)
    near = 1e-4 if base.dtype == torch.float32 and not base.autocast else 0.1
    for start in starts:
        try:
            with replaying(base, tape, start):
                found = base.hidden(ids)
        except (RuntimeError, ValueError, TypeError, AttributeError, LookupError):  # what it needs was never computed
            return False
        if not torch.allclose(found.float(), expected.float(), rtol=near, atol=near):
            return False
    return True


@dataclass
class _Now:
    """Which input the forward call under way has; None: one that is neither recorded nor replayed."""

    key: bytes | None = None


@contextmanager
def _calls(base: Base) -> Iterator[_Now]:
    now = _Now()

    def begin(module: nn.Module, args: tuple, kwargs: dict) -> None:
        now.key = _key(args, kwargs)

    hook = base.model.base_model.register_forward_pre_hook(begin, with_kwargs=True)
    try:
        yield now
    finally:
        hook.remove()


def _key(args: tuple, kwargs: Mapping[str, Any]) -> bytes | None:
    if args or kwargs.get("use_cache"):
        return None
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(kwargs.items()):
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(f"{tuple(value.shape)}{value.dtype}".encode())
            digest.update(value.detach().contiguous().cpu().view(torch.uint8).numpy().data)
        else:
            digest.update(repr(value).encode())
    return digest.digest()


def _keeper(tape: Tape, now: _Now, start: int) -> Callable[[nn.Module, tuple, Output], None]:
    def keep(layer: nn.Module, args: tuple, output: Output) -> None:
        if now.key is not None:
            tape.calls.setdefault(now.key, {})[start] = _copied(output)

    return keep


def _player(forward: Callable, tape: Tape, now: _Now, start: int) -> Callable:
    """A layer's forward that gives what the last of the skipped layers gave: between them nobody reads it."""

    def play(*args: Any, **kwargs: Any) -> Output:
        kept = tape.calls.get(now.key) if now.key is not None else None
        return forward(*args, **kwargs) if kept is None else _copied(kept[start])

    return play


def _copied(output: Output) -> Output:
    """A copy, since the layers above may add to their input in place."""
    if isinstance(output, tuple):
        return tuple(map(_copied, output))
    return output.detach().clone() if isinstance(output, Tensor) else output
