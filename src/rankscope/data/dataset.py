"""Rows of a dataset. In: a source, a split, a folder. Out: plain dicts, a content key, and where they came from.

Three places are looked in, in this order: the rows bundled with rankscope, a local mirror
(``<data_dir>/<folder>/<split>.jsonl``, the folder given or in the variable ``RANKSCOPE_DATA``), and the Hugging Face
hub. What the mirror has is never asked of the network. Knows nothing about prompts, tasks or models; ``datasets`` is
imported only when a dataset has to come from the hub.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankscope.errors import DataError
from rankscope.provenance import content_key, file_key

VARIABLE = "RANKSCOPE_DATA"
_BUNDLED = Path(__file__).parent.parent / "demo" / "data"


@dataclass(frozen=True)
class Source:
    """Where a dataset lives. ``splits`` maps our split names to the hub's, which can differ.

    ``folder`` is its name in a mirror; ``bundled`` rows come with rankscope and are in no mirror and on no hub.
    """

    folder: str
    hub_id: str | None = None
    config: str | None = None
    splits: tuple[tuple[str, str], ...] = (("train", "train"), ("test", "test"))
    bundled: bool = False
    revision: str | None = None

    @property
    def title(self) -> str:
        """How the hub's copy is called in messages, such as 'openai/gsm8k (main)'."""
        return f"{self.hub_id} ({self.config})" if self.config else str(self.hub_id)


@dataclass(frozen=True)
class Rows:
    """The rows of one split. ``key`` changes when they do; ``origin`` is for people.

    ``places`` says where each row stands ('test.jsonl:12') if the rows came from a file.
    """

    rows: tuple[dict[str, Any], ...]
    key: str
    origin: str
    places: tuple[str, ...] = ()

    def place(self, index: int) -> str:
        """Where row ``index`` (from 0) stands, for an error message."""
        return self.places[index] if self.places else f"{self.origin}, row {index + 1}"


def read(source: Source, split: str, data_dir: str | Path | None = None) -> Rows:
    """All rows of a split, in source order.

    Raises DataError if the split is unknown or can't be found anywhere, if it is empty, or on a line that isn't a
    JSON object (with file and line).
    """
    hub_split = _hub_split(source, split)
    if path := locate(source, split, data_dir):
        rows = read_jsonl(path)
        return Rows(rows.rows, rows.key, "bundled" if source.bundled else "local mirror", rows.places)
    if source.hub_id is None:
        raise _nowhere(source, split)
    return _from_hub(source, split, hub_split)


def fingerprint(source: Source, split: str, data_dir: str | Path | None = None) -> str:
    """The ``key`` that ``read`` would give, without reading rows and without the network.

    A file is known by its content; a hub dataset by id, config, split and revision. Raises as ``read`` for a split
    that is unknown or has no place to come from.
    """
    hub_split = _hub_split(source, split)
    if path := locate(source, split, data_dir):
        return file_key(path)
    if source.hub_id is None:
        raise _nowhere(source, split)
    return _hub_key(source, hub_split)


def locate(source: Source, split: str, data_dir: str | Path | None = None) -> Path | None:
    """The local file with a split's rows, or None. Raises DataError if the mirror named isn't a folder."""
    if source.bundled:
        path = _BUNDLED / source.folder / f"{split}.jsonl"
        return path if path.is_file() else None
    mirror = data_dir or os.environ.get(VARIABLE)
    if not mirror:
        return None
    if not Path(mirror).expanduser().is_dir():
        raise DataError(
            "no such folder of data",
            got=str(mirror),
            where="data_dir" if data_dir else VARIABLE,
            hint="Name a folder that holds <dataset>/<split>.jsonl, or leave it out to use the hub",
        )
    path = Path(mirror).expanduser() / source.folder / f"{split}.jsonl"
    return path if path.is_file() else None


def read_jsonl(path: str | Path) -> Rows:
    """The rows of a user's file: UTF-8, one JSON object a line; blank lines are skipped.

    Raises DataError if the file is missing, not UTF-8 or has no rows, and with ``file:line`` on a bad line.
    """
    path = Path(path).expanduser()
    rows, places = [], []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            rows.append(_object(line, where=f"{path}:{number}"))
            places.append(f"{path}:{number}")
    if not rows:
        raise DataError("the file has no rows", where=str(path), hint="Write one JSON object a line")
    return Rows(tuple(rows), file_key(path), path.name, tuple(places))


def read_text(path: str | Path) -> str:
    """The text of a user's file, a byte order mark left out. Raises DataError if it is missing or not UTF-8."""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise no_file(path) from error
    except OSError as error:
        raise DataError(f"can't read the file: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise DataError("the file is not UTF-8 text", where=str(path), hint="Save it as UTF-8") from error


def no_file(path: str | Path) -> DataError:
    """The error for a user's file that isn't there; whoever asked for it adds where."""
    hint = "Paths start at the study file's folder, or else at the working folder"
    return DataError("no such file of data", got=str(path), hint=hint)


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON: {error.msg} at column {error.colno}", where=where) from error
    if not isinstance(row, dict):
        raise DataError("a line must be a JSON object", got=type(row).__name__, where=where)
    return row


def _hub_split(source: Source, split: str) -> str:
    known = dict(source.splits)
    if split not in known:
        raise DataError(f"{source.folder} has no {split!r} split", hint=f"It has: {', '.join(known)}")
    return known[split]


def _from_hub(source: Source, split: str, hub_split: str) -> Rows:
    import datasets

    try:
        loaded = datasets.load_dataset(source.hub_id, source.config, split=hub_split, revision=source.revision)
    # OSError covers no connection, no such dataset and the hub's HTTP errors; ValueError an unknown config or split
    # and an empty offline cache; RuntimeError a dataset that would need to run its own script; DatasetsError files that
    # don't fit together.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"can't get {source.title}, split {hub_split!r}, from the hub: {reason}",
                        hint=_mirror_hint(source, split) + ", or go online once") from error  # fmt: skip
    rows = tuple(dict(row) for row in loaded)
    if not rows:
        raise DataError(f"{source.title}, split {hub_split!r}, has no rows")
    return Rows(rows, _hub_key(source, hub_split), f"hub {source.title}")


def _hub_key(source: Source, hub_split: str) -> str:
    return content_key(["hub", source.hub_id, source.config, hub_split, source.revision])


def _nowhere(source: Source, split: str) -> DataError:
    if source.bundled:
        return DataError(f"the bundled rows {source.folder}/{split}.jsonl are missing", hint="Install rankscope anew")
    return DataError(f"{source.folder}/{split}.jsonl is in no mirror", hint=_mirror_hint(source, split))


def _mirror_hint(source: Source, split: str) -> str:
    return (
        f"Put the rows into <folder>/{source.folder}/{split}.jsonl and name the folder with data_dir in the study file "
        f"or the variable {VARIABLE}"
    )
