"""Which code a plug-in is, for content keys. In: a kind and a name. Out: a name that changes when the code does.

A plug-in of the shelf is known by its name: its changes raise a version in ``study.plan``. One from a file is known by
that file's content, one from a package by the package's name, its version, and the content of the modules that hold it:
where the entry point leads, and where its functions are written. Other modules that these import count by the version.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rankscope import plugins
from rankscope.errors import PluginError
from rankscope.provenance import content_key, file_key


def code_name(kind: str, name: str) -> str:
    """The plug-in's name, or what stands for it in keys if its code isn't rankscope's. Raises PluginError."""
    origin = plugins.origin(kind, name)
    if origin is plugins.SHELF:
        return name
    if not origin.package:
        if not origin.file.is_file():
            raise PluginError(f"no such file for {kind.rstrip('s')} {name!r}", got=str(origin.file))
        return f"{file_key(origin.file)}@{name.rpartition('@')[2]}"
    files = {origin.file, *_homes(plugins.get(kind, name))} - {None}
    return f"{origin.package}=={origin.version}:{name}@{content_key(sorted(map(file_key, files)))}"


def _homes(plugin: Any) -> Iterator[Path]:
    """The files in which a plug-in's functions are written: a package may only pass them on from its front module."""
    for part in (plugin, *getattr(plugin, "__dict__", {}).values()):
        module = sys.modules.get(getattr(part, "__module__", "") or "")
        file = getattr(module, "__file__", None)
        if callable(part) and file and not module.__name__.startswith("rankscope."):
            yield Path(file)
