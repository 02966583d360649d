"""What the full name of a module says: which layer it is in, of which kind it is, which pattern meets it. In: names.
Out: numbers and words. Knows no modules and no torch.

Format and reference of patterns: huggingface/peft ``get_pattern_key``; of layers: its ``layers_to_transform``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def layer_of(name: str) -> int | None:
    """The layer that a module or parameter belongs to: the first number in its full name; None outside the layers."""
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return int(found[1]) if found else None


def kind_of(name: str) -> str:
    """The kind of a module: the last part of its full name (``q_proj``); of a parameter, that of its module."""
    return name.removesuffix(".weight").removesuffix(".bias").rsplit(".", 1)[-1]


def has_name(module: str, asked: str) -> bool:
    """Whether a module is called so: by its full name, or by the end of it."""
    return module == asked or module.endswith("." + asked)


def pattern_of(patterns: Iterable[str], module: str) -> str | None:
    """The first pattern that matches a module's full name or its end; None if no pattern does."""
    return next((pattern for pattern in patterns if is_met(pattern, module)), None)


def is_met(pattern: str, module: str) -> bool:
    """Whether a pattern (a module's name, the end of it, or a regular expression for either) matches a module."""
    return re.match(rf"(.*\.)?({pattern})$", module) is not None


def by_pattern(patterns: Sequence[tuple[str, T]], module: str, default: T) -> T:
    """The value of the first pattern that matches a module; the default if no pattern does."""
    found = pattern_of((pattern for pattern, _ in patterns), module)
    return default if found is None else dict(patterns)[found]
