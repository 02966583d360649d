"""What a study file may say under ``diagnose``: which diagnostics, of which arms and seeds, with which options.

Knows what each diagnostic declares about its options; knows nothing about models or how anything is measured.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import ConfigDict, ValidationInfo, field_validator, model_validator

from rankscope import plugins
from rankscope.config.arms import Name, Positive, Section, Several
from rankscope.config.models import Text, near_file
from rankscope.errors import PluginError


class DiagnoseEntry(Section):
    """One diagnostic, written short as its name, or as ``{name: {options}}``.

    ``arms``: of which arms (None: of all); ``seeds``: of all runs or of the first seed's (None: as the diagnostic has
    it); ``prompts``: rows in each set of prompts. Keys that aren't named here are the diagnostic's own options.
    """

    model_config = ConfigDict(extra="allow")

    name: Text
    arms: Several[Name] | None = None
    seeds: Literal["all", "first"] | None = None
    prompts: Positive = 32

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and "name" not in value:
            if len(value) != 1:
                raise ValueError("a diagnostic is a name, or {name: {options}}, as in {attribution: {blocks: 6}}")
            ((name, more),) = value.items()
            if not isinstance(more, dict | None):
                raise ValueError(f"the options of {name!r} must have keys of their own")
            return {"name": name, **(more or {})}
        return value

    @field_validator("name")
    @classmethod
    def _exists(cls, value: str, info: ValidationInfo) -> str:
        file, at, attribute = value.rpartition("@")
        if at:
            if not os.path.isfile(path := near_file(file, info)):
                raise ValueError(f"no such file of a diagnostic {file!r}")
            value = f"{path}@{attribute}"
        try:
            plugins.get("diagnostics", value)
        except PluginError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _options_are_known(self) -> DiagnoseEntry:
        declared = plugins.get("diagnostics", self.name)
        for key, value in (self.model_extra or {}).items():
            if key not in declared.options:
                known = (*type(self).model_fields, *declared.options)
                near = plugins.did_you_mean(key, known) or f". Options: {', '.join(declared.options) or 'none'}"
                raise ValueError(f"{self.name} has no option {key!r}{near}")
            default = declared.options[key]
            if default is not None and not _is_like(value, default):
                raise ValueError(f"the option {key!r} must be like {default!r} (got {value!r})")
        if problems := declared.check(self.options()):
            raise ValueError(f"{self.label}: {'; '.join(problems)} (got {self.model_extra})")
        return self

    @property
    def label(self) -> str:
        """How the diagnostic is called: one from a file by its attribute."""
        return self.name.rpartition("@")[2]

    def options(self) -> dict[str, Any]:
        """Every option of the diagnostic, defaults filled in."""
        return {**plugins.get("diagnostics", self.name).options, **(self.model_extra or {})}


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value is of the kind of a default; a whole number will do for a float."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))
