"""Finding a task of lm-evaluation-harness. In: its name or YAML file. Out: its own name, or PluginError that helps.

Also ``explained``: what the harness raises, in one sentence. Knows nothing about rows, models and scores.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from rankscope.errors import DataError, PluginError, RankscopeError
from rankscope.plugins import did_you_mean

YAML = (".yaml", ".yml")
_SHOWN = 12
# What a task's own YAML, templates, functions and data can raise while the harness works through them.
_BREAKS = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NotImplementedError, OSError,
           RuntimeError, SyntaxError, TypeError, ValueError)  # fmt: skip


def find(rest: str) -> str:
    """The task's own name. Raises PluginError for a file that is none, a group (with its members), an unknown name."""
    if rest.endswith(YAML):
        return _name_in(Path(rest).expanduser())
    return _known(rest)


@lru_cache(maxsize=1)
def manager() -> Any:
    """All tasks that lm_eval ships; reading its thousands of files takes seconds, once a process."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def config_of(path: Path) -> dict[str, Any]:
    """What a task's YAML file says, with the files it includes; functions stay names. Raises PluginError."""
    from lm_eval.tasks._yaml_loader import load_yaml

    if not path.is_file():
        raise PluginError("no such file of a harness task", got=str(path))
    with explained(path.name, PluginError):
        return load_yaml(path, resolve_func=False)


def _name_in(path: Path) -> str:
    name = config_of(path).get("task")
    if not isinstance(name, str):
        raise PluginError("this file names no single task of the harness", where=str(path),
                          hint="It needs a line: task: NAME; list the tasks of a group one by one")  # fmt: skip
    return name


def _known(name: str) -> str:
    known = manager()
    if name in known.all_groups or name in known.all_tags:
        found = list(dict.fromkeys(_members(known.task_index, name)))
        shown = ", ".join(f"lm_eval:{member}" for member in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more (lm_eval ls groups)" if len(found) > _SHOWN else ""
        raise PluginError(f"lm_eval:{name} is a group of {len(found)} tasks",
                          hint=f"List its members one by one: {shown}{more}")  # fmt: skip
    if name not in known.all_subtasks:
        raise PluginError(f"lm_eval has no task named {name!r}{did_you_mean(name, known.all_tasks)}",
                          hint="See: lm_eval ls subtasks")  # fmt: skip
    return name


def _members(index: dict[str, Any], name: str) -> Iterator[str]:
    """The tasks of a group or tag, groups within it spelled out."""
    entry = index.get(name)
    listed = (entry.cfg or {}).get("task") if entry is not None and entry.kind.name == "GROUP" else None
    if isinstance(listed, list):
        for child in listed:
            yield from _members(index, child if isinstance(child, str) else child.get("group") or child.get("task"))
    elif entry is not None and entry.kind.name == "TAG":
        yield from sorted(entry.tags)
    else:
        yield name


@contextlib.contextmanager
def explained(what: str, make: Callable[..., RankscopeError] = DataError) -> Iterator[None]:
    """What the harness, a task's templates or its data raise becomes one sentence; bars and warnings are kept in."""
    import jinja2
    import yaml
    from datasets.exceptions import DatasetsError

    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    except (*_BREAKS, jinja2.TemplateError, yaml.YAMLError, DatasetsError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise make(f"the harness can't build {what}: {type(error).__name__}: {reason}",
                   hint="See it alone with: lm_eval run --model dummy --limit 1 --tasks ...") from error  # fmt: skip
