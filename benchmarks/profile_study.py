"""Is a study's time spent where it must be? A profile of a small study of a real model, by stage, part and operator.

    python benchmarks/profile_study.py MODEL --data-dir DIR [--steps 12] [--items 60] [--threads 2] [--shots 0]

The study: arc_easy, LoRA of ranks 4 and 16 and full SFT at one rate each, one seed; evaluated on arc_easy,
commonsense_qa and a few neutral texts. It runs through ``Study.run`` in a folder that is removed afterwards, with the
clock that ``rankscope run`` has, allowed to sample for a fifth of the time instead of 0.5 %. Every number but a stage's
seconds is therefore sampled: training steps and forward passes under torch's profiler, scaled to what was measured.

Claim: matrix products, attention and the optimiser take at least 85 % of the stages in which the model works (training,
validation, scoring, divergence). Their share of the whole wall time, sampling left out, is printed beside it: loading
and checking weigh more in a study as small as this. Exit code 1 if the claim doesn't hold. One JSON line last.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import platform
import sys
import tempfile

import torch

from rankscope.cli.console import format_table
from rankscope.cli.timing import spent
from rankscope.clock import Clock
from rankscope.records import Breakdown
from rankscope.study.study import Study

LEAST = 0.85
BETWEEN = ("rest", "(between operators: Python, waiting)")


def study(args: argparse.Namespace) -> dict:
    """The study file, as a dict."""
    tasks = {"arc_easy": args.items, "commonsense_qa": args.items, "neutral_text": max(1, args.items // 10)}
    arc, *others = ({"task": name, "limit": limit} for name, limit in tasks.items())
    return {
        "name": "profile",
        "models": [{"id": args.model, "dtype": "float32"}],
        "train": [{"task": "arc_easy"}],
        "arms": ["base", {"lora": {"rank": [4, 16], "alpha": 32, "lr": 3e-3}}, {"full": {"lr": 1e-4}}],
        "training": {"max_steps": args.steps, "batch_tokens": args.batch_tokens, "validation_max": args.items,
                     "seeds": [0]},
        "evaluate": {"in_domain": [arc | {"shots": args.shots}], "cross_domain": "none", "retention": others},
    }  # fmt: skip


def shares(found: Breakdown) -> tuple[float, float]:
    """Share of products, attention and optimiser: of the stages in which the model works, and of all but sampling."""
    useful = sum(found.stages[s] * (w.products + w.attention + w.optimiser) for s, w in found.work.items())
    stages = sum(found.stages[stage] for stage in found.work)
    return useful / stages, useful / (found.seconds - found.stages.get("sampling", 0.0))


def operators(clock: Clock, found: Breakdown) -> list[dict]:
    """Seconds by operator, in all and by sampled stage, the largest first; what lies in none is a row of its own."""
    stages = {stage: clock.operators(stage) for stage in found.work}
    for stage, own in stages.items():
        own[BETWEEN] = max(0.0, found.stages[stage] - sum(own.values()))
    names = dict.fromkeys(name for own in stages.values() for name in own)
    sums = {name: sum(own.get(name, 0.0) for own in stages.values()) for name in names}
    whole = sum(found.stages[stage] for stage in found.work)
    rows = [{"operator": operator, "part": part, "seconds": round(seconds, 2), "%": round(100 * seconds / whole, 1)}
            | {stage: round(own.get((part, operator), 0.0), 2) for stage, own in stages.items()}
            for (part, operator), seconds in sums.items()]  # fmt: skip
    return sorted(rows, key=lambda row: -row["seconds"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder or hub id, for example of SmolLM2-135M-Instruct")
    parser.add_argument("--data-dir")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    clock = Clock(is_sampling=True, most=0.2)
    with tempfile.TemporaryDirectory() as folder:
        result = Study.load(study(args), data_dir=args.data_dir).run(folder, clock=clock)
    if result.failed:
        raise SystemExit(f"a run failed: {result.failed[0]}")
    found = clock.breakdown()
    rows = operators(clock, found)
    at_work, of_all = shares(found)
    print(spent(found))
    print(f"\n{format_table(rows[:30])}\n")
    verdict = "holds" if at_work >= LEAST else "does NOT hold"
    print(f"products, attention and optimiser: {at_work:.1%} of the time in which the model works, {of_all:.1%} of all "
          f"time. The claim (at least {LEAST:.0%}) {verdict}.")  # fmt: skip
    print(json.dumps({"benchmark": "profile_study", "claim": LEAST, "holds": at_work >= LEAST, "at_work": at_work,
                      "of_all": of_all, "breakdown": dataclasses.asdict(found), "operators": rows[:30],
                      "arguments": vars(args), "machine": platform.processor() or platform.machine(),
                      "versions": {p: importlib.metadata.version(p) for p in ("torch", "transformers")}}))  # fmt: skip
    return 0 if at_work >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
