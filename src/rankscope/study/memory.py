"""How much memory a run takes. In: run specs and sizes. Out: ``Need``, bytes that are counted and bytes about so many.

What is counted: weights, gradients, AdamW's moments. What is estimated: activations that the backward pass keeps, and
logits, of which a slice is there at a time. A CPU computes about ``PASS_TOKENS`` tokens at once, however large the
batch is; a GPU the whole micro-batch of all runs side by side. No torch.

Legend: N parameters of the model, K runs side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rankscope.records import Recipe, RunSpec
from rankscope.stats.cost import FROZEN_LOGITS, LOGITS, PASS_TOKENS, SCORE_TOKENS
from rankscope.study.sizes import Size
from rankscope.study.span import Span

RUNTIME_BYTES = 550e6  # python, torch and transformers in the process before any weight is read
_LABELS = 0.5  # of the tokens carry a label, at most about
_SLACK = 1.15  # what the process keeps of freed activations, measured on SmolLM2 from 512 to 1,024 tokens a pass


@dataclass(frozen=True)
class Need:
    """``fixed`` is counted, ``about`` estimated; ``runtime`` is the process without a model, where it counts."""

    fixed: float
    about: float
    runtime: float = 0.0

    @property
    def bytes(self) -> int:
        return round(self.fixed + self.about + self.runtime)

    @property
    def span(self) -> Span:
        """From what it could be with luck to what it could be without, where nothing is measured."""
        low = self.fixed + 0.7 * self.about + 0.7 * self.runtime
        return Span(low, 1.02 * self.fixed + 1.4 * self.about + 1.6 * self.runtime)


def train_need(size: Size, specs: Sequence[RunSpec], is_gpu: bool = True) -> Need:
    """Peak memory of one cohort: weights, gradients and AdamW's moments of what is trained, activations, logits."""
    recipe, shape, n = specs[0].recipe, size.shape, size.num_params
    is_full, is_half = specs[0].arm.kind == "full", size.width < 4
    if is_full:  # a float32 copy beside the frozen base; under autocast its weights are there in half, too
        fixed = size.weight_bytes + (18 if is_half else 16) * n
    else:
        fixed = size.weight_bytes + 16 * sum(size.trainable(s) for s in specs)
    tokens = _at_once(recipe, specs, is_gpu)
    d, inner, vocab = shape["hidden"], shape["inner"], shape["vocab"]
    norms = 6 * d * 4  # kept in float32 whatever the weights are
    kept = norms + (4 * d + 3 * shape["q"] + 4 * shape["kv"] + 4 * inner) * size.width
    if recipe.gradient_checkpointing:
        activations = tokens * (shape["layers"] * d * size.width + kept)
    else:
        activations = tokens * shape["layers"] * kept
    on_the_way_back = tokens * (3 * inner + 4 * d) * size.width
    logits = min(LOGITS if is_full else FROZEN_LOGITS, _LABELS * tokens * vocab) * 4 * (3 if is_full else 2)
    slack = 1.0 if is_gpu else _SLACK
    return Need(float(fixed), slack * (activations + on_the_way_back) + logits, 0.0 if is_gpu else RUNTIME_BYTES)


def train_bytes(size: Size, specs: Sequence[RunSpec], is_gpu: bool = True) -> int:
    return train_need(size, specs, is_gpu).bytes


def score_need(size: Size, kind: str, is_gpu: bool = True) -> Need:
    """Memory of scoring: the weights, twice where a checkpoint or full SFT's copy lies beside the base."""
    fixed = size.weight_bytes + (size.num_params * 4 if kind in ("checkpoint", "full") else 0)
    shape = size.shape
    passing = SCORE_TOKENS * (4 * shape["inner"] + 8 * shape["hidden"]) * size.width  # one layer's at a time
    logits = 2 * 4 * min(LOGITS, _LABELS * SCORE_TOKENS * shape["vocab"])
    return Need(float(fixed), float(passing + logits), 0.0 if is_gpu else RUNTIME_BYTES)


def _at_once(recipe: Recipe, specs: Sequence[RunSpec], is_gpu: bool) -> float:
    """Tokens of one forward pass, padding counted. Dropout's masks depend on the parts: there is one pass."""
    tokens = recipe.batch_tokens * len(specs)
    if is_gpu or any(s.arm.dropout for s in specs):
        return float(tokens)
    return tokens / max(1, round(tokens / PASS_TOKENS))
