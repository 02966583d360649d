"""How fast is scoring beside lm-evaluation-harness's ``hf`` model? A table for people, then one JSON line.

    pip install 'rankscope[bench]'
    python benchmarks/scoring_speed.py --model DIR --data-dir DIR [--claims arc_easy ...] [--items 0.1] [--repeats 3]

Claims: ``mmlu_letters`` and ``mmlu_cloze`` (5-shot, 10 subjects x 20 items, every 57/10th of the sorted subjects),
``arc_easy`` (cloze, 0-shot, 200 items), ``gsm8k`` (5-shot, greedy, 24 items, at most 128 tokens), ``adapters`` (the
base and 7 PEFT adapters of ranks 1 to 64 on ``arc_easy``, against eight runs of the harness with ``peft=``).

Both sides: float32 (checked), the same threads, the same rows, prompts and continuations byte for byte. The harness
gets the batch size that was quickest on one subject (20 items) among --sizes; sizes are tried upwards until two in a
row are more than 5 % slower than the best, and left out where their logits would not fit into memory. rankscope has its
defaults. No time is printed before the answers agree: log-likelihoods within 1e-3 nats, and 99.5 % of the predictions
(picks by sum and per character; for gsm8k the judgement).

What is timed: the harness from its requests to its answers (``loglikelihood``, ``generate_until``), rankscope from the
prepared task to its scores (``evaluate``), both with tokenising and without reading rows; loading is reported apart.
Sides take turns (A B A B) in one process. For ``adapters`` every harness run is a process of its own and rankscope one,
and all of it counts, imports and loading too, since that is what a user waits for. "Tokens" are those of every
continuation behind its own prompt: the work as it is asked, whatever is shared.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import sidebyside as sbs
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval_parity import (
    ARC,
    GSM8K,
    MMLU,
    ask_harness,
    compare_choices,
    compare_texts,
    prompts_of,
    write_task,
)
from peft import get_peft_model
from peft_start import adapter_tensors, lora_config
from side_rankscope import answers

from rankscope.data.dataset import read
from rankscope.models.base import Base, load
from rankscope.records import Arm, ModelRef, TaskRef
from rankscope.tasks.task import get_task, prepare

TARGETS = {"mmlu_letters": 4.0, "mmlu_cloze": 10.0, "arc_easy": 2.5, "gsm8k": 2.5, "adapters": 3.0}
RANKS = (1, 2, 4, 8, 16, 32, 64)
SUBJECTS, PER_SUBJECT, ARC_ITEMS, GSM_ITEMS, NEW_TOKENS, SEARCHED = 10, 20, 200, 24, 128, 20
UPDATE = 0.02  # norm of an adapter's update as a share of the weight's, about what training gives


@dataclass(frozen=True)
class Claim:
    """What both sides score: rankscope's reference and the harness's files; one of them serves for the search."""

    name: str
    ref: TaskRef
    files: list[Path]
    searched: Path


class Clocked(HFLM):
    """The harness's model with a clock around what it is asked."""

    taken = 0.0

    def loglikelihood(self, requests, *rest, **more):
        return self._timed(super().loglikelihood, requests, *rest, **more)

    def generate_until(self, requests, *rest, **more):
        return self._timed(super().generate_until, requests, *rest, **more)

    def _timed(self, run, *rest, **more):
        began = time.monotonic()
        found = run(*rest, **more)
        self.taken += time.monotonic() - began
        return found

    def seconds(self, files: list[Path], size: int) -> tuple[dict[str, dict], float]:
        """Logged samples by prompt, and the seconds inside the two methods, at a batch size."""
        self.batch_size_per_gpu, self.taken = size, 0.0
        return ask_harness(self, files)[0], self.taken


def make_claims(folder: Path, data_dir: str, share: float) -> dict[str, Claim]:
    """Rows of both sides in ``folder``, and the harness's files of them."""

    def rows(name: str, split: str) -> list[dict]:
        return list(read(get_task(name).source, split, data_dir).rows)

    def count(whole: int) -> int:
        return max(2, math.ceil(whole * share))

    dev, per_subject = rows("mmlu", "dev"), count(PER_SUBJECT)
    subjects = sbs.every([row["subject"] for row in dev], min(SUBJECTS, count(SUBJECTS)))
    picked = [clean(r) for r in sbs.first_of_each(rows("mmlu", "test"), "subject", subjects, per_subject, "question")]
    dev = [clean(row) for row in dev if row["subject"] in subjects]
    arc, gsm = rows("arc_easy", "test"), rows("gsm8k", "test")[: count(GSM_ITEMS)]
    for name, split, found in (("mmlu", "dev", dev), ("mmlu", "test", picked), ("gsm8k", "test", gsm),
                               ("arc_easy", "test", arc[: count(ARC_ITEMS)]),
                               ("gsm8k", "train", rows("gsm8k", "train")[:5])):  # fmt: skip
        sbs.write_rows(folder / "data" / name / f"{split}.jsonl", found)
    letters, cloze = (mmlu_files(folder, form, dev, picked) for form in ("letters", "cloze"))
    first = arc[count(ARC_ITEMS) :][: count(SEARCHED)]
    arc_file = write_task(folder, "arc", ARC, {"test": arc[: count(ARC_ITEMS)]})
    task = get_task("gsm8k")
    settings = {"until": list(task.stop), "max_gen_toks": NEW_TOKENS, "do_sample": False}
    few = {"test": gsm, "shots": rows("gsm8k", "train")[:5]}
    gsm_file, gsm_few = (write_task(folder, name, {**GSM8K, "generation_kwargs": settings}, {**few, "test": part})
                         for name, part in (("gsm8k", gsm), ("gsm8k_few", gsm[:SEARCHED])))  # fmt: skip
    found = [
        Claim("mmlu_letters", TaskRef("mmlu", "letters", shots=5), letters, letters[0]),
        Claim("mmlu_cloze", TaskRef("mmlu", "cloze", shots=5), cloze, cloze[0]),
        Claim("arc_easy", TaskRef("arc_easy"), [arc_file], write_task(folder, "arc_few", ARC, {"test": first})),
        Claim("gsm8k", TaskRef("gsm8k", shots=5, options=(("max_new_tokens", NEW_TOKENS),)), [gsm_file], gsm_few),
    ]
    return {claim.name: claim for claim in found}


def clean(row: dict) -> dict:
    """A row of MMLU without spaces around its texts, which the two sides treat in different ways."""
    return {**row, "question": row["question"].strip(), "choices": [choice.strip() for choice in row["choices"]]}


def mmlu_files(folder: Path, form: str, dev: list[dict], picked: list[dict]) -> list[Path]:
    """One task file a subject, in a form of rankscope."""
    found = []
    for subject in dict.fromkeys(row["subject"] for row in picked):
        about = subject.replace("_", " ")
        head = f"The following are multiple choice questions (with answers) about {about}.\n\n"
        form_of = {"letters": {"description": head},
                   "cloze": {"doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_choice": "choices",
                             "metric_list": ARC["metric_list"]}}[form]  # fmt: skip
        rows = {name: [row for row in part if row["subject"] == subject]
                for name, part in (("test", picked), ("shots", dev))}  # fmt: skip
        found.append(write_task(folder, f"{form}_{subject}", {**MMLU, **form_of}, rows))
    return found


def fits(base: Base, prompts: set[str], size: int) -> bool:
    """Whether the harness's logits of the longest batch (all positions, and their log-softmax) fit into memory."""
    longest = max(len(base.encode(prompt)) for prompt in prompts)
    vocabulary = base.model.config.get_text_config().vocab_size
    return size * longest * vocabulary * 4 * 2.2 < 0.8 * psutil.virtual_memory().available


def compare(base: Base, claim: Claim, ours: list[tuple], theirs: dict[str, dict]) -> dict:
    """How far the answers agree; ends the program if they don't."""
    if claim.name == "gsm8k":
        found, notes = compare_texts(base, ours, theirs)
        agree = found["same_value"]
        print(*notes, sep="\n", end="\n" if notes else "")
    else:
        found = compare_choices(claim.name, ours, theirs)
        agree = min(found["same_pick"], found["same_pick_per_character"])
    if agree < 0.995 or found.get("max_ll_difference", 0.0) > 1e-3:
        raise SystemExit(f"{claim.name}: the answers differ, so no time is given: {json.dumps(found)}")
    return found


def measured(claim: Claim, base: Base, lm: Clocked, args: argparse.Namespace, folder: Path) -> dict:
    """One claim: the search, the answers compared, times of both sides taken in turn."""
    task = prepare(claim.ref, str(folder / "data"))
    prompts = {sample.prompt for sample in task.samples}
    assert prompts == prompts_of(claim.files), f"{claim.name}: the prompts aren't byte-equal"
    sizes = [size for size in args.sizes if fits(base, prompts, size)]
    search = sbs.quickest(sizes, lambda size: lm.seconds([claim.searched], size)[1])
    print(f"{claim.name}: batch size {search['best']} for the harness, seconds by size {search['seconds']}, "
          f"without {sorted(set(args.sizes) - set(sizes)) or 'none'} for memory", flush=True)  # fmt: skip

    def here():
        found, seconds, _ = answers(base, task)
        return found, seconds

    sides = {"hf": lambda: lm.seconds(claim.files, search["best"]), "rankscope": here}
    first = {name: run() for name, run in sides.items()}
    agreement = compare(base, claim, first["rankscope"][0], first["hf"][0])
    taken = {name: [seconds for _, seconds in found] for name, found in sbs.alternate(sides, args.repeats - 1).items()}
    taken = {name: [first[name][1], *taken[name]] for name in sides}
    pairs = [base.encode_pair(s.prompt, c) for s in task.samples for c in s.choices or ("",)]
    tokens = sum(len(prompt) + len(target) for prompt, target in pairs)
    tokens += sum(len(base.encode(response.text)) for _, response, _ in first["rankscope"][0])
    return result(claim.name, taken, tokens, {"batch_size": search["best"], "search": search, "agreement": agreement})


def result(name: str, taken: dict[str, list[float]], tokens: int, more: dict) -> dict:
    found = {side: sbs.spread(seconds) for side, seconds in taken.items()}
    speed = {side: round(tokens / found[side]["median"], 1) for side in found}
    return {"claim": name, **found, "ratio": sbs.ratio(taken["hf"], taken["rankscope"]), "target": TARGETS[name],
            "tokens_asked": tokens, "tokens_per_second": speed, **more}  # fmt: skip


def made_adapters(base: Base, folder: Path) -> dict[str, str]:
    """Adapters of all ranks as PEFT saves them: A as it starts, B random, the update as large as training makes it."""
    found = {}
    for rank in RANKS:
        arm = Arm(f"r{rank}", "lora", rank=rank, alpha=2.0 * rank)
        torch.manual_seed(rank)
        model = get_peft_model(load(base.ref, "cpu", base.tokenizer).model, lora_config(base, arm))
        tensors = adapter_tensors(model)
        with torch.no_grad():
            for key in [k for k in tensors if k.endswith("lora_B.weight")]:
                a, b = tensors[key.replace("lora_B", "lora_A")], tensors[key]
                b.normal_()
                weight = base.model.get_submodule(key.removesuffix(".lora_B.weight")).weight
                b *= UPDATE * weight.norm() / (2.0 * torch.linalg.matrix_norm(b @ a))
        model.save_pretrained(folder / arm.name)
        found[arm.name] = str(folder / arm.name)
    return found


def eight_runs(claim: Claim, base: Base, size: int, args: argparse.Namespace, folder: Path) -> dict:
    """The base and all adapters: eight processes of the harness against one of rankscope, start to end."""
    adapters = made_adapters(base, folder / "adapters")
    ours = {"name": "all", "do": "score", "model": args.model, "adapters": adapters, "task": {"task": "arc_easy"},
            "data_dir": str(folder / "data"), "threads": args.threads}  # fmt: skip
    logs = (folder / f"run{number}" for number in range(2 * args.repeats))

    def there():
        log, found = next(logs), []
        for name, path in {"base": None, **adapters}.items():
            job = {"name": name, "do": "score", "path": args.model, "adapter": path, "batch": size,
                   "tasks": {"arc_easy": [str(p) for p in claim.files]}, "threads": args.threads}  # fmt: skip
            found.append(sbs.child("peers", [job], log)[name])
        return found, sum(f["start"] + f["seconds"] for f in found)

    def here():
        found = sbs.child("rankscope", [ours], next(logs))["all"]
        return found, found["start"] + found["seconds"]

    runs = sbs.alternate({"hf": there, "rankscope": here}, args.repeats)
    far, same, mine = 0.0, [], runs["rankscope"][0][0]["answers"]
    for run in runs["hf"][0][0]:
        for item in run["answers"]["arc_easy"]:
            a, b = item["loglikelihoods"], mine[run["name"]][item["prompt"]]
            far = max(far, *(abs(x - y) for x, y in zip(a, b, strict=True)))
            same.append(a.index(max(a)) == b.index(max(b)))
    if far > 1e-3 or sum(same) < 0.995 * len(same):
        raise SystemExit(f"adapters: the answers differ, so no time is given: {far} nats, {sum(same)} of {len(same)}")
    task = prepare(claim.ref, str(folder / "data"))
    pairs = [base.encode_pair(s.prompt, c) for s in task.samples for c in s.choices]
    peaks = {side: max(f["peak_bytes"] for run, _ in found for f in (run if side == "hf" else [run]))
             for side, found in runs.items()}  # fmt: skip
    loading = {"hf": [f["loading"] for run, _ in runs["hf"] for f in run],
               "rankscope": [run["loading"] for run, _ in runs["rankscope"]]}  # fmt: skip
    return result("adapters", {side: [seconds for _, seconds in found] for side, found in runs.items()},
                  sum(len(p) + len(t) for p, t in pairs) * (1 + len(adapters)),
                  {"batch_size": size, "agreement": {"items": len(same), "max_ll_difference": far,
                   "same_pick": sum(same) / len(same)}, "peak_bytes": peaks,
                   "loading": {side: sbs.spread(v) for side, v in loading.items()}})  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--claims", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--items", type=float, default=1.0, help="a share of the items, for a trial")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for name in ("lm_eval", "rankscope"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(args.threads)
    machine = sbs.machine(args.threads)
    began = time.monotonic()
    base = load(ModelRef(args.model, dtype="float32"), "cpu")
    loading = {"rankscope": time.monotonic() - began}
    began = time.monotonic()
    lm = Clocked(pretrained=args.model, dtype="float32", batch_size=1, device="cpu")
    loading["hf"] = time.monotonic() - began
    if {p.dtype for m in (lm.model, base.model) for p in m.parameters()} != {torch.float32}:
        raise SystemExit("both sides must be float32")
    ceiling = sbs.ceilings(base.model, ())["score"]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        claims = make_claims(folder, args.data_dir, args.items)
        for name in (name for name in TARGETS if name in args.claims):
            if name == "adapters":
                size = next((r["batch_size"] for r in rows if r["claim"] == "arc_easy"), None)
                few = [claims["arc_easy"].searched]
                size = size or sbs.quickest(args.sizes, lambda n, few=few: lm.seconds(few, n)[1])["best"]
                rows.append(eight_runs(claims["arc_easy"], base, size, args, folder))
            else:
                rows.append(measured(claims[name], base, lm, args, folder))
            print(json.dumps(rows[-1]), flush=True)
    print("\nseconds: median (lowest-highest)")
    print(sbs.table([{"claim": r["claim"], "hf": r["hf"], "rankscope": r["rankscope"], "ratio": r["ratio"],
                      "target": r["target"], "met": "yes" if r["ratio"]["median"] >= r["target"] else "MISSED",
                      "tok/s hf": r["tokens_per_second"]["hf"], "rankscope tok/s": r["tokens_per_second"]["rankscope"],
                      "batch of hf": r["batch_size"]} for r in rows]))  # fmt: skip
    print("tok/s: tokens asked, each continuation behind its own prompt. The ceiling of a program that shares nothing: "
          f"{ceiling['tokens_per_second']:.0f}")  # fmt: skip
    print(json.dumps({"benchmark": "scoring_speed", "model": Path(args.model).name, "claims": rows, "ceiling": ceiling,
                      "loading": loading, "items_share": args.items, "machine": machine,
                      "versions": sbs.versions("lm_eval", "transformers", "torch", "peft", "rankscope")}))  # fmt: skip


if __name__ == "__main__":
    main()
