"""The machine that work is planned for. In: a GPU's name, or nothing: then what is here. Out: a ``Host``. No torch.

What is here is what training would take: the first GPU that nvidia-smi lists, else the CPU.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from rankscope.errors import InputError
from rankscope.stats.gpus import gpu

_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container; the machine's own memory may be far more
_MIB = 1 << 20


@dataclass(frozen=True)
class Host:
    """``device`` as runs name it: 'cpu' or a GPU's name. ``flops``: bfloat16 products a second at most; None: not
    known (on a CPU it is measured when asked for). ``is_here``: work done here says something about it."""

    device: str
    memory_bytes: int | None
    flops: float | None
    is_here: bool

    @property
    def is_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def name(self) -> str:
        size = "" if self.memory_bytes is None else f", {self.memory_bytes / 1e9:.0f} GB"
        return f"{self.device}{size}" if self.is_here else self.device


def named(name: str) -> Host:
    """A well-known GPU. Raises InputError for a name that isn't known."""
    found = gpu(name)
    return Host(found.name, found.memory_bytes, found.flops, is_here=False)


def here() -> Host:
    """This machine."""
    if (card := _card()) is not None:
        device, memory_bytes = card
        try:
            flops = gpu(device).flops
        except InputError:
            flops = None
        return Host(device, memory_bytes, flops, is_here=True)
    return Host("cpu", _ram(), None, is_here=True)


@cache
def machine_rate() -> float:
    """FLOPs a second of a 1024 x 1024 float32 matrix product here, the best of three (about 0.1 s on two cores)."""
    a = np.random.default_rng(0).random((1024, 1024), dtype=np.float32)
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        a @ a
        best = max(best, 2 * 1024**3 / (time.perf_counter() - began))
    return best


def _ram() -> int | None:
    import psutil

    limit = _LIMIT.read_text().strip() if _LIMIT.is_file() else "max"
    total = psutil.virtual_memory().total
    return min(total, int(limit)) if limit.isdigit() else total


def _card() -> tuple[str, int] | None:
    """Name and memory of the first GPU that may be used."""
    tool, seen = shutil.which("nvidia-smi"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if tool is None or seen in ("", "-1"):
        return None
    ask = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    if seen and seen.split(",")[0].isdigit():
        ask.append(f"--id={seen.split(',')[0]}")
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=5, check=True).stdout.splitlines()
        name, size = said[0].rsplit(",", 1)
        return name.strip(), int(size) * _MIB
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
