"""What finished work says about work to come. In: a store's past work, one device. Out: seconds and bytes as ``Span``s.

Nothing is fitted and nothing is kept: rates are medians over the ledgers that lie in the store, of any study, read anew
each time. Only work of the same device and number format counts. What the same model did before gives a number; what
other models did gives a range alone, since small models reach a smaller share of a machine than large ones.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rankscope.records import Arm, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.storage.history import Past
from rankscope.study.memory import Need, score_need, train_need
from rankscope.study.sizes import Size, model_size
from rankscope.study.span import Span

_ENOUGH = 3  # pieces of work from which a median is taken without looking further
_NEAR, _FEW = 0.15, 0.4  # least relative half width of a range, from ``_ENOUGH`` pieces on and from fewer
_OTHERS = 2.0  # how much farther than what other models did
_COPIES = {"base": 0, "lora": 1, "adapter": 1, "full": 2, "checkpoint": 2}  # ways in which weights lie on the base


@dataclass(frozen=True)
class Job:
    """Work to come: what ``Past`` says of work that is done. ``flops`` None where no count says how long it takes."""

    kind: str
    model: ModelRef
    arm: str
    name: str
    measure: str = ""
    flops: float | None = None
    rank: int | None = None


class Calibration:
    """Past work on one device: 'cpu', or the GPU's name. ``is_half``: products in 16 bits. ``shapes`` gives a model's
    sizes."""

    def __init__(self, past: Iterable[Past] = (), device: str = "cpu", is_half: bool = False,
                 shapes: Callable[[ModelRef], dict | None] = lambda ref: None):  # fmt: skip
        self.is_gpu, self._shapes = device != "cpu", shapes
        self.past = [p for p in past if _is_here(p, device, is_half)]
        self._by_kind: dict[str, list[Past]] = defaultdict(list)
        self._tokens: dict[tuple[str, str], int] = {}
        for p in self.past:
            self._by_kind[p.kind].append(p)
            if p.kind != "train":
                self._tokens[p.model, p.measure] = p.ledger.tokens
        self._specs = {p.key: spec_of(p.spec) for p in self._by_kind["train"]}
        self._read: dict[tuple, list[int]] = defaultdict(list)
        for p in self._by_kind["train"]:
            self._read[_rows(self._specs[p.key])].append(p.ledger.tokens)
        self._answers: dict[Job, Span | None] = {}
        self._needs: dict[str, Need | None] = {}

    def tokens(self, model: ModelRef, measure: str) -> int | None:
        """Tokens that a measurement took before; None where it wasn't made here with this model."""
        return self._tokens.get((model.key, measure)) or None

    def run_tokens(self, spec: RunSpec) -> int | None:
        """Tokens of a run, from runs of the same rows, recipe and model."""
        alike = self._read.get(_rows(spec))
        return round(float(np.mean(alike))) if alike else None

    def seconds(self, job: Job) -> Span | None:
        """How long it takes; None where nothing here says so."""
        if job not in self._answers:
            self._answers[job] = self._seconds(job)
        return self._answers[job]

    def _seconds(self, job: Job) -> Span | None:
        same = self._of(job.kind, job.model)
        if job.measure and (found := [p for p in same if p.measure == job.measure]):
            alike = [p for p in found if _COPIES[p.arm] == _COPIES[job.arm]]
            return _span([p.ledger.seconds for p in alike or found], 1.0)
        if job.flops is None:
            found = [p for p in same if p.name == job.name]
            alike = [p for p in found if _COPIES[p.arm] == _COPIES[job.arm]]
            return _span([p.ledger.seconds for p in alike or found], 1.0) if found else None
        counted = [p for p in same if p.ledger.flops > 0]
        if job.kind == "train":
            counted = [p for p in counted if p.arm == job.arm]
            alike = [p for p in counted if p.spec["arm"]["rank"] == job.rank]
            counted = alike if len(alike) >= _ENOUGH else counted
        if counted:
            return _span([p.ledger.seconds / p.ledger.flops for p in counted], job.flops)
        others = [p for p in self._by_kind[job.kind] if p.ledger.flops > 0]
        each = [p.ledger.seconds / p.ledger.flops for p in others]
        return Span(min(each) / _OTHERS, max(each) * _OTHERS) * job.flops if each else None

    def train_bytes(self, size: Size, specs: Sequence[RunSpec]) -> Span:
        """Peak memory of a cohort, by what the count missed before: on a CPU what the process itself takes, on a GPU a
        share."""
        need = train_need(size, specs, self.is_gpu)
        spec, same = specs[0], []
        for p in self._of("train", specs[0].model):
            counted = self._counted(p)
            if counted is not None and p.ledger.peak_bytes > 0:
                same.append((p, counted))
        same = [found for found in same if found[0].arm == spec.arm.kind] or same
        if not same:
            return self._process(need).span
        if self.is_gpu:
            return _span([p.ledger.peak_bytes / counted.bytes for p, counted in same], float(need.bytes), _NEAR / 2)
        missed = float(np.median([p.ledger.peak_bytes - counted.fixed - counted.about for p, counted in same]))
        value = max(need.fixed + need.about + missed, need.fixed)
        return Span(value * (1 - _NEAR), value * (1 + _NEAR), value)

    def score_bytes(self, size: Size, arm: str, model: ModelRef) -> Span:
        """Memory of scoring. No ledger has it: the count, with what a process takes here."""
        need = self._process(score_need(size, arm, self.is_gpu))
        if self.is_gpu or not self._of("train", model):
            return need.span
        return Span(need.bytes * (1 - _NEAR), need.bytes * (1 + _NEAR), float(need.bytes))

    def _process(self, need: Need) -> Need:
        """The need with what a process takes here, as runs of any model say."""
        if self.is_gpu:
            return need
        missed = [p.ledger.peak_bytes - counted.fixed - counted.about for p in self._by_kind["train"]
                  if p.ledger.peak_bytes > 0 and (counted := self._counted(p)) is not None]  # fmt: skip
        return Need(need.fixed, need.about, max(2e8, float(np.median(missed)))) if missed else need

    def _counted(self, past: Past) -> Need | None:
        """What the count says of a run that is done; None where its model's sizes are not here any more."""
        if past.key not in self._needs:
            spec = self._specs[past.key]
            size = model_size(spec.model, self._shapes(spec.model), self.is_gpu)
            beside = max(1, len(past.environment.get("packing", ())))
            self._needs[past.key] = None if size is None else train_need(size, [spec] * beside, self.is_gpu)
        return self._needs[past.key]

    def _of(self, kind: str, model: ModelRef) -> list[Past]:
        """What this very model did before."""
        return [p for p in self._by_kind[kind]
                if p.model == model.key and p.spec["model"].get("quantization") == model.quantization
                and p.ledger.seconds > 0]  # fmt: skip


def spec_of(body: dict[str, Any]) -> RunSpec:
    """A run's spec from the plain data that a store has; what a newer version added is left out."""
    train = body["train"] and _record(TaskRef, body["train"])
    recipe = body["recipe"] and _record(Recipe, body["recipe"])
    return RunSpec(_record(ModelRef, body["model"]), _record(Arm, body["arm"]), body["lr"], train, recipe, body["seed"])


def _record(kind: type, body: dict[str, Any]) -> Any:
    known = {field.name for field in fields(kind)}
    return kind(**{name: _tuples(value) for name, value in body.items() if name in known})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _span(values: Sequence[float], times: float, least: float = _NEAR) -> Span:
    """The median with the middle 80 % of what was seen, at least so wide."""
    low, middle, high = map(float, np.quantile(values, (0.1, 0.5, 0.9)))
    half = least if len(values) >= _ENOUGH else _FEW
    return Span(min(low, middle * (1 - half)), max(high, middle * (1 + half)), middle) * times


def _is_here(past: Past, device: str, is_half: bool) -> bool:
    """Whether it was done on this device, in such numbers and, of CPUs, on as many cores."""
    where = past.environment
    is_same = past.device == device and (where.get("dtype") != "float32") == is_half
    return is_same and (device != "cpu" or where.get("processors") in (None, os.cpu_count()))


def _rows(spec: RunSpec) -> tuple:
    """What decides which tokens a run reads: the model's tokenizer, the rows, and all of the recipe that cuts them."""
    r, t = spec.recipe, spec.train
    return (spec.model.key, t.task, t.form, t.shots, t.limit, t.options, t.data_key,
            r.epochs if r.max_steps is None else None, r.max_steps, r.batch_tokens, r.accumulate, r.max_length,
            r.validation, r.validation_max)  # fmt: skip
