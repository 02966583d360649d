"""What well-known GPUs hold and compute. In: a name. Out: a ``Gpu``. Knows nothing about models or money.

Source: the makers' data sheets and architecture papers; rates are dense matrix products in bfloat16 with float32
sums, without the doubling that data sheets quote for sparse weights. No training reaches them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from rankscope.errors import InputError


@dataclass(frozen=True)
class Gpu:
    """``memory_bytes`` as sold, counted in 10^9: a card has up to 7 % more, which its driver and torch's context take.

    ``flops``: dense bfloat16 FLOPs a second at most; None for a card that is known by its memory alone.
    """

    name: str
    memory_bytes: int
    flops: float | None


GPUS = tuple(
    Gpu(name, memory * 10**9, rate * 1e12)
    for name, memory, rate in (
        ("RTX 3090", 24, 71),
        ("RTX 4090", 24, 165),
        ("RTX 5090", 32, 209),
        ("RTX A6000", 48, 155),
        ("RTX 6000 Ada", 48, 364),
        ("L4", 24, 121),
        ("A10", 24, 125),
        ("A10G", 24, 70),
        ("L40S", 48, 362),
        ("A100 40GB", 40, 312),
        ("A100 80GB", 80, 312),
        ("H100 PCIe", 80, 756),
        ("H100 80GB", 80, 989),
        ("H200", 141, 989),
        ("B200", 180, 2250),
    )
)


def gpu(name: str) -> Gpu:
    """The card of this name, however it is spelled; or any card of so much memory, as in "24GB".

    Raises InputError for a name that isn't known, or that several cards have.
    """
    wanted = _plain(name)
    exact = [g for g in GPUS if _plain(g.name) == wanted]
    found = exact or ([g for g in GPUS if _plain(g.name).startswith(wanted)] if wanted else [])
    if len(found) == 1:
        return found[0]
    if size := re.fullmatch(r"(\d+(?:\.\d+)?)g(?:i?b)?", wanted):
        return Gpu(f"{size[1]} GB", round(float(size[1]) * 1e9), None)
    known = ", ".join(g.name for g in GPUS)
    if found:
        raise InputError("several GPUs are called this", got=name, hint=f"One of: {', '.join(g.name for g in found)}")
    near = get_close_matches(wanted, [_plain(g.name) for g in GPUS], 1, 0.6)
    guess = next((f"Did you mean {g.name!r}? " for g in GPUS if near and _plain(g.name) == near[0]), "")
    raise InputError("no such GPU is known", got=name, hint=f"{guess}Known: {known}; or give its memory, as in 24GB")


def _plain(name: str) -> str:
    """Letters and digits alone, without a maker's words."""
    return re.sub(r"[^a-z0-9.]", "", re.sub(r"nvidia|geforce|tesla|sxm\d?", "", name.lower()))
