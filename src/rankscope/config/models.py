"""The entries under ``models`` of a study file. In: plain data. Out: ``ModelRef``, keys not filled in. No weights."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Strict, StringConstraints, ValidationInfo, field_validator, model_validator

from rankscope.config.arms import Section, near
from rankscope.records import ModelRef

DEMO = "demo"
"""The model id that means the bundled model, whatever lies beside the study file."""

Text = Annotated[str, Strict(), StringConstraints(min_length=1, strip_whitespace=True)]


class ModelEntry(Section):
    """One model. Written short as its id."""

    id: Text
    revision: Text | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    label: Text | None = None
    quantization: Literal["nf4", "fp4"] | None = None
    trust_remote_code: Annotated[bool, Strict()] = False

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return {"id": value} if isinstance(value, str) else value

    @field_validator("id")
    @classmethod
    def _beside_the_file(cls, value: str, info: ValidationInfo) -> str:
        if value == DEMO:
            return value
        path = near_file(value, info)
        if os.path.isdir(path) or (os.path.isfile(path) and path.endswith(".gguf")):
            return path
        if value.endswith(".gguf") or value.startswith(("./", "../", "~", "/")):
            raise ValueError(f"no such model folder or .gguf file (got {value!r})")
        return value

    def record(self) -> ModelRef:
        return ModelRef(
            id=self.id,
            revision=self.revision,
            dtype=self.dtype,
            label=self.label,
            quantization=self.quantization,
            trust_remote_code=self.trust_remote_code,
        )


def near_file(value: str, info: ValidationInfo) -> str:
    """A path as seen from the study file's folder."""
    return near(value, (info.context or {}).get("folder", ""))
