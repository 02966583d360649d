"""An adapter written again with other factors. In: a ``Given``, an update for each of its modules. Out: a PEFT folder.

Ranks and scales may differ between modules: ``rank_pattern`` and ``alpha_pattern`` say so. All else (types of tensors,
modules saved whole, trained biases, other settings) stays as it was. Format and reference: huggingface/peft
``LoraConfig``. Knows nothing about how the factors were chosen.

Legend: R rank, D inputs, O outputs.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

from rankscope.errors import ModelError
from rankscope.models.adapter import read_tensors, write_folder
from rankscope.models.delta import FactoredDelta
from rankscope.models.given import Given


def write_again(given: Given, pieces: dict[str, FactoredDelta], folder: Path) -> None:
    """Write the adapter with these pieces in place of its own. Raises ModelError if a type can't hold the factors."""
    tensors, _ = read_tensors(given.folder / "adapter_model.safetensors")
    for module, piece in pieces.items():
        for key, factor in ((f"{module}.lora_A.weight", piece.a), (f"{module}.lora_B.weight", piece.b)):
            tensors[key] = factor.to(tensors[key].dtype)
            if not bool(tensors[key].isfinite().all()):
                raise ModelError(f"{key} is too large for the type that it is stored in", got=str(tensors[key].dtype),
                                 where=str(given.folder))  # fmt: skip
    config = json.loads((given.folder / "adapter_config.json").read_text(encoding="utf-8"))
    write_folder(folder, tensors, json.dumps(config | settings(pieces), indent=2, sort_keys=True))


def settings(pieces: dict[str, FactoredDelta]) -> dict[str, object]:
    """What a LoraConfig has to say for each module to have its rank and scale.

    ``r`` is the largest rank and ``lora_alpha / r`` the commonest scale, so that readers of the two alone are right
    where scales agree.
    """
    rank = max(piece.rank for piece in pieces.values())
    (scale, _), *_ = Counter(piece.scale for piece in pieces.values()).most_common(1)
    alpha, alphas = _tidy(scale * rank), {name: _tidy(piece.scale * piece.rank) for name, piece in pieces.items()}
    return {
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": False,
        "rank_pattern": {name: piece.rank for name, piece in pieces.items() if piece.rank != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "init_lora_weights": True,  # how the first factors were drawn says nothing about these
    }


def at_scale(piece: FactoredDelta, scale: float) -> FactoredDelta:
    """The same update at another scale; the change is shared between the factors."""
    ratio = math.sqrt(piece.scale / scale)
    return FactoredDelta(piece.a * ratio, piece.b * ratio, scale)


def _tidy(alpha: float) -> float | int:
    """A whole number as such: scales are quotients, so that an alpha of 16 may come back as 16.000000000000004."""
    return round(alpha) if math.isclose(alpha, round(alpha), rel_tol=1e-12) else alpha
