"""Writing weights. In: named tensors and a path. Out: one safetensors file, or an OSError that says why not."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """``save_file`` whose failures are plain: safetensors wraps a full disk into an error of its own."""
    try:
        save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, path, metadata)
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        number = int(found[1]) if found else errno.ENOSPC if "No space left" in str(error) else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
