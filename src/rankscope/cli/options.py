"""The app that every verb joins, and the arguments and steps that verbs share.

Nothing beyond typer is imported before a verb needs it, so that ``rankscope --help`` is quick.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import rankscope
from rankscope.cli import console
from rankscope.cli.answer import Asked
from rankscope.errors import InputError

if TYPE_CHECKING:
    from rankscope.study.study import Study

app = typer.Typer(
    help="How much LoRA rank is too much, for your model and your data? A fair, resumable study with intervals.",
    epilog="\b\nExample: rankscope demo",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

StudyArg = Annotated[str, typer.Argument(metavar="STUDY", help="The study file (YAML).")]
StoreOpt = Annotated[str, typer.Option("--store", metavar="DIR", help="Folder of results; run makes it.")]
SetOpt = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the study, e.g. training.epochs=2. Repeatable."),
]
DataOpt = Annotated[
    str | None,
    typer.Option("--data-dir", metavar="DIR", help="Folder of datasets as JSONL: DIR/DATASET/SPLIT.jsonl."),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; all else goes to stderr.")]
QuietOpt = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the outcome.")]


def _version(is_asked: bool) -> None:
    if is_asked:
        print(f"rankscope {rankscope.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


def parse_duration(text: str) -> float:
    """``90s``, ``45m``, ``2h``, ``1h30m`` or plain seconds, in seconds. Raises a usage error for anything else."""
    number = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s)?|{number}", text.strip())
    parts = match.groups() if match else ()
    seconds = sum(float(part or 0) * unit for part, unit in zip(parts, (3600, 60, 1, 1), strict=False))
    if seconds <= 0:
        raise typer.BadParameter(f"{text!r} is not a time. For example: 90s, 45m, 2h, 1h30m", param_hint="--budget")
    return seconds


def check_destination(path: str) -> None:
    """A file that is to be written at the end is refused at the start, before any work. Raises InputError."""
    folder = Path(path).parent
    if Path(path).is_dir():
        raise InputError("this is a folder, not a file to write", where=path, hint="Name a file in it")
    if not folder.is_dir():
        hint = f"Next: {shlex.join(['mkdir', '-p', str(folder)])}"
        raise InputError("there is no such folder to write to", got=str(folder), where=path, hint=hint)
    if not os.access(folder, os.W_OK):
        raise InputError("nothing can be written in this folder", got=str(folder), where=path, hint="Name another path")


def load(asked: Asked) -> Study:
    from rankscope.study.study import Study

    return Study.load(asked.study, overrides=asked.overrides, data_dir=asked.data_dir)


def open_progress(is_quiet: bool) -> contextlib.AbstractContextManager[Any]:
    return console.open_console(is_quiet) or contextlib.nullcontext()
