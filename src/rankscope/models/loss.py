"""Cross-entropy over a large vocabulary, a slice of positions at a time. In: hidden states, head, targets. Out: nats.

Loss and gradient of a position depend on that position's logits alone, so both are taken while its logits are there:
no logits are kept, and none are computed twice, as they are with gradient checkpointing (the idea of Hsu et al. 2024,
"Liger Kernel", 2410.10989). The head is frozen: it gets no gradient. The plain twin is ``Base.token_nll``'s other path.
Knows nothing about models.

Legend: P positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from rankscope.stats.cost import FROZEN_LOGITS as _LOGITS


def frozen_head_nll(
    hidden: Float[Tensor, "P D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    targets: Int[Tensor, " P"],
) -> Float32[Tensor, " P"]:
    """-log softmax(hidden W^T + b)[target] of each position."""
    return _FrozenHead.apply(hidden, weight, bias, targets)


class _FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets):
        size = max(1, _LOGITS // len(weight))
        grad = torch.empty_like(hidden)  # d nll / d hidden, of each position by itself
        nll = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        for first in range(0, len(targets), size):
            span = slice(first, first + size)
            logits = F.linear(hidden[span], weight, bias).float()  # (P, V)
            right = targets[span, None]
            total = logits.logsumexp(-1, keepdim=True)
            nll[span] = (total - logits.gather(-1, right)).squeeze(-1)
            logits.sub_(total).exp_()
            logits.scatter_add_(-1, right, torch.full_like(total, -1.0))
            torch.mm(logits.to(weight.dtype), weight, out=grad[span])
        ctx.save_for_backward(grad)
        return nll

    @staticmethod
    @once_differentiable
    def backward(ctx, weights):
        (grad,) = ctx.saved_tensors
        return grad * weights[:, None].to(grad.dtype), None, None, None
