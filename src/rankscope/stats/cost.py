"""What training costs, by count. In: sizes. Out: FLOPs and parameters. Knows nothing about clocks.

Source: 6 N per token for full training (Kaplan et al. 2001.08361); with a frozen base the weight gradients fall away,
and so does all of the backward pass below the lowest layer that is adapted.
"""

from __future__ import annotations

PASS_TOKENS = 640
"""Tokens that a CPU computes at once, about: enough for products at nearly full speed (measured from 512 to 4,096)."""
FROZEN_LOGITS = 8_000_000
"""Float32 logits held at once under a frozen head: 32 MB, of which the allocator keeps the pages for the next slice."""
LOGITS = 32_000_000
"""Float32 logits held at once under any other head, and where nothing is trained: 128 MB."""
SCORE_TOKENS = 4096
"""Tokens of one batch in scoring."""


def passes(tokens: float) -> int:
    """In how many passes a CPU computes a micro-batch of so many tokens, padding counted."""
    return max(1, round(tokens / PASS_TOKENS))


def flops_per_token(kind: str, num_params: int, trainable: int, below: int = 0) -> float:
    """Training FLOPs per token, attention scores left out: full 6 N; LoRA 4 N + 6 x adapter parameters, less 2 x the
    parameters ``below`` the lowest adapted layer. Counted as if the run were trained alone."""
    return 6.0 * num_params if kind == "full" else 4.0 * num_params - 2.0 * below + 6.0 * trainable


def model_params(shape: dict) -> int:
    """Parameters of a Llama-shaped decoder from its sizes, norms left out; a head of its own counts (``untied``)."""
    tables = 2 if shape.get("untied") else 1
    return tables * shape["vocab"] * shape["hidden"] + shape["layers"] * layer_params(shape)


def linear_shapes(shape: dict) -> list[tuple[int, int]]:
    """(outputs, inputs) of the seven linear layers of one block: q, k, v, o, gate, up, down."""
    d, f, q, kv = shape["hidden"], shape["inner"], shape["q"], shape["kv"]
    return [(q, d), (kv, d), (kv, d), (d, q), (f, d), (f, d), (d, f)]


def adapter_params(rank: int, shape: dict) -> int:
    """Parameters of a LoRA adapter of rank r on all linear layers: r (O + I) each."""
    return shape["layers"] * sum(rank * (o + i) for o, i in linear_shapes(shape))


def layer_params(shape: dict) -> int:
    """Parameters of one block, norms left out."""
    return sum(o * i for o, i in linear_shapes(shape))
