"""Checkpoints that a kill can't corrupt. In: tensors and a small JSON state. Out: one file, replaced atomically.

Tensors and state lie in one safetensors file (the state in its metadata), written beside the old one, flushed to disk,
then renamed over it: at any moment there is one whole checkpoint or none. Knows nothing about what it keeps.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from rankscope.models.files import save

_FILE = "checkpoint.safetensors"


def write(folder: Path, tensors: dict[str, Tensor], state: dict) -> None:
    """Replace the folder's checkpoint. Raises OSError when the disk is full; the old one is then still whole."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / (_FILE + ".new")
    save(tensors, new, {"state": json.dumps(state)})
    with open(new, "rb") as file:
        os.fsync(file.fileno())
    os.replace(new, folder / _FILE)


def read(folder: Path) -> tuple[dict[str, Tensor], dict] | None:
    """The folder's checkpoint; None if there is none that can be read (a run then starts anew)."""
    try:
        with safe_open(folder / _FILE, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            return {k: file.get_tensor(k) for k in file.keys()}, state  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
