"""A tiny language for formulas that people read and two programs compute. In: a text and named amounts. Out: an
``Amount`` with its interval, or the reasons why there is none. Knows nothing about money.

Numbers, names, ``+ - * /``, parentheses and functions: ``min``, ``max``, ``ceil``, ``cbrt`` (cube root, of what is not
negative); ``first(a, b)`` is the first that is known; ``known(a, b, ...)`` adds those that are known, naming the rest;
``above(x)`` is x where it is above zero. Everything else needs all its parts. The page has the same evaluator in
``report/assets/roi_formulas.js``: both do the same operations on doubles in the same order, so they agree to the last
bit.

Intervals are carried by interval arithmetic over what was measured: they enclose, and may be wider than needed where
two measured values move together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?(?:e[+-]?\d+)?)|([a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)?)|([-+*/(),]))")
_NAME = re.compile(r"(?<![\w.])[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)?(?!\w*\()")
_ARITY = {name: (1, 99) for name in ("min", "max", "first", "known")} | {n: (1, 1) for n in ("ceil", "cbrt", "above")}
TAGS = ("", "measured", "typed", "modelled")
"""From the strongest to the weakest; a result has the weakest tag of what went into it. '' is a constant."""


@dataclass(frozen=True)
class Amount:
    """A number between ``low`` and ``high`` (infinite: unbounded), or None and the ``reasons``.

    ``left_out``: parts of sums that were not known. ``no_interval``: measured parts whose spread nobody knows.
    """

    value: float | None
    low: float = math.nan
    high: float = math.nan
    tag: str = ""
    reasons: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    no_interval: tuple[str, ...] = ()


def amount(
    value: float | int, tag: str = "", low: float | int | None = None, high: float | int | None = None
) -> Amount:
    """An amount that is known; without an interval it is a point."""
    value = float(value)
    return Amount(value, value if low is None else float(low), value if high is None else float(high), tag)


def absent(*reasons: str) -> Amount:
    """An amount that is not known, and why."""
    return Amount(None, reasons=reasons)


@lru_cache(maxsize=512)
def parse(text: str) -> tuple[Any, ...]:
    """The tree of an expression: ('number', x), ('name', n), ('minus', a), (operator, a, b) or ('call', f, a, ...).

    Raises ValueError where the text is no expression.
    """
    words, place = [], 0
    while text[place:].strip():
        found = _TOKEN.match(text, place)
        if found is None:
            raise ValueError(f"not a formula at {text[place:].strip()!r}: {text}")
        words.append((found.lastindex, found[found.lastindex]))
        place = found.end()
    reader = _Reader(words, text)
    tree = reader.sum()
    if reader.words:
        raise ValueError(f"not a formula at {reader.words[0][1]!r}: {text}")
    return tree


@lru_cache(maxsize=4096)
def names(tree: tuple[Any, ...]) -> tuple[str, ...]:
    """The names in an expression, in order, each once."""
    if tree[0] == "name":
        return (tree[1],)
    parts = [names(part) for part in tree[1:] if isinstance(part, tuple)]
    return tuple(dict.fromkeys(name for part in parts for name in part))


def evaluate(tree: tuple[Any, ...], scope: Mapping[str, Amount]) -> Amount:
    """The amount of an expression. Raises KeyError for a name that the scope doesn't have."""
    kind = tree[0]
    if kind == "number":
        return amount(tree[1])
    if kind == "name":
        return scope[tree[1]]
    if kind == "minus":
        part = evaluate(tree[1], scope)
        return part if part.value is None else replace(part, value=-part.value, low=-part.high, high=-part.low)
    if kind == "call":
        parts = [evaluate(part, scope) for part in tree[2:]]
        return _call(tree[1], parts, [part[1] if part[0] == "name" else "a part" for part in tree[2:]])
    return _operate(kind, evaluate(tree[1], scope), evaluate(tree[2], scope))


def filled(text: str, values: Mapping[str, str]) -> str:
    """An expression with its names replaced; a name without a text stays."""
    return _NAME.sub(lambda m: values.get(m[0], m[0]), text)


class _Reader:
    """Recursive descent over words: sums of products of factors."""

    def __init__(self, words: list[tuple[int, str]], text: str):
        self.words, self.text = words, text

    def sum(self) -> tuple[Any, ...]:
        tree = self.product()
        while (sign := self.take("+", "-")) is not None:
            tree = (sign, tree, self.product())
        return tree

    def product(self) -> tuple[Any, ...]:
        tree = self.factor()
        while (sign := self.take("*", "/")) is not None:
            tree = (sign, tree, self.factor())
        return tree

    def factor(self) -> tuple[Any, ...]:
        if self.take("-") is not None:
            return ("minus", self.factor())
        if self.take("(") is not None:
            tree = self.sum()
            self.need(")")
            return tree
        kind, word = self.words.pop(0) if self.words else (3, "the end")
        if kind == 1:
            return ("number", float(word))
        if kind != 2:
            raise ValueError(f"not a formula at {word!r}: {self.text}")
        return self.call(word) if self.take("(") is not None else ("name", word)

    def call(self, name: str) -> tuple[Any, ...]:
        parts = [self.sum()]
        while self.take(",") is not None:
            parts.append(self.sum())
        self.need(")")
        least, most = _ARITY.get(name, (1, 0))
        if not least <= len(parts) <= most:
            raise ValueError(f"no function {name!r} of {len(parts)}: {self.text}")
        return ("call", name, *parts)

    def take(self, *signs: str) -> str | None:
        return self.words.pop(0)[1] if self.words and self.words[0] in [(3, sign) for sign in signs] else None

    def need(self, sign: str) -> None:
        if self.take(sign) is None:
            raise ValueError(f"{sign!r} is missing: {self.text}")


def _operate(sign: str, a: Amount, b: Amount) -> Amount:
    if a.value is None or b.value is None:
        return _joined([a, b], None, math.nan, math.nan)
    if sign == "+":
        return _joined([a, b], a.value + b.value, a.low + b.low, a.high + b.high)
    if sign == "-":
        return _joined([a, b], a.value - b.value, a.low - b.high, a.high - b.low)
    if sign == "*":
        ends = [_times(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
        return _joined([a, b], a.value * b.value, min(ends), max(ends))
    if b.value == 0:
        return absent("division by zero")
    if b.low < 0 < b.high:
        return _joined([a, b], a.value / b.value, -math.inf, math.inf)
    side = 1.0 if b.high > 0 else -1.0
    ends = [_over(x, y, side) for x in (a.low, a.high) for y in (b.low, b.high)]
    return _joined([a, b], a.value / b.value, min(ends), max(ends))


def _call(name: str, parts: list[Amount], labels: list[str]) -> Amount:
    there = [part for part in parts if part.value is not None]
    if name == "first":
        return there[0] if there else absent(*parts[-1].reasons)  # the last is the one that users know most often
    if name == "known" and there:
        lost = tuple(label for part, label in zip(parts, labels, strict=True) if part.value is None)
        total = there[0]
        for part in there[1:]:
            total = _operate("+", total, part)
        reasons = tuple(dict.fromkeys(reason for part in parts for reason in part.reasons))
        return replace(total, left_out=tuple(dict.fromkeys((*total.left_out, *lost))), reasons=reasons)
    if len(there) < len(parts):
        return _joined(parts, None, math.nan, math.nan)
    if name == "above":
        (part,) = parts
        if part.value <= 0:
            return absent(f"{labels[0]} is not above zero")
        return replace(part, low=max(part.low, 0.0))
    if name == "ceil":
        (part,) = parts
        return _joined(parts, _up(part.value), _up(part.low), _up(part.high))
    if name == "cbrt":
        (part,) = parts
        if part.value < 0:
            return absent(f"{labels[0]} is below zero")
        return _joined(parts, *(cube_root(max(x, 0.0)) for x in (part.value, part.low, part.high)))
    pick = min if name == "min" else max
    return _joined(parts, pick(p.value for p in parts), pick(p.low for p in parts), pick(p.high for p in parts))


def _joined(parts: list[Amount], value: float | None, low: float, high: float) -> Amount:
    """A result with the weakest tag and all remarks of its parts; a value beyond doubles is not known."""
    if value is None:
        return absent(*dict.fromkeys(text for part in parts if part.value is None for text in part.reasons))
    if not math.isfinite(value):
        return absent("too large to compute")
    tag = max((part.tag for part in parts), key=TAGS.index)
    reasons, left_out, no_interval = (
        tuple(dict.fromkeys(text for part in parts for text in getattr(part, name)))
        for name in ("reasons", "left_out", "no_interval")
    )
    return Amount(value, low, high, tag, reasons, left_out, no_interval)


def _times(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y  # zero times unbounded is zero


def _over(x: float, y: float, side: float) -> float:
    """x / y at an end of an interval that touches zero from ``side``; infinite over infinite is at most that."""
    if y == 0:
        return 0.0 if x == 0 else math.copysign(math.inf, x) * side
    if math.isinf(y):
        return 0.0 if not math.isinf(x) else math.copysign(math.inf, x) * side
    return x / y


def _up(x: float) -> float:
    return float(math.ceil(x)) if math.isfinite(x) else x


def cube_root(x: float) -> float:
    """By Newton's method: unlike libraries' powers, the same bits in every language."""
    if x == 0 or math.isinf(x):
        return x
    guess = max(x, 1.0)
    for _ in range(3000):  # some 1750 for the largest double
        better = guess - (guess - x / guess / guess) / 3
        if better >= guess:
            break
        guess = better
    return guess
