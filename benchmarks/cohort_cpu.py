"""What does training side by side gain on a CPU? Cohorts of 1, 2, 4, 8 against the same runs one by one.

    python benchmarks/cohort_cpu.py [--shapes smollm2 demo] [--sizes 1 2 4 8] [--repeats 5] [--threads 2] [--tiny]

Every run is a LoRA adapter of its own rank on all linear layers; all see the same rows of 48 to 256 made-up tokens, the
loss on the last quarter. One step is about 1,024 tokens a run: forward, backward, clipping, AdamW. Both sides are timed
in one process, one after the other, ``--repeats`` times; a ratio is of medians, its spread that of the pairs. "upper":
four runs whose adapters sit in the upper half of the layers, the lower half computed once (``models.fanout``) against
computed for each run. Losses of both sides are compared first. Shapes are random weights in float32 (``demo``: the
bundled model). A table, then one JSON line.

On a CPU matrix products are the limit, and they are the same on both sides: what there is to gain is what a product
gains by more rows, and what is done once instead of K times.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from collections.abc import Callable
from statistics import median
from unittest.mock import patch

import made_cohorts as made
import torch

from rankscope.models.base import Base, load
from rankscope.models.lora import AdapterBank
from rankscope.records import ModelRef
from rankscope.training.cohort import Trainee
from rankscope.training.loop import Loop

RANKS = [4, 16, 1, 64, 8, 32, 2, 128]
LENGTHS = (48, 256)
UPPER = 4  # runs of the comparison of upper layers


def base_of(shape: str) -> Base:
    if shape == "demo":
        return load(ModelRef("demo", dtype="float32"), device="cpu")
    return made.base_of(made.model(made.SHAPES[shape], torch.float32, torch.device("cpu")), shape)


def lengths(tokens: int) -> list[int]:
    """Rows between the two lengths, as many as keep rows x longest within ``tokens``, as batches are cut."""
    rng, found = random.Random("lengths"), [min(tokens, LENGTHS[1])]
    while (len(found) + 1) * max(found) <= tokens:
        found.append(rng.randint(min(LENGTHS[0], tokens), found[0]))
    return found


def alternating(sides: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side, in turns, after one warm turn."""
    times = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, run in sides.items():
            began = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - began)
    return times


def compared(slow: list[float], fast: list[float]) -> dict:
    """Ratio of medians, and the lowest and highest of the pairs."""
    pairs = [a / b for a, b in zip(slow, fast, strict=True)]
    return {"slow_seconds": median(slow), "fast_seconds": median(fast), "ratio": median(slow) / median(fast),
            "lowest": min(pairs), "highest": max(pairs)}  # fmt: skip


def largest_difference(ones: list[Trainee], others: list[Trainee]) -> float:
    """Of any loss of any step. Raises SystemExit where it is more than rounding."""
    pairs = [(a.loss, b.loss) for t, u in zip(ones, others, strict=True)
             for a, b in zip(t.curve, u.curve, strict=True)]  # fmt: skip
    apart = max(abs(a - b) for a, b in pairs)
    if not apart < 1e-3:
        raise SystemExit(f"losses differ by {apart}: no time is worth printing")
    return apart


def side_by_side(base: Base, size: int, tokens: int, repeats: int) -> dict:
    """A step of ``size`` runs in one cohort, against a step of each by itself."""
    data, bank = made.rows(base.model.config.vocab_size, lengths(tokens)), AdapterBank(base)
    together, alone = (made.recruits(base, bank, data, RANKS[:size], tag) for tag in ("together", "alone"))
    loop = Loop(base, bank)
    sides = {"alone": lambda: [loop.train([t]) for t in alone], "together": lambda: loop.train(together)}
    times = alternating(sides, repeats)
    apart = largest_difference(together, alone)
    for name in list(bank.arms):
        bank.remove(name)
    num = size * sum(len(e.ids) for e in data.train)
    found = {"shape": base.ref.id, "runs": size, **compared(times["alone"], times["together"])}
    return found | {"tokens_per_second": num / found["fast_seconds"], "loss_difference": apart}


def upper_layers(base: Base, tokens: int, repeats: int) -> dict:
    """A step of a cohort that adapts the upper half of the layers, lower layers for each run against once for all."""
    data, bank = made.rows(base.model.config.vocab_size, lengths(tokens)), AdapterBank(base)
    layers = tuple(range(base.model.config.num_hidden_layers // 2, base.model.config.num_hidden_layers))
    plain, fanned = (made.recruits(base, bank, data, RANKS[:UPPER], tag, layers) for tag in ("plain", "fanned"))
    loop = Loop(base, bank)

    def by_the_plain_path() -> None:
        with patch("rankscope.training.loop.fan_out", lambda *_: None):
            loop.train(plain)

    times = alternating({"plain": by_the_plain_path, "fanned": lambda: loop.train(fanned)}, repeats)
    apart = largest_difference(plain, fanned)
    for name in list(bank.arms):
        bank.remove(name)
    return {"shape": base.ref.id, "runs": UPPER, "lowest_layer": layers[0], "loss_difference": apart,
            **compared(times["plain"], times["fanned"])}  # fmt: skip


def line(name: str, row: dict) -> str:
    spread = f"{row['lowest']:.2f}-{row['highest']:.2f}"
    return f"{name:34}{row['slow_seconds']:10.2f}{row['fast_seconds']:10.2f}{row['ratio']:8.2f}{spread:>14}"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=["smollm2", "demo"], choices=[*made.SHAPES, "demo"])
    parser.add_argument("--sizes", nargs="*", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=1024, help="of a step of one run, padding counted")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--tiny", action="store_true", help="a few seconds, to see that it works; no figure of it counts"
    )
    args = parser.parse_args(argv)
    if args.tiny:
        args.shapes, args.sizes, args.repeats, args.tokens = ["tiny"], [1, 2], 1, 128
    torch.set_num_threads(args.threads)
    cohorts, upper = [], []
    print(f"{'one step, float32':34}{'slow, s':>10}{'fast, s':>10}{'ratio':>8}{'pairs':>14}")
    for shape in args.shapes:
        base = base_of(shape)
        for size in args.sizes:
            cohorts.append(side_by_side(base, size, args.tokens, args.repeats))
            print(line(f"{shape}: {size} one by one / together", cohorts[-1]), flush=True)
        upper.append(upper_layers(base, args.tokens, args.repeats))
        print(line(f"{shape}: {UPPER} in upper half, plain / once", upper[-1]), flush=True)
    print(json.dumps({"benchmark": "cohort_cpu", **vars(args), "torch": torch.__version__,
                      "processor": platform.processor() or platform.machine(), "cohorts": cohorts,
                      "upper": upper}))  # fmt: skip


if __name__ == "__main__":
    main()
