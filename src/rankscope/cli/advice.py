"""The verb that recommends, and how a recommendation is printed. It joins the app of ``verbs``."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

from rankscope.cli.answer import STORE, Asked, answer, stopped
from rankscope.cli.options import DataOpt, JsonOpt, SetOpt, StoreOpt, StudyArg, load
from rankscope.cli.scoring import app
from rankscope.provenance import plain


class Preference(str, Enum):
    """What decides between ranks that can all be the best."""

    cost = "cost"
    retention = "retention"
    gain = "gain"


@app.command(epilog="\b\nExample: rankscope recommend study.yaml --retain 0.95")
def recommend(
    ctx: typer.Context,
    study: StudyArg,
    retain: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Least share of what the base could do that must be kept.")
    ] = None,
    prefer: Annotated[
        Preference | None,
        typer.Option(metavar="cost|retention|gain", help="What decides inside the range; by default the study's."),
    ] = None,
    store: StoreOpt = STORE,
    overrides: SetOpt = None,
    data_dir: DataOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Print the recommended range of ranks, from what is stored.

    One arm inside it, why, what was left out, and what would change it.
    """
    from rankscope.report.advice import check_terms

    asked = Asked(study, store, tuple(overrides or ()), data_dir)
    terms = {"retain": retain, "prefer": prefer and prefer.value}
    check_terms(**terms)
    result = load(asked).result(store)
    found = [(a, result.recommend(train=a.train, model=a.model, **terms)) for a in result.view().advice]
    data = [{"model": a.model, "train": a.train, **to_plain(choice)} for a, choice in found]
    silent = result.without_recommendation()
    told = {"recommendations": data, "none_for": silent, "complete": result.is_complete}
    text = [advice_text(a.model, a.train, choice) for a, choice in found]
    text += [f"No recommendation. {reason}." for reason in silent]
    text += stopped(result)
    text += [] if result.is_complete else [f"The study is not complete. Next: {asked.next('run')}"]
    answer(ctx, as_json, told | {"dropped": plain(result.dropped)}, "\n\n".join(text))


def to_plain(choice: Any) -> dict[str, Any]:
    """JSON-ready data of a recommendation, intervals of the comparison with the best included."""
    found = plain(choice)
    if found["compared"] is not None:
        found["compared"].pop("gaps")
    return found


def advice_text(model: str, train: str, choice: Any) -> str:
    """The range, the arm, and the sentences behind them, one to a line."""
    lines = [f"{model}, trained on {train}: {choice.span}; {choice.arm or 'no arm'}", choice.reason]
    lines += [f"open: {choice.open_question}"] if choice.open_question else []
    lines += [f"also possible: {r.arm} ({r.why})" for r in choice.runners_up]
    lines += [f"left out: {e.arm} ({e.why})" for e in choice.excluded]
    lines += [f"would change it: {text}" for text in choice.would_change]
    return "\n".join(lines)
