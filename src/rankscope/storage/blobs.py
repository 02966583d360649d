"""Weights as files named by key, written atomically. In: a key and a writer. Out: a whole file or none."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rankscope.clock import Clock
from rankscope.errors import StoreError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a full disk, and of a used-up quota."""


class Blobs:
    """``<folder>/<key[:2]>/<key>.safetensors``. Temporary files end in ``.new`` and never count as blobs."""

    def __init__(self, folder: Path, clock: Clock | None = None):
        self.folder, self._clock = folder, clock or Clock()

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        return self.path(key).is_file()

    def size(self, key: str) -> int:
        return self.path(key).stat().st_size if self.has(key) else 0

    def keys(self) -> list[str]:
        return sorted(p.stem for p in self.folder.glob("*/*.safetensors"))

    def remove(self, key: str) -> None:
        self.path(key).unlink(missing_ok=True)

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """A path to write to; flushed and renamed into place on success, removed on failure.

        Raises StoreError on a full disk.
        """
        target = self.path(key)
        new = target.with_suffix(".new")
        try:
            with self._clock.stage("writing"):
                target.parent.mkdir(parents=True, exist_ok=True)
                yield new
                with open(new, "rb") as file:
                    os.fsync(file.fileno())
                os.replace(new, target)
        except OSError as error:
            if error.errno in FULL:
                raise full_disk(self.folder) from error
            raise
        finally:
            new.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what a killed process left half-written."""
        for stale in self.folder.glob("*/*.new"):
            stale.unlink(missing_ok=True)


def full_disk(where: Path) -> StoreError:
    return StoreError("the disk is full; what was stored before is whole", where=str(where),
                      hint="Free space (see: rankscope gc), then run the same command again")  # fmt: skip
