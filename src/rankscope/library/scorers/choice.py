"""Multiple choice by length-normalised likelihood: which option's text does the model find likeliest, byte for byte?

The sum of a choice's log-likelihood is divided by the number of UTF-8 bytes of the continuation, its leading space
included, so that a long option isn't worse for being long. Bytes don't depend on the tokenizer, tokens would.
Source: the byte-normalised accuracy of Gao, "Multiple Choice Normalization in LM Evaluation" (EleutherAI, 2021).

Worked instance: choices ' Rome' (-5.0 nats) and ' Constantinople' (-9.0): -5/5 = -1.0 against -9/15 = -0.6, so the
second is picked though its sum is lower. Value: 1.0 right, 0.0 wrong.
"""

from __future__ import annotations

from rankscope.records import Score
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Response, pick_choice


def choice(sample: Sample, response: Response) -> Score:
    """1.0 if the likeliest choice per byte is the right one. Raises RunFailed on missing or non-finite values."""
    weights = [
        loglikelihood / len(text.encode())
        for loglikelihood, text in zip(response.loglikelihoods, sample.choices, strict=False)
    ]
    return pick_choice(sample, weights)


PLUGIN = choice
