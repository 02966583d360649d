"""The verb that scores models without a study. It joins the app of ``verbs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rankscope.cli import console
from rankscope.cli.answer import answer, to_json
from rankscope.cli.options import DataOpt, JsonOpt, QuietOpt, check_destination, open_progress
from rankscope.cli.verbs import app


@app.command(epilog="\b\nExample: rankscope score HuggingFaceTB/SmolLM2-135M-Instruct arc_easy --limit 200")
def score(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A hub id, a folder, a .gguf file, or demo.")],
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Names as in: rankscope list tasks.")],
    adapter: Annotated[
        str | None, typer.Option(metavar="DIR", help="A PEFT adapter to put on the model: a folder or a hub id.")
    ] = None,
    shots: Annotated[int, typer.Option(min=0, metavar="N", help="Worked examples in the prompt.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first rows of each task.")] = None,
    form: Annotated[
        str,
        typer.Option(
            metavar="FORM",
            help="How the question is put: default, or one of the task's own, such as cloze, letters, generate, "
            "completion, text, mc1, mc2 (TruthfulQA) or harness (a bridge's).",
        ),
    ] = "default",
    items: Annotated[str | None, typer.Option(metavar="PATH", help="Write one JSON line per item.")] = None,
    dtype: Annotated[str, typer.Option(metavar="DTYPE", help="auto, float32, bfloat16 or float16.")] = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run the Python code that comes with the model.")
    ] = False,
    data_dir: DataOpt = None,
    quiet: QuietOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Score a model on tasks: the baseline, no training.

    With or without an adapter. Intervals are over items.
    """
    from rankscope.study.study import score as score_tasks

    if items is not None:
        check_destination(items)
    with open_progress(quiet) as progress:
        found = score_tasks(
            model,
            tasks,
            adapter=adapter,
            shots=shots,
            limit=limit,
            form=form,
            data_dir=data_dir,
            dtype=dtype,
            progress=progress,
            trust_remote_code=trust_remote_code,
        )
    if items is not None:
        lines = (to_json({"task": row["task"], **item}) for row in found for item in row["items"])
        Path(items).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    rows = [{key: value for key, value in row.items() if key != "items"} for row in found]
    answer(ctx, as_json, {"model": model, "adapter": adapter, "scores": rows}, console.format_table(rows))


