"""How many runs train side by side. In: run specs and a probe of this machine. Out: cohorts. Loads no torch.

As many as memory holds at most, and of these the fewest whose speed is near the best: on a CPU, where matrix products
are the limit, one or two; on a GPU, which few rows leave idle, more. Packing is no part of a run's identity: which rows
a run sees, and in what order, is its own (``data.batching``), so weights differ by rounding alone.

A cut is kept with the list of runs that it was made for, since a cohort's checkpoint is found by its members: memory
that is free at one time and not at another must not make a resumed study begin again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rankscope.provenance import canonical_json, content_key
from rankscope.records import RunSpec
from rankscope.study.memory import train_bytes
from rankscope.study.plan import COHORT, cohorts, run_key
from rankscope.study.sizes import Size

SHARE = 0.8
"""Of the memory that can be used; the rest is for what the model of memory leaves out."""
NEAR = 0.05
"""A speed this near to the best is as good: fewer runs side by side take less memory."""
_WORTH = 0.03  # of the work that is to be done, spent on measuring at most
_PAYS = 1.02  # what doubling must gain for the next size to be tried
_SIZES = (1, 2, 4, 8)
Fits = Callable[[Sequence[RunSpec]], bool]


@runtime_checkable
class Machine(Protocol):
    """What is asked of a machine; ``training.probe.Probe`` is one."""

    place: Mapping[str, object]
    width: int
    trial_steps: int

    def steps(self, spec: RunSpec) -> int: ...

    def tokens_per_second(self, specs: Sequence[RunSpec]) -> float | None: ...

    def usable_bytes(self) -> int: ...


def cut(
    specs: Sequence[RunSpec], shape: dict | None, folder: Path, probe: Callable[[], Machine]
) -> list[list[RunSpec]]:
    """Cohorts of one model's runs of one train task and seed: as kept in ``folder``, or decided now and kept there.

    ``shape`` as ``models.locate.shape`` gives it; None leaves the memory to be found by trying. ``probe`` makes a
    ``Machine``, and is called only where something is to be decided.
    """
    lora = [s for s in specs if s.arm.kind == "lora"]
    if len(lora) < 2:
        return cohorts(specs)
    path = folder / f"cut-{content_key([run_key(s) for s in lora])}.json"
    sizes = _read(path)
    if not _is_cut(sizes, len(lora)):
        sizes = [len(group) for group in _decided(lora, shape, folder, probe())]
        _write(path, sizes)
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    groups = [lora[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    return groups + [[s] for s in specs if s.arm.kind == "full"]


def packed(specs: Sequence[RunSpec], most: int, fits: Fits = lambda group: True) -> list[list[RunSpec]]:
    """LoRA runs in their order, at most ``most`` side by side and only as many as fit; full runs alone."""
    groups: list[list[RunSpec]] = []
    for spec in (s for s in specs if s.arm.kind == "lora"):
        if groups and len(groups[-1]) < most and fits([*groups[-1], spec]):
            groups[-1].append(spec)
        else:
            groups.append([spec])
    return groups + [[s] for s in specs if s.arm.kind == "full"]


def most_that_fit(specs: Sequence[RunSpec], fits: Fits) -> int:
    """The most runs side by side, whichever they are; one at least."""
    heavy = sorted(specs, key=lambda s: s.arm.top_rank, reverse=True)
    return next((n - 1 for n in range(2, min(COHORT, len(heavy)) + 1) if not fits(heavy[:n])), min(COHORT, len(heavy)))


def measured(measure: Callable[[int], float | None], most: int, budget: float) -> tuple[dict[int, float], int]:
    """Tokens a second of 1, 2, 4, 8 runs side by side, as long as doubling pays and fits; and up to how many runs that
    is an answer.

    ``budget``: runs that may be measured in all. Where it ends the search, more runs might still be faster.
    """
    rates: dict[int, float] = {}
    for size in (s for s in _SIZES if s <= most):
        budget -= size
        rate = measure(size) if budget >= 0 else None
        if rate is None:
            return rates, most if budget >= 0 else size - 1
        rates[size] = rate
        if size > 1 and rate < _PAYS * rates[size // 2]:
            return rates, COHORT
    return rates, most


def fewest(rates: Mapping[int, float]) -> int:
    """The fewest runs side by side within ``NEAR`` of the best speed; one where not even one could be measured."""
    return min((n for n, rate in rates.items() if rate >= (1 - NEAR) * max(rates.values())), default=1)


def _decided(lora: list[RunSpec], shape: dict | None, folder: Path, machine: Machine) -> list[list[RunSpec]]:
    size, usable = None if shape is None else Size(shape, machine.width), machine.usable_bytes()
    is_gpu = machine.place.get("device") != "cpu"

    def fits(group: Sequence[RunSpec]) -> bool:
        return size is None or train_bytes(size, group, is_gpu) <= SHARE * usable

    most = most_that_fit(lora, fits)
    rates = _rates(lora, most, folder, machine) if most > 1 else None
    if rates is None:  # nothing measured: what pays on a GPU costs time on a CPU, where products are the limit
        return packed(lora, 1 if machine.place.get("device") == "cpu" else most, fits)
    return packed(lora, min(most, fewest(rates)), fits)


def _rates(lora: list[RunSpec], most: int, folder: Path, machine: Machine) -> dict[int, float] | None:
    """Speeds as kept, or measured now and kept; None where there are none and measuring would take too long."""
    about = {**machine.place, "model": lora[0].model.key, "batch_tokens": lora[0].recipe.batch_tokens}
    path = folder / f"speed-{content_key(about)}.json"
    if (kept := _kept_rates(_read(path), most)) is not None:
        return kept
    budget = _WORTH * machine.steps(lora[0]) * len(lora) / machine.trial_steps
    if budget < _SIZES[0] + _SIZES[1]:
        return None

    def measure(num: int) -> float | None:
        return machine.tokens_per_second([lora[i * len(lora) // num] for i in range(num)])

    rates, known = measured(measure, most, budget)
    if known < most:
        return None
    _write(path, {"about": about, "most": known, "rates": sorted(rates.items())})
    return rates


def _kept_rates(found: Any, most: int) -> dict[int, float] | None:
    """The part of kept speeds up to ``most``; None where as many were not tried, or the file is not what is written."""
    match found:
        case {"most": int(tried), "rates": [*pairs]} if tried >= most:
            try:
                return {int(n): float(rate) for n, rate in pairs if n <= most}
            except (TypeError, ValueError):
                return None
    return None


def _is_cut(sizes: Any, total: int) -> bool:
    return isinstance(sizes, list) and all(isinstance(s, int) and s > 0 for s in sizes) and sum(sizes) == total


def _read(path: Path) -> Any:
    """What a file holds; None if there is none or it is damaged: it is then made again."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write(path: Path, value: Any) -> None:
    """To a name of this process's own first, so that another one never reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}.new")
    try:
        new.write_text(canonical_json(value), encoding="utf-8")
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
