"""Where a command's time goes. In: stages, one inside another, and samples of the work in them. Out: a ``Breakdown``.

A stage has the time that no stage inside it has, so that the stages and what lies outside all of them add up to the
wall time. Whoever is timed is handed a Clock and enters stages on it; one that nobody reads costs a microsecond a
stage. What a stage's seconds went into is known of samples alone (``models.sampling`` takes them): a few steps and
forward passes under torch's profiler, scaled to the seconds that work of their kind took. Knows nothing about torch.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rankscope.records import Breakdown, Work

STAGES = ("checking", "loading", "tokenising", "training", "validation", "scoring", "divergence", "diagnosing",
          "statistics", "writing", "sampling", "other")  # fmt: skip
"""In the order in which they are shown. ``sampling`` is what taking the samples costs."""
MODEL = ("training", "validation", "scoring", "divergence", "diagnosing")
"""The stages in which the model computes."""
OTHER = STAGES[-1]
MOST = 0.005
"""Share of the time that sampling may take; the first sample of a kind of work is taken in any case."""


@dataclass(frozen=True)
class Sample:
    """A piece of work under the profiler: wall ``seconds``, those of its parts, and FLOPs of its matrix products.

    ``operators`` has seconds by part and operator, without those of the operators that one calls.
    """

    seconds: float
    products: float
    attention: float
    optimiser: float
    flops: float
    operators: dict[tuple[str, str], float] = field(default_factory=dict)


class Clock:
    """One command's stages. ``is_sampling``: whether samples are to be taken, in at most a share ``most`` of the time.

    ``ceiling`` is the most matrix-product FLOPs a second seen on this machine.
    """

    def __init__(self, is_sampling: bool = False, most: float = MOST, now: Callable[[], float] = time.perf_counter):
        self.is_sampling, self.most, self._now = is_sampling, most, now
        self.ceiling: float | None = None
        self._began = self._since = now()
        self._open: list[str] = []
        self._seconds: dict[str, float] = defaultdict(float)
        self._measured: dict[tuple[str, str], float] = defaultdict(float)
        self._samples: dict[tuple[str, str], list[Sample]] = defaultdict(list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Inside, the time is this stage's; it goes on with the stage around it afterwards, whatever happens."""
        if name not in STAGES:
            raise ValueError(f"no such stage: {name}")
        self._switch()
        self._open.append(name)
        try:
            yield
        finally:
            self._switch()
            self._open.pop()

    def _switch(self) -> None:
        now = self._now()
        self._seconds[self._open[-1] if self._open else OTHER] += now - self._since
        self._since = now

    def working(self) -> float:
        """Seconds since the start less those of sampling: differences of it are what work took by itself."""
        self._switch()
        return self._since - self._began - self._seconds["sampling"]

    def may_sample(self, stage: str, kind: str) -> bool:
        """Whether one more sample is worth its cost."""
        if not self.is_sampling:
            return False
        self._switch()
        spent, wall = self._seconds["sampling"], self._since - self._began
        return (stage, kind) not in self._samples or spent <= self.most * wall

    def measured(self, stage: str, kind: str, seconds: float) -> None:
        """Count seconds of one kind of a stage's work, sampled or not."""
        self._measured[stage, kind] += seconds

    def sampled(self, stage: str, kind: str, sample: Sample) -> None:
        self._samples[stage, kind].append(sample)

    def breakdown(self) -> Breakdown:
        """The stages so far, from the clock's making on, and what those with samples went into."""
        self._switch()
        stages = {name: self._seconds[name] for name in STAGES if self._seconds[name] > 0 or name == OTHER}
        sampled = dict.fromkeys(stage for stage, _ in self._samples if self._seconds[stage] > 0)
        work = {stage: self._work(stage) for stage in sorted(sampled, key=STAGES.index)}
        return Breakdown(self._since - self._began, stages, work, self.ceiling)

    def operators(self, stage: str) -> dict[tuple[str, str], float]:
        """Seconds of a stage by part and operator, the largest first, as its samples say."""
        found: dict[tuple[str, str], float] = defaultdict(float)
        for seconds, samples in self._scaled(stage):
            for sample in samples:
                for name, own in sample.operators.items():
                    found[name] += seconds * own / sum(s.seconds for s in samples)
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _scaled(self, stage: str) -> list[tuple[float, list[Sample]]]:
        """The samples of each kind of a stage's work, with the seconds they stand for, at most all of the stage."""
        kinds = [(self._measured[own], samples) for own, samples in self._samples.items() if own[0] == stage]
        whole, known = self._seconds[stage], sum(seconds for seconds, _ in kinds)
        scale = min(1.0, whole / known) if known > 0 else 0.0
        return [(seconds * scale, samples) for seconds, samples in kinds]

    def _work(self, stage: str) -> Work:
        """Shares of a stage's seconds. What was measured in no sampled kind of work is part of the rest."""
        sums = dict.fromkeys(("products", "attention", "optimiser", "flops"), 0.0)
        scaled = self._scaled(stage)
        for seconds, samples in scaled:
            wall = sum(s.seconds for s in samples)
            for part in sums:
                sums[part] += seconds * sum(getattr(s, part) for s in samples) / wall
        rate = sums.pop("flops") / self._seconds[stage]
        shares = {part: seconds / self._seconds[stage] for part, seconds in sums.items()}
        reached = rate / self.ceiling if self.ceiling else None
        taken = [s for _, samples in scaled for s in samples]
        return Work(**shares, rest=max(0.0, 1 - sum(shares.values())), reached=reached, samples=len(taken),
                    sampled_seconds=sum(s.seconds for s in taken))  # fmt: skip
