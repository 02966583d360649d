"""Neutral text: how well the model still predicts ordinary prose, in nats per token. The most sensitive retention task.

Paper: the passages are those of Clark et al., "BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions"
(1905.10044), paragraphs of English Wikipedia; each passage counts once. Cross-entropy on pages of text as a measure of
forgetting: PEFT's method comparison (MetaMathQA), which cuts pages at 768 tokens.
Data: hub google/boolq, its validation split (3,270 rows; the questions aren't used). ``path`` takes your own text
instead: one or several UTF-8 files; a ``.jsonl`` file gives the field ``text`` of each row, any other file is split at
blank lines, and a piece of less than 200 characters is joined with the next. Texts are cut at the engine's maximum
length (768 tokens is enough for nearly all passages).
Licence: CC BY-SA 3.0.
Chance: none; lower is better.

Worked instance (invented): 'The harbour lies at the mouth of the river, where three roads meet.' scored as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankscope.data.dataset import Source, read
from rankscope.data.files import Rows, read_jsonl, read_text
from rankscope.errors import DataError
from rankscope.provenance import content_key, file_key
from rankscope.tasks.samples import Sample, text_sample
from rankscope.tasks.task import Folder, Task, listed

SHORTEST = 200
SOURCE = Source("boolq", "google/boolq", splits=(("train", "train"), ("test", "validation")))


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The text as the only thing to score."""
    return text_sample(row)


def rows(options: Mapping[str, Any], split: str, data_dir: Folder) -> Rows:
    """The distinct BoolQ passages of a split, or the pieces of the user's files (the same for every split)."""
    if options.get("path"):
        return _from_files(listed(options["path"]))
    found = read(SOURCE, split, data_dir)
    passages: dict[str, str] = {}
    for index, row in enumerate(found.rows):
        passages.setdefault(row["passage"], found.place(index))
    return Rows(tuple({"text": text} for text in passages), found.key, found.origin, tuple(passages.values()))


def _from_files(paths: tuple[Any, ...]) -> Rows:
    texts, places = [], []
    for path in paths:
        for text, place in _texts(Path(str(path)).expanduser()):
            texts.append(text)
            places.append(place)
    names = ", ".join(Path(str(path)).name for path in paths)
    key = content_key([file_key(Path(str(path)).expanduser()) for path in paths])
    return Rows(tuple({"text": text} for text in texts), key, names, tuple(places))


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """Pieces of one file, each with its place. Raises DataError if there are none."""
    if path.suffix == ".jsonl":
        found = read_jsonl(path)
        for index, row in enumerate(found.rows):
            if not isinstance(row.get("text"), str):
                raise DataError("the row has no 'text'", where=found.place(index), hint=f"Its fields: {', '.join(row)}")
            yield row["text"], found.place(index)
        return
    pieces = [(piece, f"{path}:{line}") for piece, line in _paragraphs(read_text(path))]
    if not pieces:
        raise DataError("the file has no text", where=str(path))
    yield from pieces


def _paragraphs(text: str) -> Iterator[tuple[str, int]]:
    """Paragraphs with the number of their first line; a short one is joined with what follows it."""
    kept: list[str] = []
    start = 1
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if line.strip() and not kept:
            start = number
        if line.strip() or (kept and len("\n".join(kept).strip()) < SHORTEST):
            kept.append(line.rstrip())
        elif kept:
            yield "\n".join(kept).strip(), start
            kept = []
    if "\n".join(kept).strip():
        yield "\n".join(kept).strip(), start


PLUGIN = Task(
    name="neutral_text",
    summary="Cross-entropy on passages of Wikipedia, or on your own text",
    source=SOURCE,
    to_sample=to_sample,
    forms=("text",),
    default_form="text",
    uniform=None,
    skill="language",  # how prose goes on
    licence="CC BY-SA 3.0",
    paper="1905.10044",
    example={"text": "The harbour lies at the mouth of the river, where three roads meet."},
    metric="cross_entropy",
    is_trainable=False,
    files=("path",),
    rows=rows,
)
