"""Side by side with lm-evaluation-harness: same prompts, same answers? A table for people, then one JSON line.

    pip install 'rankscope[lm-eval]'
    python benchmarks/lm_eval_parity.py --model DIR --data-dir DIR [--items 200] [--generated 24] [--tasks arc_easy ...]

``--data-dir`` holds arc_easy, mmlu and gsm8k as JSONL (see docs/config.md). The harness reads the very same rows by
task files written into a temporary folder; prompts and continuations must be byte-equal, or the script fails. Both run
in float32 on the CPU. Compared are log-likelihoods (summed nats), picks, judgements and generated texts; then the
harness's arc_easy scored as an ``lm_eval:`` task in rankscope, and by the model ``rankscope`` in the harness. Seconds
are a note, not a comparison of speed.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from side_rankscope import answers

from rankscope.data.dataset import read
from rankscope.harness.model import RankscopeLM
from rankscope.models.base import load
from rankscope.records import ModelRef, TaskRef
from rankscope.tasks.task import get_task, prepare

MEANS = {"aggregation": "mean", "higher_is_better": True}
ARC = {
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{choices.label.index(answerKey)}}",
    "doc_to_choice": "{{choices.text}}",
    "metric_list": [{"metric": "acc", **MEANS}, {"metric": "acc_norm", **MEANS}],
}
MMLU = {
    "output_type": "multiple_choice",
    "fewshot_split": "shots",
    "fewshot_config": {"sampler": "first_n"},
    "num_fewshot": 5,
    "doc_to_text": "{{question | trim}}\nA. {{choices[0] | trim}}\nB. {{choices[1] | trim}}\n"
    "C. {{choices[2] | trim}}\nD. {{choices[3] | trim}}\nAnswer:",
    "doc_to_choice": ["A", "B", "C", "D"],
    "doc_to_target": "answer",
    "metric_list": [{"metric": "acc", **MEANS}],
}
GSM8K = {
    "output_type": "generate_until",
    "fewshot_split": "shots",
    "fewshot_config": {"sampler": "first_n"},
    "num_fewshot": 5,
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{answer | regex_replace('<<[^>]*>>', '')}}",
    "metric_list": [
        {
            "metric": "exact_match",
            **MEANS,
            "ignore_case": True,
            "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"],
        }
    ],
    "filter_list": [
        {
            "name": "strict-match",
            "filter": [
                {"function": "regex", "regex_pattern": "#### (\\-?[0-9\\.\\,]+)"},
                {"function": "take_first"},
            ],
        }
    ],
}


def write_task(folder: Path, name: str, config: dict, rows: dict[str, list[dict]]) -> Path:
    """A task file of the harness with its rows beside it."""
    files = {}
    for split, found in rows.items():
        path = folder / f"{name}.{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
        files[split] = str(path)
    whole = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**whole, **config}), encoding="utf-8")
    return path


def tasks_of(folder: Path, data_dir: str, items: int, generated: int) -> dict[str, list[Path]]:
    """Task files with the rows that rankscope scores; under 'mmlu as shipped' options keep the spaces around them."""

    def rows(name: str, split: str) -> list[dict]:
        return list(read(get_task(name).source, split, data_dir).rows)

    arc = [write_task(folder, "parity_arc", ARC, {"test": rows("arc_easy", "test")[:items]})]
    by_subject: dict[str, list[dict]] = {}
    for row in rows("mmlu", "test"):
        by_subject.setdefault(row["subject"], []).append(row)
    dev, mmlu, shipped = rows("mmlu", "dev"), [], []
    most, rest = divmod(items, len(by_subject))
    for place, (subject, found) in enumerate(by_subject.items()):
        about = subject.replace("_", " ")
        text = f"The following are multiple choice questions (with answers) about {about}.\n\n"
        few = {"test": found[: most + (place < rest)], "shots": [row for row in dev if row["subject"] == subject]}
        if few["test"]:
            mmlu.append(write_task(folder, f"parity_mmlu_{subject}", {**MMLU, "description": text}, few))
            whole_options = {**MMLU, "description": text, "doc_to_text": MMLU["doc_to_text"].replace("] | trim", "]")}
            shipped.append(write_task(folder, f"shipped_mmlu_{subject}", whole_options, few))
    ours = get_task("gsm8k")
    settings = {"until": list(ours.stop), "max_gen_toks": ours.max_new_tokens, "do_sample": False}
    few = {"test": rows("gsm8k", "test")[:generated], "shots": rows("gsm8k", "train")[:5]}
    gsm = [write_task(folder, "parity_gsm8k", {**GSM8K, "generation_kwargs": settings}, few)]
    return {"arc_easy": arc, "mmlu": mmlu, "gsm8k": gsm, "mmlu as shipped": shipped}


def prompts_of(paths: list[Path]) -> set[str]:
    """The prompts that the harness makes, without any model."""
    found: set[str] = set()
    for path in paths:
        (task,) = TaskManager(include_defaults=False).load([str(path)])["tasks"].values()
        task.set_fewshot_seed(1234)
        task.build_all_requests()
        found |= {instance.args[0] for instance in task.instances}
    return found


def ask_harness(lm, paths: list[Path]) -> tuple[dict[str, dict], float]:
    """Every logged sample by its prompt, and seconds."""
    began = time.monotonic()
    manager = TaskManager(include_defaults=False)
    result = simple_evaluate(model=lm, tasks=[str(p) for p in paths], task_manager=manager, bootstrap_iters=0)
    samples = [sample for found in result["samples"].values() for sample in found]
    return {sample["arguments"][0][0]: sample for sample in samples}, time.monotonic() - began


def ask_rankscope(base, ref: TaskRef, data_dir: str | None = None) -> tuple[list[tuple], float]:
    """(sample, response, value) of every item, and seconds."""
    kept, seconds, _ = answers(base, prepare(ref, data_dir))
    return kept, seconds


def compare_choices(name: str, ours: list[tuple], theirs: dict[str, dict], strip: str = " ") -> dict:
    """Largest difference of log-likelihoods and shares of equal picks, by each side's rules."""
    far, acc, norm, own = 0.0, [], [], []
    assert len(theirs) == len(ours), f"{name}: {len(ours)} items here, {len(theirs)} prompts there"
    for sample, response, value in ours:
        other = theirs[sample.prompt]  # byte-equal, or a KeyError
        assert [pair[1] for pair in other["arguments"]] == list(sample.choices), sample.choices
        there = np.array([float(pair[0][0]) for pair in other["resps"]])
        here = np.array(response.loglikelihoods)
        far = max(far, float(np.abs(here - there).max()))
        lengths = np.array([len(choice.removeprefix(strip)) for choice in sample.choices])
        acc.append(here.argmax() == there.argmax())
        norm.append((here / lengths).argmax() == (there / lengths).argmax())
        own.append(value == other.get("acc_norm", other["acc"]))
    return {"task": name, "items": len(ours), "max_ll_difference": far, "same_pick": float(np.mean(acc)),
            "same_pick_per_character": float(np.mean(norm)), "same_value_as_default_scorer": float(np.mean(own)),
            **{m: float(np.mean([s[m] for s in theirs.values()])) for m in ("acc", "acc_norm") if m in other},
            "rankscope": float(np.mean([value for *_, value in ours]))}  # fmt: skip


def compare_texts(base, ours: list[tuple], theirs: dict[str, dict]) -> tuple[dict, list[str]]:
    """Equal texts and judgements; where texts differ, the gap of the two likeliest tokens at the first difference."""
    same, judged, notes = [], [], []
    assert len(theirs) == len(ours), f"{len(ours)} items here, {len(theirs)} prompts there"
    for sample, response, value in ours:
        other = theirs[sample.prompt]
        text = other["resps"][0][0]
        same.append(text == response.text)
        judged.append(value == other["exact_match"])
        if text != response.text:
            notes.append(first_difference(base, sample.prompt, response.text, text))
    return {"task": "gsm8k", "items": len(ours), "same_text": float(np.mean(same)),
            "same_value": float(np.mean(judged)),
            "exact_match": float(np.mean([s["exact_match"] for s in theirs.values()])),
            "rankscope": float(np.mean([value for *_, value in ours]))}, notes  # fmt: skip


@torch.inference_mode()
def first_difference(base, prompt: str, one: str, two: str) -> str:
    start = base.encode(prompt)
    left, right = base.encode(prompt + one)[len(start) :], base.encode(prompt + two)[len(start) :]
    at = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    logits = base.model(torch.tensor([[*start, *left[:at]]])).logits[0, -1].float()
    top = logits.topk(2)
    words = [base.decode([t]) for t in top.indices.tolist()]
    return f"token {at}: {words[0]!r} or {words[1]!r}, logits {float(top.values[0] - top.values[1]):.1e} apart"


def harness_model(model: str, folder: Path, data_dir: str, size: int | None) -> HFLM:
    """The harness's own model at the batch size given, or the quickest of some on a few items."""
    lm = HFLM(pretrained=model, dtype="float32", batch_size=size or 1, device="cpu")
    if size is None:
        rows = list(read(get_task("arc_easy").source, "test", data_dir).rows)[200:212]
        path = write_task(folder, "parity_warm", ARC, {"test": rows})
        kinds = [HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=n, device="cpu") for n in (1, 4, 8)]
        lm = min(kinds, key=lambda kind: ask_harness(kind, [path])[1])
    return lm


def bridges(base, model: str, path: Path, theirs: dict[str, dict]) -> list[dict]:
    """The harness's arc task in rankscope (both metrics), and rankscope as the harness's model, against ``hf``."""
    found = []
    for metric in ("acc", "acc_norm"):
        ref = TaskRef(f"lm_eval:{path}", options=(("metric", metric),))
        items = ask_rankscope(base, ref)[0]
        here = [ll for _, response, _ in items for ll in response.loglikelihoods]
        there = [pair[0][0] for sample, *_ in items for pair in theirs[sample.prompt]["resps"]]
        far = max(abs(a - b) for a, b in zip(here, there, strict=True))
        same = np.mean([value == theirs[sample.prompt][metric] for sample, _, value in items])
        found.append({"way": f"lm_eval: in rankscope, {metric}", "items": len(items), "max_ll_difference": far,
                      "same_value": float(same)})  # fmt: skip
    mine, _ = ask_harness(RankscopeLM(model, dtype="float32", device="cpu"), [path])
    pairs = [(mine[prompt], sample) for prompt, sample in theirs.items()]
    far = max(abs(a[0][0] - b[0][0]) for one, two in pairs for a, b in zip(one["resps"], two["resps"], strict=True))
    greedy = np.mean(
        [a[0][1] == b[0][1] for one, two in pairs for a, b in zip(one["resps"], two["resps"], strict=True)]
    )
    same = np.mean([(one["acc"], one["acc_norm"]) == (two["acc"], two["acc_norm"]) for one, two in pairs])
    found.append({"way": "--model rankscope in the harness", "items": len(pairs), "max_ll_difference": far,
                  "same_value": float(same), "same_is_greedy": float(greedy)})  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--generated", type=int, default=24)
    parser.add_argument("--batch-size", type=int, help="the harness's; else the quickest on a few items")
    parser.add_argument("--tasks", nargs="+", default=["arc_easy", "mmlu", "gsm8k"])
    asked = parser.parse_args()
    for name in ("lm_eval", "rankscope"):
        logging.getLogger(name).setLevel(logging.ERROR)
    base, rows, seconds = load(ModelRef(asked.model, dtype="float32"), "cpu"), [], {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = tasks_of(folder, asked.data_dir, asked.items, asked.generated)
        lm = harness_model(asked.model, folder, asked.data_dir, asked.batch_size)
        refs = {
            "arc_easy": TaskRef("arc_easy", limit=asked.items),
            "mmlu": TaskRef("mmlu", "letters", shots=5, limit=asked.items),
            "gsm8k": TaskRef("gsm8k", shots=5, limit=asked.generated),
        }
        theirs: dict[str, dict] = {}
        asked_here = {name: {s.prompt for s in prepare(refs[name], asked.data_dir).samples} for name in asked.tasks}
        for name, prompts in asked_here.items():
            assert prompts == prompts_of(files[name]), f"{name}: the prompts aren't byte-equal"
        for name, ref in ((name, refs[name]) for name in asked.tasks):
            theirs[name], there = ask_harness(lm, files[name])
            ours, here = ask_rankscope(base, ref, asked.data_dir)
            seconds[name] = {"hf": round(there, 1), "rankscope": round(here, 1)}
            if name == "gsm8k":
                row, notes = compare_texts(base, ours, theirs[name])
            else:
                row, notes = compare_choices(name, ours, theirs[name]), []
            if name == "mmlu":
                row["other_prompt_as_shipped"] = len(asked_here[name] - prompts_of(files["mmlu as shipped"]))
            rows.append(row)
            print(json.dumps(row), *notes, sep="\n  ", flush=True)
        arc = theirs.get("arc_easy")
        ways = bridges(base, asked.model, files["arc_easy"][0], arc) if arc else []
        for way in ways:
            print(json.dumps(way), flush=True)
    versions = {name: metadata.version(name) for name in ("lm_eval", "transformers", "torch", "datasets")}
    print(json.dumps({"benchmark": "lm_eval_parity", "model": Path(asked.model).name, "tasks": rows, "bridges": ways,
                      "batch_size": lm.batch_size, "seconds": seconds, "versions": versions,
                      "python": platform.python_version(), "threads": torch.get_num_threads()}))  # fmt: skip


if __name__ == "__main__":
    main()
