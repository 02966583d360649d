"""The verb that proposes an arm to try next, and how a proposal is printed. It joins the app of ``verbs``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankscope.cli.advice import app
from rankscope.cli.answer import STORE, Asked, answer
from rankscope.cli.verbs import DataOpt, JsonOpt, SetOpt, StoreOpt, StudyArg, load

if TYPE_CHECKING:
    from rankscope.records import Arm
    from rankscope.study.proposal import Proposal


@app.command(epilog="\b\nExample: rankscope propose study.yaml --add")
def propose(
    ctx: typer.Context,
    study: StudyArg,
    arm: Annotated[
        str | None,
        typer.Option(metavar="ARM", help="The LoRA arm to make leaner; by default the recommended one."),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Write the proposed arm into the study file.")] = False,
    store: StoreOpt = STORE,
    overrides: SetOpt = None,
    data_dir: DataOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Propose an arm that adapts only what carried the gain.

    Layers and ranks come from the diagnostic attribution, which chose them on validation rows. Once added and run, the
    arm is judged like any other.
    """
    from rankscope.study.proposal import parameters, proposals

    asked = Asked(study, store, tuple(overrides or ()), data_dir)
    loaded = load(asked)
    result = loaded.result(store)
    preferred = [advice.choice.arm for advice in result.view().advice]
    known = loaded.config.arms()
    found = [_unlike(known, p) for p in proposals(result.evidence, arm, preferred, asked.next("run"))]
    sizes = [[parameters(p.model, a) for a in (p.arm, p.origin)] for p in found]
    added = _add(study, known, found, asked.overrides) if add else []
    data = [proposal_data(p, *pair) for p, pair in zip(found, sizes, strict=True)]
    lines = [proposal_text(p, *pair) for p, pair in zip(found, sizes, strict=True)]
    lines += [_next(asked, known, found, added)]
    told = {"proposals": data, "added": added, "path": study}
    answer(ctx, as_json, told, "\n\n".join(lines))


def _unlike(known: tuple[Arm, ...], found: Proposal) -> Proposal:
    """The proposal under the name it has in the study already, or under one that no other treatment there has."""
    from rankscope.config.append import find_twin

    if twin := find_twin(known, found.arm):
        return replace(found, arm=twin)
    names, name, count = {arm.name for arm in known}, found.arm.name, 1
    while name in names:
        count += 1
        name = f"{found.arm.name}-{count}"
    return replace(found, arm=replace(found.arm, name=name))


def _add(study: str, known: tuple[Arm, ...], found: list[Proposal], overrides: tuple[str, ...]) -> list[str]:
    """Write the arms that the study doesn't have yet; their names."""
    from rankscope.config.append import append_arm

    new = list(dict.fromkeys(p.arm for p in found if p.is_new and p.arm not in known))
    for arm in new:
        append_arm(study, arm, overrides)
    return [arm.name for arm in new]


def _next(asked: Asked, known: tuple[Arm, ...], found: list[Proposal], added: list[str]) -> str:
    """What became of the proposals, and the next command."""
    there = list(dict.fromkeys(p.arm.name for p in found if p.is_new and p.arm in known))
    lines = [f"{name} written into {asked.study}" for name in added]
    lines += [f"{name} is in {asked.study} already; nothing was changed" for name in there]
    if added or there:
        return "\n".join([*lines, f"Next: {asked.next('run')}"])
    if any(p.is_new for p in found):
        return f"Next: {asked.next('propose')} --arm {found[0].origin.name} --add"
    return "Nothing to add: nothing can be left out."


def proposal_data(found: Proposal, trained: int | None, before: int | None) -> dict[str, Any]:
    """JSON-ready data of a proposal."""
    from rankscope.config.append import arm_text
    from rankscope.provenance import plain

    return {
        "model": found.model.name,
        "train": found.train,
        "origin": found.origin.name,
        "arm": plain(found.arm),
        "entry": arm_text(found.arm),
        "ranks": dict(found.ranks),
        "kept": plain(found.kept),
        "chosen_on": "validation rows",
        "seeds": list(found.seeds),
        "seeds_that_differ": list(found.others),
        "trainable": trained,
        "origin_trainable": before,
        "is_new": found.is_new,
    }


def proposal_text(found: Proposal, trained: int | None, before: int | None) -> str:
    """What is kept, what it costs, how much of the gain it had, and the entry of the study file."""
    from rankscope.config.append import arm_text
    from rankscope.config.layers import layer_text

    arm, origin = found.arm, found.origin
    if not found.is_new:
        return f"{origin.name} on {found.model.name}, trained on {found.train}: nothing can be left out"
    ranks = ", ".join(f"{kind} {rank}" for kind, rank in found.ranks if rank) or "none"
    left_out = ", ".join(kind for kind, rank in found.ranks if not rank)
    lines = [
        f"{arm.name}: {origin.name} on {found.model.name}, trained on {found.train}, made leaner",
        f"layers: {'all' if arm.layers is None else layer_text(arm.layers)}",
        f"ranks: {ranks}" + (f"; left out: {left_out}" if left_out else ""),
    ]
    if trained is not None and before:
        lines.append(f"trains {trained:,} parameters, {trained / before:.0%} of {origin.name}'s {before:,}")
    lines.append(_kept_text(found))
    if found.others:
        seeds = ", ".join(map(str, found.others))
        lines.append(f"other seeds chose other parts: {seeds}; these are those of seed {found.seeds[0]}")
    return "\n".join([*lines, f"- {arm_text(arm)}"])


def _kept_text(found: Proposal) -> str:
    kept = found.kept
    if kept is None:
        return "the share of the gain on validation rows is not known: no gain is shown there, or a row is missing"
    seeds = "this seed only" if kept.num_seeds == 1 else f"{kept.num_seeds} seeds"
    return (
        f"kept {kept.value:.1%} of the gain on {kept.num_items} validation rows [{kept.low:.1%}, {kept.high:.1%}] "
        f"({seeds}, delta method). The parts were chosen on these rows, which flatters them; on the test items they "
        "are not judged yet"
    )
