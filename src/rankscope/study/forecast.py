"""What the work still to do will take. In: jobs, counted FLOPs, past work, a host. Out: ``Forecast``.

What was measured goes first (``study.calibration``). Where nothing of the kind was, a time is a range: the counted
FLOPs at the shares of the host's matrix-product rate that are plausible for a model of this size. Reads no weights and
loads no torch.

Legend: N parameters of the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rankscope.study.calibration import Calibration, Job
from rankscope.study.host import Host, machine_rate
from rankscope.study.sizes import Size
from rankscope.study.span import NOTHING, Span, largest, total

MEASURED, OTHERS, UNCALIBRATED = "measured", "other models", "uncalibrated"
_SMALL = 50e6  # parameters under which calls and norms take more time than products
# Shares of the host's matrix-product rate from lowest to highest, by kind of work. On a CPU around what was measured:
# 49-80 % in training a model of 135M (benchmarks/RESULTS.md), 10-40 % for the demo's of 0.9M, scoring lower, single
# tokens lowest. On a GPU nothing was measured, so the ends lie far apart.
_CPU = {"train": (0.3, 0.9), "weigh": (0.15, 0.8), "kl": (0.15, 0.8), "generate": (0.02, 0.3)}
_GPU = {"train": (0.05, 0.55), "weigh": (0.03, 0.5), "kl": (0.03, 0.5), "generate": (0.002, 0.1)}
_IF_SMALL = 0.2  # of the lower end
_FLOAT32 = (1 / 16, 1 / 4)  # of a GPU's bfloat16 rate
_STARTS = Span(3.0, 30.0, 8.0)  # seconds until torch, the weights and the rows are there


@dataclass(frozen=True)
class Forecast:
    """Seconds of work left by part, the largest memory of any part in bytes, and where the numbers come from.

    ``basis``: 'measured' (this model's own work on this device), 'other models' (work of others here) or
    'uncalibrated' (counts and plausible rates). Only what is measured has values beside ranges. ``diagnose`` None:
    diagnostics are asked for, and nothing says how long they take.
    """

    train: Span
    score: Span
    diagnose: Span | None
    start: Span
    peak: Span
    basis: str

    @property
    def span(self) -> Span:
        return total(s for s in (self.train, self.score, self.diagnose, self.start) if s is not None)

    @property
    def is_done(self) -> bool:
        return self.span.is_none

    def as_dict(self) -> dict[str, Any]:
        whole = self.span
        return {
            "basis": self.basis,
            "seconds": whole.value,
            "low_seconds": whole.low,
            "high_seconds": whole.high,
            "train_seconds": self.train.value,
            "score_seconds": self.score.value,
            "diagnose_seconds": None if self.diagnose is None else self.diagnose.value,
            "peak_bytes": self.peak.value,
            "low_peak_bytes": self.peak.low,
            "high_peak_bytes": self.peak.high,
        }

    def __str__(self) -> str:
        if self.is_done:
            return "nothing left to do"
        parts = [f"{span_text(self.train)} training", f"{span_text(self.score)} scoring"]
        parts += [f"{span_text(self.diagnose)} looking inside"] if self.diagnose and not self.diagnose.is_none else []
        origin = {MEASURED: "from work done here", OTHERS: "from other models' work here, so a range alone",
                  UNCALIBRATED: "uncalibrated: counted FLOPs at plausible rates"}[self.basis]  # fmt: skip
        return f"left: {span_text(self.span)} ({', '.join(parts)}; {origin}), memory {gigabytes(self.peak)}"


class Clockwork:
    """Seconds of jobs of one model on one host."""

    def __init__(self, host: Host, size: Size, past: Calibration):
        self.host, self.size, self.past = host, size, past
        self.bases: set[str] = set()

    def seconds(self, job: Job) -> Span:
        """Of work whose FLOPs are counted."""
        found = self.past.seconds(job)
        if found is None:
            self.bases.add(UNCALIBRATED)
            return plausible(self.host, self.size, job.kind) * job.flops
        if found.value is not None:
            self.bases.add(MEASURED)
            return found
        self.bases.add(OTHERS)
        return common(found, plausible(self.host, self.size, job.kind) * job.flops)


def common(seen: Span, likely: Span) -> Span:
    """Where both ranges lie; ``seen`` alone where they don't meet, since it was measured."""
    low, high = max(seen.low, likely.low), min(seen.high, likely.high)
    return Span(low, high) if low <= high else seen


def plausible(host: Host, size: Size, kind: str) -> Span:
    """Seconds of a FLOP where nothing was measured: nobody's guess is narrower than this without a look."""
    low, high = (_GPU if host.is_gpu else _CPU)[kind]
    low = low * _IF_SMALL if size.num_params < _SMALL else low
    if not host.is_gpu:
        rate = machine_rate()
        return Span(1 / (rate * high), 1 / (rate * low))
    if host.flops is None:
        low, high, rate = low * 70e12, high * 2250e12, 1.0  # any GPU there is
    else:
        rate = host.flops
    slow, fast = _FLOAT32 if size.width == 4 else (1.0, 1.0)
    return Span(1 / (rate * high * fast), 1 / (rate * low * slow))


def basis_of(bases: Iterable[str]) -> str:
    """The weakest of the bases that numbers come from."""
    found = set(bases)
    return next((b for b in (UNCALIBRATED, OTHERS) if b in found), MEASURED)


def joined(parts: list[Forecast | None]) -> Forecast | None:
    """All models' together; None where one can't be known."""
    known = [p for p in parts if p is not None]
    if not known or len(known) < len(parts):
        return None
    looks = [p.diagnose for p in known]
    diagnose = None if any(d is None for d in looks) else total(d for d in looks if d is not None)
    return Forecast(total(p.train for p in known), total(p.score for p in known), diagnose,
                    total(p.start for p in known), largest(p.peak for p in known),
                    basis_of(p.basis for p in known if not p.is_done))  # fmt: skip


def starting(is_any: bool) -> Span:
    """What comes before the first work."""
    return _STARTS if is_any else NOTHING


def span_text(span: Span) -> str:
    """Seconds for people: ``about 5 min``, or ``2 min to 9 min`` where nothing says which of them."""
    if span.value is not None:
        return f"about {minutes(span.value)}"
    low, high = minutes(span.low), minutes(span.high)
    return low if low == high else f"{low} to {high}"


def gigabytes(span: Span) -> str:
    if span.value is not None:
        return f"about {span.value / 1e9:.1f} GB"
    return f"{span.low / 1e9:.1f} to {span.high / 1e9:.1f} GB"


def minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:.0f} days"
