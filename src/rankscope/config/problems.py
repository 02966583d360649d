"""What is wrong with a study, in sentences. In: one pydantic error and the document. Out: a ``Problem``.

Knows the schema (for the nearest key) and which keys are planned; knows nothing about files and lines.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from rankscope.config.study import StudyConfig

Loc = tuple[str | int, ...]

PLANNED = frozenset({"mitigate"})
"""Keys of the design that this version doesn't build: no typing error, so they get their own sentence."""

_EXAMPLES = {
    "models": "For example: models: [demo]",
    "train": "For example: train: [gsm8k]",
    "arms": "For example: arms: [base, {lora: {rank: [4, 16]}}]",
    "rank": "For example: lora: {rank: [4, 8, 16]}",
}

_MUST_BE = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text; put it in quotes",
    "string_too_short": "must not be empty",
    "tuple_type": "must be a list",
    "model_type": "must have keys of its own",
    "model_attributes_type": "must have keys of its own",
    "dict_type": "must have keys of its own",
    "invalid_key": "a key must be text",
    "string_pattern_mismatch": "must start with a letter or digit and hold only letters, digits and . _ + -",
}

_BOUNDS = {
    "greater_than": ("must be greater than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: at ``loc``, in words, with what was found (None: not worth showing)."""

    loc: Loc
    what: str
    got: Any = None
    hint: str | None = None


def dotted(loc: Loc) -> str:
    """``('arms', 1, 'lora', 'rank')`` as ``arms[1].lora.rank``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def trim(loc: Loc, document: Any) -> Loc:
    """The part of a location that the document has: without union tags, and without what a short form leaves unsaid."""
    kept: list[str | int] = []
    for part in loc:
        is_key = isinstance(document, dict) and part in document
        is_index = isinstance(document, list | tuple) and isinstance(part, int) and part < len(document)
        if is_key or is_index:
            document = document[part]
            kept.append(part)
    return tuple(kept)


def describe(error: dict[str, Any], document: dict[str, Any]) -> Problem:
    """One of ``ValidationError.errors()`` as a Problem. ``document`` is what was validated."""
    kind, context, got = error["type"], error.get("ctx", {}), error.get("input")
    loc = trim(error["loc"], document)
    if kind == "extra_forbidden":
        return _unknown(loc)
    if kind == "missing":
        loc = trim(error["loc"][:-1], document) + (error["loc"][-1],)
        return Problem(loc, "missing", hint=_EXAMPLES.get(str(loc[-1])))
    if kind == "value_error":
        cause = context["error"]
        return Problem(trim(getattr(cause, "loc", ()), document) or loc, str(cause))
    if kind == "literal_error":
        words = context["expected"].replace("'", "")
        more = {"word": ", or a list", "rule": ", or a number"}.get(error["loc"][-1], "")
        near = _nearest(str(got), words.replace(" or ", ", ").split(", "))
        return Problem(loc, f"must be {words}{more}", _shown(got), near)
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return Problem(loc, f"{words} {context[bound]:g}", got)
    if kind in ("too_short", "too_long"):
        return Problem(loc, f"must have {context.get('max_length') or context['min_length']} items", _shown(got))
    what = _MUST_BE.get(kind, error["msg"][:1].lower() + error["msg"][1:])
    return Problem(loc, what if got is not None else f"{what} (nothing is given)", _shown(got))


def _shown(got: Any) -> Any:
    """What was found, unless it would drown the sentence."""
    return got if len(repr(got)) <= 60 else f"a {type(got).__name__}"


def _unknown(loc: Loc) -> Problem:
    """An unknown key: planned, a slip of the pen, at home in another section, or none of these."""
    key, section = str(loc[-1]), tuple(part for part in loc[:-1] if isinstance(part, str))
    path = ".".join((*section, key))
    if path in PLANNED:
        return Problem(loc, "is planned but not built in this version", hint="Leave it out for now")
    schema = dict(_schema(StudyConfig))
    known = schema.get(section, [])
    if hint := _nearest(key, known):
        return Problem(loc, "unknown key", hint=hint)
    homes = [".".join((*place, key)) for place, keys in schema.items() if key in keys]
    if homes:
        return Problem(loc, "unknown key", hint=f"Did you mean {homes[0]!r}?")
    return Problem(loc, "unknown key", hint=f"Keys here: {', '.join(known)}" if known else None)


def _nearest(word: str, known: list[str]) -> str | None:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.55)
    return f"Did you mean {near[0]!r}?" if near else None


def _schema(model: type[BaseModel], place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Each section of the study file with its keys: ``(('arms', 'lora'), ['rank', ...])``; list indices left out."""
    keys = {field.alias or name: field for name, field in model.model_fields.items()}
    yield place, list(keys)
    for key, field in keys.items():
        for child in _models_in(field.annotation):
            yield from _schema(child, (*place, key))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models that an annotation speaks about, however deep in tuples and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)
