"""Your own questions, from JSONL files: one JSON object a line.

Paper: none, the data is yours. Licence: yours.
Data: the files named in the task's options.

============== ======================================================================================================
``path``       one file; by itself it is split by the content of each row, about 80 % to train on and 20 % to test
``test``       the test file; all its rows are scored
``train``      the training file; by itself it is split like ``path``, beside ``path`` that one is the test file
============== ======================================================================================================

A row has ``prompt`` and either ``completion`` (generated, judged by ``exact_match``) or ``choices`` with ``answer`` (an
index from 0, the text of a choice, or its letter). ``id``, ``subject`` and ``cluster`` are optional. All rows of a file
have the same shape; the first test row decides the default form. The prompt is used as it stands.
Chance: the larger of uniform guessing and the commonest answer; 0 for completions.

Worked instance (invented):
    {"prompt": "Which port does the staging server use? Answer:", "choices": ["8080", "9090"], "answer": "9090"}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rankscope.data.dataset import Rows, read_jsonl
from rankscope.errors import DataError
from rankscope.provenance import content_key
from rankscope.tasks.samples import Sample, plain_sample
from rankscope.tasks.task import Folder, Task

TEST_SHARE = 5
"""One row in so many is a test row when a single file is split."""

_HINT = "Write it as: {task: jsonl, path: my.jsonl}, or with train: and test: files"


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The row as it stands."""
    return plain_sample(row, form)


def rows(options: Mapping[str, Any], split: str, data_dir: Folder) -> Rows:
    """The rows of ``train`` or ``test``, from the file that the options name for it. Raises DataError without one."""
    if split not in ("train", "test"):
        raise DataError(f"the task jsonl has no {split!r} split", hint="It has: train, test")
    files = {name: options[name] for name in ("train", "test", "path") if options.get(name)}
    for name, value in files.items():
        if not isinstance(value, str):
            raise DataError(f"jsonl: {name} must be the path of one file", got=value)
    if not files:
        raise DataError("jsonl needs the path of a file", hint=_HINT)
    if split in files:
        return read_jsonl(files[split])
    if "path" in files and len(files) > 1:
        return read_jsonl(files["path"])
    if "test" in files:
        raise DataError("jsonl has only a test file: nothing to train on or to take examples from", hint=_HINT)
    return _part(read_jsonl(next(iter(files.values()))), split)


def _part(whole: Rows, split: str) -> Rows:
    """The training or test part of a single file. A row's side depends on its content alone: copies stay together."""
    kept = [i for i, row in enumerate(whole.rows) if _is_test(row) == (split == "test")]
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


def _is_test(row: dict[str, Any]) -> bool:
    return int(content_key(row), 16) % TEST_SHARE == 0


def pick_form(found: Rows) -> str:
    """``cloze`` if the first row has choices, else ``generate``."""
    return "cloze" if "choices" in found.rows[0] else "generate"


PLUGIN = Task(
    name="jsonl",
    summary="Your own questions from JSONL files",
    source=None,
    to_sample=to_sample,
    forms=("cloze", "letters", "generate"),
    default_form="cloze",
    uniform=None,
    licence="yours",
    paper="none: your own data",
    example={
        "prompt": "Which port does the staging server use? Answer:",
        "completion": "9090",
        "choices": ["8080", "9090"],
        "answer": "9090",
    },
    stop=("\n\n",),
    max_new_tokens=128,
    options=("max_new_tokens",),
    files=("path", "train", "test"),
    rows=rows,
    pick_form=pick_form,
)
