"""One more arm in a study file. In: the file and an ``Arm``. Out: the same file with it at the end of ``arms``.

Every other character stays: comments, order, quotes, line ends. The list keeps its form, one item a line or in
brackets.
What is written is read back first, so that a file is never left broken.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from rankscope.config.layers import layer_text
from rankscope.config.load import load
from rankscope.errors import ConfigError
from rankscope.records import Arm

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def find_twin(arms: Sequence[Arm], arm: Arm) -> Arm | None:
    """The arm that is the same treatment, whatever it is called; None if there is none."""
    return next((other for other in arms if replace(other, name=arm.name) == arm), None)


def append_arm(path: str | Path, arm: Arm, overrides: Sequence[str] = ()) -> None:
    """Write a LoRA arm into a study file, at the end of its arms. Raises ConfigError, and changes nothing, where the
    file's list can't be added to."""
    place = Path(os.path.realpath(path))  # a link stays one
    with open(place, encoding="utf-8", newline="") as file:
        text = file.read()
    handle, made = tempfile.mkstemp(suffix=".yaml", prefix=f".{place.stem}-", dir=place.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(with_item(text, arm_text(arm), str(path)))
        wanted = (*load(place, overrides).arms(), arm)
        if _read_back(Path(made), place, overrides) != wanted:
            raise _by_hand(arm_text(arm), str(path))
        shutil.copymode(place, made)
        os.replace(made, place)
    finally:
        Path(made).unlink(missing_ok=True)


def _read_back(made: Path, place: Path, overrides: Sequence[str]) -> tuple[Arm, ...]:
    try:
        return load(made, overrides).arms()
    except ConfigError as error:  # which names a file that is gone by then
        where = (error.where or "").replace(str(made), str(place))
        raise ConfigError(error.what, got=error.got, where=where, hint=error.hint) from None


def arm_text(arm: Arm) -> str:
    """A LoRA arm as an entry of ``arms``; what stands at its default is left out, but for alpha and the rate."""
    keys = {
        "name": arm.name,
        "rank": arm.rank,
        "alpha": arm.alpha,
        "targets": None if arm.targets == ("all-linear",) else list(arm.targets),
        "layers": None if arm.layers is None else layer_text(arm.layers),
        "rank_pattern": dict(arm.rank_pattern) or None,
        "alpha_pattern": dict(arm.alpha_pattern) or None,
        "scaling": None if arm.scaling == "standard" else arm.scaling,
        "dropout": arm.dropout or None,
        "lr": "auto" if arm.lr_auto else list(arm.lr),
    }
    return "lora: " + flow({key: value for key, value in keys.items() if value is not None})


def with_item(text: str, item: str, place: str) -> str:
    """A study file's text with one more item in its list of arms. Raises ConfigError if that list isn't a plain one."""
    found = _arms(text)
    if found is None:
        raise _by_hand(item, place)
    end = "\r\n" if "\r\n" in text else "\n"
    if found.closed is None:
        stop = _line_end(text, found.last)
        return f"{text[:stop]}{end}{' ' * found.column}- {item}{text[stop:]}"
    gap = re.sub(r"#[^\r\n]*", lambda comment: " " * len(comment[0]), text[found.last : found.closed])
    comma = gap.find(",")
    after = found.last + comma + 1  # of an item without a comma: its end
    if "\n" not in gap:
        return f"{text[: found.last]}, {{{item}}}{text[found.last :]}"
    stop = _line_end(text, after)
    more = f"{end}{' ' * found.column}{{{item}}}{',' if comma >= 0 else ''}"
    return text[:after] + ("" if comma >= 0 else ",") + text[after:stop] + more + text[stop:]


@dataclass(frozen=True)
class _List:
    """Where a list lies in a text: the column of its items, the end of the last one, its closing bracket if it has."""

    column: int
    last: int
    closed: int | None


def _arms(text: str) -> _List | None:
    """The list under the key ``arms`` of a document; None if it is empty, or stands elsewhere (an alias)."""
    events = yaml.parse(text, Loader=yaml.SafeLoader)
    next(event for event in events if isinstance(event, yaml.MappingStartEvent))
    for key in events:
        if isinstance(key, yaml.CollectionEndEvent):
            return None
        if getattr(key, "value", None) == "arms":
            value = next(events)
            return _list(text, events, value) if isinstance(value, yaml.SequenceStartEvent) else None
        _end(text, events, key), _end(text, events, next(events))
    return None


def _list(text: str, events: Iterator[yaml.Event], opening: yaml.SequenceStartEvent) -> _List | None:
    column, last = -1, None
    for item in events:
        if isinstance(item, yaml.SequenceEndEvent):
            closed = item.start_mark.index if opening.flow_style else None
            return None if last is None or column < 0 else _List(column, last, closed)
        before = text[: item.start_mark.index].rpartition("\n")[2]
        column = item.start_mark.column if opening.flow_style else max(column, before.rfind("-"))
        last = _end(text, events, item)
    return None


def _end(text: str, events: Iterator[yaml.Event], first: yaml.Event) -> int:
    """Where the node ends that starts with an event: at its last character, or closing bracket. Its events are used up.

    PyYAML's mark for the end of a block lies at what comes next, behind all comments between.
    """
    end = first.end_mark.index
    if getattr(first, "style", None) in ("|", ">"):
        return len(text[:end].rstrip())
    if isinstance(first, yaml.CollectionStartEvent):
        for event in events:
            if isinstance(event, yaml.CollectionEndEvent):
                return event.end_mark.index if first.flow_style else end
            end = _end(text, events, event)
    return end


def _line_end(text: str, place: int) -> int:
    """Where the line that a place is in ends, before its line break."""
    found = re.compile(r"\r?\n|$").search(text, place)
    return found.start() if found else len(text)


def flow(value: object) -> str:
    """A value in YAML's bracketed form; text in quotes where YAML would take it for something else."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return flow(value[0]) if len(value) == 1 else "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, float):
        text = f"{value:.12g}"
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    if isinstance(value, str) and not (_PLAIN.fullmatch(value) and yaml.safe_load(value) == value):
        return json.dumps(value)
    return str(value)


def _by_hand(item: str, place: str) -> ConfigError:
    return ConfigError("the list of arms of this file can't be added to", where=place,
                       hint=f"Write it there yourself: - {item}")  # fmt: skip
