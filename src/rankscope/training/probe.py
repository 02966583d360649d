"""How fast runs train side by side here, found by trying. In: a Base, a train set, run specs. Out: tokens a second.

A few steps of the runs' own rows with adapters that are thrown away, at rate 0: no weight moves and no random stream
is touched, so training afterwards is what it would have been. Knows nothing about studies or stores.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from rankscope.data.batching import training_batches
from rankscope.errors import RunFailed
from rankscope.models.base import Base, is_out_of_memory
from rankscope.models.lora import AdapterBank
from rankscope.records import RunSpec
from rankscope.training.cohort import Trainee, TrainSet, recruit
from rankscope.training.loop import Loop

_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container; the machine's own memory may be far more


@dataclass(frozen=True)
class Probe:
    """One model and train task as they are on this machine. ``place`` says what the speed depends on beside both."""

    base: Base
    data: TrainSet
    place: Mapping[str, object]

    @property
    def width(self) -> int:
        """Bytes of a weight."""
        return self.base.dtype.itemsize

    @property
    def trial_steps(self) -> int:
        """Steps of one measurement: a warm one and two that are timed."""
        return 3

    def steps(self, spec: RunSpec) -> int:
        """Steps of one run."""
        recipe, lengths = spec.recipe, [len(e.ids) for e in self.data.train]
        return len(training_batches(lengths, recipe.batch_tokens, spec.seed, recipe.epochs, recipe.max_steps,
                                    recipe.accumulate))  # fmt: skip

    def tokens_per_second(self, specs: Sequence[RunSpec]) -> float | None:
        """Tokens a second, padding not counted, of these runs side by side; None where memory doesn't hold them."""
        bank, times = AdapterBank(self.base), [time.perf_counter()]
        loop = Loop(self.base, bank)
        try:
            trainees = [recruit(self.base, bank, f"probe-{i}", replace(spec, lr=0.0), self.data)
                        for i, spec in enumerate(specs)]  # fmt: skip
            step = _usual(trainees[0])
            for trainee in trainees:
                trainee.steps = [step] * self.trial_steps
            loop.train(trainees, lambda *_: times.append(self._now()))
        except RunFailed:
            return None
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None
        finally:
            for name in list(bank.arms):
                bank.remove(name)
        if loop.parts > 1 or any(t.failed for t in trainees):  # cut for memory, or not a number
            return None
        best = min(b - a for a, b in zip(times[1:], times[2:], strict=False))
        return len(specs) * _tokens(self.data, step) / best

    def usable_bytes(self) -> int:
        """Memory that training may take: what is free, and what this process holds already."""
        device = self.base.device
        if device.type == "cuda":
            return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
        most = psutil.virtual_memory().available + psutil.Process().memory_info().rss
        limit = _LIMIT.read_text().strip() if _LIMIT.is_file() else "max"
        return min(most, int(limit)) if limit.isdigit() else most

    def _now(self) -> float:
        if self.base.device.type == "cuda":
            torch.cuda.synchronize(self.base.device)
        return time.perf_counter()


def _usual(trainee: Trainee) -> list[list[int]]:
    """A step with the median number of tokens."""
    return sorted(trainee.steps, key=lambda step: _tokens(trainee.data, step))[len(trainee.steps) // 2]


def _tokens(data: TrainSet, step: list[list[int]]) -> int:
    return sum(len(data.train[i].ids) for micro in step for i in micro)
