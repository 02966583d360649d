"""How long does a whole study take, beside TRL, PEFT and lm-evaluation-harness in sequence? A table, one JSON line.

    pip install 'rankscope[bench]'
    python benchmarks/study_speed.py --model DIR --data-dir DIR --folder DIR [--race] [--tiny]

The study: base, LoRA of ranks 1, 4, 8, 16 and 64 at three rates each, full fine-tuning at three rates, one seed,
trained on arc_easy; the rate of each arm is chosen by the loss on the same validation rows; base and the six winners
are scored on arc_easy (cloze), mmlu (5-shot, cloze, some subjects) and commonsense_qa (cloze). By rankscope it is
``Study.run`` with its report (extras that the peers don't have are off: divergences, the base's second scoring, scores
of losing trials). By the peers it is what a competent user would script: one process that trains all 18 runs
(SFTTrainer, PEFT, ``evaluate`` for the validation loss; as many examples a step as rankscope has on the average), one
that scores base and winners (``hf`` with ``peft=``). Everything counts, imports and loading too. All is float32; modes
and batch sizes are flags: take those that training_speed.py and scoring_speed.py found quickest.

Before a time is printed: the base's predictions agree on 99.5 % of the items, and at least 90 % of the arms' scores
differ by no more than the 95 % interval of the difference (batches are drawn in other orders, so trained weights
differ).

All of --folder is kept: every job of the peers is a line of a log there, rankscope has its store and a stopwatch. After
a kill the same command goes on (what the kill threw away counts again for rankscope, not for the peers). --repeats 2
runs rankscope once more after the peers, so that a machine that got slower is seen. --race adds rankscope with
``training: {race: true}``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import sidebyside as sbs
import torch
from lm_eval_parity import ARC, write_task
from scoring_speed import clean, mmlu_files

from rankscope.config.study import Training
from rankscope.data.batching import training_batches
from rankscope.data.dataset import read
from rankscope.models.base import Base, load
from rankscope.records import ModelRef, TaskRef
from rankscope.stats.estimate import rate_estimate
from rankscope.study.study import Study
from rankscope.tasks.scoring import Response
from rankscope.tasks.task import Prepared, get_task, prepare, train_samples
from rankscope.training.cohort import encode_train_set

RANKS, ALPHA = (1, 4, 8, 16, 64), 32
LORA_RATES, FULL_RATES = (1e-3, 3e-3, 1e-2), (1e-4, 3e-4, 1e-3)
TASKS = {"arc_easy": TaskRef("arc_easy"), "mmlu@5shot": TaskRef("mmlu", "cloze", shots=5),
         "commonsense_qa": TaskRef("commonsense_qa")}  # fmt: skip
TARGETS = {"rankscope": 2.0, "rankscope, racing": 4.0}
TINY = {"steps": 2, "batch_tokens": 128, "arc_items": 8, "subjects": 1, "per_subject": 2, "csqa_items": 6,
        "validation": 8, "train_rows": 100}  # fmt: skip


def write_data(folder: Path, args: argparse.Namespace) -> dict[str, list[str]]:
    """Rows of both sides in ``folder``; the harness's files by rankscope's name of the task."""

    def rows(name: str, split: str) -> list[dict]:
        return list(read(get_task(name).source, split, args.data_dir).rows)

    dev = rows("mmlu", "dev")
    subjects = sbs.every([row["subject"] for row in dev], args.subjects)
    mmlu = sbs.first_of_each(rows("mmlu", "test"), "subject", subjects, args.per_subject, "question")
    dev, mmlu = ([clean(row) for row in part if row["subject"] in subjects] for part in (dev, mmlu))
    files = {"mmlu@5shot": [str(path) for path in mmlu_files(folder, "cloze", dev, mmlu)]}
    parts = [("mmlu", "dev", dev), ("mmlu", "test", mmlu), ("arc_easy", "train", rows("arc_easy", "train"))]
    for name, count in (("arc_easy", args.arc_items), ("commonsense_qa", args.csqa_items)):
        kept = sbs.first_of_each([{**row, "all": ""} for row in rows(name, "test")], "all", [""], count, "question")
        parts.append((name, "test", [{k: v for k, v in row.items() if k != "all"} for row in kept]))
        files[name] = [str(write_task(folder, name, ARC, {"test": parts[-1][2]}))]
    for name, split, found in parts:
        sbs.write_rows(folder / "data" / name / f"{split}.jsonl", found)
    return files


def study_of(args: argparse.Namespace, race: bool) -> dict:
    return {
        "name": "study-speed",
        "models": [{"id": args.model, "dtype": "float32"}],
        "train": [{"task": "arc_easy", **({"limit": args.train_rows} if args.train_rows else {})}],
        "arms": ["base", {"lora": {"rank": list(RANKS), "alpha": ALPHA, "lr": list(LORA_RATES)}},
                 {"full": {"lr": list(FULL_RATES)}}],
        "training": {"max_steps": args.steps, "batch_tokens": args.batch_tokens, "validation_max": args.validation,
                     "seeds": [0], **({"race": True} if race else {})},
        "evaluate": {"in_domain": [{"task": "arc_easy"}], "cross_domain": "none", "divergence": False,
                     "retention": [{"task": "mmlu", "form": "cloze", "shots": 5}, {"task": "commonsense_qa"}],
                     "trials": False, "noise_floor": False},
    }  # fmt: skip


def peers_jobs(base: Base, args: argparse.Namespace, folder: Path) -> list[dict]:
    """The 18 training runs of the peers, on rankscope's training rows, with its validation rows."""
    recipe = Study.load(study_of(args, False), data_dir=str(folder / "data")).config.recipe()
    samples = train_samples(TaskRef("arc_easy", limit=args.train_rows), str(folder / "data"))
    data = encode_train_set(base, samples, recipe)
    texts = {}
    for sample in samples:
        prompt, target = base.encode_pair(sample.prompt, sample.target)
        texts[(*prompt, *target, base.eos)] = {"prompt": sample.prompt, "completion": sample.target}
    for name, part in (("train", data.train), ("held", data.validation)):
        sbs.write_rows(folder / f"{name}.jsonl", [texts[e.ids] for e in part])
    lengths = [len(e.ids) for e in data.train]
    steps = training_batches(lengths, recipe.batch_tokens, 0, recipe.epochs, recipe.max_steps, recipe.accumulate)
    per_step = max(1, round(sum(len(rows) for step in steps for rows in step) / len(steps)))
    arms = {f"lora-r{rank}": (rank, LORA_RATES) for rank in RANKS} | {"full": (0, FULL_RATES)}
    return [{"name": f"{arm} lr{rate:g}", "arm": arm, "do": "train", "model": args.model, "rank": rank, "alpha": ALPHA,
             "lr": rate, "seed": 0, "threads": args.threads, "rows": str(folder / "train.jsonl"), "step": per_step,
             "warmup": sbs.warmup(recipe.warmup, args.steps),
             "held": str(folder / "held.jsonl"), "recipe": {"max_steps": args.steps, "max_length": recipe.max_length},
             "mode": args.trl_mode, "batch": min(args.trl_batch or per_step, per_step), "pack": args.batch_tokens,
             "mean_tokens": sum(lengths) / len(lengths), "out": str(folder / "peers" / arm / f"{rate:g}")}
            for arm, (rank, rates) in arms.items() for rate in rates]  # fmt: skip


def by_peers(base: Base, args: argparse.Namespace, folder: Path, files: dict[str, list[str]]) -> dict:
    """Train, choose the rates, score: the peers' study."""
    jobs = peers_jobs(base, args, folder)
    runs = sbs.child("peers", jobs, folder / "peers")
    losses = {job["name"]: runs[job["name"]]["validation_loss"] for job in jobs}
    best: dict[str, dict] = {}
    for job in (job for job in jobs if losses[job["name"]] is not None):
        if job["arm"] not in best or losses[job["name"]] < losses[best[job["arm"]]["name"]]:
            best[job["arm"]] = job
    scored = [{"name": "score base", "path": args.model}]
    scored += [{"name": f"score {arm}", **({"path": args.model, "adapter": job["out"]} if job["rank"] else
                {"path": job["out"]})} for arm, job in best.items()]  # fmt: skip
    scored = [{**job, "do": "score", "tasks": files, "batch": args.hf_batch, "threads": args.threads} for job in scored]
    answers = sbs.child("peers", scored, folder / "peers")
    every = [*runs.values(), *answers.values()]
    training, scoring = ([r["seconds"] for r in part.values()] for part in (runs, answers))
    return {"answers": {job["name"].removeprefix("score "): answers[job["name"]]["answers"] for job in scored},
            "rates": {arm: job["lr"] for arm, job in best.items()}, "losses": losses,
            "whole": sum(r["start"] + r["seconds"] for r in every), "training": sum(training), "scoring": sum(scoring),
            "trained": [[job["arm"], job["lr"], args.steps * args.batch_tokens, "done"] for job in jobs],
            "peak_bytes": max(r["peak_bytes"] for r in every)}  # fmt: skip


def by_rankscope(name: str, race: bool, args: argparse.Namespace, folder: Path) -> dict:
    job = {"name": name, "do": "study", "study": study_of(args, race), "data_dir": str(folder / "data"),
           "folder": str(folder / name), "threads": args.threads}  # fmt: skip
    found = sbs.child("rankscope", [job], folder / name)[name]
    if found["failed"] or not found["complete"]:
        raise SystemExit(f"{name}: the study isn't whole: {found['failed']}")
    return {**found, "whole": found["whole"] + found["start"]}


def valued(answers: dict[str, list[dict]], tasks: dict[str, Prepared]) -> dict[str, dict[str, float]]:
    """The peers' log-likelihoods judged by rankscope's rule, by task and item."""
    found: dict[str, dict[str, float]] = {}
    for name, task in tasks.items():
        samples = {sample.prompt: sample for sample in task.samples}
        scores = [task.scorer(samples[row["prompt"]], Response(tuple(row["loglikelihoods"]))) for row in answers[name]]
        found[name] = {score.item: score.value for score in scores}
    return found


def cells(ours: dict, theirs: dict[str, dict[str, dict[str, float]]], tasks: dict[str, Prepared]) -> list[dict]:
    """Every score of both sides, and whether their difference lies within its interval."""
    rows = []
    for arm in [arm for arm in theirs if arm in ours["scores"]]:
        for name in tasks:
            mine, other = ours["scores"][arm][name], theirs[arm][name]
            if set(mine) != set(other):
                raise SystemExit(f"{arm} on {name}: the sides scored other items")
            a, b = (rate_estimate(np.array([side[item] for item in sorted(mine)])) for side in (mine, other))
            within = abs(a.value - b.value) <= 1.96 * (a.se**2 + b.se**2) ** 0.5 or a.value == b.value
            rows.append({"arm": arm, "task": name, "n": len(mine), "rankscope": a.value, "peers": b.value,
                         "interval": f"{a.low:.3f}-{a.high:.3f}", "peers'": f"{b.low:.3f}-{b.high:.3f}",
                         "same": sum(mine[i] == other[i] for i in mine),
                         "within": "yes" if within else "no"})  # fmt: skip
    return rows


def check(rows: list[dict]) -> dict:
    """How far the estimates agree; ends the program if they don't."""
    same = sum(r["same"] for r in rows if r["arm"] == "base") / sum(r["n"] for r in rows if r["arm"] == "base")
    trained = [r for r in rows if r["arm"] != "base"]
    within = sum(r["within"] == "yes" for r in trained)
    print(sbs.table(rows), f"\nbase: {100 * same:.1f} % of the items alike; arms: {within} of {len(trained)} scores "
          "differ by no more than the interval of their difference", flush=True)  # fmt: skip
    if same < 0.995 or within < 0.9 * len(trained):
        raise SystemExit("the estimates differ, so no time is given")
    return {"base_same": same, "within": within, "of": len(trained)}


def ideal(side: dict, ceilings: dict, tasks: dict[str, Prepared], base: Base) -> dict:
    """Seconds and FLOPs of the products of the layers alone: every run trained by itself, every continuation scored
    behind its own prompt."""
    pairs = [base.encode_pair(s.prompt, c) for task in tasks.values() for s in task.samples for c in s.choices]
    work = [("score", 7 * sum(len(p) + len(t) for p, t in pairs))]
    work += [(arm, tokens) for arm, _, tokens, status in side["trained"] if status == "done"]
    return {"seconds": round(sum(tokens / ceilings[kind]["tokens_per_second"] for kind, tokens in work), 1),
            "flops": sum(tokens * ceilings[kind]["flops_per_token"] for kind, tokens in work)}  # fmt: skip


def told(name: str, side: dict, peers: dict) -> dict:
    minutes = side["whole"] / 60
    return {"side": name, "minutes": minutes, "training": side["training"] / 60, "scoring": side["scoring"] / 60,
            "rest": minutes - (side["training"] + side["scoring"]) / 60, "ratio": peers["whole"] / side["whole"],
            "target": TARGETS.get(name.split(" (")[0]), "peak GB": side["peak_bytes"] / 1e9}  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--folder", required=True, type=Path, help="where both sides keep their work")
    parser.add_argument("--race", action="store_true", help="rankscope with racing, too")
    parser.add_argument("--tiny", action="store_true", help="two minutes, to see whether all of it works")
    parser.add_argument("--repeats", type=int, choices=(1, 2), default=1, help="of rankscope; 2: again after the peers")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-tokens", type=int, default=512)
    parser.add_argument("--train-rows", type=int)
    parser.add_argument("--validation", type=int, default=60, help="validation rows")
    parser.add_argument("--arc-items", type=int, default=150)
    parser.add_argument("--subjects", type=int, default=5)
    parser.add_argument("--per-subject", type=int, default=8)
    parser.add_argument("--csqa-items", type=int, default=150)
    parser.add_argument("--trl-mode", default="grouped")
    parser.add_argument("--trl-batch", type=int, help="rows a pass; a whole step if not given")
    parser.add_argument("--hf-batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.tiny:
        vars(args).update(TINY)
    if args.race and "race" not in Training.model_fields:
        raise SystemExit("this version of rankscope has no training.race")
    return args


def main() -> None:
    args = arguments()
    args.model, folder = str(Path(args.model).resolve()), args.folder.resolve()
    torch.set_num_threads(args.threads)
    folder.mkdir(parents=True, exist_ok=True)
    machine, files = sbs.machine(args.threads), write_data(folder, args)
    base = load(ModelRef(args.model, dtype="float32"), "cpu")
    tasks = {name: prepare(ref, str(folder / "data")) for name, ref in TASKS.items()}
    sides = {"rankscope": by_rankscope("rankscope", False, args, folder)}
    if args.race:
        sides["rankscope, racing"] = by_rankscope("racing", True, args, folder)
    peers = by_peers(base, args, folder, files)
    if args.repeats == 2:
        sides["rankscope (again)"] = by_rankscope("again", False, args, folder)
    answers = {arm: valued(found, tasks) for arm, found in peers["answers"].items()}
    found = {}
    for name, side in sides.items():
        print(f"\n{name} beside the peers")
        found[name] = {"agreement": check(cells(side, answers, tasks)), "rates": side["rates"],
                       **{k: side[k] for k in ("whole", "training", "scoring", "reporting", "peak_bytes", "trained")},
                       "ratio": round(peers["whole"] / side["whole"], 3)}  # fmt: skip
    found["peers"] = {k: peers[k] for k in ("whole", "training", "scoring", "peak_bytes", "rates", "losses")}
    ceilings = sbs.ceilings(base.model, RANKS)
    work = ideal(sides["rankscope"], ceilings, tasks, base)
    print("\nminutes, one run each")
    print(sbs.table([told(name, side, peers) for name, side in {**sides, "peers": peers}.items()]))
    print(f"matrix products alone, nothing shared: {work['seconds'] / 60:.1f} minutes, {work['flops']:.3g} FLOPs; "
          f"rates: rankscope {sides['rankscope']['rates']}, peers {peers['rates']}")  # fmt: skip
    settings = {k: v for k, v in vars(args).items() if k not in ("model", "data_dir", "folder")}
    print(json.dumps({"benchmark": "study_speed", "model": Path(args.model).name, "sides": found, "ideal": work,
                      "settings": settings, "ceilings": ceilings, "machine": machine, "versions": sbs.versions(
                      "trl", "peft", "lm_eval", "transformers", "torch", "rankscope")}))  # fmt: skip


if __name__ == "__main__":
    main()
