"""Cells of the user's rows: as text, as choices, as the right one of them. In: a row, columns. Out: texts, an index.

Knows nothing about layouts, options of a study, files or models.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from rankscope.data.prompts import LETTERS
from rankscope.errors import DataError

_HINT = "Write an index from 0, the text of a choice, or its letter"
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)
_SAID = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, bytes)


def field(row: Mapping[str, Any], column: str) -> Any:
    """The cell of a column, whatever it holds. Raises DataError if the row hasn't got it."""
    if column not in row:
        raise DataError(f"the row has no {column!r}", hint=f"Its fields: {', '.join(map(str, row)) or 'none'}")
    return row[column]


def text(row: Mapping[str, Any], column: str) -> str:
    """The cell of a column as text. Raises DataError as ``field`` and ``plain``."""
    return plain(field(row, column), column)


def plain(value: Any, column: str) -> str:
    """A cell as text: a number of a JSON file as it is written there, nothing as ''. Raises DataError on all else.

    A whole float of another source loses its '.0': a column of whole numbers with one missing arrives as floats.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value)) if type(value) is float and value.is_integer() and abs(value) < 1e15 else str(value)
    raise DataError(
        f"{column!r} must be a text or a number", got=value if isinstance(value, bool) else type(value).__name__
    )


def content(value: Any) -> Any:
    """What a cell says, as JSON can write it; blank cells are left out of rows, numbers and digits are alike.

    Of what no text can be made (a picture) only the kind counts.
    """
    if isinstance(value, Mapping):
        said = {str(name): content(cell) for name, cell in value.items()}
        return {name: cell for name, cell in said.items() if cell not in (None, "")}
    if isinstance(value, list | tuple):
        return [content(cell) for cell in value]
    if isinstance(value, bool):
        return value
    if value is None or isinstance(value, str | int | float):
        return plain(value, "")
    return repr(value) if isinstance(value, _SAID) else type(value).__name__


def options(row: Mapping[str, Any], columns: Any) -> tuple[list[str], list[str]]:
    """The choices, and their labels if they have some (else none).

    ``columns``: one that holds a list of texts, or ``text`` and ``label`` lists as the ARC family has them, or several.
    Raises DataError.
    """
    labels: list[str] = []
    if isinstance(columns, str):
        value = field(row, columns)
        if isinstance(value, Mapping) and isinstance(value.get("text"), list):
            labels = [plain(label, columns).strip() for label in value.get("label") or ()]
            value = value["text"]
        if not isinstance(value, list | tuple):
            raise DataError(f"{columns!r} must be a list of texts", got=value,
                            hint="Or name one column a choice: choices: [a, b, c, d]")  # fmt: skip
        texts = [plain(option, columns) for option in value]
    else:
        texts = [text(row, column) for column in columns]
    if not 2 <= len(texts) <= len(LETTERS):
        raise DataError(f"a question needs 2 to {len(LETTERS)} choices", got=len(texts))
    if not all(option.strip() for option in texts):
        raise DataError("a choice is empty", got=texts)
    if labels and (len(labels) != len(texts) or len(set(labels)) < len(labels)):
        raise DataError(f"{len(texts)} choices need as many labels, all different", got=", ".join(labels))
    return texts, labels


def answer(value: Any, texts: Sequence[str], labels: Sequence[str] = ()) -> int:
    """The index of the right choice: by its label if choices have some, else by its text, letter or index from 0.

    The text goes before the letter. A number means the same in every kind of file: one that is a choice's text and
    the index of another is an error, as is what is none of them (DataError).
    """
    word = plain(value, "answer").strip()
    if not word:
        raise DataError("a row with choices needs an answer", hint=_HINT)
    if labels:
        if word not in labels:
            raise DataError("the answer is none of the labels", got=value, hint=f"Labels: {', '.join(labels)}")
        return labels.index(word)
    stripped = [option.strip() for option in texts]
    number = _number(word)
    equal = (i for i, option in enumerate(stripped) if number is not None and _number(option) == number)
    said = stripped.index(word) if word in stripped else next(equal, None)
    index = int(number) if number is not None and number == int(number) else -1
    if said is None and not 0 <= index < len(texts):
        letter = LETTERS.find(word.upper()) if len(word) == 1 and not word.isdigit() else -1
        if not 0 <= letter < len(texts):
            raise DataError(f"the answer is none of the {len(texts)} choices", got=value, hint=_HINT)
        return letter
    if said is not None and 0 <= index < len(texts) and stripped[index] != stripped[said]:
        letters = f"{LETTERS[said]} (the choice {stripped[said]!r}) or {LETTERS[index]} ({stripped[index]!r})"
        raise DataError("the answer is ambiguous: it is a choice's text and the index of another", got=value,
                        hint=f"Write its letter: {letters}")  # fmt: skip
    return index if said is None else said


def _number(word: str) -> decimal.Decimal | None:
    """What digits say, however they say it (2.0 and 2); None for all else."""
    return decimal.Decimal(word) if len(word) < 30 and _NUMBER.fullmatch(word) else None
