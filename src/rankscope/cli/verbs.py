"""The verbs of the command line: one function each, arguments in, the facade called, an answer out.

Nothing beyond typer is imported before a verb needs it, so that ``rankscope --help`` is quick.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import rankscope
from rankscope.cli import console
from rankscope.cli.answer import STORE, Asked, answer, failures, first_line, outcome, stopped, summary, to_json
from rankscope.cli.timing import timed
from rankscope.errors import InputError

if TYPE_CHECKING:
    from rankscope.study.result import StudyResult
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


class ReportFormat(str, Enum):
    """Written forms of a report; the value is also the file's ending."""

    html = "html"
    md = "md"
    json = "json"


StudyArg = Annotated[str, typer.Argument(metavar="STUDY", help="The study file (YAML).")]
StoreOpt = Annotated[str, typer.Option("--store", metavar="DIR", help="Folder of results; made if missing.")]
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


# ---- a study


@app.command(epilog="\b\nExample: rankscope demo -o demo.html")
def demo(
    ctx: typer.Context,
    output: Annotated[str, typer.Option("--output", "-o", metavar="PATH", help="Where the report goes.")] = "demo.html",
    store: StoreOpt = STORE,
    quiet: QuietOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Run the bundled study and write its report.

    Minutes on a laptop; nothing is downloaded. Run it again after stopping it: it goes on where it was.
    """
    from rankscope.study.study import Study

    check_destination(output)
    with open_progress(quiet) as progress:
        result = Study.demo().run(store, progress=progress)
    path = result.report(output, "html")
    text = f"{outcome(result, again='rankscope demo', then='')}\n{path} written"
    answer(ctx, as_json, {**summary(result), "report": str(path)}, text)
    _exit_if_failed(result)


@app.command(epilog="\b\nExample: rankscope init my-study")
def init(
    ctx: typer.Context,
    folder: Annotated[str, typer.Argument(metavar="[DIR]", help="Where study.yaml goes; made if missing.")] = ".",
    as_json: JsonOpt = False,
) -> None:
    """Write a commented study.yaml to start from."""
    from rankscope.config.starter import STARTER

    path = Path(folder) / "study.yaml"
    step = Asked(str(path)).next("check")
    if path.exists():
        raise InputError("there is a study here already", where=str(path), hint=f"Next: {step}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STARTER, encoding="utf-8")
    answer(ctx, as_json, {"path": str(path)}, f"{path} written. Next: {step}")


@app.command(epilog="\b\nExample: rankscope check study.yaml --set training.epochs=2")
def check(
    ctx: typer.Context, study: StudyArg, overrides: SetOpt = None, data_dir: DataOpt = None, as_json: JsonOpt = False
) -> None:
    """Check a study: find its models and tasks, and say what it asks.

    Rows that lie here are read; no weights are, and nothing is written.
    """
    asked = Asked(study, overrides=tuple(overrides or ()), data_dir=data_dir)
    found = load(asked)
    notes = found.check()
    config = found.config
    facts = {
        "study": config.name,
        "models": [model.name for model in config.models()],
        "train": [ref.name for ref in config.train_refs()],
        "arms": [arm.name for arm in config.arms()],
        "evaluate": [f"{ref.name} ({role})" for ref, role in config.evaluations(None)],
        "seeds": [str(seed) for seed in config.seeds],
    }
    unused = () if config.train else ("train", "seeds")
    lines = [f"{key}: {value if isinstance(value, str) else ', '.join(value)}"
             for key, value in facts.items() if key not in unused]  # fmt: skip
    text = "\n".join([*lines, *(f"note: {note}" for note in notes), f"ok. Next: {asked.next('plan')}"])
    told = {"ok": True, **facts, "seeds": list(config.seeds), "notes": notes, "config": config.as_dict()}
    answer(ctx, as_json, told, text)


@app.command(epilog="\b\nExample: rankscope plan study.yaml")
def plan(
    ctx: typer.Context,
    study: StudyArg,
    store: StoreOpt = STORE,
    overrides: SetOpt = None,
    data_dir: DataOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Show the runs, what is done, and what the rest will cost.

    Predicted time and memory; no weights are read.
    """
    asked = Asked(study, store, tuple(overrides or ()), data_dir)
    found = load(asked).plan(store)
    then = "report" if found.is_done else "run"
    answer(ctx, as_json, found.as_dict(), f"{found}\nNext: {asked.next(then)}")


@app.command(epilog="\b\nExample: rankscope run study.yaml --budget 2h")
def run(
    ctx: typer.Context,
    study: StudyArg,
    store: StoreOpt = STORE,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start no new work after this time: 90s, 45m, 2h, 1h30m.")
    ] = None,
    overrides: SetOpt = None,
    data_dir: DataOpt = None,
    quiet: QuietOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Do the runs that are not done yet.

    Stopping it loses nothing that is finished: run it again to go on. It ends with where its time went (see
    docs/performance.md). Exit code 1 if a run failed.
    """
    seconds = None if budget is None else parse_duration(budget)
    asked = Asked(study, store, tuple(overrides or ()), data_dir)
    loaded = load(asked)
    with timed(quiet) as clock, open_progress(quiet) as progress:
        result = loaded.run(store, progress=progress, budget_seconds=seconds, clock=clock)
    text = outcome(result, again=asked.next("run"), then=f"Next: {asked.next('report')}")
    answer(ctx, as_json, {**summary(result), "time": clock.breakdown()}, text)
    _exit_if_failed(result)


@app.command(epilog="\b\nExample: rankscope status study.yaml")
def status(
    ctx: typer.Context,
    study: StudyArg,
    store: StoreOpt = STORE,
    overrides: SetOpt = None,
    data_dir: DataOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Show what is done, what failed and what is left."""
    asked = Asked(study, store, tuple(overrides or ()), data_dir)
    loaded = load(asked)
    left, result = loaded.plan(store), loaded.result(store)
    failed = failures(result)
    data = {"study": loaded.config.name, "complete": result.is_complete,
            "more_to_measure": result.has_more_to_measure, "failed": failed, "plan": left.as_dict()}  # fmt: skip
    text = [str(left), *(f"failed: {name}: {message}" for name, message in result.failed)]
    is_done = result.is_complete and not result.has_more_to_measure
    text.append(f"Next: {asked.next('report' if is_done else 'run')}")
    answer(ctx, as_json, data, "\n".join(text))


@app.command(epilog="\b\nExample: rankscope compare study.yaml --json")
def compare(
    ctx: typer.Context,
    study: StudyArg,
    store: StoreOpt = STORE,
    overrides: SetOpt = None,
    data_dir: DataOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Print the verdict and the table of arms, from what is stored."""
    asked = Asked(study, store, tuple(overrides or ()), data_dir)
    result = load(asked).result(store)
    text = "\n".join([result.verdict, "", console.format_table(result.table()), *stopped(result)])
    answer(ctx, as_json, summary(result), text)


@app.command(epilog="\b\nExample: rankscope report study.yaml -o study.html")
def report(
    ctx: typer.Context,
    study: StudyArg,
    form: Annotated[
        ReportFormat, typer.Option("--format", metavar="html|md|json", help="A page, Markdown, or every number.")
    ] = ReportFormat.html,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="PATH", help="Where it goes; by default NAME.FORMAT.")
    ] = None,
    figures: Annotated[
        str | None, typer.Option("--figures", metavar="DIR", help="Also write every chart, as SVG and PNG, into DIR.")
    ] = None,
    store: StoreOpt = STORE,
    overrides: SetOpt = None,
    data_dir: DataOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Write the report from what is stored.

    The HTML page is one file and opens offline.
    """
    loaded = load(Asked(study, store, tuple(overrides or ()), data_dir))
    output = output or f"{loaded.config.name}.{form.value}"
    check_destination(output)
    path = (result := loaded.result(store)).report(output, form.value)
    said, text = {"path": str(path), "format": form.value}, f"{path} written"
    if figures is not None:
        from rankscope.report import charts, figures as files  # isort: skip

        said["figures"] = [str(file) for file in files.write(charts.charts(result.view()), figures)]
        text += f"\n{len(said['figures'])} files written to {figures}"
    answer(ctx, as_json, said, text)


# ---- without a study


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


@app.command("list", epilog="\b\nExample: rankscope list tasks")
def list_plugins(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="tasks, scorers, diagnostics, mitigations or bridges.")],
    as_json: JsonOpt = False,
) -> None:
    """Show the plug-ins of a kind: what a study may name."""
    from rankscope import plugins

    rows = [{"name": p.name, "from": str(p.origin), "summary": p.problem and f"BROKEN: {p.problem}"
             or first_line(p.plugin)} for p in plugins.listing(kind)]  # fmt: skip
    text = console.format_table(rows) if rows else f"no {kind} in this version"
    answer(ctx, as_json, {"kind": kind, "plugins": rows}, text)


@app.command(epilog="\b\nExample: rankscope gc runs --delete")
def gc(
    ctx: typer.Context,
    store: Annotated[str, typer.Argument(metavar="[STORE]", help="The folder of results.")] = STORE,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it. Without this, nothing is touched.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Show what takes space in a store and what can go."""
    from rankscope.study.study import collect_garbage

    if not Path(store).is_dir():
        raise InputError("no store here", where=store, hint="Name its folder: rankscope gc DIR")
    found = collect_garbage(store, dry_run=not delete)
    rows = [{"what": key.replace("_", " "), "value": value} for key, value in found.items()]
    text = console.format_table(rows) + (
        "" if delete else f"\nNothing was removed. Next: rankscope gc {shlex.quote(store)} --delete"
    )
    answer(ctx, as_json, {**found, "deleted": delete}, text)


# ---- shared by the verbs


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


def _exit_if_failed(result: StudyResult) -> None:
    if result.failed:
        raise typer.Exit(1)
