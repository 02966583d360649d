"""Left singular vectors and singular values of a base's weights, worked out once and kept. In: a weight, and where to
keep them. Out: a ``BaseSpectrum``.

They depend on the base alone, and every run of a study is held against them. A file that is damaged, or is of another
shape, is worked out again; without a folder nothing is kept. Knows nothing about updates.

Legend: D inputs, O outputs, K number of singular values, min(O, D).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Float32
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rankscope.analysis.spectra import finite
from rankscope.models.files import save
from rankscope.provenance import content_key


@dataclass(frozen=True)
class BaseSpectrum:
    """The reduced SVD of a weight without its right vectors, largest first, in float32 as the definition asks."""

    left: Float32[Tensor, "O K"]
    values: Float32[Tensor, " K"]


def decomposed(weight: Float[Tensor, "O D"]) -> BaseSpectrum:
    """The spectrum of a weight. Raises ModelError if it is NaN or infinite."""
    left, values, _ = torch.linalg.svd(finite(weight.detach().float()), full_matrices=False)
    return BaseSpectrum(left, values)


def kept(weight: Float[Tensor, "O D"], folder: Path | None, base_key: str, module: str) -> BaseSpectrum:
    """The spectrum of a base's module: from its file in ``folder``, or worked out and put there.

    ``base_key`` hashes the base's content; empty (a model made in memory), nothing is kept.
    """
    if folder is None or not base_key:
        return decomposed(weight)
    path = folder / f"{content_key(['left', base_key, module, str(weight.dtype)])}.safetensors"
    if (found := _read(path, weight)) is not None:
        return found
    spectrum = decomposed(weight)
    _write(path, spectrum)
    return spectrum


def _read(path: Path, weight: Tensor) -> BaseSpectrum | None:
    """What the file holds; None if there is none, it is damaged, or it isn't of this weight's shape."""
    try:
        with safe_open(path, framework="pt") as file:
            left, values = file.get_tensor("left"), file.get_tensor("values")
    except (OSError, SafetensorError):
        return None
    size = min(weight.shape)
    fits = left.shape == (len(weight), size) and values.shape == (size,)
    return BaseSpectrum(left.to(weight.device), values.to(weight.device)) if fits else None


def _write(path: Path, spectrum: BaseSpectrum) -> None:
    """To a name of this process's own first, so that another one never reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}.new")
    try:
        save({"left": spectrum.left, "values": spectrum.values}, new)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
