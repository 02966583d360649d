"""How does PEFT start and scale a LoRA adapter, beside rankscope? A table for people, then one JSON line.

    python benchmarks/peft_start.py MODEL [--rank 16]

A is looked at in units of 1 / sqrt(inputs), where kaiming_uniform with a = sqrt 5 is uniform from -1 to 1; all modules
pooled, by its bounds, its SD (1 / sqrt 3) and the Kolmogorov-Smirnov distance between the two. The numbers themselves
differ: rankscope gives every module a random stream of its own.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import math
from collections.abc import Sequence

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from scipy.stats import ks_2samp
from sidebyside import processor
from transformers import get_linear_schedule_with_warmup

from rankscope.models.adapter import peft_targets
from rankscope.models.base import Base, load
from rankscope.models.lora import AdapterBank, adapted_modules, scale
from rankscope.records import Arm, ModelRef, Recipe
from rankscope.training.optim import learning_rate

_PREFIX = "base_model.model."
_SCALES = ((1, 16, "standard"), (8, 16, "standard"), (64, 32, "standard"), (8, 16, "rslora"), (64, 32, "rslora"))
Tensors = dict[str, torch.Tensor]


def lora_config(base: Base, arm: Arm) -> LoraConfig:
    return LoraConfig(
        r=arm.rank,
        lora_alpha=arm.alpha,
        lora_dropout=arm.dropout,
        use_rslora=arm.scaling == "rslora",
        **peft_targets(base.model, set(adapted_modules(base.model, arm)), arm.layers),
        init_lora_weights=True,
        task_type="CAUSAL_LM",
    )


def adapter_tensors(model: torch.nn.Module) -> Tensors:
    """PEFT's trainable tensors, by rankscope's names."""
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    return {n.removeprefix(_PREFIX).replace(".default.weight", ".weight"): p for n, p in named.items()}


def starts(base: Base, arm: Arm) -> dict:
    """How PEFT's adapters start beside rankscope's: (rankscope, PEFT) in each entry."""
    bank = AdapterBank(base)
    bank.add("run", arm, seed=0)
    mine = {k: v.detach().clone() for k, v in bank.parameters("run").items()}
    bank.remove("run")
    torch.manual_seed(0)
    peer = adapter_tensors(get_peft_model(copy.deepcopy(base.model), lora_config(base, arm)))
    sides = (mine, {k: v.detach() for k, v in peer.items()})
    pooled = [torch.cat([(v * math.sqrt(v.shape[1])).flatten() for k, v in side.items() if "lora_A" in k]).numpy()
              for side in sides]  # fmt: skip
    test = ks_2samp(*pooled)
    return {
        "modules": len(mine) // 2,
        "values_of_a": int(pooled[0].size),
        "same_names_and_shapes": {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in peer.items()},
        "a_largest": [float(abs(v).max()) for v in pooled],
        "a_sd_times_sqrt3": [float(v.std() * 3**0.5) for v in pooled],
        "a_ks_distance": float(test.statistic),
        "a_ks_p": float(test.pvalue),
        "b_is_zero": [not any(v.any() for k, v in side.items() if "lora_B" in k) for side in sides],
    }


def scales(base: Base) -> list[dict]:
    """The factor on B A x, for some ranks and alphas; PEFT's is read from its layers."""
    rows = []
    for rank, alpha, scaling in _SCALES:
        arm = Arm("lora", "lora", rank=rank, alpha=float(alpha), scaling=scaling)
        model = get_peft_model(copy.deepcopy(base.model), lora_config(base, arm))
        found = {m.scaling["default"] for m in model.modules() if isinstance(m, LoraLayer)}
        ours = scale(arm, "")
        rows.append({"rank": rank, "alpha": alpha, "scaling": scaling, "rankscope": ours, "peft": sorted(found)})
    return rows


def schedule_at(recipe: Recipe, steps: Sequence[int]) -> list[dict]:
    """Rates as shares of the peak, by rankscope's formula and by transformers' function; steps from 0."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    warm = math.ceil(recipe.warmup * recipe.max_steps)
    field = get_linear_schedule_with_warmup(optimiser, warm, recipe.max_steps).lr_lambdas[0]
    return [
        {"step": s + 1, "rankscope": learning_rate(1.0, s, recipe.max_steps, recipe), "transformers": field(s)}
        for s in steps
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a folder with a model, or demo")
    parser.add_argument("--rank", type=int, default=16)
    args = parser.parse_args()
    base = load(ModelRef(args.model, dtype="float32"), device="cpu")
    start, factors = starts(base, Arm("lora", "lora", rank=args.rank, alpha=2.0 * args.rank)), scales(base)
    for key, value in start.items():
        print(f"{key:24}{value}")
    for row in factors:
        print("scale: " + ", ".join(f"{k} {v}" for k, v in row.items()))
    versions = {p: importlib.metadata.version(p) for p in ("peft", "transformers", "torch")}
    print(json.dumps({"benchmark": "peft_start", "model": base.ref.name, "rank": args.rank, "start": start,
                      "scales": factors, "processor": processor(), "versions": versions}))  # fmt: skip


if __name__ == "__main__":
    main()
