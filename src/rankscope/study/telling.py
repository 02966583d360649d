"""The progress of a study, told twice: to whoever gave a console, and in the store's file for those who watch.

In: the six calls of a console (``cli.console``), and which runs they are about. Out: the same calls, and at most one
small file a second. Knows nothing about what is measured. No torch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankscope.storage.watching import Now, clear_now, write_now

EVERY = 1.0
"""Seconds between two files."""
POINTS = 160
"""Most losses in a file; when there are more, every second step is left out."""


class Teller:
    """A console for the engine. ``inner`` is the user's own, or None. A context manager: the file is gone at its end.

    ``is_read``: whether anybody reads what is printed, so that tables are worth making.
    """

    def __init__(self, inner: Any, cache: Path, study: str, clock: Callable[[], float] = time.time):
        self.inner, self.is_read, self._cache, self._clock = inner, inner is not None, cache, clock
        self._now = Now(study)
        self._study, self._stride, self._said = study, 1, 0.0
        self._runs: tuple[str, ...] = ()

    def __enter__(self) -> Teller:
        self._write()
        return self

    def __exit__(self, *_: object) -> None:
        clear_now(self._cache)

    def about(self, runs: Iterable[str]) -> None:
        """Keys of the runs that the next piece of work is about."""
        self._runs = tuple(runs)

    def stage(self, text: str) -> None:
        if self.is_read:
            self.inner.stage(text)

    def start(self, name: str, total: int, unit: str) -> None:
        if self.is_read:
            self.inner.start(name, total, unit)
        at, self._stride = self._clock(), 1
        self._now = Now(self._study, name, unit, 0, total, 0, at, at, self._runs)
        self._write()

    def advance(self, name: str, n: int = 1, **info: Any) -> None:
        if self.is_read:
            self.inner.advance(name, n, **info)
        if name != self._now.work:
            return
        now, at = self._now, self._clock()
        # What the first call brings of a resumed run was done before; its own share of it can't be told apart.
        first = n if not now.done and n > 1 and now.unit == "steps" else now.first
        done = now.done + n
        began = at if first != now.first else now.began
        self._now = replace(now, done=done, first=first, began=began, told=at, losses=self._losses(done, info))
        if at - self._said >= EVERY:
            self._write()

    def finish(self, name: str) -> None:
        if self.is_read:
            self.inner.finish(name)
        if name == self._now.work:
            self._now, self._runs = Now(self._study), ()
            self._write()

    def note(self, text: str) -> None:
        if self.is_read:
            self.inner.note(text)

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self.is_read:
            self.inner.table(rows)

    def _losses(self, step: int, info: Mapping[str, Any]) -> tuple[tuple[int, float], ...]:
        known, loss = self._now.losses, info.get("loss")
        if loss is None or not math.isfinite(loss) or step % self._stride:
            return known
        if len(known) >= POINTS:
            self._stride *= 2
            known = tuple(point for point in known if not point[0] % self._stride)
        if step % self._stride:
            return known
        return (*known, (step, round(float(loss), 5)))

    def _write(self) -> None:
        self._said = self._clock()
        write_now(self._cache, self._now)
