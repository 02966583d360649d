"""Which layers and modules to adapt next time, as an arm. In: what the diagnostic attribution read. Out: ``Proposal``s.

The diagnosis chose the parts on validation rows; here they become an arm of the study file, with what it would cost and
what it kept there. It is judged like any other arm, once it has run. Loads no torch unless parameters are counted.

Legend: S seeds, N validation rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rankscope.config.layers import layer_numbers
from rankscope.errors import InputError, ModelError
from rankscope.models.names import is_met, kind_of
from rankscope.plugins import did_you_mean
from rankscope.records import Arm, Diagnosis, Estimate, ModelRef, Reading, RunSpec
from rankscope.report.evidence import Evidence
from rankscope.stats.share import share

DIAGNOSTIC, CHOSEN = "attribution", "proposal"
_ONLY = "only layers "


@dataclass(frozen=True)
class Proposal:
    """An arm to try, made from ``origin``. ``kept``: the share of the validation gain that the kept parts of the
    trained update have by themselves; None where no gain is shown.

    ``ranks`` are those of each kind of module (0: left out). ``seeds`` chose the same parts, ``others`` different ones.
    """

    model: ModelRef
    train: str
    origin: Arm
    arm: Arm
    ranks: tuple[tuple[str, int], ...]
    kept: Estimate | None
    seeds: tuple[int, ...]
    others: tuple[int, ...] = ()

    @property
    def is_new(self) -> bool:
        """Whether anything is left out: else the arm is its origin by another name."""
        return replace(self.arm, name=self.origin.name) != self.origin


@dataclass(frozen=True)
class _Measured:
    """One run's finished attribution."""

    spec: RunSpec
    diagnosis: Diagnosis

    def reading(self, name: str, variant: str) -> Reading | None:
        found = (r for r in self.diagnosis.readings if (r.name, r.variant) == (name, variant))
        return next((r for r in found if r.part in ("", "validation")), None)

    @property
    def layers(self) -> tuple[int, ...] | None:
        """The layers that the proposal keeps, ascending; None if there is no proposal."""
        found = self.reading("kept_layers", CHOSEN)
        return tuple(sorted(int(x) for x in found.values if x is not None)) if found else None

    @property
    def ranks(self) -> tuple[tuple[str, int], ...]:
        found = (r for r in self.diagnosis.readings if (r.name, r.variant) == ("kept_rank", CHOSEN))
        return tuple((r.module, int(r.values[0] or 0)) for r in found)

    @property
    def every_layer(self) -> frozenset[int]:
        """All layers that were tried alone."""
        names = (r.variant.removeprefix(_ONLY) for r in self.diagnosis.readings if r.variant.startswith(_ONLY))
        return frozenset(layer for name in names for layer in layer_numbers(name))

    def gains(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(N,) nats that the kept parts, and the whole update, took off each validation row's loss."""
        rows = [self.reading("loss", variant) for variant in ("none", CHOSEN, "")]
        if any(r is None or None in r.values for r in rows) or len({len(r.values) for r in rows}) > 1:
            return None
        base, part, whole = (np.array(r.values, dtype=float) for r in rows)
        return base - part, base - whole


def proposals(evidence: Evidence, name: str | None, preferred: Sequence[str | None], step: str) -> list[Proposal]:
    """One proposal for each model and train task, all from one LoRA arm: the one named, else the first of ``preferred``
    that was measured, else the only one that was.

    ``step`` is the command that measures what is missing. Raises InputError where there is nothing to go by.
    """
    measured = _measured(evidence)
    origin = _origin(evidence, measured, name, preferred, step)
    groups: dict[tuple[str, str], list[_Measured]] = {}
    for one in measured:
        if one.spec.arm.name == origin.name and one.layers and any(rank for _, rank in one.ranks):
            groups.setdefault((one.spec.model.name, one.spec.train.name), []).append(one)
    if not groups:
        raise InputError(f"the attribution of {origin.name} proposes nothing", got=_reason(evidence, origin.name),
                         hint="No part of its update is shown to carry a gain on the validation rows")  # fmt: skip
    found = [_proposal(origin, group) for group in groups.values()]
    if len({replace(p.arm, name="") for p in found}) == 1:
        return found
    several = len({p.model.name for p in found}) > 1
    return [replace(p, arm=replace(p.arm, name="-".join([p.arm.name, *([p.model.name] if several else []), p.train])))
            for p in found]  # fmt: skip


def parameters(model: ModelRef, arm: Arm) -> int | None:
    """What a LoRA arm trains of a model, by its modules without weights; None where the model isn't here.

    Raises ModelError if the arm doesn't fit the model.
    """
    from rankscope.models import locate

    if not locate.place(model).is_local:
        return None
    from rankscope.models.base import outline
    from rankscope.models.lora import adapted_modules, sizes

    modules = outline(model)
    try:
        adapted = adapted_modules(modules, arm)
    except ModelError as error:
        raise ModelError(f"{arm.name} doesn't fit {model.name}: {error.what}", got=error.got,
                         hint="Study that model apart") from error  # fmt: skip
    return sum(rank * sum(sizes(modules.get_submodule(module))) for module, rank in adapted.items())


def _measured(evidence: Evidence) -> list[_Measured]:
    """Finished attributions of final LoRA runs, by seed."""
    found = [_Measured(spec, evidence.diagnoses[key, DIAGNOSTIC]) for spec, key, _, role in evidence.runs
             if role == "final" and spec.arm.kind == "lora" and (key, DIAGNOSTIC) in evidence.diagnoses]  # fmt: skip
    return sorted((m for m in found if m.diagnosis.status == "done"), key=lambda m: m.spec.seed)


def _origin(
    evidence: Evidence, measured: list[_Measured], name: str | None, preferred: Sequence[str | None], step: str
) -> Arm:
    arms = {arm.name: arm for arm in evidence.arms}
    if name is not None and name not in arms:
        raise InputError(f"no arm named {name!r}{did_you_mean(name, list(arms))}", hint=f"Arms: {', '.join(arms)}")
    if name is not None and arms[name].kind != "lora":
        raise InputError("only a LoRA arm that this study trains can be made leaner", got=name)
    names = list(dict.fromkeys(m.spec.arm.name for m in measured))
    if not names or (name is not None and name not in names):
        what = "no attribution has been measured" + (f" of {name}" if name is not None else "")
        raise InputError(what, got=_reason(evidence, name),
                         hint=f"Add attribution to diagnose: in the study file. Next: {step}")  # fmt: skip
    for wanted in (name, *preferred):
        if wanted in names:
            return arms[wanted]
    if len(names) > 1:
        raise InputError("several arms have an attribution; name one", hint=f"--arm {' or '.join(names)}")
    return arms[names[0]]


def _reason(evidence: Evidence, name: str | None) -> str | None:
    """What a failed attribution said."""
    failed = (evidence.diagnoses.get((key, DIAGNOSTIC)) for spec, key, *_ in evidence.runs
              if name in (None, spec.arm.name))  # fmt: skip
    return next((d.message for d in failed if d is not None and d.status == "failed"), None)


def _proposal(origin: Arm, group: list[_Measured]) -> Proposal:
    """From the runs of one model and train task: the first seed's parts; what is kept, over all that chose them."""
    first = group[0]
    same = [m for m in group if (m.layers, dict(m.ranks)) == (first.layers, dict(first.ranks))]
    gains = [g for m in same if (g := m.gains()) is not None]
    is_table = bool(gains) and len({len(part) for part, _ in gains}) == 1
    kept = share(np.stack([p for p, _ in gains]), np.stack([w for _, w in gains])) if is_table else None
    seeds, others = (tuple(m.spec.seed for m in group if (m in same) is chosen) for chosen in (True, False))
    arm = _arm(origin, first.layers, first.ranks, first.every_layer)
    return Proposal(first.spec.model, first.spec.train.name, origin, arm, first.ranks, kept, seeds, others)


def _arm(origin: Arm, layers: tuple[int, ...], ranks: Iterable[tuple[str, int]], every: frozenset[int]) -> Arm:
    """The origin, but for the parts that are left out and the ranks."""
    kept = {kind: rank for kind, rank in ranks if rank > 0}
    left_out = [kind for kind, rank in ranks if rank == 0]
    rank = max(kept.values())
    targets = origin.targets
    if left_out:
        is_every = targets == ("all-linear",)
        targets = tuple(kept) if is_every else tuple(t for t in targets if kind_of(t) not in left_out)
    # Alpha stays, and so does the rate: with alpha / r the sum of r terms moves about as fast at any rank, which is why
    # one rate fits them all (LoRA Without Regret, Thinking Machines 2025).
    return replace(
        origin,
        name=f"{origin.name}-lean",
        rank=rank,
        targets=targets,
        layers=None if every and every <= set(layers) else layers,
        rank_pattern=tuple((kind, r) for kind, r in kept.items() if r != rank),
        alpha_pattern=tuple((p, a) for p, a in origin.alpha_pattern if not any(is_met(p, kind) for kind in left_out)),
    )
