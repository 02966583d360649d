"""The verbs around studies: what the machine can do, and plug-ins of one's own. They join the app of ``verbs``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rankscope.cli.answer import STORE, answer
from rankscope.cli.proposing import app
from rankscope.cli.verbs import JsonOpt, StoreOpt

if TYPE_CHECKING:
    from rankscope.study.doctor import Finding


@app.command(epilog="\b\nExample: rankscope doctor")
def doctor(ctx: typer.Context, store: StoreOpt = STORE, as_json: JsonOpt = False) -> None:
    """Show what this machine can do, and what is missing for what.

    Devices, number formats (measured), memory, versions, caches. The hub is not asked; nothing is written.
    """
    from rankscope.study.doctor import examine

    found = examine(store)
    count = {status: sum(f.status == status for f in found) for status in ("ok", "missing", "slow")}
    answer(ctx, as_json, {"findings": found, "count": count}, _as_text(found))


@app.command(epilog="\b\nExample: rankscope new task ports")
def new(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="task or scorer.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="A Python name in lower case; also the file's name.")],
    folder: Annotated[str, typer.Option("--dir", metavar="DIR", help="Where to write; made if missing.")] = ".",
    as_json: JsonOpt = False,
) -> None:
    """Write a plug-in to start from, and its test.

    Both pass as they are; TODO marks what to replace. In a checkout of rankscope they go on the shelf, elsewhere into
    the folder. Nothing is overwritten.
    """
    from rankscope.study.scaffold import write

    made = write(kind, name, Path(folder))
    data = {"kind": made.kind, "name": name, "files": [str(p) for p in made.files], "next": list(made.steps)}
    lines = [f"{file} written" for file in made.files]
    answer(ctx, as_json, data, "\n".join([*lines, *(f"Next: {step}" for step in made.steps)]))


def _as_text(found: Sequence[Finding]) -> str:
    width = max(len(f.name) for f in found)
    lines = []
    for part, members in groupby(found, key=lambda f: f.part):
        lines.append(part)
        for finding in members:
            lines.append(f"  {finding.status:<7}  {finding.name:<{width}}  {finding.text}")
            lines += [f"  {'':<7}  {'':<{width}}  -> {finding.mend}"] * bool(finding.mend)
    return "\n".join(lines)
