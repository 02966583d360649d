"""One task of a study file: its name, how it is asked, and its own options. In: what stands there. Out: a ``TaskRef``.

Knows the names of the tasks on the shelf; knows nothing about rows.
"""

from __future__ import annotations

import difflib
import os
from typing import Any

from pydantic import ConfigDict, ValidationInfo, field_validator, model_validator

from rankscope import plugins
from rankscope.config.arms import Name, Natural, Positive, Section, listed
from rankscope.config.models import Text, near_file
from rankscope.config.places import bridged_task, label_of
from rankscope.records import Skill, TaskRef


class TaskEntry(Section):
    """One task. Written short as its name; keys that aren't named here are the task's own options."""

    model_config = ConfigDict(extra="allow")

    task: Text
    limit: Positive | None = None
    form: Text = "default"
    shots: Natural = 0
    name: Name | None = None
    skill: Skill | None = None

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return {"task": value} if isinstance(value, str) else value

    @field_validator("task")
    @classmethod
    def _exists(cls, value: str, info: ValidationInfo) -> str:
        if parts := plugins.bridge_parts(value):
            return bridged_task(*parts, (info.context or {}).get("folder", ""))
        file, at, attribute = value.rpartition("@")
        if at:
            if not os.path.isfile(path := near_file(file, info)):
                raise ValueError(f"no such task file {file!r}")
            return f"{path}@{attribute}"
        known = (info.context or {}).get("tasks") or plugins.names("tasks")
        if value not in known:
            near = plugins.did_you_mean(value, known) or "."
            raise ValueError(f"no task named {value!r}{near} See: rankscope list tasks")
        return value

    @model_validator(mode="after")
    def _options_are_plain(self, info: ValidationInfo) -> TaskEntry:
        options = self.model_extra or {}
        for key, value in options.items():
            if near := difflib.get_close_matches(key, type(self).model_fields, n=1, cutoff=0.75):
                raise ValueError(f"unknown key {key!r}. Did you mean {near[0]!r}?")
            if not all(isinstance(v, str | int | float | None) for v in listed(value)):
                raise ValueError(f"the option {key!r} must be a plain value or a list of plain values")
            # A bridge's options are words of its library, never files; asking it would load that library.
            is_ours = not plugins.bridge_parts(self.task)
            if is_ours and isinstance(value, str) and (path := self._file(key, value, info)):
                options[key] = path
        return self

    def _file(self, key: str, value: str, info: ValidationInfo) -> str | None:
        """An option as a path, or ``PATH@NAME``; None if it isn't one: a column may be called like a file."""
        file, at, attribute = value.rpartition("@")
        if at:
            return f"{path}@{attribute}" if os.path.isfile(path := near_file(file, info)) else None
        if "@" not in self.task and key not in getattr(plugins.get("tasks", self.task), "files", ()):
            return None
        return path if os.path.isfile(path := near_file(value, info)) else None

    def record(self) -> TaskRef:
        """The reference, options sorted by name and lists as tuples.

        A task from a file is called by its attribute, a bridge's from a file by the file's name.
        """
        pairs = sorted((self.model_extra or {}).items())
        options = tuple((key, tuple(value) if isinstance(value, list) else value) for key, value in pairs)
        label = self.name or label_of(self.task)
        return TaskRef(self.task, form=self.form, shots=self.shots, limit=self.limit, options=options, label=label)
