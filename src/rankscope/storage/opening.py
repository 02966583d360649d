"""How a store's folder is opened: who may write, and which SQLite. In: a folder. Out: a lock, an engine.

Knows nothing about what the store holds.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout
from sqlalchemy import URL, Engine, create_engine, event

from rankscope.errors import StoreError

LEAST_FREE = 64 * 1024
"""Bytes; SQLite's shared memory grows by 32 KiB."""


def lock(folder: Path) -> FileLock:
    """The one writer's lock, and the folder made for it. Raises StoreError: in use, or no place for a store."""
    held, note = FileLock(folder / ".lock"), folder / ".lock.pid"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.acquire(timeout=0)
    except Timeout as error:
        pid = (note.read_text() if note.is_file() else "") or "unknown"
        hint = "Wait for it, or give another --store; to watch it: rankscope status STUDY"
        raise StoreError(f"this store is in use by process {pid}", where=str(folder), hint=hint) from error
    except OSError as error:
        raise StoreError(f"this folder can't be a store: {error.strerror}", where=str(folder),
                         hint="Give another --store") from error  # fmt: skip
    with suppress(OSError):  # a courtesy to whoever finds the store in use; a full disk shows itself later
        note.write_text(str(os.getpid()))
    return held


def engine_of(folder: Path, write: bool) -> Engine:
    """SQLite on the folder's database. Where not even SQLite itself can write, a reader takes the bare file."""
    path, query = str(folder / "rankscope.db"), {}
    log = folder / "rankscope.db-wal"
    has_log = log.is_file() and log.stat().st_size > 0
    is_full = shutil.disk_usage(folder).free < LEAST_FREE and not has_log
    # The bare file lacks what is only in the log: with a log SQLite reads both, or says that it can't.
    if not write and (is_full or (not os.access(folder, os.W_OK) and not has_log)):
        path, query = "file:" + quote(path), {"immutable": "1", "uri": "true"}
    engine = create_engine(URL.create("sqlite", database=path, query=query))
    event.listen(engine, "connect", _writer_pragmas if write else _pragmas)
    return engine


def _writer_pragmas(connection: Any, record: Any) -> None:
    _pragmas(connection, record)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def _pragmas(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA busy_timeout = 10000")
