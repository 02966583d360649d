"""The verb that scores models without a study, alone or side by side. It joins the app of ``verbs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankscope.cli import console
from rankscope.cli.answer import answer, to_json
from rankscope.cli.options import DataOpt, JsonOpt, QuietOpt, check_destination, open_progress
from rankscope.cli.verbs import app

if TYPE_CHECKING:
    from rankscope.records import Contrast
    from rankscope.study.scoring import SideBySide


@app.command(epilog="\b\nExample: rankscope score HuggingFaceTB/SmolLM2-135M-Instruct arc_easy --limit 200")
def score(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A hub id, a folder, a .gguf file, or demo.")],
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Names as in: rankscope list tasks.")],
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="A model to set beside the first, on the same items. Repeatable."),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(metavar="DIR", help="A PEFT adapter to put on MODEL: a folder or a hub id.")
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
    """Score a model on tasks, alone or beside others: which base to start from. No training.

    With or without an adapter. Intervals are over items. With --against, differences to MODEL are paired by item, their
    intervals hold together, and a sentence says which model to start from, or that they can't be told apart.
    """
    if items is not None:
        check_destination(items)
    if against:
        from rankscope.records import ModelRef, TaskRef
        from rankscope.study.scoring import score_models

        models = [ModelRef(one, dtype=dtype, trust_remote_code=trust_remote_code) for one in (model, *against)]
        refs = [TaskRef(name, form, shots, limit) for name in tasks]
        with open_progress(quiet) as progress:
            several = score_models(models, refs, adapter, data_dir, progress)
        _write_items(items, several.scores)
        told = {"model": model, "adapter": adapter, "against": against, **_data(several)}
        answer(ctx, as_json, told, _text(several))
        if any("failed" in row for row in several.scores):
            raise typer.Exit(1)
        return
    from rankscope.study.study import score as score_tasks

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
    _write_items(items, found)
    rows = _without_items(found)
    answer(ctx, as_json, {"model": model, "adapter": adapter, "scores": rows}, console.format_table(rows))


def _write_items(path: str | None, rows: Any) -> None:
    if path is None:
        return
    of = (({k: row[k] for k in ("model", "task") if k in row}, row.get("items", ())) for row in rows)
    lines = (to_json({**place, **item}) for place, items in of for item in items)
    Path(path).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _without_items(rows: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "items"} for row in rows]


def _data(several: SideBySide) -> dict[str, Any]:
    """All of a comparison, for programs."""
    found = several.found
    best = None if found.best is None else {
        "models": found.best.arms, "below_best": found.best.estimate, "low": found.best.low, "high": found.best.high,
        "possible": found.best.possible, "num_items": found.best.num_items, "unit": found.unit,
    }  # fmt: skip
    return {
        "models": several.models,
        "scores": _without_items(several.scores),
        "contrasts": found.contrasts,
        "level": found.level,
        "best": best,
        "decided_on": found.tasks,
        "start_from": found.choice,
        "sentence": found.sentence,
        "notes": [*several.notes, *([found.reason] if found.best is not None and found.reason else [])],
    }


def _text(several: SideBySide) -> str:
    """Tasks as rows, models as columns, then what differs from the first."""
    found, models = several.found, several.models
    contrasts = {(c.task, c.arm): c for c in found.contrasts}
    rows, by_task = [], {}
    for row in several.scores:
        by_task.setdefault(row["task"], {})[row["model"]] = row
    for task, scores in by_task.items():
        done = next((s for s in scores.values() if "failed" not in s), {})
        told = {"task": task, "metric": done.get("metric"), "n": done.get("n"), "chance": done.get("chance")}
        told |= {name: _score(scores[name]) for name in models}
        told |= {f"{name} - {models[0]}": _difference(contrasts.get((task, name))) for name in models[1:]}
        rows.append(told)
    lines = [console.format_table(rows)]
    lines += [f"failed: {row['model']} on {row['task']}: {row['failed']}" for row in several.scores if "failed" in row]
    level = f"{100 * found.level:.0f} %"
    lines += [
        f"Scores: {level} intervals over items. Differences: more is better, paired by item, {level} for all together."
    ]
    notes = [*several.notes, *([found.reason] if found.best is not None and found.reason else [])]
    return "\n".join([*lines, *(f"note: {note}" for note in notes), found.sentence])


def _score(row: dict[str, Any]) -> str:
    return "failed" if "failed" in row else f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _difference(contrast: Contrast | None) -> str:
    """The difference with its simultaneous interval and what it says; nothing where there is none."""
    if contrast is None:
        return ""
    return f"{contrast.estimate.value:+.3f} [{contrast.low:+.3f}, {contrast.high:+.3f}] {contrast.verdict}"
