"""Your own data, as it is: files of rows or a hub dataset, questions or conversations. No Python needed.

Paper: none, the data is yours. Licence: yours.
Data: the files or the dataset named in the task's options; ending .jsonl, .json, .csv, .tsv or .parquet.

================ ====================================================================================================
``path``         one file; it is split by all that each row says but its ``id``, about 80 % to train on, 20 % to test
``train``        the training file; by itself it is split like ``path``
``test``         the test file; all its rows are scored
``hub``          a hub dataset (``org/name``), with ``config``, ``revision``, ``train_split``, ``test_split``; without a
                 test split its validation split is the test, and without that the train split is split like ``path``
``prompt``,      a column, or a text with columns in it: "{question}\\n{context}" (a literal brace is doubled)
``completion``
``messages``     the column with a conversation: a list of {role, content}, or of {from, value}
``text``         the column with plain text, for the form ``text``
``choices``,     a column with a list, or a list of columns; and the column with the right one: its text, letter or
``answer``       index from 0; with the ARC family's {text, label} its label
``id``, ...      columns: ``id``, ``subject``, ``cluster`` (rows that vary together)
``chat``         true: prompt and completion become a user and an assistant turn in the model's own chat template
``scorer``       how generated answers are judged: ``exact_match``, ``token_f1``, ``regex`` (with ``pattern``) or
                 your own ``file.py@name``, a function (sample, response) that gives a number between 0 and 1
``max_new...``   ``max_new_tokens``: longest generated answer, 128; it ends at a blank line too, but in a conversation
================ ====================================================================================================

Without these the columns' names decide: messages or conversations; prompt and completion; prompt or question with
choices and answer; instruction, input and output (Alpaca); question and answer; text. Rows with choices have the form
``cloze``; other rows ``completion``: how many nats per token the model needs for the held-out answer. With a ``scorer``
the answer is generated instead (form ``generate``).
Chance: the larger of uniform guessing and the commonest answer; 0 for generated answers; none for nats.

Worked instance (invented):
    {"prompt": "Which port does the staging server use? Answer:", "choices": ["8080", "9090"], "answer": "9090"}
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rankscope.data.dataset import Source, read, read_part
from rankscope.data.files import Rows, read_file
from rankscope.errors import DataError
from rankscope.provenance import content_key
from rankscope.tasks import shapes
from rankscope.tasks.cells import content
from rankscope.tasks.samples import Sample, chat_sample, plain_sample, text_sample
from rankscope.tasks.task import Folder, Task

TEST_SHARE = 5
"""One row in so many is a test row when a single file is split."""

_HINT = "Write it as: {task: data, path: my.jsonl}, with train: and test: files, or with hub: org/name"
_HUB_OPTIONS = ("hub", "config", "revision", "train_split", "test_split")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """A row of our shape as a sample."""
    if form == "text":
        return text_sample(row)
    if "turns" in row:
        if form not in ("completion", "generate"):
            raise DataError(f"a conversation has no form {form!r}", hint="It has: completion, generate")
        labels = {name: row[name] for name in ("id", "subject", "cluster") if name in row}
        return chat_sample(row["turns"], **labels)
    return plain_sample(row, form)


def rows(options: Mapping[str, Any], split: str, data_dir: Folder) -> Rows:
    """The rows of ``train`` or ``test`` in our shape, blank ones left out. Raises DataError."""
    if split not in ("train", "test"):
        raise DataError(f"the task data has no {split!r} split", hint="It has: train, test")
    if source := source_of(options):
        is_named = bool(options.get("test_split"))
        found, is_whole = (read(source, split, data_dir), True) if is_named else read_part(source, split, data_dir)
    else:
        found, is_whole = _from_files(options, split)
    kept, indices = shapes.kept(found, options, options.get("form", "default"))
    if is_whole:
        return kept
    ids = {"id", options.get("id")}
    sides = [_is_test(row, ids) for row in found.rows]
    here = sides.count(split == "test")
    part = _part(kept, split, [sides[index] for index in indices])
    return replace(part, blank=here - len(part.rows))


def source_of(options: Mapping[str, Any]) -> Source | None:
    """The hub dataset that the options name, None if they name files. Raises DataError if they name both or neither."""
    files = [name for name in ("path", "train", "test") if options.get(name)]
    for name in (*files, *(name for name in _HUB_OPTIONS if options.get(name) is not None)):
        if not isinstance(options[name], str):
            raise DataError(f"{name}: must be one text", got=options[name])
    hub = options.get("hub")
    if not hub:
        if not files:
            raise DataError("data needs a file or a hub dataset", hint=_HINT)
        if "path" in files and len(files) > 1:
            raise DataError("path: stands for train and test together", got=", ".join(files), hint=_HINT)
        if stray := next((name for name in _HUB_OPTIONS if options.get(name)), None):
            raise DataError(f"{stray}: is for a hub dataset", got=options[stray], hint=_HINT)
        return None
    if files:
        raise DataError("the rows are either in files or on the hub", got=f"hub and {', '.join(files)}", hint=_HINT)
    if not _HUB_ID.fullmatch(hub):
        raise DataError("hub: not the name of a dataset", got=hub, hint="It is written org/name")
    for name in _HUB_OPTIONS[1:]:
        if options.get(name) and not _NAME.fullmatch(options[name]):
            raise DataError(f"{name}: not a name", got=options[name])
    config = options.get("config")
    splits = (("train", options.get("train_split") or "train"), ("test", options.get("test_split") or "test"),
              ("validation", "validation"))  # fmt: skip
    return Source(f"{hub}/{config}" if config else hub, hub, config, splits, revision=options.get("revision"))


def _from_files(options: Mapping[str, Any], split: str) -> tuple[Rows, bool]:
    if options.get("path"):
        return read_file(options["path"]), False
    if options.get(split):
        return read_file(options[split]), bool(options.get("test"))
    if split == "train":
        raise DataError("only a test file is named: nothing to train on or to take examples from", hint=_HINT)
    return read_file(options["train"]), False


def _part(whole: Rows, split: str, is_test: Sequence[bool]) -> Rows:
    """The training or test part of rows; ``is_test`` says of each whether it's a test row."""
    kept = [i for i, side in enumerate(is_test) if side == (split == "test")]
    if not kept:
        raise DataError(f"too few rows to split into train and test: none for {split}", got=len(whole.rows),
                        where=whole.origin, hint=_HINT)  # fmt: skip
    share = 100 // TEST_SHARE if split == "test" else 100 - 100 // TEST_SHARE
    return replace(
        whole,
        rows=tuple(whole.rows[i] for i in kept),
        places=tuple(whole.places[i] for i in kept),
        key=content_key([whole.key, split, TEST_SHARE]),
        origin=f"{whole.origin}, {split} part (about {share} % of rows, split by content)",
    )


def _is_test(row: Mapping[str, Any], ids: Collection[str | None]) -> bool:
    """A row's side depends on what the file says alone, whatever becomes of it: no other use of it mixes the sides."""
    said = content({name: value for name, value in row.items() if name not in ids})
    return int(content_key(said), 16) % TEST_SHARE == 0


def pick_form(options: Mapping[str, Any], found: Rows) -> str:
    """``cloze`` for rows with choices, ``text`` for plain text; else ``completion``, or ``generate`` with a scorer."""
    first = found.rows[0]
    if "choices" in first:
        return "cloze"
    if "turns" not in first and "completion" not in first:
        return "text"
    return "generate" if options.get("scorer") else "completion"


PLUGIN = Task(
    name="data",
    summary="Your own rows: JSONL, JSON, CSV, TSV or Parquet files, or a hub dataset",
    source=None,
    to_sample=to_sample,
    forms=("completion", "generate", "cloze", "letters", "text"),
    default_form="cloze",
    uniform=None,
    licence="yours",
    paper="none: your own data",
    example={
        "id": "staging",
        "prompt": "Which port does the staging server use? Answer:",
        "completion": "9090",
        "choices": ["8080", "9090"],
        "answer": 1,
        "text": "The staging server uses port 9090.",
    },
    stop=("\n\n",),
    max_new_tokens=128,
    options=(*shapes.OPTIONS, *_HUB_OPTIONS),
    scoring=("scorer", "pattern", "max_new_tokens"),
    files=("path", "train", "test"),
    rows=rows,
    pick_form=pick_form,
    source_of=source_of,
)
