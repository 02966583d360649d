"""rankscope's side of a comparison, in a process of its own. In: a file of jobs. Out: a line of a log for each.

Started by ``sidebyside.child``. Loads no peer, so that its memory and its start are rankscope's own.
"""

from __future__ import annotations

import time

BEGAN = time.monotonic()

import sys  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
from sidebyside import Stopwatch, peak_bytes, serve  # noqa: E402

from rankscope.evaluation.suite import evaluate  # noqa: E402
from rankscope.models.adapter import read_tensors, write_adapter  # noqa: E402
from rankscope.models.base import Base, load  # noqa: E402
from rankscope.models.lora import AdapterBank  # noqa: E402
from rankscope.records import Arm, ModelRef, Recipe, RunSpec, TaskRef  # noqa: E402
from rankscope.study.weights import as_given  # noqa: E402
from rankscope.tasks.task import Prepared, prepare, train_samples  # noqa: E402
from rankscope.training.cohort import encode_train_set  # noqa: E402
from rankscope.worker import train, validation_losses  # noqa: E402


def opened(job: dict) -> tuple[Base, float]:
    """The base, and seconds to load it."""
    torch.set_num_threads(job["threads"])
    began = time.monotonic()
    return load(ModelRef(job["model"], dtype="float32"), "cpu"), time.monotonic() - began


def answers(base: Base, task: Prepared) -> tuple[list[tuple], float, int]:
    """(sample, response, value) of every item, the seconds of the scoring, and the tokens it counts."""
    kept: list[tuple] = []

    def keep(sample, response):
        score = task.scorer(sample, response)
        kept.append((sample, response, score.value))
        return score

    began = time.monotonic()
    found = evaluate(base, replace(task, scorer=keep), "", "")
    if found.status != "done":
        raise SystemExit(f"{task.ref.name}: {found.message}")
    return kept, time.monotonic() - began, found.ledger.tokens


def score(job: dict) -> dict:
    """The base and every adapter on one task: log-likelihoods by arm and prompt."""
    base, loading = opened(job)
    task = prepare(TaskRef(**job["task"]), job["data_dir"])
    found = {}
    for name, path in {"base": None, **job["adapters"]}.items():
        if path is None:
            kept, _, _ = answers(base, task)
        else:
            with as_given(base, Arm(name, "adapter", path=path)) as worn:
                kept, _, _ = answers(worn, task)
        found[name] = {sample.prompt: list(response.loglikelihoods) for sample, response, _ in kept}
    return {"loading": loading, "answers": found}


def lora_run(base: Base, job: dict, recipe: Recipe) -> RunSpec:
    arm = Arm("lora", "lora", rank=job["rank"], alpha=float(job["alpha"]))
    return RunSpec(base.ref, arm, job["lr"], TaskRef(job["task"]), recipe, seed=job["seed"])


def trained(job: dict) -> dict:
    """One LoRA run at the loop's defaults over the first rows of a task; useful tokens, seconds, its own losses."""
    base, loading = opened(job)
    recipe = Recipe(validation=0.0, **job["recipe"])
    data = encode_train_set(base, train_samples(TaskRef(job["task"], limit=job["examples"]), job["data_dir"]), recipe)
    began = time.monotonic()
    done = train(base, [("run", lora_run(base, job, recipe))], data)
    seconds = time.monotonic() - began
    peak = peak_bytes()
    (trainee,) = done.trainees
    if trainee.failed:
        raise SystemExit(f"the run failed: {trainee.failed}")
    losses = [point.loss for point in trainee.curve]
    path = Path(job["out"]) / "adapter_model.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_adapter(path, trainee.tensors(), trainee.spec.arm, base.model, "")
    done.close()
    return {"loading": loading, "train_seconds": seconds, "tokens": trainee.tokens, "steps": len(losses),
            "label_tokens": trainee.label_tokens, "last_loss": losses[-1], "peak_of_training": peak}  # fmt: skip


def held_out(job: dict) -> dict:
    """Nats per completion token of rows that neither side trained on, under each adapter file and under the base."""
    base, _ = opened(job)
    recipe = Recipe(validation=0.0)
    rows = train_samples(TaskRef(job["task"], limit=job["examples"] + job["held"]), job["data_dir"])[job["examples"] :]
    rows = encode_train_set(base, rows, recipe).train
    found = {"base": list(validation_losses(base, rows, recipe.batch_tokens))}
    for name, path in job["adapters"].items():
        bank = AdapterBank(base)
        bank.add("run", lora_run(base, job, recipe).arm, seed=0)
        bank.load("run", read_tensors(Path(path))[0])
        with bank.use("run"):
            found[name] = list(validation_losses(base, rows, recipe.batch_tokens))
        bank.remove("run")
    return {"losses": found}


def study(job: dict) -> dict:
    """A whole study with its report: scores of every item, the rates chosen, where the seconds went."""
    from rankscope.cli.console import PlainConsole
    from rankscope.study.study import Study

    torch.set_num_threads(job["threads"])
    Path(job["folder"]).mkdir(parents=True, exist_ok=True)
    with Stopwatch(Path(job["folder"]) / "seconds") as watch:
        whole = Study.load(job["study"], data_dir=job["data_dir"])
        with PlainConsole(sys.stderr) as console:
            result = whole.run(Path(job["folder"]) / "store", progress=console)
        began = time.monotonic()
        result.report(Path(job["folder"]) / "report.html")
        reporting, seconds = time.monotonic() - began, watch.seconds
    evidence = result.evidence
    finals = [(spec, key) for spec, key, _, role in evidence.runs if role == "final"]
    cells = {spec.arm.name: {task: {s.item: s.value for s in found.scores}
                             for (run, task), found in evidence.evals.items() if run == key}
             for spec, key in finals}  # fmt: skip
    return {"complete": result.is_complete, "failed": result.failed, "verdict": str(result.verdict), "scores": cells,
            "rates": {spec.arm.name: spec.lr for spec, _ in finals if spec.train is not None},
            "whole": seconds, "reporting": reporting,
            "training": sum(found.ledger.seconds for _, _, found, _ in evidence.runs),
            "scoring": sum(found.ledger.seconds for found in evidence.evals.values()),
            "trained": [[spec.arm.name, spec.lr, found.ledger.tokens, found.status]
                        for spec, _, found, _ in evidence.runs if spec.train is not None]}  # fmt: skip


if __name__ == "__main__":
    serve({"score": score, "train": trained, "held_out": held_out, "study": study}, BEGAN)
