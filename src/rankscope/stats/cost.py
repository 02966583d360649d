"""What training costs, by count. In: sizes. Out: FLOPs and parameters. Knows nothing about clocks.

Source: 6 N per token for full training (Kaplan et al. 2001.08361); with a frozen base the weight gradients fall away,
and so does all of the backward pass below the lowest layer that is adapted.
"""

from __future__ import annotations


def flops_per_token(kind: str, num_params: int, trainable: int, below: int = 0) -> float:
    """Training FLOPs per token, attention scores left out: full 6 N; LoRA 4 N + 6 x adapter parameters, less 2 x the
    parameters ``below`` the lowest adapted layer. Counted as if the run were trained alone."""
    return 6.0 * num_params if kind == "full" else 4.0 * num_params - 2.0 * below + 6.0 * trainable


def model_params(shape: dict) -> int:
    """Parameters of a Llama-shaped decoder from its sizes (embeddings counted once, norms left out)."""
    return shape["vocab"] * shape["hidden"] + shape["layers"] * layer_params(shape)


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
