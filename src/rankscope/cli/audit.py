"""The verb that audits what exists, and how an audit is printed. It joins the app of ``verbs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankscope.cli import console
from rankscope.cli.adapter import app
from rankscope.cli.answer import answer
from rankscope.cli.verbs import JsonOpt, QuietOpt, check_destination, open_progress

if TYPE_CHECKING:
    from rankscope.report.audit import Audit


@app.command(epilog="\b\nExample: rankscope audit adapters/legal --base HuggingFaceTB/SmolLM2-135M -o audit.html")
def audit(
    ctx: typer.Context,
    adapter: Annotated[
        str,
        typer.Argument(metavar="ADAPTER", help="A PEFT LoRA folder or hub id, or a fully fine-tuned model's folder."),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="The model that it was made from: a hub id, a folder, a .gguf file or demo."
        ),
    ] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="PATH", help="Write a page, too.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the Python code that comes with the base.")
    ] = False,
    quiet: QuietOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Show what an adapter or a checkpoint changed: ranks, layers, spectra. No training.

    Without the base, an adapter shows what its own weights hold; a checkpoint needs it.
    """
    from rankscope.study.audit import audit as look

    if output is not None:
        check_destination(output)
    with open_progress(quiet) as progress:
        found = look(adapter, base, progress=progress, trust_remote_code=trust_remote_code)
    written = [f"{found.report(output)} written"] if output is not None else []
    answer(ctx, as_json, found.as_dict(), "\n".join([_as_text(found), *written]))


def _as_text(found: Audit) -> str:
    lines = [console.format_table(_by_kind(found)), "", *(f"* {text}" for text in found.advice)]
    return "\n".join([*lines, *(f"left out: {text}" for text in found.left_out)])


def _by_kind(found: Audit) -> list[dict[str, Any]]:
    """One row for each kind of module, means over its modules."""
    from rankscope.report.audit_advice import spread, total
    from rankscope.report.audit_rows import by_kind

    rows = []
    for kind, modules in by_kind(found.modules).items():
        means = {name: spread(getattr(m, name) for m in modules)
                 for name in ("stable_rank", "effective_rank", "energy_rank_99", "frobenius")}  # fmt: skip
        row = {"kind": kind, "modules": len(modules), "rank": spread(m.place.rank for m in modules)}
        row |= {f"mean {name.replace('_', ' ')}": value for name, value in means.items()}
        if found.base is not None:
            row["mean relative change"] = spread(m.base.relative_frobenius for m in modules)
            row["intruders"] = total(m.base.intruders for m in modules)
        rows.append({k: v["mean"] if isinstance(v, dict) else v for k, v in row.items()})
    return rows
