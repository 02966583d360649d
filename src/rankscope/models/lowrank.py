"""One linear layer and the low-rank updates of its rows, as one differentiable step. In: rows, weight, factors. Out: y.

A plain layer of this kind makes a tensor as wide as the output for the update, one for its scale and one for the sum,
and three more on the way back. Here the update is added in place (``addmm_``), the scale is folded into the narrow
product, and only x and that product are kept for the way back. The plain twin is tests/reference/lora.py.
Knows nothing about modules, names or routing.

Legend: N rows (batch and tokens as one), D inputs, O outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Part:
    """Rows [start, stop) of the first dimension and the update that they get: scale * (mask * x) A^T B^T."""

    start: int
    stop: int
    a: Float[Tensor, "R D"]
    b: Float[Tensor, "O R"]
    scale: float
    mask: Tensor | None = None


def linear(
    x: Float[Tensor, "*B D"], weight: Float[Tensor, "O D"], bias: Float[Tensor, " O"] | None, parts: tuple[Part, ...]
) -> Float[Tensor, "*B O"]:
    """x W^T + b, and each part's update on its rows. The weight is frozen: it gets no gradient."""
    spans = tuple((p.start, p.stop, p.scale, p.mask) for p in parts)
    factors = [f for p in parts for f in (p.a, p.b)]
    if torch.is_grad_enabled() and (x.requires_grad or any(f.requires_grad for f in factors)):
        return _Linear.apply(x, weight, bias, spans, *factors)
    return _forward(x, weight, bias, spans, factors)[0]


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, spans: tuple, factors: Sequence[Tensor]):
    y, narrow = F.linear(x, weight, bias), []
    for (start, stop, scale, mask), a, b in zip(spans, factors[::2], factors[1::2], strict=True):
        narrow.append(_update(y[start:stop], x[start:stop], a, b, scale, mask))
    return y, narrow


def _update(y: Tensor, x: Tensor, a: Tensor, b: Tensor, scale: float, mask: Tensor | None) -> Tensor:
    """Add scale * (mask * x) A^T B^T to y in place; returns scale * (mask * x) A^T as (N, R)."""
    rows = _rows(x, mask, a.dtype)
    narrow = (rows @ a.T).mul_(scale)  # (N, R)
    flat = y.view(-1, y.shape[-1])
    if y.dtype == a.dtype:
        flat.addmm_(narrow, b.T)
    else:
        flat += (narrow @ b.T).to(y.dtype)
    return narrow


def _rows(x: Tensor, mask: Tensor | None, dtype: torch.dtype) -> Tensor:
    x = x.to(dtype)
    return (x if mask is None else x * mask).reshape(-1, x.shape[-1])


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, spans, *factors):
        y, narrow = _forward(x, weight, bias, spans, factors)
        ctx.spans = tuple(span[:3] for span in spans)
        ctx.has_mask = tuple(span[3] is not None for span in spans)
        masks = [span[3] for span in spans if span[3] is not None]
        # Without a factor to learn, or with none in any row, x itself is not needed on the way back.
        ctx.save_for_backward(x if any(f.requires_grad for f in factors) else None, weight, *factors, *narrow, *masks)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, *rest = ctx.saved_tensors
        num = len(ctx.spans)
        factors, narrow, masks = rest[: 2 * num], rest[2 * num : 3 * num], iter(rest[3 * num :])
        needs_x, needs = ctx.needs_input_grad[0], ctx.needs_input_grad[4:]
        grad = grad.contiguous()
        dx = (grad.view(-1, grad.shape[-1]) @ weight).view(*grad.shape[:-1], -1) if needs_x else None
        out: list[Tensor | None] = []
        for i, (start, stop, scale) in enumerate(ctx.spans):
            a, b = factors[2 * i], factors[2 * i + 1]
            mask = next(masks) if ctx.has_mask[i] else None
            g = grad[start:stop].to(a.dtype).reshape(-1, grad.shape[-1])  # (N, O)
            d = (g @ b).mul_(scale) if needs_x or needs[2 * i] else None  # (N, R)
            if needs_x:
                _into(dx[start:stop], d, a, mask)
            # (R, N) x (N, D): with the few columns first, the product is up to twice as fast as its transpose.
            out.append(d.T @ _rows(x[start:stop], mask, a.dtype) if needs[2 * i] else None)
            out.append((narrow[i].T @ g).T if needs[2 * i + 1] else None)
        return dx, None, None, None, *out


def _into(dx: Tensor, d: Tensor, a: Tensor, mask: Tensor | None) -> None:
    """Add mask * (d A) to dx in place."""
    flat = dx.view(-1, dx.shape[-1])
    if mask is None and dx.dtype == a.dtype:
        flat.addmm_(d, a)
        return
    more = d @ a
    flat += (more if mask is None else more * mask.reshape(more.shape)).to(dx.dtype)
