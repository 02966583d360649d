"""Eight adapters side by side on one GPU against eight runs one after another with PEFT's layers in a plain loop.

    PYTHONPATH=src python benchmarks/cohort_gpu.py [--shapes llama-1.1b smollm2] [--rows 1 4] [--steps 20] [--tiny]

Made for one run of at most 30 minutes on one GPU: no download, no files, no installation of rankscope (beside
torch, transformers and peft it needs jaxtyping, psutil, pydantic, safetensors, tokenizers). ``--tiny`` runs all of it
on a CPU in seconds, in float32, to see that it works; no figure of it counts.

Weights are random, in bfloat16, drawn on the GPU: Llama's shape with hidden 2048, 16 layers, inner 5632, 32 heads (8
for keys), 32,000 tokens; and SmolLM2-135M's. Eight adapters of ranks 4 to 256 on all linear layers, 1 x 512 and
4 x 512 tokens a run and step, the loss on every token, so that neither side has a head to skip. Set equal: rows of
every step, A and B at the start (B random too, so that every run has a loss of its own), alpha, AdamW, rate, clipping
at norm 1, number of steps. The peer is PEFT's LoRA layers in a loop of forward, backward, clip, step, with the fused
AdamW, one adapter on the model at a time; loading and putting adapters on is not timed on either side. Sides take
turns, ``--rounds`` times; time per step is the median of all but the first ``--warm`` steps of each turn, the device
waited for after each. All of it takes about ten minutes; with ``--shapes`` and ``--rows`` it runs in parts.

Two number formats: ``float32`` (factors and their products in float32 with TF32 allowed, on both sides; what a study
does) and ``bfloat16`` (autocast: factors in float32, products in bfloat16, as transformers' Trainer does with
``bf16=True``). The ratio that counts is rankscope's ``float32`` against the faster of the peer's two.

Losses are compared too: every step of every run of both sides, in each format; the exit code is 1 if any differs by
more than ``--tolerance`` nats. Share of the ceiling: matrix products counted (tokens x 4 a frozen weight, forward and
gradient of the input, and 6 a weight of an adapter; attention scores left out) over a measured 8192 x 8192 bfloat16
product. ``--profile`` adds one profiled step of each side: the number of kernels, and the seconds in which the GPU
computes: where they are few, launching is the limit, not arithmetic.

What to try if launching is the limit (112 modules x 8 adapters x about 6 kernels forward and backward are 5,400 a step;
at 5 microseconds each that is 27 ms, as long as the products themselves at 1 x 512). None of it is measured yet:

1. A CUDA graph of forward and backward for each shape of batch. Needs no wait for the device inside a step (losses are
   read once at its end) and dropout masks from a generator that a graph may hold. No kernel gets fewer, none is waited
   for; small kernels of different adapters could go to several streams inside the graph.
2. All factors A of a module stacked to (sum of ranks, D): one product for all rows, each row's columns of other
   adapters set to 0, one product with the stacked B. Three launches for any number of adapters and no padding to the
   largest rank, but every row computes the sum of all ranks: 524 columns here beside the frozen layer's 2,048, a
   quarter of its product. Pays at 1 x 512 if anywhere, hardly at 4 x 512.
3. ``torch._grouped_mm`` (bfloat16, rows of all groups in one tensor, offsets): one launch for adapters of one rank, so
   only where a study has several rates or seeds of each rank, as it does while it tunes. Ranks below 8 need padding to
   8 for alignment, never to the largest.
4. ``torch.compile`` of a decoder layer: casts, scales and sums go into the products' epilogues.

Prints a table for people and one JSON line.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import metadata
from statistics import median

import made_cohorts as made
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from rankscope.models.base import Base
from rankscope.models.lora import AdapterBank
from rankscope.training.cohort import TrainSet
from rankscope.training.loop import Loop

RANKS = [4, 8, 16, 16, 32, 64, 128, 256]
TOKENS, CLIP = 512, 1.0
OURS, THEIRS = "rankscope", "peft"


@dataclass
class Job:
    """One comparison: a model, the rows of every step, the adapters."""

    base: Base
    data: TrainSet
    batches: list[list[int]]
    ranks: list[int]
    warm: int
    start: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """The tensors that each run starts from, by rankscope's names, on the CPU."""

    @property
    def step_tokens(self) -> int:
        """Of one run."""
        return sum(len(self.data.train[i].ids) for i in self.batches[0])

    def timed(self, times: list[float]) -> list[float]:
        """Durations of the steps that count, from the clock before the first and after each."""
        return [b - a for a, b in zip(times, times[1:], strict=False)][self.warm :]


@dataclass
class Side:
    """What one side gave in one format: seconds of each run's or the cohort's steps, losses of each run, memory."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    losses: dict[int, list[float]] = field(default_factory=dict)
    peak_bytes: int = 0

    def step_seconds(self) -> float:
        """One step of all runs."""
        return sum(median(times) for times in self.seconds.values())


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextlib.contextmanager
def peak_of(side: Side, device: torch.device):
    """The most memory allocated inside; 0 on a CPU, where it is not measured."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield
    if device.type == "cuda":
        side.peak_bytes = max(side.peak_bytes, torch.cuda.max_memory_allocated(device))


def side_by_side(job: Job, side: Side) -> None:
    """All runs by rankscope's loop in one cohort."""
    bank = AdapterBank(job.base)
    with peak_of(side, job.base.device):
        trainees = made.recruits(job.base, bank, job.data, job.ranks, "run", batches=job.batches)
        for number, trainee in enumerate(trainees):
            put_start(trainee.tensors(), job.start.setdefault(number, start(trainee.tensors(), number)))
        times = [now(job.base.device)]
        Loop(job.base, bank).train(trainees, lambda *_: times.append(now(job.base.device)))
    side.seconds.setdefault(0, []).extend(job.timed(times))
    for number, trainee in enumerate(trainees):
        if trainee.failed:
            raise SystemExit(f"rank {trainee.spec.arm.rank}: {trainee.failed}")
        side.losses[number] = [p.loss for p in trainee.curve]
    for name in list(bank.arms):
        bank.remove(name)


def one_by_one(job: Job, side: Side) -> None:
    """Each run by PEFT's layers on the same model, one after another."""
    for number in range(len(job.ranks)):
        with peak_of(side, job.base.device):
            model, optim = peer(job, number)
            times, losses = [now(job.base.device)], []
            for batch in job.batches:
                losses.append(peer_step(model, job, batch, optim))
                times.append(now(job.base.device))
        side.seconds.setdefault(number, []).extend(job.timed(times))
        side.losses[number] = [float(loss) for loss in losses]
        model.unload()
        del model, optim


def peer(job: Job, number: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The model with one run's adapter by PEFT, and its optimiser."""
    rank = job.ranks[number]
    config = LoraConfig(r=rank, lora_alpha=2.0 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(job.base.model, config)
    put_start(peft_tensors(model, job.start[number]), job.start[number])
    trained = [p for p in model.parameters() if p.requires_grad]
    is_fused = job.base.device.type == "cuda"
    return model, torch.optim.AdamW(trained, lr=made.LR, weight_decay=0.0, fused=is_fused)


def start(tensors: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """A as it is, B random: a run's weights before its first step, on the CPU."""
    drawn = torch.Generator().manual_seed(number)
    return {name: torch.randn(t.shape, generator=drawn) * 0.01 if "lora_B" in name else t.detach().cpu().clone()
            for name, t in tensors.items()}  # fmt: skip


def put_start(tensors: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            tensors[name].copy_(value)


def peft_tensors(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """PEFT's tensors by rankscope's names."""
    named = dict(model.named_parameters())
    return {name: named["base_model.model." + name.replace(".weight", ".default.weight")] for name in names}


def peer_step(model: nn.Module, job: Job, batch: list[int], optim: torch.optim.Optimizer) -> Tensor:
    ids = torch.tensor([job.data.train[i].ids for i in batch], device=job.base.device)
    with job.base.products():
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optim.param_groups[0]["params"], CLIP)
    optim.step()
    optim.zero_grad(set_to_none=True)
    return loss.detach()


def compare(job: Job, formats: list[torch.dtype | None], rounds: int) -> dict[tuple[str, str], Side]:
    """Both sides in each format, in turns."""
    found: dict[tuple[str, str], Side] = {}
    for _ in range(rounds):
        for autocast in formats:
            job.base.autocast = autocast
            name = "float32" if autocast is None else "bfloat16"
            side_by_side(job, found.setdefault((OURS, name), Side()))
            one_by_one(job, found.setdefault((THEIRS, name), Side()))
    job.base.autocast = None
    return found


def largest_difference(sides: dict[tuple[str, str], Side], name: str) -> float:
    ours, theirs = (sides[who, name].losses for who in (OURS, THEIRS))
    return max(abs(a - b) for n in ours for a, b in zip(ours[n], theirs[n], strict=True))


def ceiling(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """FLOPs a second of a large product, the median of 20."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    times = []
    for _ in range(23):
        began = now(device)
        a @ b
        times.append(now(device) - began)
    return 2.0 * size**3 / median(times[3:])


def step_flops(job: Job) -> float:
    """Matrix products of one step of all runs, attention scores left out."""
    linear = [m for m in job.base.model.modules() if isinstance(m, nn.Linear)]
    frozen = sum(m.weight.numel() for m in linear)
    adapters = [sum(t.numel() for t in tensors.values()) for tensors in job.start.values()]
    return float(sum(job.step_tokens * (4 * frozen + 6 * each) for each in adapters))


def profiled(device: torch.device, run: Callable[[], None]) -> dict:
    """Kernels of one call under the profiler and the seconds they take; operations where there is no GPU."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
    with torch.profiler.profile(activities=kinds) as found:
        run()
        now(device)
    wanted = torch.autograd.DeviceType.CUDA if device.type == "cuda" else torch.autograd.DeviceType.CPU
    events = [e for e in found.events() if e.device_type == wanted]
    return {"kernels": len(events), "busy_seconds": sum(e.time_range.elapsed_us() for e in events) / 1e6}


def kernels(job: Job) -> dict[str, dict]:
    """One step of the cohort, and one of the peer's run with the largest rank, in float32."""
    bank, device = AdapterBank(job.base), job.base.device
    trainees = made.recruits(job.base, bank, job.data, job.ranks, "run", batches=job.batches[:1])
    loop = Loop(job.base, bank)
    loop.train(trainees)
    ours = profiled(device, lambda: loop.train(trainees))
    for name in list(bank.arms):
        bank.remove(name)
    model, optim = peer(job, len(job.ranks) - 1)
    peer_step(model, job, job.batches[0], optim)
    theirs = profiled(device, lambda: peer_step(model, job, job.batches[0], optim))
    model.unload()
    return {OURS: ours, f"{THEIRS}, one run": theirs}


def made_job(base: Base, args: argparse.Namespace, num_rows: int) -> Job:
    data = made.rows(base.model.config.vocab_size, [args.tokens] * (num_rows * args.steps), answer=1.0)
    batches = [list(range(s * num_rows, (s + 1) * num_rows)) for s in range(args.steps)]
    return Job(base, data, batches, args.ranks, args.warm)


def result(job: Job, sides: dict[tuple[str, str], Side], shape: str, most: float) -> dict:
    """Rates, ratios, shares, memory of one comparison. The ratio that counts is against the peer's faster format."""
    num = len(job.ranks) * job.step_tokens
    rates = {f"{who}, {name}": num / side.step_seconds() for (who, name), side in sides.items()}
    best = max(rate for name, rate in rates.items() if name.startswith(THEIRS))
    return {
        "shape": shape,
        "rows": len(job.batches[0]),
        "tokens_per_second": rates,
        "ratio": rates[f"{OURS}, float32"] / best,
        "ratio_bfloat16": rates[f"{OURS}, bfloat16"] / best if (OURS, "bfloat16") in sides else None,
        "ceiling_share": {name: step_flops(job) * rate / num / most for name, rate in rates.items()},
        "peak_bytes": {f"{who}, {name}": side.peak_bytes or None for (who, name), side in sides.items()},
        "loss_difference": {name: largest_difference(sides, name) for who, name in sides if who == OURS},
        "first_and_last_loss": [[x[0], x[-1]] for x in sides[OURS, "float32"].losses.values()],
        "spread_seconds": {f"{who}, {name}": [min(min(t) for t in side.seconds.values()),
                                              max(max(t) for t in side.seconds.values())]
                           for (who, name), side in sides.items()},
    }  # fmt: skip


def show(row: dict) -> None:
    print(f"\n{row['shape']}, {row['rows']} rows a run and step: x {row['ratio']:.2f} of the peer's best")
    for name, rate in row["tokens_per_second"].items():
        peak = row["peak_bytes"][name]
        memory = "" if peak is None else f"  {peak / 1e9:6.1f} GB"
        print(f"  {name:24}{rate:12,.0f} tokens/s  {row['ceiling_share'][name]:6.1%} of the ceiling{memory}")
    print(f"  largest difference of a loss, nats: {row['loss_difference']}; kernels: {row['kernels']}", flush=True)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=["llama-1.1b", "smollm2"], choices=list(made.SHAPES))
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 4], help="rows of a run and step")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a row")
    parser.add_argument("--ranks", nargs="+", type=int, default=RANKS)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--warm", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tolerance", type=float, default=0.05)
    parser.add_argument("--profile", action="store_true", help="count kernels too")
    parser.add_argument("--tiny", action="store_true", help="on a CPU, in seconds, to see that it works")
    args = parser.parse_args(argv)
    if args.tiny:
        args.shapes, args.rows, args.tokens, args.ranks = ["tiny"], [2], 24, [1, 8]
        args.steps, args.warm, args.rounds, args.tolerance = 3, 1, 1, 1e-3
    elif not torch.cuda.is_available():
        parser.error("no CUDA device here; --tiny runs on a CPU")
    return args


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    device = torch.device("cpu" if args.tiny else "cuda")
    dtype = torch.float32 if args.tiny else torch.bfloat16
    torch.set_float32_matmul_precision("high")  # TF32 where there is such a thing, for both sides
    most = ceiling(device, dtype, 128 if args.tiny else 8192)
    where = "cpu" if args.tiny else torch.cuda.get_device_name(device)
    print(f"{where}: {most / 1e12:.3g} TFLOP/s in a large product")
    rows = []
    for shape in args.shapes:
        base = made.base_of(made.model(made.SHAPES[shape], dtype, device), shape)
        for num_rows in args.rows:
            job = made_job(base, args, num_rows)
            sides = compare(job, [None] if args.tiny else [None, torch.bfloat16], args.rounds)
            rows.append(result(job, sides, shape, most) | {"kernels": kernels(job) if args.profile else None})
            show(rows[-1])
        del base, job
    versions = {name: metadata.version(name) for name in ("torch", "transformers", "peft")}
    print(json.dumps({"benchmark": "cohort_gpu", **vars(args), "device": where, "dtype": str(dtype),
                      "ceiling_flops": most, "rows_measured": rows, "versions": versions}))  # fmt: skip
    worst = max(apart for row in rows for apart in row["loss_difference"].values())
    if not worst <= args.tolerance:
        raise SystemExit(f"losses differ by {worst}: no time above is worth anything")


if __name__ == "__main__":
    main()
