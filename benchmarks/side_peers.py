"""The peers' side of a comparison, in a process of its own: TRL with PEFT, and lm-evaluation-harness. In: a file of
jobs. Out: a line of a log for each.

Started by ``sidebyside.child``. As a competent user would script them: one process for many runs, float32 (TRL's
default is bfloat16, which is slow on a CPU), no gradient checkpointing (TRL's default), nothing logged or saved on the
way. Each library is loaded only by a job that needs it.
"""

from __future__ import annotations

import time

BEGAN = time.monotonic()

import gc  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import math  # noqa: E402
import tempfile  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
from sidebyside import peak_bytes, quickest, serve  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: E402

MODES = {
    "plain": {},
    "grouped": {"train_sampling_strategy": "group_by_length"},
    "padding_free": {"padding_free": True, "max_length": None},
    "padding_free, grouped": {"padding_free": True, "max_length": None, "train_sampling_strategy": "group_by_length"},
    "packed": {"packing": True},
}
"""Ways to put examples into batches; in 'packed' a batch's rows are packs of ``pack`` tokens. Padding-free refuses a
length to cut at (no row is that long)."""


class Clock(TrainerCallback):
    """Seconds of the training loop alone, and the peak of memory when it ends."""

    def on_train_begin(self, *_, **__):
        self.began = time.monotonic()

    def on_train_end(self, *_, **__):
        self.seconds, self.peak = time.monotonic() - self.began, peak_bytes()


def read(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def model_of(job: dict):
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    if any(p.dtype != torch.float32 for p in model.parameters()):
        raise SystemExit("the peer's model isn't float32")
    return model


def trainer_of(job: dict, rows: list[dict], mode: str, batch: int, folder: str):
    """A trainer over rows of prompt and completion, at ``batch`` rows a pass and ``job['step']`` rows a step."""
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    warnings.simplefilter("ignore")
    recipe = job["recipe"]
    settings = {"max_length": recipe.get("max_length", 1024), **MODES[mode]}
    config = SFTConfig(
        folder, per_device_train_batch_size=batch, gradient_accumulation_steps=max(1, round(job["step"] / batch)),
        max_steps=recipe.get("max_steps") or -1, num_train_epochs=1.0, learning_rate=job["lr"],
        lr_scheduler_type="linear", warmup_steps=job.get("warmup", 0), weight_decay=0.0, max_grad_norm=1.0,
        optim="adamw_torch", completion_only_loss=True, bf16=False, gradient_checkpointing=False, use_cpu=True,
        logging_strategy="no", save_strategy="no", eval_strategy="no", report_to="none",
        disable_tqdm=True, per_device_eval_batch_size=8, seed=job["seed"], **settings,
    )  # fmt: skip
    lora = LoraConfig(r=job["rank"], lora_alpha=job["alpha"], lora_dropout=0.0, target_modules="all-linear",
                      task_type="CAUSAL_LM") if job["rank"] else None  # fmt: skip
    held = Dataset.from_list(read(job["held"])) if job.get("held") else None
    trainer = SFTTrainer(model=model_of(job), args=config, train_dataset=Dataset.from_list(rows), eval_dataset=held,
                         processing_class=AutoTokenizer.from_pretrained(job["model"]), peft_config=lora,
                         callbacks=[Clock()])  # fmt: skip
    if any(p.dtype != torch.float32 for p in trainer.model.parameters()):
        raise SystemExit("the peer's trainer isn't float32")
    return trainer


def clock_of(trainer) -> Clock:
    return next(c for c in trainer.callback_handler.callbacks if isinstance(c, Clock))


def in_step(job: dict, mode: str, size: int) -> dict:
    """The job with its rows a step counted as the mode counts rows: in packs, where rows are packed."""
    return {**job, "step": max(1, round(job["step"] * job["mean_tokens"] / job["pack"])),
            "recipe": {**job["recipe"], "max_length": job["pack"]}} if mode == "packed" else job  # fmt: skip


def search(job: dict) -> dict:
    """Seconds of some rows in every mode at several batch sizes. The quickest mode and size, and all times."""
    torch.set_num_threads(job["threads"])
    rows, found = read(job["rows"]), {}

    def seconds(mode: str, size: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            trainer = trainer_of(in_step(job, mode, size), rows, mode, size, folder)
            trainer.train()
            taken = clock_of(trainer).seconds
        print(f"  search: {mode}, {size}: {taken:.1f} s", flush=True)
        del trainer
        gc.collect()
        return taken

    for mode in job["modes"]:
        sizes = [n for n in (1, 2, 4) if n <= in_step(job, mode, 1)["step"]] if mode == "packed" else job["sizes"]
        found[mode] = quickest(sizes, lambda size, mode=mode: seconds(mode, size), patience=1)
    best = min(found, key=lambda mode: min(found[mode]["seconds"].values()))
    return {"mode": best, "batch": found[best]["best"], "tried": {mode: row["seconds"] for mode, row in found.items()}}


def train(job: dict) -> dict:
    """One run: seconds of the loop, the tokens of its rows, its validation loss; weights saved in PEFT's format."""
    torch.set_num_threads(job["threads"])
    rows = read(job["rows"])
    with tempfile.TemporaryDirectory() as folder:
        before = time.monotonic()
        trainer = trainer_of(in_step(job, job["mode"], job["batch"]), rows, job["mode"], job["batch"], folder)
        loading = time.monotonic() - before
        done = trainer.train()
    clock, tokens, labels = clock_of(trainer), 0, 0
    for row in trainer.train_dataset:
        tokens += len(row["input_ids"])
        labels += sum(label != -100 for label in row["labels"])
    loss = trainer.evaluate()["eval_loss"] if job.get("held") else None
    trainer.save_model(job["out"])
    if not job["rank"]:
        trainer.processing_class.save_pretrained(job["out"])
    found = {"loading": loading, "train_seconds": clock.seconds, "tokens": tokens, "label_tokens": labels,
             "steps": trainer.state.global_step, "mean_loss": done.training_loss, "peak_of_training": clock.peak,
             "validation_loss": loss if loss is not None and math.isfinite(loss) else None}  # fmt: skip
    del trainer
    gc.collect()
    return found


def score(job: dict) -> dict:
    """Task files of the harness by its ``hf`` model, loaded for this job: what it logged, and seconds."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    torch.set_num_threads(job["threads"])
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    began = time.monotonic()
    lm = HFLM(pretrained=job["path"], dtype="float32", batch_size=job["batch"], device="cpu", peft=job.get("adapter"))
    if {p.dtype for p in lm.model.parameters()} != {torch.float32}:
        raise SystemExit("the peer's model isn't float32")
    loading, began, found = time.monotonic() - began, time.monotonic(), {}
    for name, files in job["tasks"].items():
        manager = TaskManager(include_defaults=False)
        samples = simple_evaluate(model=lm, tasks=files, task_manager=manager, bootstrap_iters=0)["samples"]
        found[name] = [{"prompt": s["arguments"][0][0], "choices": [pair[1] for pair in s["arguments"]],
                        "loglikelihoods": [float(pair[0][0]) for pair in s["resps"]]}
                       for of_file in samples.values() for s in of_file]  # fmt: skip
    scoring = time.monotonic() - began
    del lm
    gc.collect()
    return {"loading": loading, "scoring": scoring, "answers": found}


if __name__ == "__main__":
    serve({"search": search, "train": train, "score": score}, BEGAN)
