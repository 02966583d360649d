"""A trained adapter as it lies in a store. In: its file and its run. Out: a folder that PEFT or transformers loads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rankscope.records import RunSpec


@dataclass(frozen=True)
class StoredAdapter:
    """One trained adapter as it lies in the store, and the run that made it."""

    path: Path
    spec: RunSpec

    def save(self, folder: str | Path) -> Path:
        """Write it as a folder that ``peft.PeftModel.from_pretrained`` and vLLM load."""
        from rankscope.models.adapter import export_adapter

        export_adapter(self.path, Path(folder))
        return Path(folder)

    def save_merged(self, folder: str | Path) -> Path:
        """Write the whole model with the update added to its weights, as a folder that transformers loads.

        Reads the base's weights. Raises ModelError for a base in 4 bits.
        """
        from rankscope.study.weights import merge

        merge(self.spec, self.path, Path(folder))
        return Path(folder)
