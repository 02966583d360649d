"""Intruder dimensions: large directions of a tuned weight that the base's weight does not have.

Evidence. Shuttleworth et al., "LoRA vs Full Fine-tuning: An Illusion of Equivalence" (2410.21228) and its code: among
the top k = 10 left singular vectors of W + dW (merged, float32), one whose largest absolute cosine with every left
singular vector of W is below 0.5. LoRA at low rank has them, full fine-tuning hardly any; they go along with
forgetting. Interference: the subspaces that OPLoRA (2510.13003) keeps updates out of; the share of energy is our norm.

Worked instance: W is 100 x 100 with singular values near 1, dW = 5 u v' with a random unit u. The first left vector of
W + dW is then nearly u, whose cosine with each of W's hundred left vectors is about 0.1: one intruder. With u the first
left vector of W there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rankscope.analysis.diagnostic import Diagnostic, Quantity
from rankscope.errors import ModelError
from rankscope.records import Reading

if TYPE_CHECKING:
    from rankscope.analysis.subject import Subject

PAPER = "Shuttleworth et al. 2024 (2410.21228)"

QUANTITIES = (
    Quantity("intruders", "directions", "top left singular vectors of W + dW that are like none of W's", PAPER),
    Quantity("intruder_cosines", "cosine", "largest absolute cosine of each top left singular vector of W + dW with "
             "all of W's", PAPER),
    Quantity("near_ties", "directions", "cosines within 0.001 of the threshold, which rounding may decide", PAPER),
    Quantity("interference", "share", "share of the update's squared norm in W's top singular subspaces",
             "OPLoRA, 2510.13003; squared Frobenius norms"),
)  # fmt: skip


def measure(subject: Subject, options: Mapping[str, Any]) -> Iterator[Reading]:
    """Four readings a module. Raises ModelError naming the module whose weights are NaN, infinite or don't fit."""
    from rankscope.analysis.base_spectra import kept
    from rankscope.analysis.intruders import find, interference
    from rankscope.models.names import layer_of

    k, threshold = options["k"], float(options["threshold"])
    for name, delta in subject.update.deltas.items():
        weight = subject.weight(name)
        try:
            spectrum = kept(weight, subject.cache, subject.base.ref.key, name)
            found = find(weight, delta, spectrum, k, threshold)
            share = interference(weight, delta, spectrum, k)
        except ModelError as error:
            raise ModelError(error.what, got=error.got, where=name, hint=error.hint) from error
        layer = layer_of(name)
        yield Reading("intruders", (float(found.count),), layer, name)
        yield Reading("intruder_cosines", tuple(round(c, 6) for c in found.cosines.tolist()), layer, name)
        yield Reading("near_ties", (float(found.near_ties),), layer, name)
        yield Reading("interference", (None if share is None else float(f"{share:.6g}"),), layer, name)
        subject.tick(1)


def check(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the options."""
    k, threshold = options["k"], options["threshold"]
    found = [] if type(k) is int and k >= 1 else ["k must be a whole number of 1 or more"]
    is_share = type(threshold) in (int, float) and 0 < threshold <= 1
    return found + ([] if is_share else ["threshold must be above 0 and at most 1"])


PLUGIN = Diagnostic(
    name="intruders",
    summary="Top directions of the tuned weights that the base's weights don't have",
    quantities=QUANTITIES,
    measure=measure,
    reads=("base",),
    options={"k": 10, "threshold": 0.5},
    check=check,
)
