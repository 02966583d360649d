"""KL(base || arm) over the whole vocabulary. In: rows of tokens, a Base, later the same Base under an arm. Out: nats.

RL's Razor (2509.04259) finds that this number, on prompts of the task that was trained, predicts forgetting better than
norms of weights. An item's value is the mean over its label positions of sum_v p(v) (ln p(v) - ln q(v)), p the base's
and q the arm's distribution of the next token, both softmaxes in float32. What the base says is kept as its last hidden
states, on the CPU, and its own head; logits exist a slice of one batch at a time. Base and arm read the same batches,
so LoRA that has learned nothing has exactly 0, and so has full SFT on a float32 base. Full SFT on a bfloat16 base is a
float32 copy under autocast, whose sums differ from the base's own: near 0, not at it. Knows nothing about tasks.

Legend: B rows, T tokens, P label positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rankscope.clock import Clock
from rankscope.data.batching import Example, budgeted
from rankscope.models import sampling
from rankscope.models.base import OUT_OF_MEMORY, Base, is_out_of_memory, token_kl
from rankscope.records import EvalResult, Ledger, Score

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Reference:
    """What the untouched base says of ``rows``: by batch of their indices, the last hidden states (P, D) at all label
    positions, row by row. ``head`` turns them into logits; ``scores`` are the rows' items without values."""

    rows: tuple[Example, ...]
    scores: tuple[Score, ...]
    batches: tuple[tuple[int, ...], ...]
    hidden: tuple[Tensor, ...]
    head: Callable[[Tensor], Tensor]


@torch.inference_mode()
def reference(base: Base, rows: Sequence[Example], scores: Sequence[Score], batch_tokens: int = 4096) -> Reference:
    """Pass the rows through the base, once for all arms. Call it before anything is put on the base."""
    lengths = [len(row.ids) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (lengths[i], i))
    batches = tuple(tuple(batch) for batch in budgeted(order, lengths, batch_tokens))
    hidden = tuple(_read(base, [rows[i] for i in batch]).cpu() for batch in batches)
    return Reference(tuple(rows), tuple(scores), batches, hidden, base.head())


def measure(
    arm: Base, known: Reference, run_key: str, key: str, tick: Tick | None = None, clock: Clock | None = None
) -> EvalResult:
    """The divergence of every item. A failed row if one is not finite or memory ends; never a zero in its place."""
    clock = clock or Clock()
    began = clock.working()
    tokens = sum(len(row.ids) for row in known.rows)
    try:
        with clock.stage("divergence"), sampling.passes(clock, "divergence", arm):
            values = divergences(arm, known, tick)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        ledger = Ledger(seconds=clock.working() - began)
        return EvalResult(run_key, key, "failed", f"{OUT_OF_MEMORY} in the divergence", "kl", None, (), ledger)
    ledger = Ledger(seconds=clock.working() - began, tokens=tokens, flops=2.0 * arm.num_params * tokens)
    for score, value in zip(known.scores, values, strict=True):
        if not math.isfinite(value):
            what = f"the divergence of item {score.item} is not finite"
            return EvalResult(run_key, key, "failed", what, "kl", None, (), ledger)
    scores = tuple(Score(s.item, v, s.subject, s.cluster) for s, v in zip(known.scores, values, strict=True))
    return EvalResult(run_key, key, "done", "", "kl", None, scores, ledger)


@torch.inference_mode()
def divergences(arm: Base, known: Reference, tick: Tick | None = None) -> tuple[float, ...]:
    """Mean KL(base || arm) of every row, in nats per token. ``arm`` is the base with the arm in effect, or its copy."""
    out = [0.0] * len(known.rows)
    for batch, before in zip(known.batches, known.hidden, strict=True):
        rows = [known.rows[i] for i in batch]
        each = torch.cat([token_kl(p, q) for p, q in _logits(arm, known, before, _read(arm, rows))])  # (P,)
        _put_means(out, batch, rows, each)
        if tick:
            tick(len(batch))
    return tuple(out)


@torch.inference_mode()
def look(arm: Base, known: Reference) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nats per completion token of every row, and ``divergences``, from one pass."""
    losses, drift = [0.0] * len(known.rows), [0.0] * len(known.rows)
    for batch, before in zip(known.batches, known.hidden, strict=True):
        rows = [known.rows[i] for i in batch]
        targets, kl, nll = _targets(rows).to(arm.device), [], []
        for p, q in _logits(arm, known, before, _read(arm, rows)):
            kl.append(token_kl(p, q))
            nll.append(F.cross_entropy(q, targets[sum(map(len, nll)) :][: len(q)], reduction="none"))
        _put_means(drift, batch, rows, torch.cat(kl))
        _put_means(losses, batch, rows, torch.cat(nll))
    return tuple(losses), tuple(drift)


@torch.inference_mode()
def base_losses(base: Base, known: Reference) -> tuple[float, ...]:
    """Nats per completion token of every row under the untouched base, from what is kept of it."""
    losses = [0.0] * len(known.rows)
    for batch, before in zip(known.batches, known.hidden, strict=True):
        rows = [known.rows[i] for i in batch]
        _put_means(losses, batch, rows, base.token_nll(before.to(base.device), _targets(rows).to(base.device)))
    return tuple(losses)


def _logits(arm: Base, known: Reference, before: Float[Tensor, "P D"],
            after: Float[Tensor, "P D"]) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """The base's and the arm's logits, as many positions at a time as fit."""
    size = max(1, arm.slice_size // 4)  # both sides' logits, their softmax and their product at once
    for b, a in zip(before.split(size), after.split(size), strict=True):
        yield known.head(b.to(arm.device)), arm.logits(a)


def _targets(rows: Sequence[Example]) -> Tensor:
    """The token at every label position (P,), row by row."""
    return torch.tensor([row.ids[t] for row in rows for t in row.labels])


def _put_means(out: list[float], batch: Sequence[int], rows: Sequence[Example], each: Float[Tensor, " P"]) -> None:
    """Write the mean over every row's label positions at the row's place in ``out``."""
    owner = torch.tensor([i for i, row in enumerate(rows) for _ in range(row.num_labels)], device=each.device)
    counts = torch.tensor([row.num_labels for row in rows], device=each.device)
    sums = torch.zeros(len(rows), device=each.device).index_add(0, owner, each)
    for index, value in zip(batch, (sums / counts).tolist(), strict=True):
        out[index] = value


def _read(base: Base, rows: Sequence[Example]) -> Float[Tensor, "P D"]:
    """Last hidden states before every label, row by row; padded on the right. Nothing is read at the last token."""
    longest = max(1, max(len(row.ids) for row in rows) - 1)
    pad = base.tokenizer.pad_token_id or 0
    ids = torch.tensor([[*row.ids[:longest], *[pad] * (longest - len(row.ids))] for row in rows])  # (B, T)
    mask = (torch.arange(longest) < torch.tensor([len(row.ids) for row in rows])[:, None]).long()
    hidden = base.hidden(ids.to(base.device), None if bool(mask.all()) else mask.to(base.device))  # (B, T, D)
    owner = torch.tensor([b for b, row in enumerate(rows) for _ in range(row.num_labels)], device=base.device)  # (P,)
    place = torch.tensor([t - 1 for row in rows for t in row.labels], device=base.device)  # (P,)
    return hidden[owner, place]
