"""What a task's name says. In: a name or reference. Out: the name to go on with, how it is called, which are one task.

Knows nothing about what a file holds.
"""

from __future__ import annotations

import os

from rankscope import plugins
from rankscope.config.arms import near
from rankscope.errors import PluginError
from rankscope.records import TaskRef

_YAML = (".yaml", ".yml")


def bridged_task(bridge: str, rest: str, folder: str) -> str:
    """A task ``bridge:rest``, a file's path as seen from ``folder``. Whether the bridge knows the rest is asked later.

    Raises ValueError for an unknown bridge and for a YAML file that isn't there.
    """
    known = plugins.names("bridges")
    if bridge not in known:
        meant = plugins.did_you_mean(bridge, known) or "."
        raise ValueError(f"no bridge named {bridge!r}{meant} See: rankscope list bridges")
    path = near(rest, folder)
    if rest.endswith(_YAML) and not os.path.isfile(path):
        raise ValueError(f"no such task file {rest!r}")
    return f"{bridge}:{path if os.path.isfile(path) else rest}"


def label_of(task: str) -> str:
    """How a task whose name holds a path is called; nothing for the others."""
    if parts := plugins.bridge_parts(task):
        stem, ending = os.path.splitext(os.path.basename(parts[1]))
        return stem if ending in _YAML else ""
    return task.rpartition("@")[2] if "@" in task else ""


def is_same_task(one: TaskRef, other: TaskRef) -> bool:
    """Whether two entries ask the same rows the same way: form, shots, limit and scorer may differ."""
    if one.task != other.task:
        return False
    if one.options == other.options:
        return True
    try:
        scoring = getattr(plugins.get("tasks", one.task), "scoring", ())
    except PluginError:  # it is told where the task is looked up
        scoring = ()

    def asked(ref: TaskRef) -> list[tuple[str, object]]:
        return [(name, value) for name, value in ref.options if name not in scoring and value is not None]

    return asked(one) == asked(other)
