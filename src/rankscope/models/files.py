"""Writing weights. In: named tensors and a path. Out: one safetensors file, or an OSError that says why not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """``save_file`` whose failures are plain: safetensors wraps a full disk into an error of its own."""
    try:
        save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, path, metadata)
    except SafetensorError as error:
        number = errno.ENOSPC if "os error 28" in str(error) or "No space left" in str(error) else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
