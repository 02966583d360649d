"""What this machine can do, and what is missing for what. In: the store's folder. Out: ``Finding``s, in reading order.

Everything is looked up or measured here: versions, devices, number formats (by a small timed product, since a format
that works may be a hundred times slower), memory, local caches. No network is asked, no weights are read, nothing is
written. torch is imported when its part is reached; a machine without it gets a finding, not an error.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from rankscope import plugins
from rankscope.data.dataset import VARIABLE, locate
from rankscope.errors import DataError, InputError
from rankscope.study.host import machine_rate
from rankscope.tasks.task import Task

SLOW = 0.5
"""A number format is slow if its product runs at less than this share of float32's rate."""
LEAST_BYTES = 1_000_000_000
"""Less free memory or disk than this is not enough for the bundled study."""
FORMATS = ("float32", "bfloat16", "float16")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
DTYPE_HINT = "in the study: models: [{id: MODEL, dtype: float32}]"
OPTIONAL = {
    "bitsandbytes": "4-bit bases on a CUDA GPU",
    "lm_eval": "tasks named lm_eval:NAME",
}
_BOUNDS = {"lm_eval": "'lm_eval>=0.4.12'"}  # as the extra lm-eval in pyproject.toml has it
_REQUIRED = ("torch", "transformers", "peft", "tokenizers", "safetensors", "datasets", "numpy", "scipy")
_SIZES = {"cpu": 256, "cuda": 4096, "mps": 1024}  # rows of the square matrices: about a millisecond where it is quick


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``mend`` is what to do about it, a command where one helps; ``data`` holds the numbers."""

    part: str
    name: str
    status: Literal["ok", "missing", "slow"]
    text: str
    mend: str = ""
    data: dict[str, Any] = field(default_factory=dict)


def examine(store: str | Path = "runs") -> tuple[Finding, ...]:
    """All findings; a few seconds, most of them torch's import. Raises InputError if the store is a file."""
    if Path(store).is_file():
        raise InputError("this is a file, not a folder of results", got=str(store), hint="Name a folder: --store DIR")
    torch = _module("torch")
    return (
        *software(),
        *devices(torch),
        *number_formats(torch),
        *memory(Path(store)),
        *hub(),
        *mirror(),
        *optional(torch),
    )


def software() -> Iterator[Finding]:
    """Python, the packages that results depend on, and packages of plug-ins that can't be loaded."""
    python = platform.python_version()
    yield Finding("software", "python", "ok", f"{python} on {platform.system()} {platform.machine()}",
                  data={"version": python})  # fmt: skip
    found: dict[str, str] = {}
    for name, wanted, is_enough in _requirements():
        version = _version(name)
        if version is not None:
            found[name] = version
        if version is None or not is_enough(version):
            text = f"not installed, needs {wanted}" if version is None else f"{version} is too old, needs {wanted}"
            mend = f"pip install '{wanted}'"
            yield Finding("software", name, "missing", text, mend, {"version": version, "needs": wanted})
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    yield Finding("software", "packages", "ok", text, data={"versions": found})
    for kind in plugins.KINDS:
        for broken in (p for p in plugins.listing(kind) if p.problem):
            yield Finding("software", f"{kind.rstrip('s')} {broken.name}", "missing", broken.problem,
                          f"pip uninstall {broken.origin.package}", {"package": broken.origin.package})  # fmt: skip


def devices(torch: Any | None) -> Iterator[Finding]:
    """Processor, GPUs and Apple's GPU, as far as torch can use them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rate = machine_rate()
    data = {"cores": os.cpu_count(), "usable_cores": cores, "flops_per_second": rate}
    text = f"{cores} of {os.cpu_count()} cores usable, matrix products at {rate / 1e9:.0f} GFLOP/s"
    if torch is None:
        yield Finding("devices", "CPU", "missing", f"{text}, but no torch to train with", "pip install torch", data)
        return
    threads = torch.get_num_threads()
    is_idle = threads * 2 < cores
    mend = f"export OMP_NUM_THREADS={cores}" if is_idle else ""
    text += f", torch uses {_plural(threads, 'thread')}"
    yield Finding("devices", "CPU", "slow" if is_idle else "ok", text, mend, {**data, "threads": threads})
    if torch.cuda.is_available():
        yield from _gpus(torch)
    else:
        yield _no_gpu(torch)
    if platform.system() == "Darwin":
        is_there = torch.backends.mps.is_available()
        text = "usable" if is_there else "this torch or macOS can't use it; the CPU is used"
        yield Finding("devices", "MPS", "ok" if is_there else "missing", text)


def number_formats(torch: Any | None) -> Iterator[Finding]:
    """Each format on each device, by the rate of one square matrix product."""
    if torch is None:
        return
    names = ["cpu", *["cuda"] * torch.cuda.is_available(), *["mps"] * torch.backends.mps.is_available()]
    for device in names:
        full = product_rate(torch, device, "float32")
        for form in FORMATS:
            rate = full if form == "float32" else product_rate(torch, device, form)
            yield judged(device, form, rate, full)


def judged(device: str, form: str, rate: float | None, full: float | None) -> Finding:
    """What a format's rate (products' FLOPs a second; None: not supported) means beside float32's on that device."""
    name, data = f"{form} on {device}", {"device": device, "format": form, "flops_per_second": rate}
    if rate is None:
        return Finding("number formats", name, "missing", "not supported here", DTYPE_HINT, data)
    text = f"{rate / 1e9:.3g} GFLOP/s{' on one core' * (device == 'cpu')}"
    if form == "float32" or not full:
        return Finding("number formats", name, "ok", text, data=data)
    data["times_float32"] = rate / full
    is_slow = rate < SLOW * full
    text += f", {full / rate:.3g} x slower than float32" if is_slow else f", {rate / full:.3g} x float32"
    if form == "float16":
        text += "; for scoring only, it is refused for training"
    return Finding("number formats", name, "slow" if is_slow else "ok", text,
                   DTYPE_HINT if is_slow else "", data)  # fmt: skip


def product_rate(torch: Any, device: str, form: str, budget: float = 0.2) -> float | None:
    """FLOPs a second of a square product, the best of several within ``budget`` seconds; None if it isn't supported.

    On the CPU of one core: with more, a product waits for cores that other programs use, and that hides the format.
    """
    size, threads = _SIZES[device], torch.get_num_threads()
    torch.set_num_threads(1)
    wait = getattr(getattr(torch, device), "synchronize", lambda: None)
    try:
        a = torch.ones(size, size, device=device).to(getattr(torch, form))
        a @ a  # the first one sets up kernels
        wait()
        best, ends = float("inf"), time.perf_counter() + budget
        while best == float("inf") or time.perf_counter() < ends:
            began = time.perf_counter()
            a @ a
            wait()
            best = min(best, time.perf_counter() - began)
    except (RuntimeError, TypeError):  # torch's words for 'not implemented for this format' and 'out of memory'
        return None
    finally:
        torch.set_num_threads(threads)
    return 2 * size**3 / best


def memory(store: Path) -> Iterator[Finding]:
    """Free and total memory, and disk where the store is or would be."""
    import psutil

    ram = psutil.virtual_memory()
    yield _room("RAM", ram.available, ram.total, "end other programs, or set training.batch_tokens lower")
    folder = next(p for p in (store.absolute(), *store.absolute().parents) if p.exists())
    disk = shutil.disk_usage(folder)
    yield _room(f"disk of {store}", disk.free, disk.total, f"rankscope gc {store} --delete")


def hub() -> Iterator[Finding]:
    """The hub's local cache and the variables that keep it from being asked. The hub itself is not asked."""
    on = {name: os.environ[name] for name in OFFLINE if os.environ.get(name)}
    said = ", ".join(f"{name}={value}" for name, value in on.items()) or f"none of {', '.join(OFFLINE)} is set"
    yield Finding("hub", "network", "ok", f"hub: not asked; {said}", data={"asked": False, "offline": on})
    constants = _module("huggingface_hub.constants")
    if constants is None:
        return
    cache, converted = Path(constants.HF_HUB_CACHE), Path(constants.HF_HOME) / "datasets"
    models, sets = _cached(cache, "models--"), _cached(cache, "datasets--")
    if converted.is_dir():
        sets += [p.name.replace("___", "/") for p in converted.iterdir() if p.is_dir() and "___" in p.name]
    for name, ids in (("models", models), ("datasets", sorted(set(sets)))):
        mend = "" if ids else ("hf download HuggingFaceTB/SmolLM2-135M-Instruct" if name == "models" else
                               "name a folder of rows with --data-dir, or go online once")  # fmt: skip
        yield Finding("hub", f"cached {name}", "ok" if ids else "missing",
                      ", ".join(ids) or f"none in {cache}", mend, {"folder": str(cache), "ids": ids})  # fmt: skip


def mirror() -> Iterator[Finding]:
    """Which tasks of the shelf have their rows in the folder that RANKSCOPE_DATA names."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        yield Finding("data", VARIABLE, "missing", "not set: rows come from the hub; the bundled tasks need neither",
                      f"export {VARIABLE}=DIR (holding DATASET/SPLIT.jsonl)", {"folder": None})  # fmt: skip
        return
    covered: dict[str, list[str]] = {}
    try:
        for listed in plugins.listing("tasks"):
            task = listed.plugin
            if isinstance(task, Task) and task.source is not None and not task.source.bundled:
                splits = dict.fromkeys([*["train"] * task.is_trainable, task.test_split])
                covered[listed.name] = [split for split in splits if locate(task.source, split) is not None]
    except DataError as error:
        yield Finding("data", VARIABLE, "missing", str(error), f"export {VARIABLE}=DIR", {"folder": folder})
        return
    has = ", ".join(f"{name} ({', '.join(splits)})" for name, splits in covered.items() if splits)
    lacks = ", ".join(name for name, splits in covered.items() if not splits)
    text = f"{folder} has {has or 'no task'}" + (f"; not: {lacks}" if lacks else "")
    yield Finding("data", VARIABLE, "ok" if has else "missing", text, "" if has else f"export {VARIABLE}=DIR",
                  {"folder": folder, "tasks": covered})  # fmt: skip


def optional(torch: Any | None) -> Iterator[Finding]:
    """Packages that only some studies need, and what for."""
    for name, use in OPTIONAL.items():
        version = _version(name)
        text = f"{version}, for {use}" if version else f"not installed; only for {use}"
        needs_gpu = name == "bitsandbytes" and not (torch is not None and torch.cuda.is_available())
        text += ", of which there is none here" if needs_gpu else ""
        mend = "" if version or needs_gpu else f"pip install {_BOUNDS.get(name, name)}"
        yield Finding("optional", name, "ok" if version else "missing", text, mend, {"version": version})


def _gpus(torch: Any) -> Iterator[Finding]:
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        capability = f"{found.major}.{found.minor}"
        text = f"{found.name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, compute capability {capability}"
        data = {"name": found.name, "free_bytes": free, "total_bytes": total, "capability": capability}
        yield Finding("devices", f"CUDA {index}", "ok", text, data=data)


def _no_gpu(torch: Any) -> Finding:
    if shutil.which("nvidia-smi") and torch.version.cuda is None:
        mend = "pip install --force-reinstall torch --index-url URL, the one for your CUDA on pytorch.org"
        return Finding("devices", "CUDA", "missing", "there is an NVIDIA driver, but this torch is built without CUDA",
                       mend, {"torch_cuda": None})  # fmt: skip
    text = "no GPU that torch can use: training and scoring run on the CPU"
    return Finding("devices", "CUDA", "missing", text, data={"torch_cuda": torch.version.cuda})


def _room(name: str, free: int, total: int, mend: str) -> Finding:
    is_enough = free >= LEAST_BYTES
    text = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free" + ("" if is_enough else ": too little for any study")
    return Finding("memory", name, "ok" if is_enough else "missing", text, "" if is_enough else mend,
                   {"free_bytes": free, "total_bytes": total})  # fmt: skip


def _cached(cache: Path, prefix: str) -> list[str]:
    """Ids of the repositories in the hub's cache of which at least one revision is there."""
    folders = [p for p in cache.glob(f"{prefix}*") if any(p.glob("snapshots/*/*"))]
    return sorted(p.name.removeprefix(prefix).replace("--", "/", 1) for p in folders)


def _requirements() -> list[tuple[str, str, Callable[[str], bool]]]:
    """What rankscope itself declares: name, requirement as text, and whether a version is enough."""
    try:
        from packaging.requirements import Requirement

        declared = [Requirement(line) for line in metadata.requires("rankscope") or ()]
    except (ImportError, metadata.PackageNotFoundError):  # run from a bare checkout: names without bounds
        return [(name, name, lambda version: True) for name in _REQUIRED]
    # Development versions ('2.9.0+cpu', '3.0.dev1') count as the release they lead to.
    return [(r.name, f"{r.name}{r.specifier}", lambda version, r=r: r.specifier.contains(version, prereleases=True))
            for r in declared if r.marker is None or r.marker.evaluate({"extra": ""})]  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _module(name: str) -> Any | None:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):  # OSError: torch's own libraries can't be loaded
        return None


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
