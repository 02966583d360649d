"""Plain twins of the training step's fast paths: autograd through each operation as it is written down."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def linear(x, weight, bias, parts):
    """Frozen product first, then each part's update on its rows, joined by ``cat``."""
    y = F.linear(x, weight, bias)
    pieces, done = [], 0
    for part in parts:
        rows = x[part.start : part.stop]
        rows = rows if part.mask is None else rows * part.mask
        update = F.linear(F.linear(rows, part.a), part.b) * part.scale
        pieces += [y[done : part.start], y[part.start : part.stop] + update]
        done = part.stop
    return torch.cat([*pieces, y[done:]])


def token_nll(hidden, weight, bias, targets):
    """All logits at once."""
    return F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="none")
