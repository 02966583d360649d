"""A plug-in to start from, and its test, as two files. In: a kind, a name, a folder. Out: ``Made``, or an InputError.

In a checkout of rankscope the files go on the shelf, where the contract suite picks a task up unasked; elsewhere they
lie side by side. What is written passes its own test as it is. Nothing is overwritten, and after an error nothing new
is there. Knows the templates; knows nothing about what will be made of them.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from rankscope import plugins
from rankscope.errors import InputError, PluginError
from rankscope.study import templates

KINDS = {"task": "tasks", "scorer": "scorers"}
_MOST_LETTERS = 40


@dataclass(frozen=True)
class Made:
    """What was written, and what to do next: sentences that end in a command or in lines to paste."""

    kind: str
    files: tuple[Path, Path]
    steps: tuple[str, ...]


def write(kind: str, name: str, folder: Path) -> Made:
    """Write the plug-in and its test. ``kind`` in the singular or plural.

    Raises PluginError for an unknown kind; InputError for a name that is no lower-case Python name, is taken, or would
    hide a module, and if a file is there already or can't be written.
    """
    singular = _singular(kind)
    plural = KINDS[singular]
    _check_name(name, plural)
    is_shelf = _is_checkout(folder)
    if is_shelf:
        code = folder / "src" / "rankscope" / "library" / plural / f"{name}.py"
        test = folder / "tests" / "library" / f"test_{name}.py"
    else:
        code, test = folder / f"{name}.py", folder / f"test_{name}.py"
    for file in (code, test):
        if file.exists():
            raise InputError("this file is there already", where=str(file), hint="Choose another name")
    if not is_shelf and importlib.util.find_spec(name) is not None:
        raise InputError(f"a module {name!r} can be imported here already, and this file would hide it", got=name,
                         hint=f"For example: my_{name}")  # fmt: skip
    _write({code: templates.code(singular, name), test: templates.test(singular, name, plural, is_shelf)})
    return Made(plural, (code, test), _steps(singular, name, code, test, is_shelf))


def _singular(kind: str) -> str:
    for singular, plural in KINDS.items():
        if kind in (singular, plural):
            return singular
    if kind in plugins.KINDS:
        what = f"there is nothing to start from for {kind}"
    else:
        what = f"no kind of plug-in named {kind!r}{plugins.did_you_mean(kind, [*KINDS, *KINDS.values()])}"
    raise PluginError(what, hint=f"Kinds: {', '.join(KINDS)}")


def _check_name(name: str, plural: str) -> None:
    if not re.fullmatch(rf"[a-z][a-z0-9_]{{0,{_MOST_LETTERS - 1}}}", name) or keyword.iskeyword(name):
        raise InputError("a plug-in's name is a Python name in lower case, up to 40 letters, digits and underscores",
                         got=name, hint="For example: staging_ports")  # fmt: skip
    if name == "conftest" or name.startswith("test_"):
        raise InputError("pytest gives this name a meaning of its own", got=name, hint=f"For example: my_{name}")
    if name in plugins.names(plural):
        raise InputError(f"there is a {plural.rstrip('s')} of that name already, from {_owner(plural, name)}", got=name,
                         hint=f"See: rankscope list {plural}")  # fmt: skip


def _owner(plural: str, name: str) -> str:
    try:
        return str(plugins.origin(plural, name))
    except PluginError:
        return "a package that can't be loaded"


def _is_checkout(folder: Path) -> bool:
    project = folder / "pyproject.toml"
    is_named = project.is_file() and re.search(r'^name *= *"rankscope"', project.read_text("utf-8"), re.MULTILINE)
    return bool(is_named) and (folder / "src" / "rankscope" / "library").is_dir()


def _write(texts: dict[Path, str]) -> None:
    """All files or none."""
    done: list[Path] = []
    try:
        for file, text in texts.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "x", encoding="utf-8") as opened:
                done.append(file)
                opened.write(text)
    except OSError as error:
        for file in done:
            file.unlink(missing_ok=True)
        raise InputError(f"can't be written: {error.strerror}", where=str(file)) from error


def _steps(singular: str, name: str, code: Path, test: Path, is_shelf: bool) -> tuple[str, ...]:
    plural, path = KINDS[singular], shlex.quote(str(code))
    first = f"replace what is marked TODO in {path}, then: pytest {shlex.quote(str(test))}"
    if is_shelf and singular == "task":
        return (first, f"pytest tests/library -k {name}", "python docs/generate_methods.py",
                f"rows as JSON lines in DIR/{name}/train.jsonl and test.jsonl, then: rankscope score demo {name} "
                "--data-dir DIR")  # fmt: skip
    package = (
        "in a package, add to its pyproject.toml:\n"
        f'[project.entry-points."{plugins.GROUP}"]\n"{plural}.{name}" = "YOUR_PACKAGE.{name}:PLUGIN"'
    )
    if singular == "task":
        return (first, f"rows as JSON lines in DIR/{name}/train.jsonl and test.jsonl, then: rankscope score demo "
                f"{path}@PLUGIN --data-dir DIR", f"in a study: train: [{{task: {code}@PLUGIN}}]", package)  # fmt: skip
    named = name if is_shelf else f"{code}@PLUGIN"
    use = f'in a task: scorers={{"generate": "{named}"}}'
    return (first, use) if is_shelf else (first, use, package)
