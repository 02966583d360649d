"""Multiple choice by plain likelihood, for choices of one length: which letter does the model find likeliest?

Source: Hendrycks et al., "Measuring Massive Multitask Language Understanding" (2009.03300), who compare the
probabilities of the letters after 'Answer:'.

Worked instance: choices ' A' (-1.2 nats) and ' B' (-0.9): ' B' is picked. Value: 1.0 right, 0.0 wrong.
"""

from __future__ import annotations

from rankscope.records import Score
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Response, pick_choice


def choice_raw(sample: Sample, response: Response) -> Score:
    """1.0 if the likeliest choice is the right one. Raises RunFailed on missing or non-finite values."""
    return pick_choice(sample, response.loglikelihoods)


PLUGIN = choice_raw
