"""Where a command's time went, for people. In: a verb's work. Out: a short table on stderr, however the work ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rankscope.cli.console import duration, format_table
from rankscope.clock import MODEL, Clock
from rankscope.records import Breakdown, Work


@contextlib.contextmanager
def timed(is_quiet: bool) -> Iterator[Clock]:
    """A clock for the work inside. Its table is shown at the end, also of an error or Ctrl-C, if a model worked."""
    clock = Clock(is_sampling=True)
    try:
        yield clock
    finally:
        found = clock.breakdown()
        if not is_quiet and any(stage in found.stages for stage in MODEL):
            print(spent(found), file=sys.stderr, flush=True)


def spent(found: Breakdown) -> str:
    """The stages with their seconds, and what those of the sampled ones went into."""
    rows = [{"stage": name, "seconds": round(seconds, 1), "%": _percent(seconds / found.seconds)}
            | _columns(found.work.get(name)) for name, seconds in found.stages.items()]  # fmt: skip
    lines = [f"where {duration(found.seconds)} went:", format_table(rows)]
    if found.work:
        num, seconds = (sum(getattr(w, name) for w in found.work.values()) for name in ("samples", "sampled_seconds"))
        told = f"products to rest: % of the stage, from {num} steps and passes sampled ({duration(seconds)})"
        if found.ceiling:
            told += f"; ceiling: {found.ceiling / 1e9:.0f} GFLOP/s, products of the model's shapes alone"
        lines.append(told)
    return "\n".join(lines)


def _columns(work: Work | None) -> dict[str, float | None]:
    if work is None:
        return {}
    shares = {part: _percent(getattr(work, part)) for part in ("products", "attention", "optimiser", "rest")}
    return shares | {"of ceiling": None if work.reached is None else _percent(work.reached)}


def _percent(share: float) -> float:
    return round(100 * share, 1)
