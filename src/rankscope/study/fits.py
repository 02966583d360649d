"""Whether a run's memory fits a host, and what would make it fit. In: spans of bytes, a spec, a host. Out: words.

Only settings that a study file has are offered, as ``--set`` takes them. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from rankscope.records import RunSpec
from rankscope.stats.gpus import GPUS
from rankscope.study.host import Host
from rankscope.study.memory import train_need
from rankscope.study.sizes import model_size
from rankscope.study.span import Span

YES, NO, PERHAPS = "yes", "no", "perhaps"
_OWN = 0.9  # of a computer's memory that programs may take; the rest is the system's
_FEWEST = 256  # tokens of the smallest batch that is offered


@dataclass(frozen=True)
class Remedies:
    """``settings`` as ``--set`` takes them, which together make it fit; empty: none do. ``gpu``: where none do, the
    smallest card known that holds it, perhaps with a setting."""

    settings: tuple[str, ...]
    gpu: str = ""


def usable_bytes(host: Host) -> float | None:
    """A GPU's memory as sold; of a computer's what programs may take; None: not known."""
    if host.memory_bytes is None:
        return None
    return host.memory_bytes * (1.0 if host.is_gpu else _OWN)


def fits(peak: Span, host: Host) -> str:
    """Whether so much memory is there; empty where the host's isn't known."""
    room = usable_bytes(host)
    if room is None:
        return ""
    if peak.value is not None:
        return YES if peak.value <= room else NO
    return YES if peak.high <= room else NO if peak.low > room else PERHAPS


def remedies(spec: RunSpec, shape: dict, host: Host, index: int) -> Remedies:
    """The fewest settings that make the run fit for sure, the mildest first. ``index``: the model's in the study."""
    room = usable_bytes(host)
    for names, changed in _changes(spec, host, index):
        if room is not None and _need(changed, shape, host).high <= room:
            return Remedies(names)
    return Remedies((), next(_cards(spec, shape), ""))


def _cards(spec: RunSpec, shape: dict) -> Iterator[str]:
    """Cards that hold the run, the smallest first: as it is, or with gradient checkpointing."""
    saving = replace(spec, recipe=replace(spec.recipe, gradient_checkpointing=True))
    for card in sorted(GPUS, key=lambda g: g.memory_bytes):
        host = Host(card.name, card.memory_bytes, card.flops, is_here=False)
        for one, words in ((spec, ""), (saving, " with training.gradient_checkpointing=true")):
            if _need(one, shape, host).high <= card.memory_bytes:
                yield card.name + words


def _need(spec: RunSpec, shape: dict, host: Host) -> Span:
    return train_need(model_size(spec.model, shape, host.is_gpu), [spec], host.is_gpu).span


def _changes(spec: RunSpec, host: Host, index: int) -> Iterator[tuple[tuple[str, ...], RunSpec]]:
    """Every combination of settings, the fewest first, with the spec that they make."""
    recipe, model = spec.recipe, spec.model
    levers: list[tuple[str, dict, dict]] = []
    if not recipe.gradient_checkpointing:
        levers.append(("training.gradient_checkpointing=true", {"gradient_checkpointing": True}, {}))
    sizes = [recipe.batch_tokens >> halvings for halvings in range(1, 8)]
    sizes = [size for size in sizes if size >= max(_FEWEST, min(recipe.max_length, recipe.batch_tokens))]
    batches = [(f"training.batch_tokens={size}", {"batch_tokens": size}, {}) for size in sizes]
    if host.is_gpu and model.dtype == "float32":
        levers.append((f"models[{index}].dtype=bfloat16", {}, {"dtype": "bfloat16"}))
    if host.is_gpu and spec.arm.kind == "lora" and model.quantization is None:
        levers.append((f"models[{index}].quantization=nf4", {}, {"quantization": "nf4"}))
    found = [[*some, *more] for count in range(len(levers) + 1) for some in combinations(levers, count)
             for more in ([], *([batch] for batch in batches))]  # fmt: skip
    for chosen in sorted(found, key=lambda some: (len(some), any(one in batches for one in some))):
        if chosen:
            changes = {k: v for _, own, _ in chosen for k, v in own.items()}
            numbers = {k: v for _, _, own in chosen for k, v in own.items()}
            yield tuple(name for name, _, _ in chosen), replace(spec, recipe=replace(recipe, **changes),
                                                                model=replace(model, **numbers))  # fmt: skip
