"""How far the hidden states of a tuned model lie from its base's, layer by layer. In: a Subject. Out: ``Reading``s.

Three distances of the same tokens read by both, the first position of each prompt (an attention sink) apart:

- 1 - linear CKA (Kornblith et al. 2019, 1905.00414), which no rotation or scaling of the whole layer changes. HSIC is
  estimated without bias (Song et al. 2012, JMLR 13), because the usual estimate is near 1 where there are few tokens
  for many dimensions; sums of it over minibatches of tokens (Nguyen et al. 2021, 2010.15327) keep memory bounded.
- the mean cosine distance, which a rotation does change;
- KL(base || tuned) of the next token, by position in the prompt.

Beside them, of at most ``SAMPLE`` tokens spread evenly over all: effective rank (Roy and Vetterli 2007: exp of the
entropy of the singular values' shares) and the largest shares of variance of the centred states. Memory doesn't grow
with the number of prompts. A run that has learned nothing has exactly 0 everywhere; only full SFT of a base that isn't
float32 rounds a little otherwise, because a float32 copy wears it.

Legend: P tokens of a batch, N tokens of a minibatch, D hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from rankscope.analysis.capture import Batch, batches, layers_of, read, tuned_side
from rankscope.analysis.subject import Subject
from rankscope.data.batching import Example
from rankscope.errors import RunFailed
from rankscope.models.base import Base, token_kl
from rankscope.records import Reading

SAMPLE = 1024  # tokens of a minibatch, and tokens whose spectrum is taken
SHARES = 32
_HELD = 64_000_000  # numbers of the base's hidden states held at once: 256 MB in float32
_BATCH_TOKENS = 4096
_FEWEST = 4  # the unbiased estimate of HSIC divides by n (n - 3)


class LayerDrift:
    """Sums over one layer's tokens, base beside tuned. ``num_tokens`` says how many there will be in all,
    ``size`` how many make a minibatch and a sample."""

    def __init__(self, num_tokens: int, size: int):
        self.num_tokens, self.size = num_tokens, size
        self.seen = self.filled = self.kept = 0
        self.hsic = torch.zeros(3, dtype=torch.float64)  # base x tuned, base x base, tuned x tuned
        self.cosine, self.sink = _Mean(), _Mean()
        self.batch: tuple[Tensor, Tensor] | None = None  # the minibatch that is filling up, both sides (N, D)
        self.sample: tuple[Tensor, Tensor] | None = None

    def add(self, base: Float[Tensor, "P D"], tuned: Float[Tensor, "P D"]) -> None:
        """Further tokens, each at the same place on both sides."""
        if self.batch is None:
            self.batch, self.sample = (
                tuple(x.new_empty(self.size, x.shape[1]) for x in (base, tuned)) for _ in range(2)
            )
        self.cosine.add(cosine_distances(base, tuned))
        self._sample(base, tuned)
        while len(base):
            num = min(self.size - self.filled, len(base))
            for held, new in zip(self.batch, (base, tuned), strict=True):
                held[self.filled : self.filled + num] = new[:num]
            self.filled += num
            base, tuned = base[num:], tuned[num:]
            if self.filled == self.size:
                self._close()

    def add_sink(self, base: Float[Tensor, "B D"], tuned: Float[Tensor, "B D"]) -> None:
        """The first token of further prompts."""
        self.sink.add(cosine_distances(base, tuned))

    def values(self) -> dict[str, tuple[float | None, ...]]:
        """All quantities of this layer by name. None where there was nothing to measure."""
        self._close()
        both, base, tuned = self.hsic.tolist()
        # The root of a square is exact, so equal sides have exactly 0; below 0 there is only rounding.
        distance = max(0.0, 1.0 - both / math.sqrt(base * tuned)) if base * tuned > 0 else None
        found = {"cka_distance": (distance,), "cosine_distance": (self.cosine.value(),)}
        for side, states in zip(("base", "tuned"), self.sample or (None, None), strict=True):
            rank, shares = spectrum(states[: self.kept]) if states is not None else (None, (None,))
            found |= {f"effective_rank_{side}": (rank,), f"hidden_spectrum_{side}": shares}
        return found | {"sink_cosine_distance": (self.sink.value(),)}

    def _sample(self, base: Tensor, tuned: Tensor) -> None:
        """Keep ``size`` tokens of all, evenly spread."""
        most = min(self.size, self.num_tokens)
        place = torch.arange(self.seen, self.seen + len(base), device=base.device)
        wanted = (place + 1) * most // self.num_tokens > place * most // self.num_tokens
        num = int(wanted.sum())
        for held, new in zip(self.sample, (base, tuned), strict=True):
            held[self.kept : self.kept + num] = new[wanted]
        self.seen, self.kept = self.seen + len(base), self.kept + num

    def _close(self) -> None:
        """Count the minibatch, by the tokens it holds, and begin another. Too few tokens for an estimate are left."""
        num, self.filled = self.filled, 0
        if num >= _FEWEST:
            base, tuned = (centred_gram(states[:num]) for states in self.batch)
            products = [(base * tuned).sum(), (base * base).sum(), (tuned * tuned).sum()]
            self.hsic += torch.stack(products).cpu() / (num - 3)  # each is n x HSIC


class PositionKL:
    """KL(base || tuned) by position in the prompt: 1, 2, 3-4, 5-8, ... the first token (0) apart."""

    def __init__(self, most_tokens: int):
        num = bucket_of(most_tokens - 1) + 1 if most_tokens > 1 else 0
        self.sums, self.counts = (torch.zeros(num, dtype=torch.float64) for _ in range(2))

    def add(self, batch: Batch, head: Callable[[Tensor], Tensor], base: Float[Tensor, "P D"], tuned: Base,
            after: Float[Tensor, "P D"]) -> None:  # fmt: skip
        """Further tokens: last hidden states of both sides; logits exist a slice at a time."""
        if not len(base):
            return
        size = max(1, tuned.slice_size // 4)  # both sides' logits, their softmax and their product at once
        parts = zip(base.split(size), after.split(size), strict=True)
        each = torch.cat([token_kl(head(b), tuned.logits(a)) for b, a in parts]).double().cpu()  # (P,)
        if not bool(each.isfinite().all()):
            raise RunFailed("the divergence from the base is not finite", stage="diagnose")
        places = batch.is_later.nonzero()[:, 1].cpu()  # (P,)
        buckets = torch.tensor([bucket_of(place) for place in places.tolist()])
        self.sums.index_add_(0, buckets, each)
        self.counts.index_add_(0, buckets, torch.ones_like(each))

    def values(self) -> tuple[float | None, ...]:
        return tuple((self.sums / self.counts).tolist())


def drift(subject: Subject) -> Iterator[Reading]:
    """All readings, one set of prompts after the other."""
    with tuned_side(subject) as opened:
        for part, rows in subject.texts.items():
            rows = [row for row in rows if row.ids]
            if not rows:
                continue
            found, by_position = _measured(subject, opened, rows)
            for layer, values in found.items():
                module = "embedding" if layer is None else ""
                yield from (Reading(name, v, layer, module, part) for name, v in values.items())
            if by_position:
                yield Reading("kl_by_position", by_position, part=part)


def cosine_distances(base: Float[Tensor, "P D"], tuned: Float[Tensor, "P D"]) -> Float[Tensor, " _"]:
    """1 - cos of each pair: half the squared distance of the unit vectors, which is exact where they are equal.

    A state of zeros has no direction: its pair is left out.
    """
    base, tuned = base.float(), tuned.float()
    sizes = base.norm(dim=-1), tuned.norm(dim=-1)
    has_direction = (sizes[0] > 0) & (sizes[1] > 0)
    apart = base / sizes[0][:, None] - tuned / sizes[1][:, None]
    return apart.square().sum(-1)[has_direction] / 2


def centred_gram(states: Float[Tensor, "N D"]) -> Float64[Tensor, "N N"]:
    """Inner products of all pairs of tokens, without the diagonal, centred so that all rows add up to 0.

    Unbiased HSIC is the inner product of two such matrices over n (n - 3) (Szekely and Rizzo's U-centring, 2014, of
    Song's estimator). It is never negative for one matrix with itself, and Cauchy-Schwarz holds, so that CKA is <= 1.
    """
    num = len(states)
    states = states.float()
    states = states - states.mean(0)  # changes nothing but the rounding
    gram = (states @ states.T).double()
    gram.fill_diagonal_(0)
    rows = gram.sum(0) / (num - 2)
    gram = gram - rows[:, None] - rows + rows.sum() / (num - 1)
    return gram.fill_diagonal_(0)


def spectrum(states: Float[Tensor, "N D"]) -> tuple[float | None, tuple[float | None, ...]]:
    """Effective rank and the largest shares of variance of centred states; None for both if they don't vary."""
    states = states.double()
    states = states - states.mean(0)
    is_wide = states.shape[0] < states.shape[1]
    variances = torch.linalg.eigvalsh(states @ states.T if is_wide else states.T @ states).flip(0)
    if not len(variances) or variances[0] <= 0:
        return None, (None,)
    variances = variances.where(variances > variances[0] * 1e-14, 0.0)  # below that, eigenvalues are rounding
    singular = variances.sqrt()
    rank = float(torch.special.entr(singular / singular.sum()).sum().exp())
    return rank, tuple((variances[:SHARES] / variances.sum()).tolist())


def bucket_of(position: int) -> int:
    """Which of the doubling buckets 1, 2, 3-4, 5-8, ... a position (from 1) falls in."""
    return (position - 1).bit_length()


class _Mean:
    def __init__(self):
        self.total, self.num = 0.0, 0

    def add(self, values: Float[Tensor, " _"]) -> None:
        self.total += float(values.double().sum())
        self.num += len(values)

    def value(self) -> float | None:
        return self.total / self.num if self.num else None


def _measured(
    subject: Subject, opened: Callable, rows: Sequence[Example]
) -> tuple[dict[int | None, dict[str, tuple[float | None, ...]]], tuple[float | None, ...]]:
    """The quantities by layer (None: the embedding), and KL by position, of one set of prompts."""
    base = subject.base
    lengths = [len(row.ids) for row in rows]
    numbers = (None, *range(len(layers_of(base))))
    found = {number: LayerDrift(sum(lengths) - len(lengths), SAMPLE) for number in numbers}
    by_position = PositionKL(max(lengths))
    size = base.model.config.get_text_config().hidden_size
    for batch in batches(base, rows, max(1, min(_BATCH_TOKENS, _HELD // (size * len(numbers))))):
        _pass(subject, opened, batch, found, by_position)
        subject.tick(len(batch.rows))
    return {number: layer.values() for number, layer in found.items()}, by_position.values()


def _pass(subject: Subject, opened: Callable, batch: Batch, found: dict[int | None, LayerDrift],
          by_position: PositionKL) -> None:  # fmt: skip
    """One batch through the base and through the tuned model. Only the base's states are ever held."""
    held: dict[int | None, tuple[Tensor, Tensor]] = {}

    def keep(number: int | None, states: Float[Tensor, "B T D"]) -> None:
        held[number] = (batch.later(states), states[:, 0].clone())  # copies: a model may go on in place

    last = batch.later(read(subject.base, batch, keep))
    head = subject.base.head()

    def compare(number: int | None, states: Float[Tensor, "B T D"]) -> None:
        before, first = held.pop(number)
        after = batch.later(states)
        if not bool(after.isfinite().all()):
            where = "the embedding" if number is None else f"layer {number}"
            raise RunFailed(f"the hidden states after {where} are not finite", stage="diagnose")
        if len(after):
            found[number].add(before, after)
        found[number].add_sink(first, states[:, 0])

    with opened() as tuned, torch.inference_mode():
        by_position.add(batch, head, last, tuned, batch.later(read(tuned, batch, compare)))
