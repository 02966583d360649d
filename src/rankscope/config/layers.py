"""Sets of layers as text: ``8-29`` or ``0-3,12``. In: text or numbers. Out: numbers or text. Knows no models."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TEXT = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*")


def layer_numbers(text: str) -> tuple[int, ...]:
    """The layers that a text names, ascending. Raises ValueError if it is no such text."""
    text = text.replace(" ", "")
    if not _TEXT.fullmatch(text):
        raise ValueError(f"layers are numbers and ranges such as 8-29 or 0-3,12, or all (got {text!r})")
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            raise ValueError(f"the range {part} runs backwards; write {last}-{first}")
        found |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def layer_text(layers: Iterable[int]) -> str:
    """The shortest text that names these layers; runs of two or more as a range."""
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
