"""Learning-rate schedules and the optimiser of one run. In: a recipe. Out: AdamW and lr(step).

Legend: none; scalars only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rankscope.records import Recipe


def learning_rate(peak: float, step: int, total: int, recipe: Recipe) -> float:
    """The rate of step ``step`` (from 0) of ``total``: linear warm-up over a share of the steps, then the schedule."""
    warm = round(recipe.warmup * total)
    if step < warm:
        return peak * (step + 1) / warm
    done = (step - warm) / max(1, total - warm)
    if recipe.schedule == "linear":
        return peak * (1 - done)
    if recipe.schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * done))
    return peak


def optimiser(parameters: list[Tensor], recipe: Recipe) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 1711.05101) of one run's own parameters; the rate is set at every step."""
    return torch.optim.AdamW(parameters, lr=0.0, betas=recipe.betas, weight_decay=recipe.weight_decay)


def state_tensors(optim: torch.optim.AdamW, names: list[str]) -> dict[str, Tensor]:
    """The optimiser's moments as named tensors, for a safetensors checkpoint. They are its own, not copies."""
    out = {}
    for name, parameter in zip(names, optim.param_groups[0]["params"], strict=True):
        for key, value in optim.state.get(parameter, {}).items():
            out[f"{key}/{name}"] = value.detach()
    return out


def load_state(optim: torch.optim.AdamW, names: list[str], tensors: dict[str, Tensor]) -> None:
    """Put back what ``state_tensors`` gave."""
    for name, parameter in zip(names, optim.param_groups[0]["params"], strict=True):
        found = {k: tensors[f"{k}/{name}"] for k in ("step", "exp_avg", "exp_avg_sq") if f"{k}/{name}" in tensors}
        if found:
            state = {"step": found.pop("step").clone()}  # stays on the CPU, as AdamW keeps it
            optim.state[parameter] = state | {k: v.to(parameter.device).clone() for k, v in found.items()}
