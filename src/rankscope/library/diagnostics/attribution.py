"""Which layers and which modules carry an update's effect: switched off, and alone on.

The score of every task and the loss on validation rows are measured with one part of the update switched off, and with
that part alone on: contiguous blocks of layers, and kinds of modules. Both ways are reported, in points and in nats:
the effects of parts do not add up, so there are no shares. What full fine-tuning changed outside the layers is a part
of its own. It is an intervention and no correlation, as in activation patching (Meng et al. 2202.05262), on weights
instead of hidden states; the definition is this project's own.

From validation rows alone follows a proposal for the next arm: parts are left out one after another, the cheapest
first, as long as the rest keeps 95 % of the gain; a part that is needed stays, and the next one is tried. ``kept 1``,
``kept 2``, ... are the sets on that path. Then ranks by kind of module, the least that hold a share of its energy, cut
and measured again. An update that gained nothing gets no proposal.

A worked instance: four blocks, base loss 2.0, tuned 1.0. Without layers 0-5 the loss is 1.01, without layers 6-11 1.02,
without both 1.04, without a third 1.6: layers 12-23 are proposed, at the lowest ranks that keep 95 % of 1.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rankscope.analysis.diagnostic import Diagnostic, Quantity
from rankscope.records import Reading

if TYPE_CHECKING:
    from rankscope.analysis.subject import Subject
    from rankscope.analysis.variants import Outcome, Part
    from rankscope.models.delta import Update


def check(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the options, in phrases."""
    found = []
    for name in ("blocks", "items"):
        value = options[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            found.append(f"{name} must be a whole number from 1")
    if not isinstance(options["kinds"], bool):
        found.append("kinds must be true or false")
    return found


def measure(subject: Subject, options: Mapping[str, Any]) -> Iterator[Reading]:
    """Scores and losses of every variant, then the proposal. Takes about twice as many passes as there are parts."""
    from rankscope.analysis.capture import layers_of
    from rankscope.analysis.variants import at_home, blocks, kinds, outcomes

    subject = at_home(subject)
    update = subject.update
    stack = blocks(update, len(layers_of(subject.base)), options["blocks"])
    parts = (*stack, *(kinds(subject.base, update) if options["kinds"] else ()))
    variants = {"": update, "none": update.only(lambda name: False)}
    for part in parts:
        variants[f"without {part.name}"] = update.only(lambda name, part=part: name not in part.names)
        variants[f"only {part.name}"] = update.only(lambda name, part=part: name in part.names)
    found = outcomes(subject, variants, options["items"], [part.layers[0] for part in stack if part.layers])
    for variant, outcome in found.items():
        yield from outcome.readings(variant)
    if found[""].losses:
        yield from _proposal(subject, parts, variants, found)


def _proposal(subject: Subject, parts: Sequence[Part], variants: Mapping[str, Update],
              found: Mapping[str, Outcome]) -> Iterator[Reading]:  # fmt: skip
    from dataclasses import replace

    from rankscope.analysis.proposal import Kept, bound, eliminate, propose
    from rankscope.analysis.variants import Outcome, names_of, outcomes

    rows_only = replace(subject, tasks=())
    known = {names_of(update): found[variant].losses for variant, update in variants.items()}

    def losses(update: Update) -> Sequence[float]:
        is_cut = any(delta is not subject.update.deltas[name] for name, delta in update.deltas.items())
        names = names_of(update)
        if is_cut or names not in known:
            found = outcomes(rows_only, {"": update})[""].losses
            if is_cut:
                return found
            known[names] = found
        return known[names]

    whole, base = (Kept(variants[name], found[name].losses) for name in ("", "none"))
    most = bound(base, whole)
    if most is None:
        return
    costs = [(part, Kept(whole.update, found[f"without {part.name}"].losses).mean) for part in parts]
    path = eliminate(whole, costs, losses, most)
    for number, kept in enumerate(path, 1):
        yield from Outcome(losses=list(kept.losses)).readings(f"kept {number}")
        yield _layers(kept.layers, f"kept {number}")
    proposal = propose(whole, path, losses, most)
    if proposal is None:
        return
    yield from Outcome(losses=list(proposal.kept.losses)).readings("proposal")
    yield _layers(proposal.kept.layers, "proposal")
    for kind, rank in proposal.ranks.items():
        yield Reading("kept_rank", (float(rank),), module=kind, variant="proposal")


def _layers(layers: Sequence[int], variant: str) -> Reading:
    return Reading("kept_layers", tuple(map(float, layers)), variant=variant)


PLUGIN = Diagnostic(
    name="attribution",
    summary="Scores and losses with parts of the update switched off, and alone on; what to adapt next time",
    quantities=(
        Quantity("score", "points", "score of every item under a part of the update", "this project"),
        Quantity("loss", "nats", "loss of every validation row under a part of the update", "this project"),
        Quantity("kept_layers", "layer", "layers that a set of parts, or the proposal, keeps", "this project"),
        Quantity("kept_rank", "rank", "rank that the proposal gives a kind of module; 0 leaves it out", "this project"),
    ),
    measure=measure,
    reads=("base", "tasks", "validation"),
    options={"blocks": 4, "items": 100, "kinds": True},
    check=check,
    is_costly=True,
)
