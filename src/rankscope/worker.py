"""One cohort: runs in, trained weights and records out. No store, no shared state.

In: a Base and run specs of one model and train task. Out: a RunResult for each, and the means to use or write its
weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from rankscope.clock import Clock
from rankscope.data.batching import Example, budgeted
from rankscope.errors import RunFailed
from rankscope.models import adapter, sampling
from rankscope.models.base import OUT_OF_MEMORY, Base, is_out_of_memory
from rankscope.models.lora import AdapterBank, num_below
from rankscope.provenance import environment
from rankscope.records import Ledger, RunResult, RunSpec
from rankscope.stats.cost import flops_per_token
from rankscope.training.cohort import Trainee, TrainSet, recruit, steps_of
from rankscope.training.loop import Loop, Tick, row_nll


@dataclass
class Trained:
    """A cohort after training. ``using`` gives the Base with one run's weights in effect; ``close`` takes them off."""

    base: Base
    bank: AdapterBank | None
    trainees: list[Trainee]
    notes: list[str] = field(default_factory=list)
    peak_bytes: int = 0
    clock: Clock = field(default_factory=Clock)

    @contextmanager
    def using(self, key: str) -> Iterator[Base]:
        if self.bank is None:
            yield self.base
            return
        with self.bank.use(key):
            yield self.base

    def ledger(self, trainee: Trainee) -> Ledger:
        """What one run's training took so far."""
        below = 0 if self.bank is None else num_below(self.base, trainee.names)
        each = flops_per_token(trainee.spec.arm.kind, self.base.num_params, trainee.num_trainable, below)
        return Ledger(trainee.seconds, trainee.tokens, trainee.label_tokens, each * trainee.tokens, self.peak_bytes,
                      trainee.num_trainable)  # fmt: skip

    def result(self, trainee: Trainee) -> RunResult:
        """The record of one run; its validation loss is the mean over items of nats per completion token."""
        spec = trainee.spec
        origin = environment(where(self.base) | {"packing": [t.key for t in self.trainees]})
        common = {"key": trainee.key, "steps": len(trainee.curve), "curve": tuple(trainee.curve),
                  "ledger": self.ledger(trainee), "environment": origin, "notes": tuple(self.notes)}  # fmt: skip
        if trainee.failed:
            return RunResult(status="failed", message=trainee.failed, **common)
        try:
            with (
                self.clock.stage("validation"),
                self.using(trainee.key),
                sampling.passes(self.clock, "validation", self.base),
            ):
                items = validation_losses(self.base, trainee.data.validation, spec.recipe.batch_tokens)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return RunResult(status="failed", message=f"{OUT_OF_MEMORY} in validation", **common)
        if not all(map(math.isfinite, items)):
            return RunResult(status="failed", message="diverged: the validation loss is not finite", **common)
        loss = float(np.mean(items)) if items else None
        se = float(np.std(items, ddof=1)) / math.sqrt(len(items)) if len(items) > 1 else None
        return RunResult(status="done", validation_loss=loss, validation_se=se, validation_items=items, **common)

    def write(self, trainee: Trainee, path: Path) -> None:
        spec = trainee.spec
        if spec.arm.kind == "full":
            adapter.write_full(path, self.base.model)
        else:
            adapter.write_adapter(path, trainee.tensors(), spec.arm, self.base.model, spec.model.id)

    def close(self) -> None:
        for name in list(self.bank.arms) if self.bank is not None else ():
            self.bank.remove(name)


def train(base: Base, runs: Sequence[tuple[str, RunSpec]], data: TrainSet, folder: Path | None = None,
          tick: Tick | None = None, every: float = 60.0, until: int | None = None,
          clock: Clock | None = None) -> Trained:  # fmt: skip
    """Train LoRA runs of one seed together, or one full run, to the end or for ``until`` steps.

    Out of memory fails the whole cohort, run by run, also where it ends before the first step.
    """
    clock = clock or Clock()
    try:
        return _train(base, runs, data, folder, tick, every, until, clock)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    found = [Trainee(key, spec, [], [], steps_of(data, spec.recipe, spec.seed), data) for key, spec in runs]
    for trainee in found:
        trainee.failed = f"{OUT_OF_MEMORY} before the first step"
    return Trained(base, None, found, clock=clock)


def _train(base: Base, runs: Sequence[tuple[str, RunSpec]], data: TrainSet, folder: Path | None, tick: Tick | None,
           every: float, until: int | None, clock: Clock) -> Trained:  # fmt: skip
    is_full = runs[0][1].arm.kind == "full"
    mine = base.trainable_copy() if is_full else base
    bank = None if is_full else AdapterBank(mine)
    trained = Trained(mine, bank, [], clock=clock)
    try:
        trained.trainees = [recruit(mine, bank, key, spec, data) for key, spec in runs]
        if bank is not None and hasattr(base.model.config, "num_experts_per_tok"):
            trained.notes.append("a mixture of experts: LoRA adapts attention and shared layers, not the experts")
        trained.notes += data.notes
        if data.dropped:
            trained.notes.append(f"{data.dropped} training rows had no token left to learn and were dropped")
        if data.cut:
            trained.notes.append(f"{data.cut} training rows were cut to max_length")
        if mine.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(mine.device)
        loop = Loop(mine, bank, folder, every, notes=trained.notes, clock=clock)
        try:
            loop.train(trained.trainees, tick, until)
        finally:
            trained.peak_bytes = loop.peak_bytes
    except RunFailed as error:
        for trainee in trained.trainees:
            trainee.failed = trainee.failed or str(error)
    except BaseException:
        trained.close()
        raise
    return trained


def where(base: Base) -> dict[str, object]:
    """What the numbers depend on beside versions: device, number format, threads; ``buffers``: that they aren't rounded
    to 16 bits with the weights, as older versions did."""
    dtype = str(base.autocast or base.dtype).removeprefix("torch.")
    name = torch.cuda.get_device_name(base.device) if base.device.type == "cuda" else "cpu"
    packed = {"quantization": base.ref.quantization} if base.ref.quantization else {}
    exact = {} if dtype == "float32" else {"buffers": "as the model has them"}
    return {"device": name, "dtype": dtype, "threads": torch.get_num_threads(), **packed, **exact}


@torch.inference_mode()
def validation_losses(base: Base, examples: Sequence[Example], batch_tokens: int) -> tuple[float, ...]:
    """Nats per completion token of every validation item."""
    losses = [0.0] * len(examples)
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i].ids), i))
    for batch in budgeted(order, [len(e.ids) for e in examples], batch_tokens):
        nll, counts = row_nll(base, [examples[i] for i in batch])
        for index, loss in zip(batch, (nll / counts).tolist(), strict=True):
            losses[index] = loss
    return tuple(losses)
