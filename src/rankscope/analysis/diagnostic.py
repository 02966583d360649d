"""The contract of a diagnostic: a measurement of mechanism. In: a ``Subject``. Out: ``Reading``s. Loads no torch.

A file of the shelf declares one as ``PLUGIN`` and imports what it computes with only inside ``measure``. A diagnostic
trains nothing, changes nothing, and says of every number where in the network it was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rankscope.records import Reading

Reads = Literal["base", "texts", "tasks", "validation"]
"""What a diagnostic needs beside the update: the base's weights, fixed prompts, tasks to score, validation rows."""


@dataclass(frozen=True)
class Quantity:
    """One kind of number that a diagnostic gives: its unit, what it means in one sentence, and its source."""

    name: str
    unit: str
    meaning: str
    source: str


@dataclass(frozen=True)
class Diagnostic:
    """A measurement of mechanism. ``measure`` gets the subject and every option, defaults filled in.

    ``version`` is raised whenever the same subject gives other numbers. ``options`` holds every option with its
    default; a default of None takes any value. ``check`` says what is wrong with options, in phrases.
    """

    name: str
    summary: str
    quantities: tuple[Quantity, ...]
    measure: Callable[[Any, Mapping[str, Any]], Iterator[Reading]]
    reads: tuple[Reads, ...] = ()
    version: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[Mapping[str, Any]], list[str]] = lambda options: []
    is_costly: bool = False
    """Whether it takes many forward passes: then the first seed alone is measured, unless ``seeds: all`` is asked."""
