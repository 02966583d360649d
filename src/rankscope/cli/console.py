"""What people read: progress on stderr, tables as text. Knows nothing about studies; rows are dicts, values plain.

On a terminal, progress is one live line per piece of work (rich). Elsewhere it is plain lines, at most one every few
seconds, so that a log file stays readable. Standard output is never written here.

Both consoles have the six methods that a study calls while it runs: ``stage(text)``, ``start(name, total, unit)``,
``advance(name, n, **info)``, ``finish(name)``, ``note(text)`` and ``table(rows)``. ``unit`` is a plural noun ('steps'),
``n`` counts since the last call, ``info`` are numbers worth seeing (loss, rate).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


class PlainConsole:
    """Progress as lines of text. A context manager like ``LiveConsole``, with nothing to clean up."""

    def __init__(self, stream: TextIO | None = None, every_seconds: float = 10.0):
        self._stream = stream
        self._every = every_seconds
        self._work: dict[str, _Work] = {}

    def __enter__(self) -> PlainConsole:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def stage(self, text: str) -> None:
        self._print(text)

    def start(self, name: str, total: int, unit: str) -> None:
        self._work[name] = _Work(total, unit)

    def advance(self, name: str, n: int = 1, **info: Any) -> None:
        work = self._work.setdefault(name, _Work(0, ""))
        work.first = work.first or n
        work.done += n
        now = time.monotonic()
        if now - work.said >= self._every:
            work.said = now
            self._print(f"  {name}: {work}{_info(info)}{work.pace()}")

    def finish(self, name: str) -> None:
        work = self._work.pop(name, None)
        if work is not None:
            self._print(f"  {name}: {work} in {duration(time.monotonic() - work.began)}")

    def note(self, text: str) -> None:
        self._print(text)

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._print(format_table(rows))

    def _print(self, text: str) -> None:
        # Looked up on each call: a stream kept from the start would miss a redirection.
        print(text, file=self._stream or sys.stderr, flush=True)


class LiveConsole:
    """Progress as bars on a terminal. Use as a context manager: leaving it restores the terminal."""

    def __init__(self, stream: TextIO | None = None):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        class _Rate(ProgressColumn):
            def render(self, task: Any) -> Text:
                return Text(f"{task.speed:.3g}/s" if task.speed else "")

        # Names hold brackets, which rich would read as markup.
        plain = {"markup": False}
        self._progress: RichProgress = Progress(
            TextColumn("{task.description}", **plain),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}{task.fields[info]}", **plain),
            _Rate(),
            TimeRemainingColumn(),
            console=Console(file=stream or sys.stderr, highlight=False, markup=False),
            transient=True,
        )
        self._ids: dict[str, Any] = {}

    def __enter__(self) -> LiveConsole:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def stage(self, text: str) -> None:
        self._progress.console.print(text)

    def start(self, name: str, total: int, unit: str) -> None:
        self.finish(name)
        self._ids[name] = self._progress.add_task(name, total=total, unit=unit, info="")

    def advance(self, name: str, n: int = 1, **info: Any) -> None:
        if name in self._ids:
            self._progress.update(self._ids[name], advance=n, info=_info(info))

    def finish(self, name: str) -> None:
        if name in self._ids:
            self._progress.remove_task(self._ids.pop(name))

    def note(self, text: str) -> None:
        self._progress.console.print(text)

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._progress.console.print(format_table(rows), soft_wrap=True)


class _Work:
    """How far one piece of work has come."""

    def __init__(self, total: int, unit: str):
        self.total, self.unit, self.done = total, unit, 0
        self.first = 0  # what the first report brings was done before the clock started: a resumed run's steps
        self.began = self.said = time.monotonic()

    def __str__(self) -> str:
        of = f"/{self.total}" if self.total else ""
        return f"{self.done}{of} {self.unit}".rstrip()

    def pace(self) -> str:
        """Rate so far and the time that the rest takes at it."""
        seconds = time.monotonic() - self.began
        if seconds <= 0 or self.done <= self.first:
            return ""
        rate = (self.done - self.first) / seconds
        left = f", {duration((self.total - self.done) / rate)} left" if self.total > self.done else ""
        return f"  {rate:.3g}/s{left}"


def open_console(is_quiet: bool = False) -> PlainConsole | LiveConsole | None:
    """The console that suits stderr, or None if nothing should be said."""
    if is_quiet:
        return None
    return LiveConsole() if sys.stderr.isatty() else PlainConsole()


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as aligned text: a header from the keys (of all rows, first seen first), numbers to the right."""
    if not rows:
        return "(nothing)"
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[cell(row.get(key)) for key in keys] for row in rows]
    widths = [max(len(key), *(len(line[i]) for line in cells)) for i, key in enumerate(keys)]
    is_number = [all(isinstance(row.get(key), int | float | None) for row in rows) for key in keys]

    def line(values: Sequence[str]) -> str:
        padded = (v.rjust(w) if right else v.ljust(w) for v, w, right in zip(values, widths, is_number, strict=True))
        return "  ".join(padded).rstrip()

    return "\n".join([line(keys), line(["-" * width for width in widths]), *map(line, cells)])


def cell(value: Any) -> str:
    """One value as people read it: four significant digits; an empty cell, never a zero, for what isn't there."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Seconds as ``48 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _info(info: Mapping[str, Any]) -> str:
    return "".join(f"  {key} {cell(value)}" for key, value in info.items() if value is not None)
