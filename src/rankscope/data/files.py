"""The user's own files as rows. In: a path. Out: plain dicts, each with the place it stands at, or an error with it.

JSONL, JSON (a list of objects), CSV, TSV and Parquet, known by their ending. What is read is bounded before it is read:
a line by ``LONGEST``, a JSON file by ``LARGEST_JSON``, a Parquet file by ``LARGEST`` once unpacked, which its footer
says. A value that JSON can't say (NaN, half a surrogate pair) is refused, because a row's content is its identity.
Knows nothing about what rows mean. ``pyarrow`` is imported only for a Parquet file.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from rankscope.errors import DataError
from rankscope.provenance import file_key

LONGEST = 64_000_000
"""Bytes of one line (and characters of one CSV cell)."""
LARGEST_JSON = 1_000_000_000
"""Bytes of a JSON file, which can't be read a row at a time."""
LARGEST = 8_000_000_000
"""Bytes of a Parquet file's columns once unpacked; half of the memory if that is less."""
DEEPEST = 64
"""Levels of lists and objects in one row."""
_BATCH = 1024  # rows of a Parquet file unpacked at once
_ONE_A_LINE = "Write one JSON object a line"
_SPREADSHEET = "A cell with a comma, a quote or a line break stands in double quotes, a quote in it is doubled"


@dataclass(frozen=True)
class Rows:
    """The rows of one split. ``key`` changes when they do; ``origin`` is for people.

    ``places`` says where each row stands ('test.jsonl:12') if the rows came from a file; ``blank`` counts those of
    this split that were left out because nothing stands in them.
    """

    rows: tuple[dict[str, Any], ...]
    key: str
    origin: str
    places: tuple[str, ...] = ()
    blank: int = 0

    def place(self, index: int) -> str:
        """Where row ``index`` (from 0) stands, for an error message."""
        return self.places[index] if self.places else f"{self.origin}, row {index + 1}"


class Literal(float):
    """A number of a JSON file that knows how it is written there: 1.50 stays 1.50 in a prompt."""

    __slots__ = ("word",)

    def __new__(cls, word: str) -> Literal:
        value = super().__new__(cls, word)
        value.word = word
        return value

    def __str__(self) -> str:
        return self.word


def read_file(path: str | Path) -> Rows:
    """The rows of a user's file of any kind it may have.

    Raises DataError if the file is missing, of no known kind, damaged, too large or without rows, with its line (or
    the row's number) where there is one.
    """
    path = Path(path).expanduser()
    kind = path.suffix.lower()
    if kind not in READERS:
        raise DataError("a file of data is known by its ending, and this one isn't known", got=path.name,
                        hint=f"Known: {', '.join(READERS)}")  # fmt: skip
    try:
        if not path.is_file():
            raise no_file(path)
        found = list(READERS[kind](path))
        key = file_key(path)
    except OSError as error:
        raise DataError(f"can't read the file: {error.strerror or error}", where=str(path)) from error
    if not found:
        raise DataError("the file has no rows", where=str(path), hint=_ONE_A_LINE if kind == ".jsonl" else None)
    return Rows(tuple(row for row, _ in found), key, path.name, tuple(place for _, place in found))


def read_jsonl(path: str | Path) -> Rows:
    """The rows of a JSONL file whatever its ending: UTF-8, one JSON object a line; blank lines are skipped."""
    path = Path(path).expanduser()
    found = list(_jsonl(path))
    if not found:
        raise DataError("the file has no rows", where=str(path), hint=_ONE_A_LINE)
    return Rows(tuple(row for row, _ in found), file_key(path), path.name, tuple(place for _, place in found))


def read_text(path: str | Path) -> str:
    """The text of a user's file, a byte order mark left out. Raises DataError if it is missing or not UTF-8."""
    return "".join(line for line, _ in _lines(Path(path).expanduser()))


def no_file(path: str | Path) -> DataError:
    """The error for a user's file that isn't there; whoever asked for it adds where."""
    hint = "Paths start at the study file's folder, or else at the working folder"
    return DataError("no such file of data", got=str(path), hint=hint)


# ---- lines


def _opened(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise no_file(path) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(f"can't read the file: {getattr(error, 'strerror', error)}", where=str(path)) from error


def _lines(path: Path) -> Iterator[tuple[str, int]]:
    """Each line with its break, and its number; only a line feed ends a line. Raises DataError with the line."""
    with _opened(path) as file:
        number = 0
        while line := file.readline(LONGEST + 1):
            number += 1
            where = f"{path}:{number}"
            if len(line) > LONGEST:
                raise DataError(f"a line is longer than {LONGEST // 1_000_000} MB", where=where,
                                hint="Is it a file of the kind that its ending says?")  # fmt: skip
            if b"\0" in line:
                raise DataError("a NUL byte in a text file", where=where, hint="Save it as UTF-8 text")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8"), number
            except UnicodeDecodeError as error:
                raise DataError(f"not UTF-8 text, at byte {error.start + 1} of the line", where=where,
                                hint="Save it as UTF-8") from error  # fmt: skip


# ---- JSON


def _jsonl(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    for line, number in _lines(path):
        if line.strip():
            where = f"{path}:{number}"
            row = _parsed(line, where, lambda error, where=where: where)
            if not isinstance(row, dict):
                raise DataError("a line must be a JSON object", got=type(row).__name__, where=where)
            yield row, where


def _json(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    size = path.stat().st_size
    if size > LARGEST_JSON:
        raise DataError(f"a JSON file is read whole, and this one has more than {LARGEST_JSON // 1_000_000} MB",
                        got=size, where=str(path), hint="Write one object a line into a .jsonl file")  # fmt: skip
    document = _parsed(read_text(path), str(path), lambda error: f"{path}:{error.lineno}")
    if not isinstance(document, list):
        raise DataError("a JSON file of data must be a list of objects", got=type(document).__name__, where=str(path),
                        hint="One object a line is JSONL: name the file .jsonl")  # fmt: skip
    for index, row in enumerate(document, start=1):
        if not isinstance(row, dict):
            raise DataError("a row must be a JSON object", got=type(row).__name__, where=f"{path}, row {index}")
        yield row, f"{path}, row {index}"


def _parsed(text: str, where: str, place: Callable[[json.JSONDecodeError], str]) -> Any:
    """JSON as the standard has it, nothing more. Raises DataError."""
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_distinct)
        if "\\u" in text:  # half of a surrogate pair is no text, and can only be written as an escape
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        hint = "One object a line is JSONL: name the file .jsonl" if error.msg == "Extra data" else None
        raise DataError(f"not valid JSON: {error.msg} at column {error.colno}", where=place(error),
                        hint=hint if place(error) != where else None) from error  # fmt: skip
    except UnicodeEncodeError as error:
        raise DataError("half of a surrogate pair, which is no text", where=where) from error
    except RecursionError as error:
        raise _too_deep(where) from error
    except ValueError as error:
        raise DataError(f"not valid JSON: {error}", where=where) from error
    if _depth(value) > DEEPEST + isinstance(value, list):
        raise _too_deep(where)
    return value


def _too_deep(where: str) -> DataError:
    return DataError(f"nested too deep: more than {DEEPEST} levels", where=where)


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number in JSON")


def _finite(word: str) -> Literal:
    if not math.isfinite(value := Literal(word)):
        raise ValueError(f"the number {word[:20]} is too large")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice!r} is given twice")
    return found


def _depth(value: Any) -> int:
    """Levels of lists and objects; a plain value has none. Not recursive: depth is what it guards against."""
    level, depth = [value], 0
    while level := [v for v in level if isinstance(v, list | dict)]:
        depth += 1
        level = [child for v in level for child in (v.values() if isinstance(v, dict) else v)]
    return depth


# ---- CSV


def _csv(path: Path, delimiter: str = ",") -> Iterator[tuple[dict[str, Any], str]]:
    header: list[str] | None = None
    for cells, line in _records(path, delimiter):
        where = f"{path}:{line}"
        if header is None:
            header = [name.strip() for name in cells]
            if twice := next((name for i, name in enumerate(header) if name in header[:i]), None):
                raise DataError(f"two columns are called {twice!r}", where=where, hint="Give each its own name")
            if header.count("") > 1:
                raise DataError("two columns have no name", where=where, hint="The first line names the columns")
            continue
        if len(cells) != len(header):
            raise DataError(f"a row of {len(cells)} cells under a header of {len(header)}", where=where,
                            hint=_SPREADSHEET)  # fmt: skip
        yield dict(zip(header, cells, strict=True)), where


def _records(path: Path, delimiter: str) -> Iterator[tuple[list[str], int]]:
    """Records that aren't empty, each with the line it begins on."""
    before = csv.field_size_limit(LONGEST)
    reader = csv.reader((line for line, _ in _lines(path)), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield cells, line
            line = reader.line_num + 1
    except csv.Error as error:
        what = "a quote is opened and never closed" if "unexpected end" in str(error) else f"not valid CSV: {error}"
        raise DataError(what, where=f"{path}:{line}", hint=_SPREADSHEET) from error
    finally:
        csv.field_size_limit(before)


def _tsv(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    return _csv(path, "\t")


# ---- Parquet


def _parquet(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    import pyarrow
    import pyarrow.parquet

    most = min(LARGEST, psutil.virtual_memory().total // 2)
    index = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
            _check_size(sum(groups), most, path)
            names = file.schema_arrow.names
            if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
                raise DataError(f"two columns are called {twice!r}", where=str(path), hint="Give each its own name")
            # A text may stand for many rows, so that even a small file can unpack into anything: the larger the file,
            # the fewer rows at once.
            size, held = max(1, min(_BATCH, most // max(1, *groups, 1))), 0
            for packed in file.iter_batches(size):
                batch = pyarrow.RecordBatch.from_arrays([_unpacked(column) for column in packed.columns], names)
                held += batch.nbytes
                _check_size(held, most, path)
                for row in batch.to_pylist():
                    index += 1
                    yield row, f"{path}, row {index}"
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        where = f"{path}, row {index + 1} or after" if index else str(path)
        raise DataError(f"not a readable Parquet file: {reason}", where=where, hint="Copy it again") from error


def _unpacked(column: Any) -> Any:
    """A column of codes for texts as the texts themselves, so that its size is what its rows will take.

    Numbers of 32 bits keep their digits: 0.1 is 0.1 and not 0.10000000149011612.
    """
    if str(column.type) == "float":
        return column.cast("string").cast("double")
    return column.dictionary_decode() if hasattr(column, "dictionary_decode") else column


def _check_size(size: int, most: int, path: Path) -> None:
    if size > most:
        raise DataError(f"the file unpacks to more than {most / 1e9:.1f} GB", got=f"{size / 1e9:.1f} GB",
                        where=str(path), hint="Give fewer rows or columns")  # fmt: skip


READERS: dict[str, Callable[[Path], Iterator[tuple[dict[str, Any], str]]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
