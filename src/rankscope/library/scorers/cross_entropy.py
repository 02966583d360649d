"""How surprised a model is by a text: nats per token, lower is better.

The mean over a task's texts is a mean of per-text rates, so a short text weighs as much as a long one; exp of it is a
perplexity. Comparable between arms over one tokenizer, not between tokenizers.

Worked instance: a text of 4 scored tokens with log-likelihood -10.0 nats: value 2.5.
"""

from __future__ import annotations

from rankscope.errors import RunFailed
from rankscope.records import Score
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Response, require_finite, scored


def cross_entropy(sample: Sample, response: Response) -> Score:
    """Nats per token. Raises RunFailed if no token was scored or a value is not finite."""
    require_finite(sample, response.loglikelihoods)
    if not response.loglikelihoods or sum(response.num_tokens) < 1:
        raise RunFailed(f"no token of item {sample.id} was scored", stage="evaluate",
                        hint="The text needs at least two tokens")  # fmt: skip
    return scored(sample, -sum(response.loglikelihoods) / sum(response.num_tokens))


PLUGIN = cross_entropy
