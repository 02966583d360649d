"""Rows of a dataset. In: a source, a split, a folder. Out: plain dicts, a content key, and where they came from.

Three places are looked in, in this order: the rows bundled with rankscope, a local mirror
(``<data_dir>/<folder>/<split>.jsonl``, the folder given or in the variable ``RANKSCOPE_DATA``), and the Hugging Face
hub. What the mirror has is never asked of the network. Knows nothing about prompts, tasks or models; ``datasets`` is
imported only when a dataset has to come from the hub.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankscope.data.files import Rows, read_jsonl
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


def read_part(source: Source, split: str, data_dir: str | Path | None = None) -> tuple[Rows, bool]:
    """The rows that hold ``train`` or ``test``, and whether they are all of it: for a dataset of any layout.

    Without a test split the validation split is the test; without that, too, both lie in the train split, for the
    caller to split. Raises DataError as ``read``.
    """
    loaded = None
    has = {name for name in dict(source.splits) if locate(source, name, data_dir)}
    if not has and source.hub_id is not None:
        loaded = _load(source, None)
        has = {name for name, hub_name in source.splits if hub_name in loaded}
    test = next((name for name in ("test", "validation") if name in has), None)
    name = split if split == "train" else test or "train"
    if loaded is None:
        return read(source, name, data_dir), test is not None
    if name not in has:
        hint = f"It has: {', '.join(map(str, loaded))}; name one with train_split or test_split"
        raise DataError(f"{source.title} has no split {_hub_split(source, name)!r}", hint=hint)
    return _rows(source, _hub_split(source, name), loaded[_hub_split(source, name)]), test is not None


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


def _hub_split(source: Source, split: str) -> str:
    known = dict(source.splits)
    if split not in known:
        raise DataError(f"{source.folder} has no {split!r} split", hint=f"It has: {', '.join(known)}")
    return known[split]


def _from_hub(source: Source, split: str, hub_split: str) -> Rows:
    return _rows(source, hub_split, _load(source, hub_split))


def _load(source: Source, hub_split: str | None) -> Any:
    """A split of a hub dataset, or all of them by name. Raises DataError if the hub doesn't give it."""
    import datasets

    try:
        return datasets.load_dataset(source.hub_id, source.config, split=hub_split, revision=source.revision)
    # OSError covers no connection, no such dataset and the hub's HTTP errors; ValueError an unknown config or split
    # and an empty offline cache; RuntimeError a dataset that would need to run its own script; DatasetsError files that
    # don't fit together.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        which = f", split {hub_split!r}," if hub_split else ""
        raise DataError(f"can't get {source.title}{which} from the hub: {reason}",
                        hint=_mirror_hint(source, hub_split or "train") + ", or go online once") from error  # fmt: skip


def _rows(source: Source, hub_split: str, loaded: Any) -> Rows:
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
