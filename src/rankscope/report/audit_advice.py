"""What follows from an audit: rank spent, idle layers, a smaller rank, intruders. In: ``Found``. Out: words, numbers.

Every number is a fact about the weights. What it means for scores is marked as exploratory where the field has no
proof: no spectral estimate is known to predict the rank that a task needs, and small updates can matter.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rankscope.report.audit_rows import Found
from rankscope.report.wording import listing, number_bytes, plural

IDLE = 0.1
"""A layer is called idle below this share of the most changed layer's update."""
KEPT = 0.99
"""The share of each module's energy that a smaller rank must keep (``energy_rank_99``)."""
_SPREAD = ("stable_rank", "effective_rank", "energy_rank_90", "energy_rank_99", "utilisation")
_BESIDE = ("relative_frobenius", "relative_spectral", "interference")


def summary(found: Found) -> dict[str, Any]:
    """The modules' numbers drawn together: mean, least and largest over the modules where they are defined."""
    modules, layers = found.modules, layer_sizes(found)
    ranks = [m.place.rank for m in modules if m.place.rank is not None]
    told = {
        "kind": found.kind,
        "made_for": found.made_for or None,
        "num_modules": len(modules),
        "num_layers": len({m.place.layer for m in modules} - {None}),
        "rank": {"min": min(ranks), "max": max(ranks)} if ranks else None,
        "parameters": parameters(found),
        "total_frobenius": found.total_frobenius,
        **{name: spread(getattr(m, name) for m in modules) for name in _SPREAD},
        "zero_modules": [m.place.name for m in modules if m.is_zero],
        "most_changed_layer": max(layers, key=layers.get) if any(layers.values()) else None,
        "idle_layers": idle(layers),
        "whole": [{"name": w.name, "relative_frobenius": w.relative_frobenius} for w in found.whole],
        "truncation": truncation(found),
    }
    if found.base is None:
        return told
    beside = [m.base for m in modules if m.base is not None]
    told |= {name: spread(getattr(b, name) for b in beside) for name in _BESIDE}
    return told | {name: total(getattr(b, name) for b in beside) for name in ("intruders", "near_ties")}


def advice(found: Found) -> list[tuple[str, str]]:
    """What follows, as (label, sentence) pairs."""
    if all(m.is_zero for m in found.modules):
        rest = "only parameters outside these may differ" if found.whole else "it changes nothing"
        return [("Nothing", f"This update is zero in every linear module: {rest}, and no rank is defined.")]
    makers: tuple[Callable[[Found], str], ...] = (_rank_spent, _layers, _smaller, _intruders, _zeros)
    labels = ("Rank spent", "Layers", "Smaller rank", "Intruders", "Unchanged")
    return [(label, text) for label, make in zip(labels, makers, strict=True) if (text := make(found))]


def lead(found: Found) -> str:
    """The one sentence to read first."""
    about, layers = summary(found), layer_sizes(found)
    where = plural(about["num_modules"], "module")
    if about["stable_rank"] is None:
        return f"This update is zero in all of its {where}."
    most = f"; layer {about['most_changed_layer']} changed most" if len(layers) > 1 else ""
    stable = f"{about['stable_rank']['mean']:.3g}"
    if found.kind == "full":
        return f"The change of {where} has a stable rank of {stable} on average{most}."
    used = per_cent(about["utilisation"]["mean"])
    return f"Of rank {_span(about['rank'])}, {where} use {used}: their stable rank is {stable} on average{most}."


def layer_sizes(found: Found) -> dict[int, float]:
    """How much each layer changed: beside the base ||dW||_F by ||W||_F, else ||dW||_F, over its modules together."""
    sizes = {}
    for layer in sorted({m.place.layer for m in found.modules} - {None}):
        modules = [m for m in found.modules if m.place.layer == layer]
        size = sum(m.frobenius**2 for m in modules)
        if found.base is not None and size > 0:  # a zero update doesn't tell the size of its weight
            own = [(m.frobenius / m.base.relative_frobenius) ** 2 for m in modules if m.base.relative_frobenius]
            if not own:  # nor can anything be compared with a weight of zeros
                continue
            size /= sum(own)
        sizes[layer] = math.sqrt(size)
    return sizes


def idle(layers: dict[int, float]) -> list[int]:
    """The layers that changed less than ``IDLE`` times what the most changed one did."""
    largest = max(layers.values(), default=0.0)
    return [layer for layer, size in layers.items() if size < IDLE * largest]


def parameters(found: Found) -> int:
    """Numbers in all factors of an adapter, or in all changed matrices of a checkpoint."""
    rank = [m.place.rank for m in found.modules]
    return sum(math.prod(m.place.shape) if r is None else m.params(r) for m, r in zip(found.modules, rank, strict=True))


def truncation(found: Found) -> dict[str, Any] | None:
    """The smallest ranks that keep ``KEPT`` of every module's energy, and what they save; None if nothing is left."""
    ranks = [m.energy_rank_99 or 1 for m in found.modules]
    if all(m.is_zero for m in found.modules):
        return None
    before, after = parameters(found), sum(m.params(r) for m, r in zip(found.modules, ranks, strict=True))
    is_smaller = after < before
    return {
        "energy": KEPT,
        "ranks": {"min": min(ranks), "max": max(ranks)},
        "uniform_rank": max(ranks),
        "parameters_before": before,
        "parameters_after": after,
        "bytes_saved": round((before - after) * found.num_bytes) if is_smaller else 0,
        "command": _command(found) if found.kind == "lora" and is_smaller else None,
    }


def spread(values: Iterable[float | int | None]) -> dict[str, float | int] | None:
    """Mean, least and largest of what is defined; None if nothing is."""
    known = [v for v in values if v is not None]
    return {"mean": sum(known) / len(known), "min": min(known), "max": max(known)} if known else None


def total(values: Iterable[int | None]) -> int | None:
    """The sum of what is defined; None if nothing is."""
    known = [v for v in values if v is not None]
    return sum(known) if known else None


def spans(numbers: Sequence[int]) -> str:
    """'0, 2 and 5-7': runs of three or more are drawn together."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [f"{run[0]}-{run[-1]}" if len(run) > 2 else run for run in runs]
    return listing([str(w) for word in words for w in (word if isinstance(word, list) else [word])])


def per_cent(share: float) -> str:
    """'17 %'; below one per cent with a digit more."""
    return f"{share:.0%}".replace("%", " %") if share >= 0.01 or share == 0 else f"{share:.1%}".replace("%", " %")


def _rank_spent(found: Found) -> str:
    about = summary(found)
    ranks = f"the stable rank is {_range(about['stable_rank'])}, the effective rank {_range(about['effective_rank'])}"
    energy = f"99 % of a module's energy ||dW||_F^2 takes {_span(about['energy_rank_99'])} of its directions"
    unproven = ("Exploratory: no spectral estimate is known to predict the rank that a task needs; scores of smaller "
                "ranks do.")  # fmt: skip
    if found.kind == "full":
        return f"Of the changed matrices {ranks}; {energy}. {unproven}"
    used = f"{per_cent(about['utilisation']['mean'])} of the rank is used (stable rank by rank, on average)"
    return f"At rank {_span(about['rank'])}, {ranks}; {energy}; {used}. {unproven}"


def _layers(found: Found) -> str:
    sizes = layer_sizes(found)
    if len(sizes) < 2:
        return ""
    most, least, few = max(sizes, key=sizes.get), min(sizes, key=sizes.get), idle(sizes)
    what = "||dW||_F / ||W||_F" if found.base is not None else "||dW||_F"
    if not few:
        share = per_cent(sizes[least] / sizes[most])
        return f"No layer is idle: the least changed, layer {least}, has {share} of the {what} of layer {most}."
    word, verb = ("Layer", "is") if len(few) == 1 else ("Layers", "are")
    return (f"{word} {spans(few)} {verb} nearly idle: they have less than {per_cent(IDLE)} of the {what} of layer "
            f"{most}, the most changed. Exploratory: to leave them out next time is worth a try, but a small update "
            "may matter.")  # fmt: skip


def _smaller(found: Found) -> str:
    cut = truncation(found)
    ranks, top = _span(cut["ranks"]), cut["uniform_rank"]
    if found.kind == "full":
        size = f"{cut['parameters_after']:,} numbers, where the matrices themselves hold {cut['parameters_before']:,}"
        return f"A LoRA adapter that keeps 99 % of each module's energy would need ranks {ranks}: {size}."
    if cut["command"] is None:
        return "Nothing to truncate: to keep 99 % of each module's energy takes the whole rank everywhere."
    share = 1 - cut["parameters_after"] / cut["parameters_before"]
    return (f"Ranks {ranks} keep 99 % of each module's energy, with {per_cent(share)} fewer parameters "
            f"({number_bytes(cut['bytes_saved'])} saved); one rank for all would be {top}. "
            f"Not judged by scores. Next: {cut['command']}")  # fmt: skip


def _intruders(found: Found) -> str:
    counts = {m.place.name: m.base.intruders for m in found.modules if m.base and m.base.intruders}
    about = summary(found)
    if about.get("intruders") is None:
        return ""
    ties = f" ({plural(about['near_ties'], 'near tie')} at the threshold)" if about["near_ties"] else ""
    if not counts:
        return f"No intruder dimension: the leading directions of every tuned weight are the base's own{ties}."
    most = max(counts, key=counts.get)
    number, where = plural(about["intruders"], "intruder dimension"), f"{len(counts)} of {len(found.modules)} modules"
    return (f"{number} in {where}{ties}, most in {most} ({counts[most]}). Exploratory: intruders went with forgetting "
            "where this was studied (2410.21228).")  # fmt: skip


def _zeros(found: Found) -> str:
    names = [m.place.name for m in found.modules if m.is_zero]
    if not names:
        return ""
    shown = listing(names) if len(names) <= 3 else f"{', '.join(names[:3])}, ..."
    return f"Not changed at all, and without a rank: {len(names)} of {len(found.modules)} modules ({shown})."


def _command(found: Found) -> str:
    folder = f"{found.adapter}-99"
    return shlex.join(["rankscope", "adapter", "truncate", found.source, "--energy", f"{KEPT:g}", "-o", folder])


def _span(spread: dict[str, float | int]) -> str:
    low, high = spread["min"], spread["max"]
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _range(spread: dict[str, float | int]) -> str:
    low, high = f"{spread['min']:.3g}", f"{spread['max']:.3g}"
    return low if low == high else f"{spread['mean']:.3g} on average ({low} to {high})"
