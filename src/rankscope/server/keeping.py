"""What the live page shows, made again when the store has changed. In: a store's folder. Out: the last one made.

Making a page takes seconds. One thread makes one thing at a time; who asks gets what was made last, and the thread
rests for longer than it worked, so that a study that runs meanwhile keeps its processor. Nobody asks: nothing is made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankscope.errors import RankscopeError
from rankscope.storage.store import Store
from rankscope.storage.watching import Now, StoredStudy, read_now

REST = 2.0
"""How long the thread rests, in times of what the last making of the same thing took."""
_LEAST, _MOST = 1.0, 60.0  # seconds of rest


@dataclass(frozen=True)
class Made:
    """A thing made from the store as it was at ``version``; or the ``problem`` that kept it from being made."""

    version: str
    thing: Any = None
    problem: str = ""


def start(work: Callable[[], None]) -> None:
    """In a thread that keeps no stopped server waiting for the page that it makes."""
    threading.Thread(target=work, name="rankscope-page", daemon=True).start()


class Fresh:
    """One thing, made by ``make`` (a version in, a `Made` out) whenever ``turn`` is free. Thread-safe."""

    def __init__(self, turn: Any, make: Callable[[str], Made], start: Callable[[Callable[[], None]], None] = start):
        self._turn, self._make, self._start, self._lock = turn, make, start, threading.Lock()
        self._made: Made | None = None
        self._is_at_work, self._is_there = False, threading.Event()
        self._rests_until = 0.0

    def get(self, version: str, patience: float = 0.0) -> Made | None:
        """The last one made; asks for a new one if the store has changed since, or it could not be made.

        Waits only where there is none yet.
        """
        with self._lock:
            # What kept it from being made may be over (a folder is back) without the store having changed.
            is_stale = self._made is None or self._made.version != version or bool(self._made.problem)
            is_asked = is_stale and not self._is_at_work and time.monotonic() >= self._rests_until
            self._is_at_work |= is_asked
        if is_asked:
            self._start(lambda: self.work(version))
        if patience:
            self._is_there.wait(patience)
        with self._lock:
            return self._made

    def work(self, version: str) -> None:
        """Make it, when it is its turn. Of an error that nobody foresaw the page says so, and the server goes on."""
        made = Made(version, problem="it can't be shown: a bug in rankscope. The terminal has more")
        with self._turn:
            began = time.monotonic()
            try:
                made = self._make(version)
            finally:
                ended = time.monotonic()
                with self._lock:
                    self._made, self._is_at_work = made, False
                    self._rests_until = ended + min(_MOST, max(_LEAST, REST * (ended - began)))
                self._is_there.set()


class Keeper:
    """A store's studies with their tallies and pages. ``opened`` gives what is asked of a study: a ``Study``.

    ``page`` turns its view, its key and a version into what is sent.
    """

    def __init__(self, folder: Path, opened: Callable[[StoredStudy], Any], page: Callable[[Any, str, str], Any]):
        self.folder, self._opened, self._page = folder, opened, page
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._known: dict[tuple[str, str], Fresh] = {}
        self._studies: dict[str, tuple[StoredStudy, Any]] = {}

    def studies(self) -> tuple[str, list[StoredStudy]]:
        """The store's version and its studies. Raises StoreError if it can't be read."""
        with Store.open(self.folder, write=False) as store:
            return store.version(), store.studies()

    def now(self) -> Now | None:
        return read_now(self.folder / "cache")

    def tally(self, study: StoredStudy, version: str) -> Made | None:
        return self._fresh("tally", study).get(version)

    def page(self, study: StoredStudy, version: str, patience: float = 0.0) -> Made | None:
        return self._fresh("page", study).get(version, patience)

    def _fresh(self, what: str, study: StoredStudy) -> Fresh:
        with self._lock:
            if (what, study.key) not in self._known:
                make = self._make_page if what == "page" else self._make_tally
                self._known[what, study.key] = Fresh(self._turn, lambda version: self._tried(make, study.key, version))
            if self._studies.get(study.key, (None,))[0] != study:  # run again, perhaps from elsewhere
                self._studies[study.key] = (study, None)
            return self._known[what, study.key]

    def _tried(self, make: Callable[[Any, str, str], Any], key: str, version: str) -> Made:
        row, found = self._studies[key]
        try:
            if found is None:
                found = self._opened(row)
                self._studies[key] = (row, found)
            return Made(version, make(found, key, version))
        except (RankscopeError, OSError) as error:
            return Made(version, problem=_without_places(str(error), row))

    def _make_tally(self, study: Any, key: str, version: str) -> Any:
        return study.tally(self.folder)

    def _make_page(self, study: Any, key: str, version: str) -> Any:
        return self._page(study.result(self.folder).full_view(), key, version)


def _without_places(text: str, row: StoredStudy) -> str:
    """A message without this machine's folders: paths as the study file has them."""
    for place in filter(None, row.place.values()):
        text = text.replace(f"{place}/", "").replace(str(place), "the data folder")
    return text
