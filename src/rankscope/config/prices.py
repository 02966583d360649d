"""The prices file: a currency, a GPU's name, and numbers of the user's reality. YAML in, ``Prices`` out, and back.

A number may be one, or three in brackets: low, base, high. Errors name ``file:line: key``, what was found and the
nearest key. What ``save`` writes reads back as the same prices and is written again byte for byte; the page writes and
reads the same lines.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from rankscope.config.load import StudyFileError, line_of, read_document
from rankscope.config.reality import BY_NAME, GROUPS, INPUTS, Triple
from rankscope.errors import ConfigError, InputError
from rankscope.plugins import did_you_mean

HEAD = "# Prices and scale for: rankscope roi STUDY --prices THIS_FILE\n"
HINT = "To start one: rankscope roi STUDY --template prices.yaml"
LONGEST = 12  # characters of a currency
_WORDS = ("currency", "gpu")


class Prices(BaseModel):
    """What a prices file says. ``numbers`` holds low, base and high of every number that is typed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: str
    gpu: str | None = None
    numbers: dict[str, Triple] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, document: Any) -> Any:
        """The file's flat keys, sorted into words and numbers. Unknown ones stay, and are refused."""
        if not isinstance(document, Mapping) or "numbers" in document:
            return document
        numbers = {key: value for key, value in document.items() if key in BY_NAME and value is not None}
        rest = {k: v for k, v in document.items() if k not in BY_NAME and not (k in _WORDS and v is None)}
        return rest | ({"numbers": numbers} if numbers else {})

    @field_validator("currency", "gpu", mode="before")
    @classmethod
    def _is_word(cls, text: Any, info: Any) -> Any:
        most = LONGEST if info.field_name == "currency" else 60
        if not isinstance(text, str) or not text.strip() or len(text) > most or not text.isprintable():
            raise ValueError(f"must be text of 1 to {most} characters that can be printed")
        return text

    @field_validator("numbers", mode="before")
    @classmethod
    def _are_numbers(cls, found: Any) -> dict[str, Triple]:
        wrong = {name: said for name, value in dict(found).items() if (said := _problem(name, value))}
        if wrong:
            raise _WrongNumbers(wrong)
        return {entry.name: _triple(found[entry.name]) for entry in INPUTS if entry.name in found}


class _WrongNumbers(ValueError):
    """Sentences by key."""

    def __init__(self, said: dict[str, str]):
        super().__init__("; ".join(said.values()))
        self.said = said


def load(path: str | Path, gpus: Sequence[str] = ()) -> Prices:
    """The prices in a file. ``gpus``: the names that ``gpu`` may have; none: any.

    Raises ConfigError, or StudyFileError if several things are wrong at once.
    """
    node, document = read_document(path, "prices file", HINT)
    found = _problems(document, gpus)
    if found:
        # Whatever the order of checks, the first line of the file comes first.
        errors = [
            ConfigError(what, got=got, where=f"{path}:{line_of(node, (key,))}: {key}", hint=hint)
            for key, (what, got, hint) in sorted(found.items(), key=lambda pair: line_of(node, (pair[0],)))
        ]
        raise errors[0] if len(errors) == 1 else StudyFileError(errors)
    return Prices.model_validate(document)


def _problems(document: dict[str, Any], gpus: Sequence[str]) -> dict[str, tuple[str, Any, str | None]]:
    """What is wrong by key: the sentence, what was found, a hint."""
    found: dict[str, tuple[str, Any, str | None]] = {}
    keys = (*_WORDS, *BY_NAME)
    for key in document:
        if key not in keys:
            near = did_you_mean(str(key), keys).removeprefix(". ")
            found[str(key)] = ("unknown key", None, near or f"To see all keys: {HINT.split(': ')[1]}")
    try:
        Prices.model_validate({key: value for key, value in document.items() if key in keys})
    except ValidationError as error:
        for item in error.errors(include_url=False):
            cause = item.get("ctx", {}).get("error")
            if isinstance(cause, _WrongNumbers):
                found |= {key: (what, document[key], None) for key, what in cause.said.items()}
            else:
                key = str(item["loc"][0])
                what = "missing" if item["type"] == "missing" else str(cause or item["msg"])
                found[key] = (what, document.get(key), "For example: currency: EUR" if key == "currency" else None)
    name = document.get("gpu")
    if gpus and isinstance(name, str) and "gpu" not in found and name not in gpus:
        near = did_you_mean(name, list(gpus)).removeprefix(". ")
        found["gpu"] = ("no such GPU is known", name, f"{near} Known: {', '.join(gpus)}".strip())
    return found


def _problem(name: str, value: Any) -> str:
    """What is wrong with one number or triple; empty if nothing."""
    entry = BY_NAME[name]
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(x, int | float) and not isinstance(x, bool) and _is_finite(x) for x in items) or (
        len(items) not in (1, 3) or (isinstance(value, list | tuple) and len(items) != 3)
    ):
        return "must be a number, or three: [low, base, high]"
    if any(x <= 0 for x in items) and entry.is_positive:
        return "must be greater than 0"
    if any(x < 0 for x in items):
        return "must be at least 0"
    if entry.most is not None and any(x > entry.most for x in items):
        return f"must be at most {entry.most:g}"
    return ""


def _is_finite(x: int | float) -> bool:
    try:
        return math.isfinite(float(x))
    except OverflowError:
        return False


def _triple(value: Any) -> Triple:
    low, base, high = (float(x) for x in (value if isinstance(value, list | tuple) else (value,) * 3))
    return low, base, high


# ---- writing


def dump(prices: Prices) -> str:
    """The text of a prices file: what is given, grouped, in a fixed order."""
    lines = [HEAD, f"currency: {_quoted(prices.currency)}\n"]
    lines += [f"gpu: {_quoted(prices.gpu)}\n"] if prices.gpu is not None else []
    for group, title in GROUPS.items():
        given = [e for e in INPUTS if e.group == group and e.name in prices.numbers]
        lines += [f"\n# {title}\n"] if given else []
        lines += [f"{e.name}: {number_text(prices.numbers[e.name])}\n" for e in given]
    return "".join(lines)


def save(prices: Prices, path: str | Path) -> None:
    """Write a prices file; an existing one is replaced whole or not at all. Raises OSError."""
    made = Path(f"{path}.part")
    made.write_text(dump(prices), encoding="utf-8", newline="\n")
    os.replace(made, path)


def template(gpus: Sequence[str] = ()) -> str:
    """A prices file to start from: every key with its words, commented out, because no price has a default."""
    lines = [HEAD, "# Take away the '# ' before what you know. One number, or three, [low, base, high]: the value\n",
             "# that saves least comes first. CUR stands for your currency. The numbers are examples, not yours.\n\n",
             'currency: "EUR"\n', f'# gpu: "A100 80GB"  # {", ".join(gpus)}\n']  # fmt: skip
    for group, title in GROUPS.items():
        lines.append(f"\n# ---- {title}\n")
        for entry in (e for e in INPUTS if e.group == group):
            assumed = f" Assumed: {number_text(entry.assumed)}." if entry.assumed else ""
            lines.append(f"\n# {entry.title}, {entry.unit}. {entry.help}{assumed}\n")
            lines.append(f"# {entry.name}: {number_text((entry.example,) * 3)}\n")
    return "".join(lines)


def write_template(path: str | Path, gpus: Sequence[str] = ()) -> None:
    """Write the template. Raises InputError where a file is there already."""
    try:
        with open(path, "x", encoding="utf-8", newline="\n") as file:
            file.write(template(gpus))
    except FileExistsError:
        hint = f"Use it: rankscope roi STUDY --prices {path}"
        raise InputError("there is a file here already", where=str(path), hint=hint) from None


def number_text(triple: Triple) -> str:
    """One number if all three are the same, else three in brackets."""
    texts = [_number(x) for x in triple]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def _number(x: float) -> str:
    """The shortest digits that read back as the same number, spelled as a browser spells them."""
    if x == 0:
        return "0"
    if 1e-6 <= abs(x) < 1e21:
        text = format(Decimal(repr(x)), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    digits, exponent = repr(x).split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent):+d}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
