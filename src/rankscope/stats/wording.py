"""How the answers of this package put numbers into a sentence. In: numbers. Out: text. Knows no statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Unit = Literal["points", "nats"]


def amount(value: float, unit: Unit = "points") -> str:
    """A difference of scores with its unit; a score of 0 to 1 is told in points (hundredths)."""
    return f"{minus(f'{value:.3f}')} nats" if unit == "nats" else f"{minus(f'{100 * value:.1f}')} points"


def minus(figure: str) -> str:
    """One number, already written, with a true minus sign. Never for a whole sentence: names have hyphens."""
    return figure.replace("-", "−")


def listed(names: Sequence[object]) -> str:
    """The names as one phrase: a, b and c."""
    words = [str(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"


def number(count: int, word: str) -> str:
    """The count with its word, in the plural but for one."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"
