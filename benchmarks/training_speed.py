"""How fast is LoRA training beside TRL's SFTTrainer with PEFT? A table for people, then one JSON line.

    pip install 'rankscope[bench]'
    python benchmarks/training_speed.py --model DIR --data-dir DIR [--tasks gsm8k medmcqa] [--share 0.1] [--repeats 3]

The same first rows of a task, once through, by both: rank 16 on all linear layers, alpha 32, loss on completions alone,
AdamW without decay, rate 5e-4, linear with 5 % warm-up, gradient norm at most 1, float32 (checked; TRL's default is
bfloat16), no gradient checkpointing (TRL's default is to use it, which is slower), evaluation, logging and saving off.
rankscope trains with its defaults (4,096 tokens a step). TRL takes as many examples a step as rankscope does on the
average, in the mode (plain, grouped by length, padding-free, both, packed) and batch size that were quickest on the
first --search-tokens tokens; batch sizes go up until one is more than 5 % slower than the best before it.

Every run is a process of its own, and sides take turns (A B A B). What is timed: TRL from ``on_train_begin`` to
``on_train_end``, rankscope from a base and its rows to the trained adapter; loading apart. Useful tokens are those of
prompts and completions, never padding; both sides must count the same. No time is printed before both adapters lower
the loss of held-out rows alike: by a paired difference of less than .1 nats a token.

Peak memory is that of the whole process when training ends. The ceiling is what the matrix products of the layers take
alone (frozen weights forward and back, factors), attention, head and optimiser left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import sidebyside as sbs
import torch

from rankscope.data.batching import training_batches
from rankscope.models.base import Base, load
from rankscope.records import ModelRef, Recipe, TaskRef
from rankscope.tasks.task import train_samples
from rankscope.training.cohort import encode_train_set

TARGETS = {"gsm8k": 1.15, "medmcqa": 1.3}
MEMORY_TARGET = 0.7
EXAMPLES = {"gsm8k": 200, "medmcqa": 800}
HELD, RANK, RATE, NEAR = 60, 16, 5e-4, 0.1
MODES = ("plain", "grouped", "padding_free", "padding_free, grouped", "packed")


def shared(base: Base, task: str, args: argparse.Namespace, folder: Path) -> dict:
    """What a run of both sides is told, and the rows of the peer as files."""
    recipe = Recipe(validation=0.0)
    count = max(16, round(EXAMPLES[task] * args.share))
    samples = train_samples(TaskRef(task, limit=count), args.data_dir)
    data = encode_train_set(base, samples, recipe)
    if data.dropped or data.cut:
        raise SystemExit(f"{task}: some rows are too long, and the sides cut them differently")
    lengths = [len(e.ids) for e in data.train]
    steps = training_batches(lengths, recipe.batch_tokens, 0, 1.0, None)
    texts = [{"prompt": s.prompt, "completion": s.target} for s in samples]
    most = next((i for i in range(1, count) if sum(lengths[:i]) >= args.search_tokens), count)
    for name, rows in (("rows", texts), ("few", texts[: max(8, most)])):
        sbs.write_rows(folder / f"{task}.{name}.jsonl", rows)
    per_step = max(1, round(count / len(steps)))
    return {"model": args.model, "task": task, "data_dir": args.data_dir, "examples": count, "threads": args.threads,
            "rank": RANK, "alpha": 2 * RANK, "lr": RATE, "seed": 0, "recipe": {}, "step": per_step,
            "warmup": sbs.warmup(recipe.warmup, len(steps)), "mean_tokens": sum(lengths) / count,
            "pack": recipe.max_length, "tokens": sum(lengths), "steps": len(steps)}  # fmt: skip


def searched(job: dict, args: argparse.Namespace, folder: Path) -> dict:
    """TRL's quickest mode and batch size."""
    sizes = sorted({min(n, job["step"]) for n in args.sizes})
    asked = {**job, "name": "search", "do": "search", "rows": str(folder / f"{job['task']}.few.jsonl"), "sizes": sizes,
             "modes": args.modes}  # fmt: skip
    found = sbs.child("peers", [asked], folder / f"{job['task']}-search")["search"]
    print(f"{job['task']}: TRL {found['mode']}, {found['batch']} rows a pass; seconds {found['tried']}", flush=True)
    return found


def measured(base: Base, task: str, args: argparse.Namespace, folder: Path) -> dict:
    """One task: the search, runs in turn, held-out losses compared, then times and memory."""
    job = shared(base, task, args, folder)
    best = searched(job, args, folder)
    logs = (folder / f"{task}-{number}" for number in range(2 * args.repeats))

    def run(side: str):
        log = next(logs)
        out = log / "adapter" / "adapter_model.safetensors"
        asked = {**job, "name": side, "do": "train", "out": str(out.parent), "rows": str(folder / f"{task}.rows.jsonl"),
                 "mode": best["mode"], "batch": best["batch"]}  # fmt: skip
        found = sbs.child(side, [asked], log)[side]
        if found["tokens"] != job["tokens"]:
            raise SystemExit(f"{task}: {side} trained on {found['tokens']} tokens, not {job['tokens']}")
        return {**found, "adapter": str(out)}, found["train_seconds"]

    runs = sbs.alternate({"peers": lambda: run("peers"), "rankscope": lambda: run("rankscope")}, args.repeats)
    losses = agreement(job, {side: found[0][0]["adapter"] for side, found in runs.items()}, folder)
    taken = {side: [seconds for _, seconds in found] for side, found in runs.items()}
    peaks = {side: statistics.median(f["peak_of_training"] for f, _ in found) for side, found in runs.items()}
    ceiling = sbs.ceilings(base.model, [RANK])[f"lora-r{RANK}"]
    speed = {side: job["tokens"] / statistics.median(found) for side, found in taken.items()}
    return {"task": task, "examples": job["examples"], "tokens": job["tokens"], "steps": job["steps"],
            "steps_of_trl": runs["peers"][0][0]["steps"], "trl_mode": best["mode"], "trl_batch": best["batch"],
            "search": best["tried"], **{side: sbs.spread(found) for side, found in taken.items()},
            "tokens_per_second": {side: round(found, 1) for side, found in speed.items()},
            "ratio": sbs.ratio(taken["peers"], taken["rankscope"]), "target": TARGETS[task], "ceiling": ceiling,
            "share_of_ceiling": {side: round(x / ceiling["tokens_per_second"], 3) for side, x in speed.items()},
            "peak_bytes": peaks, "memory_share": round(peaks["rankscope"] / peaks["peers"], 3), "held_out": losses,
            "loading": {side: found[0][0]["loading"] for side, found in runs.items()}}  # fmt: skip


def agreement(job: dict, adapters: dict[str, str], folder: Path) -> dict:
    """Held-out losses of both adapters beside the base's; ends the program if one didn't learn or they differ."""
    asked = {**job, "name": "held", "do": "held_out", "held": HELD, "adapters": adapters}
    losses = sbs.child("rankscope", [asked], folder / f"{job['task']}-held")["held"]["losses"]
    apart = [a - b for a, b in zip(losses["rankscope"], losses["peers"], strict=True)]
    found = {name: round(statistics.mean(values), 4) for name, values in losses.items()}
    found |= {"difference": round(statistics.mean(apart), 4),
              "standard_error": round(statistics.stdev(apart) / len(apart) ** 0.5, 4)}  # fmt: skip
    if max(found["rankscope"], found["peers"]) >= found["base"] or abs(found["difference"]) >= NEAR:
        raise SystemExit(f"{job['task']}: the runs don't end alike, so no time is given: {json.dumps(found)}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--tasks", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--share", type=float, default=1.0, help="a share of the examples, for a trial")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--search-tokens", type=int, default=6000)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    machine, base = sbs.machine(args.threads), load(ModelRef(args.model, dtype="float32"), "cpu")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for task in args.tasks:
            rows.append(measured(base, task, args, Path(temporary)))
            print(json.dumps(rows[-1]), flush=True)
    print("\nuseful tokens a second; ratio: median (lowest-highest)")
    print(sbs.table([{"task": r["task"], "TRL": r["tokens_per_second"]["peers"],
                      "rankscope": r["tokens_per_second"]["rankscope"], "ratio": r["ratio"], "target": r["target"],
                      "met": "yes" if r["ratio"]["median"] >= r["target"] else "MISSED",
                      "of ceiling, TRL": r["share_of_ceiling"]["peers"],
                      "of ceiling, rankscope": r["share_of_ceiling"]["rankscope"],
                      "GB, TRL": r["peak_bytes"]["peers"] / 1e9, "GB, rankscope": r["peak_bytes"]["rankscope"] / 1e9,
                      "memory": r["memory_share"],
                      "met ": "yes" if r["memory_share"] <= MEMORY_TARGET else "MISSED"} for r in rows]))  # fmt: skip
    print(json.dumps({"benchmark": "training_speed", "model": Path(args.model).name, "tasks": rows, "rank": RANK,
                      "share": args.share, "machine": machine, "versions": sbs.versions("trl", "peft", "transformers",
                      "accelerate", "torch", "rankscope")}))  # fmt: skip


if __name__ == "__main__":
    main()
