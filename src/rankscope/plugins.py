"""Plug-ins by name, on demand. In: a kind and a name. Out: the object a plug-in file declares as ``PLUGIN``.

Three places are looked in: the shelf (``rankscope.library.<kind>.<name>``), packages that declare an entry point in
group ``rankscope.plugins`` named ``<kind>.<name>``, and ``path/to/file.py@name`` (an attribute of that file). A task
``bridge:rest`` is asked from the plug-in ``bridge`` of the kind ``bridges``: a function from the rest to the task. The
shelf's files import no torch, so listing them is cheap. A package or file that can't be imported is the user's to mend:
its error, whatever it is, becomes a PluginError that names it. Knows nothing about what a plug-in does.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from rankscope.errors import PluginError

KINDS = ("tasks", "scorers", "diagnostics", "mitigations", "bridges")
GROUP = "rankscope.plugins"
RENAMED = {"jsonl": "data"}
"""Plug-ins that had another name once."""


@dataclass(frozen=True)
class Origin:
    """Who a plug-in comes from: the shelf, a package with its version, or (``package`` empty) a file of the user.

    ``file`` holds its code: the module that the entry point names, or the user's file; None on the shelf.
    """

    package: str
    version: str = ""
    file: Path | None = None

    def __str__(self) -> str:
        return " ".join(part for part in (self.package, self.version) if part) or str(self.file)


SHELF = Origin("rankscope")


@dataclass(frozen=True)
class Listed:
    """One line of a listing. ``problem`` says why it can't be loaded; ``plugin`` is None then."""

    name: str
    origin: Origin
    plugin: Any = None
    problem: str = ""


def names(kind: str) -> list[str]:
    """Names of all plug-ins of a kind, sorted. Raises PluginError on an unknown kind."""
    return sorted({*_shelf(kind), *_entry_points(kind)})


def get(kind: str, name: str) -> Any:
    """The plug-in called ``name``. Raises PluginError with the nearest name if there is none.

    Also if its package or file can't be imported, lacks what is named, or shares the name with another package.
    """
    if kind == "tasks" and (parts := bridge_parts(name)):
        return get("bridges", parts[0])(parts[1])
    if "@" in name:
        return _from_file(kind, name)
    if name in _shelf(kind):
        return _declared(importlib.import_module(f"rankscope.library.{kind}.{name}"), kind, name)
    if (point := _entry_point(kind, name)) is not None:
        with _foreign(f"the package {_package(point)}", kind, name):
            loaded = point.load()
        return getattr(loaded, "PLUGIN", loaded)
    raise PluginError(f"no {kind.rstrip('s')} named {name!r}{did_you_mean(name, names(kind))}",
                      hint=f"See: rankscope list {kind}")  # fmt: skip


def origin(kind: str, name: str) -> Origin:
    """Where a plug-in comes from, for listings and keys. Loads it unless it is on the shelf; raises as ``get``.

    A task of a bridge comes from where the bridge does.
    """
    if kind == "tasks" and (parts := bridge_parts(name)):
        return origin("bridges", parts[0])
    if "@" in name:
        return Origin("", file=Path(name.rpartition("@")[0]))
    if name in _shelf(kind):
        return SHELF
    get(kind, name)
    point = _entry_point(kind, name)
    spec = importlib.util.find_spec(point.module)
    file = Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
    return Origin(_name_of(point), point.dist.version if point.dist else "", file)


def listing(kind: str) -> list[Listed]:
    """All plug-ins of a kind, sorted by name. One that can't be loaded is listed with its problem."""
    found = []
    for name in names(kind):
        try:
            found.append(Listed(name, origin(kind, name), get(kind, name)))
        except PluginError as error:
            packages = " and ".join(sorted(map(_package, _entry_points(kind).get(name, []))))
            found.append(Listed(name, Origin(packages or "rankscope"), problem=str(error)))
    return found


def bridge_parts(name: str) -> tuple[str, str] | None:
    """Bridge and rest of a task's name ``bridge:rest``; None if it is no such name (``C:\\my.py@task`` isn't)."""
    bridge, colon, rest = name.partition(":")
    return (bridge, rest) if colon and len(bridge) > 1 and bridge.isidentifier() else None


def did_you_mean(name: str, known: list[str] | tuple[str, ...]) -> str:
    """'. Did you mean ...?' with the nearest known name, or nothing."""
    if RENAMED.get(name) in known:
        return f". It is now called {RENAMED[name]!r}."
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f". Did you mean {near[0]!r}?" if near else ""


def _shelf(kind: str) -> set[str]:
    if kind not in KINDS:
        raise PluginError(f"no kind of plug-in named {kind!r}{did_you_mean(kind, KINDS)}",
                          hint=f"Kinds: {', '.join(KINDS)}")  # fmt: skip
    folder = os.path.join(os.path.dirname(__file__), "library", kind)
    return _modules(folder, os.stat(folder).st_mtime_ns) if os.path.isdir(folder) else set()


@lru_cache(maxsize=32)
def _modules(folder: str, changed: int) -> set[str]:
    """Read once for each state of the folder: a study's keys ask for their plug-ins thousands of times."""
    return {m.name for m in pkgutil.iter_modules([folder]) if not m.name.startswith("_")}


def _entry_points(kind: str) -> dict[str, list[metadata.EntryPoint]]:
    """The packages' entry points by name; more than one where packages quarrel about it."""
    prefix, found = kind + ".", {}
    for point in _installed(tuple(sys.path)):
        if point.name.startswith(prefix):
            found.setdefault(point.name[len(prefix) :], []).append(point)
    return found


@lru_cache(maxsize=4)
def _installed(path: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    """All entry points of the packages on the search path; read once, since it means opening every package's files."""
    return tuple(metadata.entry_points(group=GROUP))


def _entry_point(kind: str, name: str) -> metadata.EntryPoint | None:
    points = _entry_points(kind).get(name, [])
    if len(points) > 1:
        packages = ", ".join(sorted(map(_package, points)))
        raise PluginError(f"several packages declare the {kind.rstrip('s')} {name!r}", got=packages,
                          hint=f"Uninstall all but one. Next: pip uninstall {_name_of(points[0])}")  # fmt: skip
    return points[0] if points else None


def _name_of(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else point.module.partition(".")[0]


def _package(point: metadata.EntryPoint) -> str:
    return f"{_name_of(point)} {point.dist.version}" if point.dist else _name_of(point)


@contextmanager
def _foreign(owner: str, kind: str, name: str) -> Iterator[None]:
    """Code that isn't ours runs inside: whatever it raises when it is imported becomes a PluginError naming it."""
    try:
        yield
    except (Exception, SystemExit) as error:  # an import can raise anything; one bad package must not hide the others
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise PluginError(f"the {kind.rstrip('s')} {name!r} can't be loaded: {owner} raises "
                          f"{type(error).__name__}: {reason}", hint="Mend it or leave it out") from error  # fmt: skip


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
    if spec is None:
        raise PluginError(f"the file of {kind.rstrip('s')} {name!r} must be Python (.py)", got=path)
    module = importlib.util.module_from_spec(spec)
    with _foreign(f"the file {path}", kind, name):
        spec.loader.exec_module(module)
    if not hasattr(module, attribute):
        raise PluginError(f"{file.name} has no {attribute!r}{did_you_mean(attribute, dir(module))}", got=name)
    return getattr(module, attribute)
