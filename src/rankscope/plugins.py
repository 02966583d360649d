"""Plug-ins by name, on demand. In: a kind and a name. Out: the object a plug-in file declares as ``PLUGIN``.

Three places are looked in: the shelf (``rankscope.library.<kind>.<name>``), packages that declare an entry point in
group ``rankscope.plugins`` named ``<kind>.<name>``, and ``path/to/file.py@name`` (an attribute of that file). The
shelf's files import no torch, so listing them is cheap. Knows nothing about what a plug-in does.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from importlib import metadata
from pathlib import Path
from typing import Any

from rankscope.errors import PluginError

KINDS = ("tasks", "scorers", "diagnostics", "mitigations")
GROUP = "rankscope.plugins"


def names(kind: str) -> list[str]:
    """Names of all plug-ins of a kind, sorted. Raises PluginError on an unknown kind."""
    return sorted({*_shelf(kind), *_entry_points(kind)})


def get(kind: str, name: str) -> Any:
    """The plug-in called ``name``. Raises PluginError with the nearest name if there is none."""
    if "@" in name:
        return _from_file(kind, name)
    if name in _shelf(kind):
        return _declared(importlib.import_module(f"rankscope.library.{kind}.{name}"), kind, name)
    if point := _entry_points(kind).get(name):
        loaded = point.load()
        return getattr(loaded, "PLUGIN", loaded)
    raise PluginError(f"no {kind.rstrip('s')} named {name!r}{did_you_mean(name, names(kind))}",
                      hint=f"See: rankscope list {kind}")  # fmt: skip


def did_you_mean(name: str, known: list[str] | tuple[str, ...]) -> str:
    """'. Did you mean ...?' with the nearest known name, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f". Did you mean {near[0]!r}?" if near else ""


def _shelf(kind: str) -> set[str]:
    if kind not in KINDS:
        raise PluginError(f"no kind of plug-in named {kind!r}{did_you_mean(kind, KINDS)}",
                          hint=f"Kinds: {', '.join(KINDS)}")  # fmt: skip
    folder = Path(__file__).parent / "library" / kind
    return {m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_")}


def _entry_points(kind: str) -> dict[str, metadata.EntryPoint]:
    prefix = kind + "."
    return {p.name[len(prefix) :]: p for p in metadata.entry_points(group=GROUP) if p.name.startswith(prefix)}


def _declared(module: Any, kind: str, name: str) -> Any:
    if not hasattr(module, "PLUGIN"):
        raise PluginError(f"the {kind.rstrip('s')} {name!r} declares no PLUGIN", where=str(module.__file__))
    return module.PLUGIN


def _from_file(kind: str, name: str) -> Any:
    path, _, attribute = name.rpartition("@")
    file = Path(path)
    if not file.is_file():
        raise PluginError(f"no such file for {kind.rstrip('s')} {name!r}", got=path)
    spec = importlib.util.spec_from_file_location(f"rankscope_user_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, attribute):
        raise PluginError(f"{file.name} has no {attribute!r}{did_you_mean(attribute, dir(module))}", where=str(file))
    return getattr(module, attribute)
