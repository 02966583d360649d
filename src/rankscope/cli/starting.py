"""The verbs that start a study: a commented file, sized to a budget, and the schema for editors.

In: words or answers of the user. Out: a study file that loads and passes ``check``. What it holds is decided in
``study.sizing`` and ``config.starter``; here is only asked and told.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankscope.cli.answer import STORE, Asked, answer
from rankscope.cli.options import DataOpt, JsonOpt, app, check_destination, parse_duration
from rankscope.errors import InputError

if TYPE_CHECKING:
    from rankscope.config.starter import Question
    from rankscope.study.sizing import Sized

Words = list[str] | None


@app.command(epilog="\b\nExample: rankscope init my-study --model HuggingFaceTB/SmolLM2-135M-Instruct --train arc_easy "
                    "--budget 2h")  # fmt: skip
def init(
    ctx: typer.Context,
    folder: Annotated[str, typer.Argument(metavar="[DIR]", help="Where study.yaml goes; made if missing.")] = ".",
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A hub id, a folder, a .gguf file, or demo.")
    ] = None,
    train: Annotated[
        Words,
        typer.Option(
            metavar="TASK|FILE", help="What to train on: a task, a file or folder of rows, or hub:ORG/NAME. Repeatable."
        ),
    ] = None,  # fmt: skip
    retention: Annotated[
        Words,
        typer.Option(
            metavar="TASK|FILE", help="What must not be forgotten, named as for --train, or none. Repeatable."
        ),
    ] = None,  # fmt: skip
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long the study may take here: 45m, 2h, 1h30m.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, metavar="N", help="Seeds, kept whatever the budget is.")] = None,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="The question, as the report shows it.")] = None,
    data_dir: DataOpt = None,
    store: Annotated[
        str, typer.Option("--store", metavar="DIR", help="Folder of results: what was measured there predicts better.")
    ] = STORE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: the default for all that isn't said.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Write a commented study.yaml, sized to a time budget.

    With options it asks nothing. Without any, it asks on a terminal and writes a starter elsewhere. The file's head
    says the predicted time and what was given up for the budget. Nothing is overwritten, and the hub is not asked.
    """
    path = Path(folder) / "study.yaml"
    step = Asked(str(path), data_dir=None).next("check")
    if path.exists():
        raise InputError("there is a study here already", where=str(path), hint=f"Next: {step}")
    seconds = None if budget is None else parse_duration(budget)
    is_plain = all(given is None for given in (model, train, retention, budget, seeds, title, data_dir))
    if is_plain and not yes and not as_json and sys.stdin.isatty():
        model, train, retention, seconds = _ask()
        is_plain = False
    if is_plain:
        from rankscope.config.starter import STARTER

        _write(path, STARTER)
        answer(ctx, as_json, {"path": str(path)}, f"{path} written. Next: {step}")
        return
    sized, text = _sized(_question(model, train, retention, title, data_dir), path.parent, store, seconds, seeds)
    _write(path, text)
    answer(ctx, as_json, _data(path, sized, seconds), _told(path, sized, seconds, step))


@app.command(epilog="\b\nExample: rankscope schema -o study.schema.json")
def schema(
    ctx: typer.Context,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="PATH", help="Write it to a file; by default it is printed.")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Print the JSON schema of a study file, for editors.

    With this first line, an editor with a YAML language server completes and checks a study as it is written:
    # yaml-language-server: $schema=study.schema.json
    """
    from rankscope.config.schema import study_schema

    found = study_schema()
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if output is None:
        answer(ctx, as_json, found, text.rstrip("\n"))
        return
    check_destination(output)
    Path(output).write_text(text, encoding="utf-8")
    line = f"# yaml-language-server: $schema={output}"
    answer(ctx, as_json, {"path": output, "line": line}, f"{output} written. First line of a study beside it: {line}")


# ---- asking


def _ask() -> tuple[str, list[str], list[str], float | None]:
    """The questions, each with its default; a wrong answer is asked for again."""
    from rankscope.config.starter import MODEL, usual

    def ask(text: str, default: str, read: Any) -> Any:
        return typer.prompt(text, default=default, value_proc=read, err=True)

    print("Four questions; Enter takes what stands in brackets.", file=sys.stderr)
    model = ask("Model (a hub id, a folder, a .gguf file, or demo)", MODEL, _a_model)
    learned, kept = usual(model)
    train = ask("Train on (tasks, or files of your own rows; several with commas)", ", ".join(learned), _words)
    kept = tuple(name for name in kept if name not in train)
    retention = ask("What must not be forgotten (the same; or none)", ", ".join(kept) or "none", _words)
    seconds = ask("How long may it take here (45m, 2h; or any)", "any", _a_time)
    return model, train, retention, seconds


def _a_model(text: str) -> str:
    from rankscope.models.locate import place
    from rankscope.records import ModelRef

    try:
        place(ModelRef(text.strip()))
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    return text.strip()


def _words(text: str) -> list[str]:
    from rankscope.config.starter import entry

    found = [word.strip() for word in text.split(",") if word.strip()]
    try:
        for word in found if found != ["none"] else ():
            entry(word, "")
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    return found


def _a_time(text: str) -> float | None:
    return None if text.strip() == "any" else parse_duration(text)


# ---- writing


def _question(model: str | None, train: Words, retention: Words, title: str | None, data_dir: str | None) -> Question:
    from rankscope.config.starter import MODEL, Question, entry, retained, usual

    model = model or MODEL
    learned, kept = usual(model)
    trained = tuple(entry(text, "--train") for text in train or learned)
    if retention is None:
        retained_on = retained(trained, kept)
    else:
        retained_on = tuple(entry(text, "--retention") for text in retention if text != "none")
    return Question(model, trained, retained_on, title, data_dir)


def _sized(question: Question, folder: Path, store: str, seconds: float | None, seeds: int | None) -> tuple[Sized, str]:
    """What fits the budget, and the text of the file."""
    from rankscope.config.starter import study_text
    from rankscope.study.drafts import size
    from rankscope.study.sizing import head

    sized = size(question, store, seconds, seeds)
    return sized, study_text(question.seen_from(folder), sized.rung.scale, ["", *head(sized, seconds)])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)


def _data(path: Path, sized: Sized, budget: float | None) -> dict[str, Any]:
    return {
        "path": str(path),
        "budget_seconds": budget,
        "predicted": sized.prediction,
        "not_predicted": sized.why_not or None,
        "scale": sized.rung.scale,
        "given_up": list(sized.rung.given_up),
    }


def _told(path: Path, sized: Sized, budget: float | None, step: str) -> str:
    from rankscope.study.sizing import head

    return "\n".join([*head(sized, budget), f"{path} written. Next: {step}"])
