"""What a verb says on stdout in the end: text for people, or exactly one JSON object. In: results of the facade.

Knows the facade's result and how commands are spelled; knows nothing about arguments or how results came about.
"""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from rankscope.cli import console
from rankscope.provenance import plain

if TYPE_CHECKING:
    from rankscope.errors import RankscopeError
    from rankscope.study.result import StudyResult

STORE = "runs"
"""The folder of results where none is named."""


@dataclass(frozen=True)
class Asked:
    """The study a command line names, with all that makes it this study: what the next command must repeat."""

    study: str
    store: str = STORE
    overrides: tuple[str, ...] = ()
    data_dir: str | None = None

    def next(self, verb: str) -> str:
        """A command the user can paste."""
        words = ["rankscope", verb, self.study]
        if self.store != STORE and verb != "check":
            words += ["--store", self.store]
        for text in self.overrides:
            words += ["--set", text]
        return shlex.join(words + (["--data-dir", self.data_dir] if self.data_dir else []))


def failures(result: StudyResult) -> list[dict[str, str]]:
    """The failed runs and scorings with what they said."""
    return [{"run": name, "message": message} for name, message in result.failed]


def summary(result: StudyResult) -> dict[str, Any]:
    """How a study stands, for programs."""
    return {
        "verdict": result.verdict,
        "complete": result.is_complete,
        "more_to_measure": result.has_more_to_measure,
        "table": result.table(),
        "dropped": [plain(row) for row in result.dropped],
        "failed": failures(result),
    }


def stopped(result: StudyResult) -> list[str]:
    """How many runs and arms a race stopped, in a line; none where nobody was."""
    if not (rows := result.dropped):
        return []
    arms = list(dict.fromkeys(row.arm for row in rows if row.is_out))
    out = f"; out altogether: {', '.join(arms)}" if arms else ""
    what = "1 run was" if len(rows) == 1 else f"{len(rows)} runs were"
    return [f"{what} stopped early by the race{out}. Why: section 'Who was stopped early, and why' of the report"]


def outcome(result: StudyResult, *, again: str, then: str) -> str:
    """How a run ended, for people. ``again`` is the command that goes on, ``then`` what to do after the last run."""
    lines = [result.verdict, "", console.format_table(result.table()), ""]
    lines += [f"failed: {name}: {message}" for name, message in result.failed]
    lines += stopped(result)
    if not result.is_complete:
        lines.append(f"Not complete. To go on: {again}")
    elif result.has_more_to_measure:
        lines.append(f"Every verdict is there; more can be measured beside them (see the notes). Next: {again}")
    else:
        lines.append(then)
    return "\n".join(lines)


def first_line(plugin: Any) -> str:
    """A plug-in in one line: its ``summary``, else its docstring's first line."""
    text = getattr(plugin, "summary", None) or getattr(plugin, "__doc__", None) or ""
    return text.strip().splitlines()[0] if text.strip() else ""


def answer(ctx: typer.Context, as_json: bool, data: dict[str, Any], text: str) -> None:
    """The one thing a verb says on stdout. ``ctx.obj`` is the real stdout (see ``main``)."""
    print(to_json(data) if as_json else text, file=ctx.obj)


def to_json(data: Any) -> str:
    """One line of JSON."""
    return json.dumps(jsonable(data), ensure_ascii=False, allow_nan=False)


def jsonable(value: Any) -> Any:
    """Data that JSON can hold: records as dicts, and null for NaN and infinity, which JSON doesn't know."""
    value = plain(value)
    if isinstance(value, dict):
        return {key: jsonable(child) for key, child in value.items()}
    if isinstance(value, list):
        return [jsonable(child) for child in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str | int | None):
        return value
    # numpy's integers and booleans are no int; item() is their plain twin.
    return value.item() if hasattr(value, "item") else str(value)


def error_as_dict(error: RankscopeError) -> dict[str, Any]:
    """What ``--json`` prints when a verb ends in an error: its parts, and the single ones if it stands for several."""
    found = {"kind": type(error).__name__, "message": str(error), "exit_code": error.exit_code, **_parts(error)}
    if several := getattr(error, "errors", ()):
        found["errors"] = [{"message": str(single), **_parts(single)} for single in several]
    return {"error": found}


def _parts(error: RankscopeError) -> dict[str, Any]:
    return {"what": error.what, "got": error.got, "where": error.where, "hint": error.hint}


def error_of(kind: str, message: str, exit_code: int) -> dict[str, Any]:
    """The same for an error that isn't rankscope's own."""
    return {"error": {"kind": kind, "message": message, "exit_code": exit_code}}
