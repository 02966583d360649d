"""The verbs on a study and its store: one function each, arguments in, the facade called, an answer out.

Nothing beyond typer is imported before a verb needs it, so that ``rankscope --help`` is quick.
"""

from __future__ import annotations

import shlex
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rankscope.cli import console
from rankscope.cli.answer import STORE, Asked, answer, first_line, outcome, stopped, summary
from rankscope.cli.options import (
    DataOpt,
    JsonOpt,
    QuietOpt,
    SetOpt,
    StoreOpt,
    StudyArg,
    check_destination,
    load,
    open_progress,
    parse_duration,
)
from rankscope.cli.starting import app
from rankscope.cli.timing import timed
from rankscope.errors import InputError

if TYPE_CHECKING:
    from rankscope.study.result import StudyResult


class ReportFormat(str, Enum):
    """Written forms of a report; the value is also the file's ending."""

    html = "html"
    md = "md"
    json = "json"


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


@app.command(epilog='\b\nExample: rankscope plan study.yaml --on "A100 80GB" --price-per-hour 2.5 --currency EUR')
def plan(
    ctx: typer.Context,
    study: StudyArg,
    store: StoreOpt = STORE,
    on: Annotated[
        str | None, typer.Option("--on", metavar="GPU", help="Plan for this GPU: a name, or a memory as in 24GB.")
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price-per-hour", min=0, metavar="N", help="What an hour of the machine costs.")
    ] = None,
    currency: Annotated[str, typer.Option(metavar="NAME", help="What the price is in.")] = "USD",
    overrides: SetOpt = None,
    data_dir: DataOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Show the runs, what is done, and what the rest will cost.

    Tokens, FLOPs, time, memory, disk, and what the study can show at all; no weights are read. A time is one number
    where this model has done such work in this store, else a range (see docs/planning.md).
    """
    asked = Asked(study, store, tuple(overrides or ()), data_dir)
    found = load(asked).plan(store, on, price, currency)
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

    Stopping it loses nothing that is finished: run it again to go on. With --budget it says first how far that comes
    (the first seed of all arms is done before further seeds) and last what was left out; the study stays as declared.
    It ends with where its time went (see docs/performance.md). Exit code 1 if a run failed.
    """
    seconds = None if budget is None else parse_duration(budget)
    asked = Asked(study, store, tuple(overrides or ()), data_dir)
    loaded = load(asked)
    reach = None if seconds is None else loaded.reach(store, seconds)
    with timed(quiet) as clock, open_progress(quiet) as progress:
        if reach is not None and progress is not None:
            progress.note(reach.sentence)
        result = loaded.run(store, progress=progress, budget_seconds=seconds, clock=clock)
    text = outcome(result, again=asked.next("run"), then=f"Next: {asked.next('report')}")
    told = {**summary(result), "time": clock.breakdown()}
    if reach is not None:
        told["budget"] = {"reach": reach, "before": reach.sentence, "after": None}
        if not result.is_complete:
            told["budget"]["after"] = after = reach.after(loaded.plan(store).runs)
            text = f"{text}\n{after}"
    answer(ctx, as_json, told, text)
    _exit_if_failed(result)


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
    no_items: Annotated[
        bool, typer.Option("--no-items", help="Leave out the test items whose answer changed: no question is shown.")
    ] = False,
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
    if figures is not None and Path(figures).exists() and not Path(figures).is_dir():
        raise InputError("this is a file, not a folder for figures", where=figures, hint="Name a folder")
    path = (result := loaded.result(store)).report(output, form.value, not no_items)
    said, text = {"path": str(path), "format": form.value}, f"{path} written"
    if figures is not None:
        from rankscope.report import charts, figures as files  # isort: skip

        said["figures"] = [str(file) for file in files.write(charts.charts(result.view()), figures)]
        text += f"\n{len(said['figures'])} files written to {figures}"
    answer(ctx, as_json, said, text)


# ---- without a study


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


def _exit_if_failed(result: StudyResult) -> None:
    if result.failed:
        raise typer.Exit(1)
