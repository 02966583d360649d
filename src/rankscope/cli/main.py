"""The way into the ``rankscope`` command and out of it: one command line in, an exit code out.

Exit codes: 0 fine, 1 a run failed, 2 the user's input is wrong, 130 stopped by Ctrl-C. With ``--json`` standard output
holds exactly one JSON object, also for an error; all else goes to stderr. Knows nothing about what the verbs do.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from rankscope.cli.answer import error_as_dict, error_of, to_json
from rankscope.cli.viewing import app
from rankscope.errors import RankscopeError

# typer has no public name for the class of all usage errors; BadParameter's parents are UsageError and ClickException.
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Never a traceback, unless RANKSCOPE_TRACEBACK=1."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json, stdout = "--json" in arguments, sys.stdout
    if argv is None:
        sys.excepthook = _last_words(as_json)
    try:
        # Libraries may print; with --json standard output is ours alone.
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            command = typer.main.get_command(app)
            code = command.main(args=arguments, prog_name="rankscope", standalone_mode=False, obj=stdout)
    except RankscopeError as error:
        return _fail(error, as_json, error_as_dict(error), error.exit_code)
    except _ClickException as error:
        return _misuse(error, as_json)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message = f"{where}{error.strerror or error}"
        return _fail(message, as_json, error_of(type(error).__name__, message, 1), 1)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    if code == 130:
        message = f"stopped; what is done is kept. Next: {shlex.join(['rankscope', *arguments])}"
        print(message, file=sys.stderr)
        if as_json:
            print(to_json(error_of("Stopped", message, 130)), file=stdout)
    return code if isinstance(code, int) else 0


def _fail(error: object, as_json: bool, data: dict[str, Any], code: int) -> int:
    if os.environ.get("RANKSCOPE_TRACEBACK"):
        import traceback

        traceback.print_exc()
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    if as_json:
        print(to_json(data))
    return code


def _misuse(error: Any, as_json: bool) -> int:
    """A command line that can't be understood: typer's own words, and its exit code (2)."""
    error.show(file=sys.stderr)
    if as_json:
        print(to_json(error_of("UsageError", error.format_message(), error.exit_code)))
    return error.exit_code


def _last_words(as_json: bool) -> Callable[..., None]:
    """What an error that nobody foresaw says in place of a traceback: a bug of ours, so how to report it."""

    def say(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if os.environ.get("RANKSCOPE_TRACEBACK"):
            sys.__excepthook__(kind, error, trace)
        message = f"a bug in rankscope: {kind.__name__}: {error}. To see where: set RANKSCOPE_TRACEBACK=1 and repeat"
        print(f"error: {message}", file=sys.stderr)
        if as_json:
            print(to_json(error_of(kind.__name__, message, 1)))

    return say
