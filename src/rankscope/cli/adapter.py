"""The verbs on one adapter: ``rankscope adapter VERB``. They join the app of ``verbs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rankscope.cli.answer import answer
from rankscope.cli.verbs import JsonOpt
from rankscope.cli.workshop import app

if TYPE_CHECKING:
    from rankscope.study.truncate import Truncated

verbs = typer.Typer(
    help="Work on one adapter: any that PEFT saved.",
    epilog="\b\nExample: rankscope adapter truncate adapters/legal --energy 0.99 -o adapters/legal-99",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(verbs, name="adapter")


@verbs.command(epilog="\b\nExample: rankscope adapter truncate adapters/legal --energy 0.99 -o adapters/legal-99")
def truncate(
    ctx: typer.Context,
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="A PEFT LoRA adapter: a folder or a hub id.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="The new adapter; made, never overwritten.")
    ],
    rank: Annotated[int | None, typer.Option(metavar="K", help="At most this rank in each module.")] = None,
    energy: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="The smallest rank that keeps this share of each module's ||dW||_F^2."),
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Write an adapter again at a smaller rank: the best approximation there is.

    One of --rank and --energy. No training, no base model. PEFT loads the result; ranks may differ between modules.
    """
    from rankscope.study.truncate import truncate as cut

    done = cut(adapter, output, rank, energy)
    answer(ctx, as_json, done.as_dict(), _as_text(done))


def _as_text(done: Truncated) -> str:
    ranks = sorted({cut.rank for cut in done.modules})
    before = sorted({cut.before for cut in done.modules})
    lines = [f"{done.folder} written: ranks {_span(before)} before, {_span(ranks)} now"]
    if done.unchanged:
        which = f"{len(done.unchanged)} of {len(done.modules)} modules"
        lines.append(f"unchanged: {which}, whose rank is not above what was asked for")
    if done.kept is None:
        lines.append("energy kept: not defined, this adapter changes nothing")
    else:
        least = f"{_per_cent(done.least)} in the module that lost most"
        lines.append(f"energy kept: {_per_cent(done.kept)} in all, {least}")
    lines.append(f"parameters: {done.params_before:,} before, {done.params:,} now")
    return "\n".join([*lines, f"not judged: score it with {done.next}"])


def _span(ranks: list[int]) -> str:
    return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"


def _per_cent(share: float) -> str:
    """Cut, not rounded: 99.999 % is no 100 %."""
    return f"{int(share * 1e4) / 100:.2f} %"
