"""Change of attention: which heads look elsewhere than they did in the base?

Evidence. Jensen-Shannon divergence (Lin 1991) of attention rows as a distance between heads: Clark et al. 2019
(1906.04341), here between the same head of two models. Entropy of rows: the same paper. Mean distance of attention:
Vig and Belinkov 2019 (1906.04284). Weight on the first token, a sink: Xiao et al. 2023 (2309.17453). A head that looks
elsewhere need not matter, and one that looks where it did may write something else: this says where, not why.

Worked instance: an update of the query rows of one head in layer 3 gives that head a divergence above 0, and exactly 0
to its neighbours in layer 3 and to all heads below. Two rows (1, 0) and (1/2, 1/2) have 0.2158 nats; rows that share no
key have ln 2 = 0.6931.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rankscope.analysis.diagnostic import Diagnostic, Quantity
from rankscope.records import Reading

if TYPE_CHECKING:
    from rankscope.analysis.subject import Subject

QUANTITIES = (
    Quantity("attention_js", "nats", "Jensen-Shannon divergence of base and tuned attention rows, mean over queries "
             "after the first: 0 if they are equal, ln 2 if they share no key",
             "Lin 1991; Clark et al. 2019 (1906.04341)"),
    Quantity("entropy_change", "nats", "entropy of attention rows, tuned - base: above 0, a head looks at more tokens",
             "Clark et al. 2019 (1906.04341)"),
    Quantity("distance_change", "tokens", "mean distance from query back to key, tuned - base: above 0, the head looks "
             "further back", "Vig and Belinkov 2019 (1906.04284)"),
    Quantity("first_token_change", "weight", "weight on the first token, tuned - base: above 0, the head rests on the "
             "sink more often", "Xiao et al. 2023 (2309.17453)"),
)  # fmt: skip


def measure(subject: Subject, options: Mapping[str, Any]) -> Iterator[Reading]:
    """All readings of one run. Raises RunFailed, naming the architecture, where attention can't be read."""
    from rankscope.analysis.attention import attention

    yield from attention(subject)


PLUGIN = Diagnostic(
    name="attention",
    summary="Where each head looks, beside the base: divergence, entropy, distance, weight on the first token",
    quantities=QUANTITIES,
    measure=measure,
    reads=("base", "texts"),
)
