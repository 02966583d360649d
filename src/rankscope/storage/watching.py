"""What a store tells its readers beside results: which studies were run here, and what the writer does right now.

In: a store's folder. Out: `StoredStudy`, `Now`. ``Now`` is a small file in the store's cache, replaced as a whole; that
of a process which is gone says nothing. Speaks no SQL.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from rankscope.provenance import canonical_json

_FILE = "now.json"


@dataclass(frozen=True)
class StoredStudy:
    """One declaration as it was last run. ``place`` (this machine's ``folder`` and ``data_dir``; empty in stores of
    older versions) finds its models and rows again, and is on no page and in no export. ``created``: UTC, ISO 8601.
    """

    key: str
    name: str
    config: dict[str, Any]
    place: dict[str, Any] = field(default_factory=dict)
    created: str = ""

    @property
    def title(self) -> str:
        return str(self.config.get("title") or self.name)


@dataclass(frozen=True)
class Now:
    """One piece of work that goes on: ``work`` as people read it, ``done`` of ``total`` ``unit`` since ``began``.

    ``runs`` are the keys of the runs it is about. ``first`` of the units were done before: a resumed run's steps.
    ``losses`` are (step, mean training loss of these runs), thinned; they are of no finished run. ``began`` and
    ``told`` are seconds since 1970. Without ``work``: the process is between two.
    """

    study: str
    work: str = ""
    unit: str = ""
    done: int = 0
    total: int = 0
    first: int = 0
    began: float = 0.0
    told: float = 0.0
    runs: tuple[str, ...] = ()
    losses: tuple[tuple[int, float], ...] = ()

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest of this piece takes at its own pace; None before there is one."""
        seconds, units = self.told - self.began, self.done - self.first
        return (self.total - self.done) * seconds / units if seconds > 0 and units > 0 else None


def write_now(cache: Path, now: Now) -> None:
    """Tell it to readers. A disk that is full shows itself elsewhere: nothing is raised for a courtesy."""
    own = psutil.Process()
    new = cache / f"{_FILE}.new"
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        new.write_text(canonical_json({"pid": own.pid, "started": own.create_time(), "now": now}), encoding="utf-8")
        os.replace(new, cache / _FILE)


def clear_now(cache: Path) -> None:
    with suppress(OSError):
        (cache / _FILE).unlink(missing_ok=True)


def read_now(cache: Path) -> Now | None:
    """What the writer does; None if there is none, also where it was killed and its file is still there."""
    try:
        found = json.loads((cache / _FILE).read_text(encoding="utf-8"))
        told, process = found["now"], psutil.Process(int(found["pid"]))
        # A number is given to another process one day; when that began is not the same.
        if abs(process.create_time() - found["started"]) > 1 or process.status() == psutil.STATUS_ZOMBIE:
            return None
        told |= {"runs": tuple(told["runs"]), "losses": tuple((int(s), float(x)) for s, x in told["losses"])}
        return Now(**told)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, psutil.Error):
        return None
