"""Drift of representations: how far does each layer's hidden state lie from the base's, on the same tokens?

Evidence. Linear CKA: Kornblith et al. 2019 (1905.00414). With fewer tokens than dimensions the usual estimate is near
1 whatever the states are, so HSIC is estimated without bias: Song et al. 2012 (JMLR 13), in minibatches as Nguyen et
al. 2021 (2010.15327). The first position is apart: it is an attention sink (Xiao et al. 2023, 2309.17453), whose huge
states would drown the others. Effective rank: Roy and Vetterli 2007. KL to the base: RL's Razor (2509.04259).

Worked instance: an update in layer 7 alone leaves every state up to layer 6 as it was, so all distances there are
exactly 0. A rotation of a layer's states changes each of them, but no angle between two of them: CKA distance 0, cosine
distance large. States are read after each layer, before the final norm, so those of the last layer aren't yet what the
head reads; KL by position is about what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rankscope.analysis.diagnostic import Diagnostic, Quantity
from rankscope.records import Reading

if TYPE_CHECKING:
    from rankscope.analysis.subject import Subject

CKA = "Kornblith et al. 2019 (1905.00414), debiased: Song et al. 2012, Nguyen et al. 2021 (2010.15327)"
RANK = "Roy and Vetterli 2007"

QUANTITIES = (
    Quantity("cka_distance", "1", "1 - debiased linear CKA of base and tuned states: 0 if they agree but for rotation "
             "and scale, 1 if they have nothing in common", CKA),
    Quantity("cosine_distance", "1", "1 - cosine of base and tuned state, mean over tokens after the first",
             "the cosine of Ethayarajh 2019 (1909.00512), here between two models"),
    Quantity("sink_cosine_distance", "1", "1 - cosine of base and tuned state at the first token alone",
             "Xiao et al. 2023 (2309.17453)"),
    Quantity("effective_rank_base", "dimensions", "exp of the entropy of the shares of the singular values of the "
             "base's centred states, of at most 1,024 tokens", RANK),
    Quantity("effective_rank_tuned", "dimensions", "the same of the tuned model's states", RANK),
    Quantity("hidden_spectrum_base", "share", "largest 32 shares of variance of the base's centred states", RANK),
    Quantity("hidden_spectrum_tuned", "share", "the same of the tuned model's states", RANK),
    Quantity("kl_by_position", "nats", "KL(base || tuned) of the next token, after position 1, 2, 3-4, 5-8, ...",
             "RL's Razor (2509.04259)"),
)  # fmt: skip


def measure(subject: Subject, options: Mapping[str, Any]) -> Iterator[Reading]:
    """All readings of one run. Raises RunFailed on a model without a list of layers, and on states that aren't
    finite."""
    from rankscope.analysis.drift import drift

    yield from drift(subject)


PLUGIN = Diagnostic(
    name="drift",
    summary="How far each layer's hidden states lie from the base's (CKA, cosine, spectrum), and KL by position",
    quantities=QUANTITIES,
    measure=measure,
    reads=("base", "texts"),
)
