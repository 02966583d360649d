"""Is rankscope's LoRA training the field's? The same run by rankscope and by TRL's SFTTrainer with PEFT, step by step.

    python benchmarks/trl_parity.py MODEL [--data-dir DIR] [--task arc_easy] [--steps 100] [--threads 1]

Needs ``pip install trl`` (not a dependency of rankscope). Prints a table and one JSON line; exit code 1 if a loss of a
compared pair differs by more than --tolerance.

Set equal: float32; the texts (TRL gets prompt and completion as plain text, tokenises and masks them itself, and every
row must then have the ids and labels that rankscope gave it); which rows form a batch, and the order of batches (the
only thing that TRL's trainer is told: a batch sampler); A and B at the start; the modules adapted, alpha, no dropout;
AdamW's betas, eps and weight decay; the largest norm of the gradient. TRL's own: padding, forward pass, loss and its
divisor, gradients, clipping, optimiser, parameter groups, scheduler.

The loss needed nothing to be set: both divide the sum over completion tokens by the number of completion tokens in all
micro-batches of a step. Different by definition is the warm-up alone. With W warm-up steps of T, and steps counted
from 0, rankscope gives step s < W the rate peak x (s + 1) / W, transformers' ``get_linear_schedule_with_warmup`` gives
it peak x s / W: its first step has rate 0 and moves nothing, and rankscope is at the peak one step sooner. From step W
on both give peak x (T - s) / (T - W), so that the last step has peak / (T - W) and not 0. W is round(share x T) here
and ceil(share x T) there. Hence three pairs: rankscope's warm-up in both (TRL's scheduler is a LambdaLR of rankscope's
formula), no warm-up with TRL's own scheduler, and, as a difference and not as a test, each with its own warm-up.

How PEFT starts and scales an adapter beside rankscope is in peft_start.py.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from datasets import Dataset, disable_progress_bars
from peft_start import adapter_tensors, lora_config, schedule_at
from sidebyside import processor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from rankscope.models.base import Base, load
from rankscope.models.lora import AdapterBank
from rankscope.records import Arm, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.tasks.task import train_samples
from rankscope.training.cohort import TrainSet, encode_train_set, recruit
from rankscope.training.loop import Loop
from rankscope.training.optim import learning_rate

_PACKAGES = ("trl", "peft", "transformers", "accelerate", "torch")
_COLUMNS = {"pair": 34, "first loss": 12, "last": 9, "largest diff.": 15, "mean": 10, "weights": 10, "of a move": 11,
            "share": 10, "seconds": 12}  # fmt: skip
Tensors = dict[str, torch.Tensor]


@dataclass
class Curve:
    """What one run gave: loss and rate of every step, and the adapter's tensors by rankscope's names."""

    losses: list[float]
    rates: list[float]
    start: Tensors
    end: Tensors
    batches: list[list[int]]
    seconds: float


def ours(base: Base, spec: RunSpec, data: TrainSet) -> Curve:
    """The run by rankscope's loop."""
    bank, began = AdapterBank(base), time.monotonic()
    trainee = recruit(base, bank, "run", spec, data)
    start = {k: v.detach().clone() for k, v in trainee.tensors().items()}
    Loop(base, bank).train([trainee], progress("rankscope"))
    if trainee.failed:
        raise SystemExit(f"rankscope's run failed: {trainee.failed}")
    end = {k: v.detach().clone() for k, v in trainee.tensors().items()}
    bank.remove("run")
    batches = [micro for step in trainee.steps for micro in step]
    return Curve([p.loss for p in trainee.curve], [p.lr for p in trainee.curve], start, end, batches,
                 time.monotonic() - began)  # fmt: skip


class Batches(Sampler):
    """The lists of rows that form each batch, in order."""

    def __init__(self, batches: list[list[int]]):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Ticks(TrainerCallback):
    """Progress of TRL's run, in the place of its own lines."""

    def __init__(self):
        self.tick = progress("TRL")

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            self.tick(state.global_step, state.max_steps, logs["loss"])


class Peer(SFTTrainer):
    """TRL's trainer, told which rows form a batch and, if asked, a rate for every step."""

    batches: list[list[int]]
    rate: Callable[[int], float] | None = None

    def get_train_dataloader(self) -> DataLoader:
        rows = self.train_dataset.select_columns(["input_ids", "labels"])
        return DataLoader(rows, batch_sampler=Batches(self.batches), collate_fn=self.data_collator)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.rate is None:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, self.rate)
        return self.lr_scheduler


def theirs(base: Base, spec: RunSpec, texts: Dataset, data: TrainSet, mine: Curve, own_schedule: bool) -> Curve:
    """The run by TRL and PEFT, from the tensors and with the batches of ``mine``."""
    began, recipe = time.monotonic(), spec.recipe
    with tempfile.TemporaryDirectory() as folder:
        trainer = Peer(
            model=copy.deepcopy(base.model),
            args=settings(spec, len(mine.losses), folder),
            train_dataset=texts,
            processing_class=copy.deepcopy(base.tokenizer),
            peft_config=lora_config(base, spec.arm),
            callbacks=[Ticks()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.batches = mine.batches
        if not own_schedule:
            trainer.rate = lambda step: learning_rate(1.0, min(step, recipe.max_steps - 1), recipe.max_steps, recipe)
        check_rows(trainer.train_dataset, data)
        tensors = adapter_tensors(trainer.model)
        if set(tensors) != set(mine.start):
            raise SystemExit(f"other modules are adapted: {sorted(set(tensors) ^ set(mine.start))[:4]}")
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(mine.start[name])
        trainer.train()
        logs = [entry for entry in trainer.state.log_history if "loss" in entry]
        end = {k: v.detach().clone() for k, v in adapter_tensors(trainer.model).items()}
    return Curve([e["loss"] for e in logs], [e["learning_rate"] for e in logs], mine.start, end, mine.batches,
                 time.monotonic() - began)  # fmt: skip


def settings(spec: RunSpec, steps: int, folder: str) -> SFTConfig:
    recipe = spec.recipe
    return SFTConfig(
        folder,
        max_steps=steps,
        gradient_accumulation_steps=recipe.accumulate,
        learning_rate=spec.lr,
        lr_scheduler_type="linear",
        warmup_steps=recipe.warmup,
        adam_beta1=recipe.betas[0],
        adam_beta2=recipe.betas[1],
        adam_epsilon=1e-8,  # torch's default, which rankscope leaves alone
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.clip,
        optim="adamw_torch",
        max_length=recipe.max_length,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def check_rows(rows: Dataset, data: TrainSet) -> None:
    """TRL's own ids and labels must be rankscope's, row by row."""
    if len(rows) != len(data.train):
        raise SystemExit(f"TRL keeps {len(rows)} rows, rankscope {len(data.train)}")
    for number, (row, example) in enumerate(zip(rows, data.train, strict=True)):
        labels = [-100] * example.start + list(example.ids[example.start :])
        if row["input_ids"] != list(example.ids) or row["labels"] != labels:
            raise SystemExit(f"row {number}: TRL makes other tokens or labels of it")


def compare(pair: str, mine: Curve, peer: Curve) -> dict:
    """Absolute differences of the losses of all steps, and of the tensors at the end."""
    losses = [abs(a - b) for a, b in zip(mine.losses, peer.losses, strict=True)]
    apart = torch.cat([(mine.end[k] - peer.end[k]).flatten() for k in mine.end])
    moved = torch.cat([(mine.end[k] - mine.start[k]).flatten() for k in mine.end])
    return {
        "pair": pair,
        "steps": len(losses),
        "first_loss": mine.losses[0],
        "last_loss": mine.losses[-1],
        "max_loss_difference": max(losses),
        "mean_loss_difference": sum(losses) / len(losses),
        "max_weight_difference": float(apart.abs().max()),
        "max_weight_move": float(moved.abs().max()),
        "weight_difference_share": float(apart.norm() / moved.norm()),
        "max_rate_difference": max(abs(a - b) for a, b in zip(mine.rates, peer.rates, strict=True)),
        "rates": {"rankscope": [mine.rates[0], mine.rates[-1]], "trl": [peer.rates[0], peer.rates[-1]]},
        "seconds": {"rankscope": round(mine.seconds, 1), "trl": round(peer.seconds, 1)},
        "losses": [[round(a, 7), round(b, 7)] for a, b in zip(mine.losses, peer.losses, strict=True)],
    }


def progress(name: str) -> Callable[[int, int, float], None]:
    def tick(step: int, total: int, loss: float) -> None:
        if step % 10 == 0 or step == total:
            print(f"{name}: step {step} of {total}, loss {loss:.4f}", file=sys.stderr, flush=True)

    return tick


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a folder with a model, or demo")
    parser.add_argument("--data-dir", help="a folder with <dataset>/train.jsonl")
    parser.add_argument("--task", default="arc_easy")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-tokens", type=int, default=512)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--warmup", type=float, default=0.05)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", type=int, choices=(1, 2, 3), help="one of the three pairs")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    disable_progress_bars()
    warnings.simplefilter("ignore", FutureWarning)  # TRL's and PEFT's, on names in transformers
    torch.set_num_threads(args.threads)
    base = load(ModelRef(args.model, dtype="float32"), device="cpu")
    samples = train_samples(TaskRef(args.task), args.data_dir)
    recipe = Recipe(
        max_steps=args.steps,
        batch_tokens=args.batch_tokens,
        accumulate=args.accumulate,
        warmup=args.warmup,
        weight_decay=args.weight_decay,
        validation=0.0,
    )
    arm = Arm("lora", "lora", rank=args.rank, alpha=2.0 * args.rank)
    spec = RunSpec(base.ref, arm, args.lr, TaskRef(args.task), recipe, seed=0)
    flat = replace(spec, recipe=replace(recipe, warmup=0.0))
    data = encode_train_set(base, samples, recipe)
    if data.dropped or data.cut:
        raise SystemExit("some rows are too long: the two cut them differently, so give shorter ones")
    texts = Dataset.from_list([{"prompt": s.prompt, "completion": s.target} for s in samples])
    rows, runs = [], {}
    pairs = (("rankscope's warm-up in both", spec, False), ("no warm-up, TRL's own schedule", flat, True),
             ("each with its own warm-up", spec, True))  # fmt: skip
    for number, (pair, which, own) in enumerate(pairs, start=1):
        if args.only in (None, number):
            mine = runs.setdefault(which, None) or ours(base, which, data)
            runs[which] = mine
            rows.append(compare(pair, mine, theirs(base, which, texts, data, mine, own)) | {"tested": number < 3})
            if len(rows) == 1:
                print(f"{len(samples)} rows: ids and labels are the same in both\n\n{table_head()}")
            print(table_line(rows[-1]), flush=True)
    report(rows, base, spec, args)
    if any(r["tested"] and not r["max_loss_difference"] <= args.tolerance for r in rows):
        raise SystemExit(1)


def table_head() -> str:
    return "".join(f"{h:<{w}}" if h == "pair" else f"{h:>{w}}" for h, w in _COLUMNS.items())


def table_line(r: dict) -> str:
    line = f"{r['pair']:34}{r['first_loss']:12.4f}{r['last_loss']:9.4f}{r['max_loss_difference']:15.1e}"
    line += f"{r['mean_loss_difference']:10.1e}{r['max_weight_difference']:10.1e}{r['max_weight_move']:11.1e}"
    return line + f"{r['weight_difference_share']:10.1e}{r['seconds']['rankscope']:6.0f}{r['seconds']['trl']:6.0f}"


def report(rows: list[dict], base: Base, spec: RunSpec, args: argparse.Namespace) -> None:
    warm = round(spec.recipe.warmup * args.steps)
    points = sorted({s for s in (0, warm - 1, warm, args.steps - 1) if s >= 0})
    schedule = schedule_at(spec.recipe, points)
    print("\nrate, as a share of the peak")
    for row in schedule:
        print(f"  step {row['step']:4}: rankscope {row['rankscope']:.4f}, transformers {row['transformers']:.4f}")
    settings = {k: v for k, v in vars(args).items() if k not in ("model", "data_dir", "only")}
    print(json.dumps({"benchmark": "trl_parity", "model": base.ref.name, **settings, "rows": rows, "schedule": schedule,
                      "processor": processor(),
                      "versions": {p: importlib.metadata.version(p) for p in _PACKAGES}}))  # fmt: skip


if __name__ == "__main__":
    main()
