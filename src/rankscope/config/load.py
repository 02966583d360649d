"""YAML to ``StudyConfig``. In: a path or a dict, and overrides. Out: the config, or an error that says where.

Every error names ``file:line: dotted.key[0]``, what is wrong, what was found and the nearest key. Knows about places
and documents; what the keys mean is in ``study`` and ``arms``, the sentences are in ``problems``.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rankscope import plugins
from rankscope.config.arms import NAME_PATTERN
from rankscope.config.problems import Loc, describe, dotted, trim
from rankscope.config.study import StudyConfig
from rankscope.errors import ConfigError

_LONGEST = 1_000_000  # characters of a study file
_DEEPEST = 50  # levels of a study file
_MOST_PARTS = 20_000  # values in it, aliases written out


class StudyFileError(ConfigError):
    """Several errors of one study file. ``errors`` are the single ones; the text has one line each."""

    def __init__(self, errors: Sequence[ConfigError]):
        self.errors = tuple(errors)
        super().__init__(errors[0].what, got=errors[0].got, where=errors[0].where, hint=errors[0].hint)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def load(path: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """The study in a YAML file. ``overrides`` are texts like ``training.epochs=2``; their values are YAML.

    Raises ConfigError, or StudyFileError if several things are wrong at once.
    """
    place = str(path)
    node, document = _parse(_read(Path(path)), place)
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", Path(path).stem)
    name = name if re.match(NAME_PATTERN, name) else "study"
    return _validated(document, overrides, folder=os.path.dirname(place), name=name, node=node, place=place)


def from_dict(document: dict[str, Any], overrides: Sequence[str] = (), folder: str | Path = "") -> StudyConfig:
    """The study in a dict of the same form, left as it is. Relative paths start at ``folder``. Raises as ``load``."""
    if not isinstance(document, dict):
        raise ConfigError("a study must be a dict", got=type(document).__name__)
    return _validated(copy.deepcopy(document), overrides, folder=str(folder), name="study")


def place(path: str | Path | None, loc: Loc, overrides: Sequence[str] = ()) -> str:
    """Where a part of a study was written: ``file:line: key``, or the override that set it; the key alone for a dict.

    For errors that are found only after loading. A part that the file leaves out is named by what is there of it.
    """
    if path is None:
        return dotted(loc)
    node, document = _parse(_read(Path(path)), str(path))
    original = copy.deepcopy(document)
    changes = [_override(document, text) for text in overrides]
    return _where(trim(loc, document), original, changes, node, str(path)) or str(path)


def _validated(
    document: dict[str, Any],
    overrides: Sequence[str],
    *,
    folder: str,
    name: str,
    node: yaml.Node | None = None,
    place: str = "",
) -> StudyConfig:
    original = copy.deepcopy(document) if overrides else document
    changes = [_override(document, text) for text in overrides]
    document.setdefault("name", name)
    context = {"folder": folder, "tasks": plugins.names("tasks")}
    try:
        return StudyConfig.model_validate(document, context=context)
    except ValidationError as error:
        problems = [describe(item, document) for item in error.errors(include_url=False)]
        if node is not None:
            problems.sort(key=lambda problem: line_of(node, problem.loc))
        found = [
            ConfigError(p.what, got=p.got, where=_where(p.loc, original, changes, node, place), hint=p.hint)
            for p in problems
        ]
        raise (found[0] if len(found) == 1 else StudyFileError(found)) from None


# ---- reading


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, but ``1e-4`` is a number (PyYAML wants ``1.0e-4``) and a date is text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if not tag.endswith(":timestamp")]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """PyYAML's, but deep nesting is an error at once: it takes quadratic time, and then the stack ends."""
        self.depth += 1
        if self.depth > _DEEPEST:
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=f"nested more than {_DEEPEST} levels deep", problem_mark=mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_document(path: str | Path, what: str, hint: str) -> tuple[yaml.Node, dict[str, Any]]:
    """The node tree and the document of a YAML file that is not a study. ``what`` it is; ``hint``: how to start one.

    Raises ConfigError as ``load`` does.
    """
    return _parse(_read(Path(path), what, hint), str(path), what, hint)


def _read(path: Path, kind: str = "study file", start: str = "To start one: rankscope init") -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise ConfigError(f"longer than any {kind}: over {_LONGEST:,} characters", where=str(path))
        return text
    except FileNotFoundError:
        raise ConfigError(f"no such {kind}", where=str(path), hint=start) from None
    except IsADirectoryError:
        if kind != "study file":
            raise ConfigError(f"a folder, not a {kind}", where=str(path), hint=start) from None
        inside = sorted(path.glob("study.yaml")) or sorted(path.glob("*.yaml"))
        hint = f"Did you mean {str(inside[0])!r}?" if inside else "To start one there: rankscope init " + str(path)
        raise ConfigError("a folder, not a study file", where=str(path), hint=hint) from None
    except UnicodeDecodeError:
        raise ConfigError("not a text file in UTF-8", where=str(path)) from None
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}", where=str(path)) from None


def _parse(
    text: str, place: str, kind: str = "study file", start: str = "To start one: rankscope init"
) -> tuple[yaml.Node, dict[str, Any]]:
    """The node tree (it has the line numbers) and the document. Raises ConfigError with the line."""
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"the {kind} is empty", where=place, hint=start)
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"a {kind} is a list of 'key: value' lines", where=f"{place}:{_line(node)}")
        _refuse_bombs(node, place)
        _refuse_repeated_keys(node, place, set())
        return node, loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = " ".join(part for part in (getattr(error, "problem", None), getattr(error, "context", None)) if part)
        what = what or str(error).splitlines()[0]
        raise ConfigError(f"not valid YAML: {what}", where=f"{place}:{mark.line + 1}" if mark else place) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not valid YAML: {str(error).splitlines()[0]}", where=place) from None
    finally:
        if loader is not None:
            loader.dispose()


def _refuse_bombs(root: yaml.Node, place: str) -> None:
    """Raises ConfigError where aliases, written out, make a document without end or of too many parts."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            if any("\ud800" <= character <= "\udfff" for character in node.value):
                raise ConfigError("half of a surrogate pair, which is no text", where=f"{place}:{_line(node)}")
            return 1
        if id(node) in open_nodes:
            raise ConfigError("this part contains itself, by an alias", where=f"{place}:{_line(node)}")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            children = node.value if isinstance(node, yaml.SequenceNode) else [n for pair in node.value for n in pair]
            sizes[id(node)] = 1 + sum(map(size, children))
            open_nodes.discard(id(node))
            if sizes[id(node)] > _MOST_PARTS:
                what = f"aliases make this part larger than any study: over {_MOST_PARTS:,} values"
                raise ConfigError(what, where=f"{place}:{_line(node)}")
        return sizes[id(node)]

    size(root)


def _refuse_repeated_keys(node: yaml.Node, place: str, seen: set[int]) -> None:
    """YAML lets the last of two equal keys win in silence; here it is an error. Raises ConfigError at the second."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_repeated_keys(child, place, seen)
        return
    lines: dict[str, int] = {}
    for key, child in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in lines and key.value != "<<":
                what = f"the key {key.value!r} is given twice, first on line {lines[key.value]}"
                raise ConfigError(what, where=f"{place}:{_line(key)}")
            lines[key.value] = _line(key)
        _refuse_repeated_keys(child, place, seen)


def _value(text: str, place: str) -> Any:
    """A value alone, under the rules of a whole file. Raises YAMLError, ValueError or ConfigError."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_bombs(node, place)
        return loader.construct_document(node)
    finally:
        loader.dispose()


# ---- places


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def line_of(root: yaml.Node, loc: Loc) -> int:
    """The line of the deepest part of ``loc`` that the file has: a key's own line, or an item's."""
    node, line = root, _line(root)
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = [(key, child) for key, child in node.value if key.value == str(part)]
            if not found:
                break
            line, node = _line(found[0][0]), found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = _line(node)
        else:
            break
    return line


def _where(
    loc: Loc, original: dict[str, Any], changes: list[tuple[Loc, str]], node: yaml.Node | None, place: str
) -> str | None:
    """``file:line: dotted.key``, or ``--set text: dotted.key`` if that is what put the value there."""
    key = dotted(loc)
    for path, text in reversed(changes):
        is_inside = loc[: len(path)] == path
        is_made_by_it = path[: len(loc)] == loc and trim(loc, original) != loc
        if is_inside or is_made_by_it:
            return f"--set {text}: {key}"
    if node is None:
        return key or None
    line = f"{place}:{line_of(node, loc)}"
    return f"{line}: {key}" if key else line


# ---- overrides


def _override(document: dict[str, Any], text: str) -> tuple[Loc, str]:
    """Set one value in place; missing sections on the way are made. Raises ConfigError if the way leads nowhere."""
    key, equals, value = text.partition("=")
    where = f"--set {text}"
    if not equals or not key.strip():
        raise ConfigError("an override is key=value", where=where, hint="For example: --set training.epochs=2")
    try:
        parsed = _value(value, where)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError("the value is not valid YAML", got=value, where=where) from None
    loc = tuple(int(p) if p.isdecimal() else p for p in re.sub(r"\[(\d+)\]", r".\1", key.strip()).split("."))
    target: Any = document
    for depth, part in enumerate(loc):
        so_far = dotted(loc[:depth]) or "the study"
        is_last = depth == len(loc) - 1
        if isinstance(target, list):
            if not isinstance(part, int) or part >= len(target):
                raise ConfigError(f"{so_far} is a list of {len(target)}; name an item, as in {so_far}[0]", where=where)
        elif isinstance(target, dict):
            if not is_last and target.get(part) is None:
                target[part] = {}
        else:
            raise ConfigError(f"{so_far} is {target!r}, so nothing can be set inside it", where=where)
        if is_last:
            target[part] = parsed
        else:
            target = target[part]
    return loc, text
