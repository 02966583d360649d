"""How each head's attention changed, base against tuned. In: a Subject. Out: ``Reading``s, vectors over heads by layer.

Of every row of attention weights but each prompt's first (a distribution over the keys up to the query): the
Jensen-Shannon divergence of base and tuned (Lin 1991; natural logarithm, so at most ln 2), and the change, tuned less
base, of its entropy, of the mean distance query - key, and of the weight on the first token, where attention sinks lie
(Xiao et al. 2023, 2309.17453). Each is the mean over all rows.

Fast attention never writes its weights down, so a pass runs on transformers' eager path, which gives the same logits,
and only while it lasts. Layers without such attention (state spaces) have no readings; a model where no layer gives
rows that add up to 1 can't be read. Memory doesn't grow with the number of prompts. A run that has learned nothing has
exactly 0 everywhere, but for what ``analysis.drift`` says of copies.

Legend: B rows, H heads, T tokens, N tokens of one prompt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankscope.analysis.capture import Batch, batches, forward, full_precision, layers_of, tuned_side
from rankscope.analysis.subject import Subject
from rankscope.data.batching import Example
from rankscope.errors import RunFailed
from rankscope.models.base import Base
from rankscope.records import Reading

TakeRows = Callable[[int, Tensor], None]
"""Gets a layer's number and its attention (B, H, T, T)."""

_HELD = 128_000_000  # attention weights of the base held at once: 512 MB in float32
_BATCH_TOKENS = 4096
_SLACK = 0.01  # how far from 1 a row may add up: rounding to 16 bits stays far below
_QUANTITIES = ("attention_js", "entropy_change", "distance_change", "first_token_change")


class HeadChange:
    """Sums over the rows of one layer's attention, base beside tuned."""

    def __init__(self):
        self.sums: Tensor | None = None  # by quantity and head
        self.num = 0

    def add(self, base: Float[Tensor, "H N N"], tuned: Float[Tensor, "H N N"]) -> None:
        """One prompt's attention. The first row is left out: it has one key."""
        p, q = base[:, 1:].float(), tuned[:, 1:].float()
        num = base.shape[-1]
        distance = torch.arange(1, num, device=p.device)[:, None] - torch.arange(num, device=p.device)  # (N - 1, N)
        each = (
            js_divergences(p, q),
            torch.special.entr(q).sum(-1) - torch.special.entr(p).sum(-1),
            ((q - p) * distance).sum(-1),
            q[..., 0] - p[..., 0],
        )
        sums = torch.stack([rows.double().sum(-1) for rows in each]).cpu()
        self.sums = sums if self.sums is None else self.sums + sums
        self.num += num - 1

    def values(self) -> dict[str, tuple[float | None, ...]]:
        """The mean over rows of every quantity, by head. None if no prompt had a second token."""
        means = [[None] * self.sums.shape[1]] * len(self.sums) if not self.num else (self.sums / self.num).tolist()
        return {name: tuple(each) for name, each in zip(_QUANTITIES, means, strict=True)}


def attention(subject: Subject) -> Iterator[Reading]:
    """All readings, one set of prompts after the other. Raises RunFailed if this architecture can't be read."""
    with tuned_side(subject) as opened:
        for part, rows in subject.texts.items():
            rows = [row for row in rows if row.ids]
            for layer, change in _measured(subject, opened, rows).items():
                yield from (Reading(name, v, layer, part=part) for name, v in change.values().items())


def js_divergences(p: Float[Tensor, "*R N"], q: Float[Tensor, "*R N"]) -> Float[Tensor, "*R"]:
    """Jensen-Shannon divergence of each pair of rows, in nats.

    With m = (p + q) / 2 and d = (p - q) / (p + q) a key adds m ((1 + d) ln(1 + d) + (1 - d) ln(1 - d)) / 2, whose
    rounding shrinks with d: exactly 0 where the rows are equal.
    """
    total = p + q
    d = torch.where(total > 0, (p - q) / total, 0.0)
    each = torch.special.xlog1py(1 + d, d) + torch.special.xlog1py(1 - d, -d)
    return (total / 4 * each).sum(-1).clamp(min=0)


@contextmanager
def eager(base: Base) -> Iterator[None]:
    """The model on the path that writes its attention down. On leaving, every setting is what it was."""
    configs = {id(c): c for m in base.model.modules() if hasattr(c := getattr(m, "config", None), "sub_configs")}
    before = [(config, config._attn_implementation) for config in configs.values()]
    try:
        if base.model.config.get_text_config()._attn_implementation != "eager":
            base.model.set_attn_implementation("eager")
        yield
    finally:
        for config, own in before:  # an outer config sets those inside it too: these come later and have the last word
            config._attn_implementation = own


def read_rows(base: Base, batch: Batch, wanted: Sequence[int], take: TakeRows) -> None:
    """One eager pass: ``take`` gets the attention of the ``wanted`` layers that have any, as the pass goes on."""
    done: set[int] = set()

    def hook_of(number: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, output: object) -> None:
            rows = output[1] if isinstance(output, tuple) and len(output) > 1 else None
            num, longest = batch.ids.shape
            is_attention = isinstance(rows, Tensor) and rows.dim() == 4
            if number in done or not is_attention or (rows.shape[0], *rows.shape[2:]) != (num, longest, longest):
                return
            done.add(number)
            with full_precision(base):
                _check(base, number, rows, batch)
                take(number, rows)

        return hook

    with ExitStack() as stack, torch.inference_mode():
        stack.enter_context(eager(base))
        found = layers_of(base)
        for number in wanted:
            for module in found[number].modules():
                if "Attention" in type(module).__name__:
                    stack.callback(module.register_forward_hook(hook_of(number)).remove)
        forward(base, batch)


def _measured(subject: Subject, opened: Callable, rows: Sequence[Example]) -> dict[int, HeadChange]:
    """The change by layer on one set of prompts."""
    base = subject.base
    numbers = tuple(range(len(layers_of(base))))
    heads = base.model.config.get_text_config().num_attention_heads
    found = defaultdict(HeadChange)

    def cost(tokens: int) -> int:
        return max(tokens * tokens * heads * len(numbers), tokens * (_HELD // _BATCH_TOKENS))

    for batch in batches(base, rows, _HELD, cost):
        num, longest = batch.ids.shape
        most = max(1, _HELD // (num * heads * longest * longest))  # layers at once: all, but for very long prompts
        for first in range(0, len(numbers), most):
            _pass(subject, opened, batch, numbers[first : first + most], found)
        if not found:
            raise _unreadable(base, "it doesn't give its attention away")
        subject.tick(num)
    return dict(sorted(found.items()))


def _pass(subject: Subject, opened: Callable, batch: Batch, wanted: Sequence[int],
          found: dict[int, HeadChange]) -> None:  # fmt: skip
    """Some layers of one batch through the base and through the tuned model. Only the base's rows are ever held."""
    held: dict[int, Tensor] = {}
    read_rows(subject.base, batch, wanted, held.__setitem__)
    lengths = [len(row.ids) for row in batch.rows]

    def compare(number: int, after: Float[Tensor, "B H T T"]) -> None:
        for before, now, n in zip(held.pop(number), after, lengths, strict=True):
            found[number].add(before[:, :n, :n], now[:, :n, :n])

    with opened() as tuned:
        read_rows(tuned, batch, wanted, compare)


def _check(base: Base, number: int, rows: Float[Tensor, "B H T T"], batch: Batch) -> None:
    """Raises RunFailed on rows that are no distributions: what is measured would mean nothing."""
    sums = rows.float().sum(-1).transpose(1, 2)[batch.is_real]  # (real tokens, H)
    if not bool(sums.isfinite().all()):
        raise RunFailed(f"the attention of layer {number} is not finite", stage="diagnose")
    if bool(((sums - 1).abs() > _SLACK).any()):
        raise _unreadable(base, f"the attention rows of layer {number} don't add up to 1")


def _unreadable(base: Base, why: str) -> RunFailed:
    return RunFailed(f"the attention of this architecture can't be read: {why}", stage="diagnose",
                     got=type(base.model).__name__, hint="Leave attention out of diagnose")  # fmt: skip
