"""Which tokens pass through the model, and in which order, so that what texts share is computed once. In: texts as
token ids. Out: a plan. No torch; knows nothing about models or tasks.

Two levels. A *header* is a beginning that many texts share (the examples of a few-shot prompt); its keys and values are
computed once and kept while the packs behind it are scored. A *pack* is a row of the model's input: the rest of some
texts as a prefix tree, flattened depth first, so that a question's stem and the common beginnings of its options stand
there once. Depth first means that node j is an ancestor of node i, or i itself, exactly where j <= i < ends[j]: the
whole attention mask is one comparison.

Sorted texts that share a beginning are neighbours, and the tree over some neighbours has as many nodes as their tokens
less the common prefixes of adjacent ones. So packs are the cheapest cut of the sorted texts into runs, found by dynamic
programming as lines of a paragraph are broken (Knuth and Plass 1981), and headers are intervals of common prefixes
(Abouelhoda, Kurtz and Ohlebusch 2004), each taken whole or in its parts, whichever saves more tokens.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rankscope.data.batching import budgeted

_ROW = 256  # tokens of a pack that no longer gains from company; the cheapest size under the two costs below
_PAIRS = 2048  # looks of one token at another that cost as much as one token's products (Llama shapes of 0.1-1 B)
_FIXED = 32  # what a row costs beside its tokens, in tokens: padding, calls
_COPIED = 32  # kept tokens whose copying in front of a row costs as much as one token's products
_REPAID = 16  # tokens that a header must save for every row behind it: a pass of its own, masks, copying
_LOOK_BACK = 256  # texts of one pack at most


@dataclass(frozen=True)
class Text:
    """A prompt and a continuation to weigh behind it. The prompt has at least one token."""

    prompt: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        """What the model has to see: nothing is read behind the last token."""
        return (*self.prompt, *self.continuation)[:-1] if self.continuation else ()


@dataclass(frozen=True)
class Pack:
    """Texts behind one header as a prefix tree. ``ends[j]`` is one past the last node below node j.

    ``reads`` are (node, target, text), sorted: the target's log-probability behind that node belongs to that text.
    """

    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    ends: tuple[int, ...]
    reads: tuple[tuple[int, int, int], ...]

    @property
    def is_chain(self) -> bool:
        """Whether it is one text, or beginnings of one: ordinary causal attention."""
        return all(end == len(self.tokens) for end in self.ends)


@dataclass(frozen=True)
class Group:
    """Packs that stand behind the same header (which may be empty)."""

    header: tuple[int, ...]
    packs: tuple[Pack, ...]

    def batches(self, budget: int) -> Iterator[list[Pack]]:
        """Packs of near length, within ``budget`` tokens and four times as many with what is kept in front."""
        lengths = [len(p.tokens) for p in self.packs]
        whole = [max(n, -(-(n + len(self.header)) // 4)) for n in lengths]
        order = sorted(range(len(lengths)), key=lambda p: (lengths[p], p))
        for batch in budgeted(order, whole, budget):
            yield [self.packs[p] for p in batch]


def plan(texts: Sequence[Text], budget: int = 4096, is_kept: bool = True) -> list[Group]:
    """The groups to compute; texts without a continuation are in none. ``is_kept``: whether headers can be.

    ``budget`` bounds a pack of several texts. Depends on the texts alone, and on nothing random.
    """
    owners: dict[tuple[int, ...], list[int]] = {}
    for index, text in enumerate(texts):
        if text.continuation:
            owners.setdefault(text.inputs, []).append(index)
    order = sorted(owners)
    found: list[tuple[int, list[tuple[int, ...]]]] = []
    rest, at = [], 0
    first = [min(len(texts[k].prompt) for k in owners[tokens]) - 1 for tokens in order]
    for left, right, length in headers(order, first) if is_kept else ():
        rest += order[at:left]
        found.append((length, order[left:right]))
        at = right
    found.append((0, rest + order[at:]))
    groups = []
    for length, members in found:
        runs = cut(members, length, budget)
        length = length if len(runs) > 1 else 0  # a single pack is no cheaper behind a pass of its own
        packs = tuple(pack({k: texts[k] for m in members[i:j] for k in owners[m]}, length) for i, j in runs)
        if packs:
            groups.append(Group(members[0][:length], packs))
    return groups


def headers(order: Sequence[tuple[int, ...]], first: Sequence[int]) -> list[tuple[int, int, int]]:
    """Disjoint (left, right, length) of the sorted inputs: those from left to right begin with the same tokens.

    No header reaches over ``first``, the place where something is read of a text: that is done behind it. Found bottom
    up: an interval is taken if it saves more than the best of its parts.
    """
    shared = _shared(order)
    sizes = [0]  # nodes of the tree of all inputs before
    for tokens, num in zip(order, shared, strict=True):
        sizes.append(sizes[-1] + len(tokens) - num)
    stack = [_Interval(0, 0)]
    for right in range(1, len(order) + 1):
        depth = shared[right] if right < len(order) else 0
        left, inner = right - 1, None
        while stack[-1].depth > depth:
            inner = stack.pop()
            left = inner.left
            length = min(inner.depth, min(first[left:right]))
            inner.close(right, length, shared[left] + sizes[right] - sizes[left] - length)
            if stack[-1].depth >= depth:
                stack[-1].add(inner)
                inner = None
        if stack[-1].depth < depth:
            stack.append(_Interval(depth, left))
            if inner:
                stack[-1].add(inner)
    return stack[0].headers


@dataclass
class _Interval:
    """Neighbours from ``left`` on that share ``depth`` tokens; the best headers in them, packs behind, tokens saved."""

    depth: int
    left: int
    headers: list[tuple[int, int, int]] = field(default_factory=list)
    packs: int = 0
    saved: int = 0

    def add(self, part: _Interval) -> None:
        self.headers += part.headers
        self.packs += part.packs
        self.saved += part.saved

    def close(self, right: int, length: int, nodes: int) -> None:
        """One header of ``length`` in front of ``nodes`` tokens, if that saves more than the parts do."""
        packs = max(self.packs, -(-nodes // _ROW))
        saved = (packs - 1) * length - _REPAID * packs
        if saved > self.saved:
            self.headers, self.packs, self.saved = [(self.left, right, length)], packs, saved


def cut(order: Sequence[tuple[int, ...]], skip: int, budget: int) -> list[tuple[int, int]]:
    """The sorted inputs cut into runs [i, j), one a pack, so that tokens, attention and fixed costs are least.

    ``skip`` tokens are kept in front. A run of several inputs has at most ``budget`` tokens.
    """
    shared = _shared(order)
    best, back = [0.0], [0]
    for j in range(1, len(order) + 1):
        size, choice = 0, (float("inf"), j - 1)
        for i in range(j - 1, max(-1, j - 1 - _LOOK_BACK), -1):
            # Joined to what starts at i + 1, input i adds what the two don't share.
            size += len(order[i]) - (skip if i == j - 1 else shared[i + 1])
            if size > budget and i < j - 1:
                break
            cost = best[i] + size + size * (skip + size) / _PAIRS + _FIXED + skip / _COPIED
            choice = min(choice, (cost, i))
        best.append(choice[0])
        back.append(choice[1])
    runs, j = [], len(order)
    while j:
        runs.append((back[j], j))
        j = back[j]
    return runs[::-1]


def pack(texts: Mapping[int, Text], skip: int = 0) -> Pack:
    """Texts, by their numbers, as one tree without the first ``skip`` tokens, which they share."""
    tokens: list[int] = []
    positions: list[int] = []
    ends: list[int] = []
    reads: list[tuple[int, int, int]] = []
    path: list[int] = []
    before: tuple[int, ...] = ()
    for inputs, number in sorted((text.inputs, number) for number, text in texts.items()):
        num = max(skip, common(before, inputs)) - skip
        for node in path[num:]:
            ends[node] = len(tokens)
        path[num:] = range(len(tokens), len(tokens) + len(inputs) - skip - num)
        tokens += inputs[skip + num :]
        positions += range(skip + num, len(inputs))
        ends += [0] * (len(tokens) - len(ends))
        nodes = path[len(texts[number].prompt) - 1 - skip :]
        reads += [(n, target, number) for n, target in zip(nodes, texts[number].continuation, strict=True)]
        before = inputs
    for node in path:
        ends[node] = len(tokens)
    return Pack(tuple(tokens), tuple(positions), tuple(ends), tuple(sorted(reads)))


def _shared(order: Sequence[tuple[int, ...]]) -> list[int]:
    """Length of the common beginning of each and the one before it."""
    return [0, *map(common, order, order[1:])][: len(order)]


def common(one: Sequence[object], two: Sequence[object]) -> int:
    """How many first tokens (or characters) two texts share; by halving, as comparing slices is quicker than a loop."""
    most = min(len(one), len(two))
    if one[:most] == two[:most]:
        return most
    return bisect_left(range(1, most + 1), True, key=lambda n: one[:n] != two[:n])
