"""The training loop, one for all arms. In: a Base and trainees. Out: the trainees, trained; checkpoints on the way.

The loss is the mean negative log-likelihood per completion token of the whole effective batch, so that micro-batches
and packing change nothing but rounding. The head is computed only where a label is. Knows nothing about tasks or
stores.

Legend: B rows, T tokens, P label positions, D hidden size, K runs.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankscope.clock import Clock
from rankscope.data.batching import Example
from rankscope.errors import RunFailed
from rankscope.models import sampling
from rankscope.models.base import OUT_OF_MEMORY, Base, is_out_of_memory
from rankscope.models.fanout import FanOut, fan_out
from rankscope.models.lora import AdapterBank, Draw
from rankscope.records import CurvePoint
from rankscope.stats.cost import PASS_TOKENS as _PASS
from rankscope.training import checkpoint
from rankscope.training.cohort import Trainee
from rankscope.training.optim import learning_rate, load_state, state_tensors

Tick = Callable[[int, int, float], None]


@dataclass
class Loop:
    """How to train: where checkpoints go and how often (seconds), and into how many parts a batch is cut."""

    base: Base
    bank: AdapterBank | None
    folder: Path | None = None
    every: float = 60.0
    parts: int = 1
    notes: list[str] | None = None
    peak_bytes: int = 0
    clock: Clock = field(default_factory=Clock)
    _fans: dict[tuple[str, ...], FanOut | None] = field(default_factory=dict, init=False, repr=False)

    def train(self, trainees: Sequence[Trainee], tick: Tick | None = None, until: int | None = None) -> None:
        """Train all to the end, or to their own divergence. Resumes from a checkpoint in ``folder`` that holds them.

        ``until``: stop after this many steps and leave a checkpoint; what goes on from it may be fewer runs.
        """
        total = max(len(t.steps) for t in trainees)
        stop = total if until is None else min(until, total)
        step = first = self._resume(trainees, stop)
        self.base.is_causal()  # found out before rows are routed
        saved, typical = time.monotonic(), min(step + 2, stop - 1)  # the first steps also set things up
        while step < stop:
            live = [t for t in trainees if t.failed is None and step < len(t.steps)]
            if not live:
                break
            with sampling.step(self.clock, "training", self.base, step == typical):
                began = time.monotonic()
                losses = self._step(live, step)
                share = (time.monotonic() - began) / len(live)
            for trainee, loss in zip(live, losses, strict=True):
                self._record(trainee, step, loss, share)
            step += 1
            if tick:
                finite = [x for x in losses if math.isfinite(x)]
                tick(step, stop, sum(finite) / len(finite) if finite else math.nan)
            if self.folder and step < stop and time.monotonic() - saved >= self.every:
                self._save(trainees, step)
                saved = time.monotonic()
        if self.folder and until is not None and step > first:
            self._save(trainees, step)

    def _step(self, live: list[Trainee], step: int) -> list[float]:
        """Gradients, then one update for each run. Returns each run's loss."""
        losses = self._guarded_gradients(live, step)
        recipe = live[0].spec.recipe
        try:
            for trainee, loss in zip(live, losses, strict=True):
                if math.isfinite(loss):
                    norm = torch.nn.utils.clip_grad_norm_(trainee.parameters, recipe.clip)
                    if not bool(torch.isfinite(norm)):
                        trainee.failed = f"diverged at step {step + 1}: the gradient is not finite"
                        continue
                    for group in trainee.optim.param_groups:
                        group["lr"] = learning_rate(trainee.spec.lr, step, len(trainee.steps), recipe)
                    trainee.optim.step()
                trainee.optim.zero_grad(set_to_none=True)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise RunFailed(f"{OUT_OF_MEMORY} at step {step + 1}, in the optimiser", stage="train") from error
        return losses

    def _guarded_gradients(self, live: list[Trainee], step: int) -> list[float]:
        """Out of memory halves the micro-batch, keeps the effective batch and says so. No weight has moved yet."""
        while True:
            try:
                return self._gradients(live, step)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                rows = max(len(micro) for t in live for micro in t.steps[step])
                if self.parts >= rows:
                    what = f"{OUT_OF_MEMORY} at step {step + 1} with one row at a time"
                    hint = "Lower training.max_length or use gradient_checkpointing"
                    raise RunFailed(what, stage="train", hint=hint) from error
            for trainee in live:
                trainee.optim.zero_grad(set_to_none=True)
            self.parts *= 2
            if self.notes is not None:
                self.notes.append(f"{OUT_OF_MEMORY} at step {step + 1}: each batch is now cut into {self.parts} parts")

    def _gradients(self, live: list[Trainee], step: int) -> list[float]:
        labels = [sum(t.data.train[i].num_labels for micro in t.steps[step] for i in micro) for t in live]
        sums = [0.0] * len(live)
        for micro in range(max(len(t.steps[step]) for t in live)):
            whole = [[t.data.train[i] for i in (t.steps[step][micro] if micro < len(t.steps[step]) else [])]
                     for t in live]  # fmt: skip
            parts = self.parts * self._passes(live, whole)
            for part in range(parts):
                rows = [_cut(own, part, parts) for own in whole]
                if not any(rows):
                    continue
                draw = (live[0].spec.seed, step, micro, part)
                with self._routed(live, rows, draw):  # backward too: gradient checkpointing computes layers again there
                    nll = self._nll(live, rows)  # (K,) sums
                    self.peak_bytes = max(self.peak_bytes, used_bytes(self.base.device))
                    (nll / torch.tensor(labels, device=nll.device)).sum().backward()
                sums = [s + float(x) for s, x in zip(sums, nll.detach(), strict=True)]
        self.peak_bytes = max(self.peak_bytes, used_bytes(self.base.device))
        return [s / n for s, n in zip(sums, labels, strict=True)]

    def _passes(self, live: list[Trainee], rows: list[list[Example]]) -> int:
        """In how many passes a micro-batch is computed. On a CPU more tokens at once are no faster, and take memory.

        One where dropout is on: its masks are drawn by part, and must not depend on what else is trained.
        """
        if self.base.device.type != "cpu" or any(t.spec.arm.dropout for t in live):
            return 1
        longest = max(len(e.ids) for group in rows for e in group)
        return max(1, round(longest * sum(map(len, rows)) / _PASS))

    @contextmanager
    def _routed(self, live: list[Trainee], rows: list[list[Example]], draw: Draw) -> Iterator[None]:
        """Each run's rows through its own adapter, as they lie one after the other in the batch."""
        ends = list(itertools.accumulate(len(group) for group in rows))
        groups = tuple((t.key, end - len(group), end) for t, group, end in zip(live, rows, ends, strict=True) if group)
        with (
            self.bank.route(groups, draw) if self.bank else nullcontext(),
            _Checkpointing(self.base, live[0].spec.recipe),
            self._fanned(live, rows),
        ):
            yield

    def _fanned(self, live: list[Trainee], rows: list[list[Example]]) -> AbstractContextManager:
        """Layers under the lowest adapted one are computed once for all runs, where these have the same rows."""
        if self.bank is None or len(live) < 2 or any(group != rows[0] for group in rows):
            return nullcontext()
        keys = tuple(t.key for t in live)
        if keys not in self._fans:
            self._fans[keys] = fan_out(self.base, [name for t in live for name in t.names])
        fan, num = self._fans[keys], len(rows[0])
        is_ragged = len({len(e.ids) for e in rows[0]}) > 1
        if fan is None or not fan.is_right(lambda: self._nll(live, rows), num, len(live), is_ragged):
            return nullcontext()
        return fan.over(num, len(live))

    def _nll(self, live: list[Trainee], rows: list[list[Example]]) -> Float[Tensor, " K"]:
        """Summed negative log-likelihood of each run's rows, in one pass over the base."""
        nll, _ = row_nll(self.base, [e for group in rows for e in group])  # (B,)
        out = torch.zeros(len(live), device=nll.device)
        index = torch.tensor([k for k, group in enumerate(rows) for _ in group], device=nll.device)
        return out.index_add(0, index, nll)

    def _record(self, trainee: Trainee, step: int, loss: float, seconds: float) -> None:
        if not math.isfinite(loss):
            trainee.failed = trainee.failed or f"diverged at step {step + 1}: the loss is {loss}"
            return
        examples = [trainee.data.train[i] for micro in trainee.steps[step] for i in micro]
        trainee.tokens += sum(len(e.ids) for e in examples)
        trainee.label_tokens += sum(e.num_labels for e in examples)
        trainee.seconds += seconds
        rate = learning_rate(trainee.spec.lr, step, len(trainee.steps), trainee.spec.recipe)
        trainee.curve.append(CurvePoint(step + 1, loss, rate, trainee.tokens, round(trainee.seconds, 3)))

    def _save(self, trainees: Sequence[Trainee], step: int) -> None:
        tensors: dict[str, Tensor] = {}
        runs = {}
        for t in trainees:
            own = {f"w/{n}": p.detach() for n, p in t.tensors().items()} | state_tensors(t.optim, t.names)
            tensors |= {f"{t.key}/{name}": tensor for name, tensor in own.items()}
            runs[t.key] = {"curve": [[p.step, p.loss, p.lr, p.tokens, p.seconds] for p in t.curve], "tokens": t.tokens,
                           "label_tokens": t.label_tokens, "seconds": t.seconds, "failed": t.failed}  # fmt: skip
        state = {"step": step, "parts": self.parts, "notes": self.notes or [], "runs": runs}
        with self.clock.stage("writing"):
            checkpoint.write(self.folder, tensors, state)

    def _resume(self, trainees: Sequence[Trainee], stop: int) -> int:
        """The step to go on from: that of the folder's checkpoint, if it holds these runs and isn't past ``stop``."""
        found = checkpoint.read(self.folder) if self.folder else None
        if found is None or found[1]["step"] > stop or not {t.key for t in trainees} <= set(found[1]["runs"]):
            return 0
        tensors, state = found
        self.parts = state["parts"]
        if self.notes is not None:
            self.notes[:] = state.get("notes", [])
        for t in trainees:
            own = {k.removeprefix(t.key + "/"): v for k, v in tensors.items() if k.startswith(t.key + "/")}
            with torch.no_grad():
                for name, parameter in t.tensors().items():
                    parameter.copy_(own[f"w/{name}"])
            load_state(t.optim, t.names, own)
            run = state["runs"][t.key]
            t.curve = [CurvePoint(*p) for p in run["curve"]]
            t.tokens, t.label_tokens, t.seconds = run["tokens"], run["label_tokens"], run["seconds"]
            t.failed = run["failed"]
        return state["step"]


def row_nll(base: Base, rows: Sequence[Example]) -> tuple[Float[Tensor, " B"], Int[Tensor, " B"]]:
    """Negative log-likelihood in nats summed over each row's completion, and the number of its tokens."""
    longest = max(len(e.ids) for e in rows)
    pad = base.tokenizer.pad_token_id or 0
    ids = torch.tensor([[*e.ids, *[pad] * (longest - len(e.ids))] for e in rows], device=base.device)  # (B, T)
    lengths = torch.tensor([len(e.ids) for e in rows], device=base.device)
    hidden = base.hidden(ids, base.right_padded(ids, lengths))  # (B, T, D)
    owner = torch.tensor([b for b, e in enumerate(rows) for _ in range(e.num_labels)], device=base.device)  # (P,)
    place = torch.tensor([t for e in rows for t in e.labels], device=base.device)  # (P,)
    nll = base.token_nll(hidden[owner, place - 1], ids[owner, place])  # (P,)
    counts = torch.tensor([e.num_labels for e in rows], device=base.device)
    return torch.zeros(len(rows), device=base.device).index_add(0, owner, nll), counts


def _cut(rows: list[Example], part: int, parts: int) -> list[Example]:
    """One of ``parts`` contiguous parts of a batch, as even as can be."""
    return rows[(len(rows) * part) // parts : (len(rows) * (part + 1)) // parts]


class _Checkpointing:
    """Gradient checkpointing while inside, if the recipe asks for it.

    Layers checkpoint only in train mode, so that flag alone is set, layer by layer: the model's own dropout stays off,
    also where a layer calls it by its own flag, as OPT's do.
    """

    def __init__(self, base: Base, recipe):
        self.model, self.on = base.model, recipe.gradient_checkpointing
        self.layers = [m for m in base.model.modules() if hasattr(m, "gradient_checkpointing")] if self.on else []
        self.shares = [(m, name, share) for m in self.layers for name, share in vars(m).items()
                       if isinstance(share, float) and ("dropout" in name or name == "layerdrop")]  # fmt: skip

    def __enter__(self):
        if self.on:
            _either(self.model, "checkpointing_enable")({"use_reentrant": False})
            for layer in self.layers:
                layer.training = True
            for layer, name, _ in self.shares:
                setattr(layer, name, 0.0)

    def __exit__(self, *_):
        if self.on:
            _either(self.model, "checkpointing_disable")()
            for layer in self.layers:
                layer.training = False
            for layer, name, share in self.shares:
                setattr(layer, name, share)


def _either(model, name: str):
    """transformers renamed gradient_checkpointing_* to activation_checkpointing_* within version 5."""
    return getattr(model, f"activation_{name}", None) or getattr(model, f"gradient_{name}")


def used_bytes(device: torch.device) -> int:
    """Peak of this device since its last reset, or what the process holds right now on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return int(psutil.Process().memory_info().rss)
