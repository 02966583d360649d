"""Files of the user's: every kind gives the same rows, and whatever is wrong with one is said with its place."""

from __future__ import annotations

import csv
import io
import json
import time

import pyarrow
import pyarrow.parquet
import pytest

from rankscope.data import files
from rankscope.data.files import read_file, read_text
from rankscope.errors import DataError

ROWS = [{"q": 'a, "b"\nc', "n": "1"}, {"q": "é 日本", "n": ""}, {"q": "plain", "n": "x"}]


def written(folder, kind, rows):
    """A file with the rows, and where each stands."""
    path = folder / f"my.{kind}"
    if kind in ("jsonl", "ndjson"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path, [f"{path}:{i}" for i in (1, 2, 3)]
    if kind == "json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        text = io.StringIO()
        made = csv.DictWriter(text, list(rows[0]), dialect="excel" if kind == "csv" else "excel-tab")
        made.writeheader()
        made.writerows(rows)
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
        return path, [f"{path}:{i}" for i in (2, 4, 5)]
    return path, [f"{path}, row {i}" for i in (1, 2, 3)]


@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "json", "csv", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows_and_knows_their_places(kind, tmp_path):
    path, places = written(tmp_path, kind, ROWS)
    found = read_file(path)
    assert list(found.rows) == ROWS and list(found.places) == places and found.origin == path.name
    key = found.key
    path, _ = written(tmp_path, kind, ROWS[::-1])
    assert read_file(path).key != key


DEEP = "[" * 70 + "]" * 70
BAD = {
    "no ending": ("my", b"{}", r"known by its ending.*\(got 'my'\)"),
    "an ending that isn't known": ("my.xlsx", b"x", "Known: .jsonl, .ndjson, .json, .csv, .tsv, .parquet"),
    "invalid UTF-8": ("a.jsonl", b'{"a": 1}\n{"a": "\xe9"}\n', r"a\.jsonl:2: not UTF-8 text, at byte 8 of the line"),
    "UTF-16": ("a.csv", "a,b\n1,2\n".encode("utf-16"), r"a\.csv:1: a NUL byte in a text file"),
    "UTF-16 without a NUL": ("a.csv", b"\xff\xfe", r"a\.csv:1: not UTF-8 text, at byte 1"),
    "a NUL byte": ("a.csv", b"a,b\n1,2\n3\x00,4\n", r"a\.csv:3: a NUL byte"),
    "no rows": ("a.json", b"[]", r"a\.json: the file has no rows"),
    "a header alone": ("a.csv", b"a,b\n", r"a\.csv: the file has no rows"),
    "nothing at all": ("a.csv", b"", r"a\.csv: the file has no rows"),
    "more cells": ("a.csv", b"a,b\n1,2\n3,4,5\n", r"a\.csv:3: a row of 3 cells under a header of 2"),
    "fewer cells": ("a.tsv", b"a\tb\n\n1\n", r"a\.tsv:3: a row of 1 cells under a header of 2"),
    "columns of one name": ("a.csv", b"a,b, a\n1,2,3\n", r"a\.csv:1: two columns are called 'a'"),
    "columns without a name": ("a.csv", b",a,\n1,2,3\n", r"a\.csv:1: two columns"),
    "an open quote": ("a.csv", b'a,b\n1,2\n"3,4\n5,6\n', r"a\.csv:3: a quote is opened and never closed"),
    "text after a quote": ("a.csv", b'a,b\n"1"x,2\n', r"a\.csv:2: not valid CSV: "),
    "old line ends": ("a.csv", b"a,b\r1,2\r", r"a\.csv:1: not valid CSV: new-line"),
    "a JSON object": ("a.json", b'{"rows": []}', r"a\.json: .* must be a list of objects \(got 'dict'\)"),
    "JSONL called JSON": ("a.json", b'{"a": 1}\n{"a": 2}\n', r"a\.json:2: not valid JSON: Extra data .* \.jsonl"),
    "a number in a list": ("a.json", b'[{"a": 1}, 2]', r"a\.json, row 2: a row must be a JSON object"),
    "JSON cut short": ("a.json", b'[{"a": 1},\n{"a', r"a\.json:2: not valid JSON: "),
    "NaN": ("a.jsonl", b'{"a": NaN}', r"a\.jsonl:1: not valid JSON: NaN is no number in JSON"),
    "infinity": ("a.json", b'[{"a": -Infinity}]', r"a\.json: not valid JSON: -Infinity is no number"),
    "a float too large": ("a.jsonl", b'{"a": 1e999}', r"a\.jsonl:1: not valid JSON: the number 1e999 is too large"),
    "an integer too large": ("a.jsonl", b'{"a": ' + b"9" * 5000 + b"}", r"a\.jsonl:1: not valid JSON: .*5000 digits"),
    "a key given twice": ("a.jsonl", b'{"a": 1, "b": 2, "a": 3}', r"a\.jsonl:1: not valid JSON: the key 'a' is given"),
    "half a surrogate pair": ("a.jsonl", b'{"a": "\\ud800"}', r"a\.jsonl:1: half of a surrogate pair"),
    "nested too deep": ("a.jsonl", b'{"a": ' + DEEP.encode() + b"}", r"a\.jsonl:1: nested too deep: more than 64"),
    "nested without end": ("a.jsonl", b"[" * 200_000, r"a\.jsonl:1: nested too deep"),
    "nested without end, JSON": ("a.json", b'[{"a":' * 200_000, r"a\.json: nested too deep"),
    "no Parquet": (
        "a.parquet",
        b"hello, I am a text file",
        r"a\.parquet: not a readable Parquet file: .* Copy it again",
    ),
    "an empty Parquet": ("a.parquet", b"", r"a\.parquet: not a readable Parquet file"),
    "a zip called Parquet": ("a.parquet", b"PK\x03\x04" + b"\0" * 99, r"a\.parquet: not a readable Parquet file"),
    "a footer of nonsense": ("a.parquet", b"PAR1" + b"\xff" * 60 + b"\x20\0\0\0PAR1", r"not a readable Parquet file"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_error_with_its_place(name, tmp_path):
    file, content, message = BAD[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_file(tmp_path / file)


def test_a_file_that_isnt_there_a_folder_and_a_device_are_errors(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name in ("gone.csv", "folder.csv", "zero.csv", "nul\0.csv"):
        with pytest.raises(DataError, match="no such file of data|can't read"):
            read_file(tmp_path / name)


def test_a_line_without_end_is_refused_without_reading_it_whole(tmp_path):
    path = tmp_path / "sparse.jsonl"
    with open(path, "wb") as file:
        file.write(b'{"a": "')
        file.truncate(50_000_000_000)  # takes no space on the disk
    before = time.monotonic()
    with pytest.raises(DataError, match=r"sparse\.jsonl:1: a line is longer than 64 MB"):
        read_file(path)
    assert time.monotonic() - before < 5
    path = path.rename(tmp_path / "sparse.json")
    with pytest.raises(DataError, match="a JSON file is read whole"):
        read_file(path)


def test_a_quote_never_closed_is_not_read_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST", 1000)
    before = csv.field_size_limit()
    (tmp_path / "a.csv").write_text('a,b\n1,"' + "x\n" * 5000)
    with pytest.raises(DataError, match=r"a\.csv:2: not valid CSV: field larger than field limit"):
        read_file(tmp_path / "a.csv")
    assert csv.field_size_limit() == before


def test_a_cell_may_be_as_long_as_a_line(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n" + "x" * 200_000 + ",y\n")
    assert len(read_file(tmp_path / "a.csv").rows[0]["a"]) == 200_000


def test_a_byte_order_mark_carriage_returns_and_blank_lines_do_no_harm(tmp_path):
    (tmp_path / "a.csv").write_bytes("\ufeffa,b\r\n\r\n1,2\r\n\r\n".encode())
    assert read_file(tmp_path / "a.csv").rows == ({"a": "1", "b": "2"},)
    (tmp_path / "a.json").write_bytes('\ufeff [{"a": "x\u2028y"}]'.encode())
    assert read_file(tmp_path / "a.json").rows == ({"a": "x\u2028y"},)
    assert read_text(tmp_path / "a.csv").startswith("a,b")


def test_a_truncated_parquet_file_is_an_error_wherever_it_is_cut(tmp_path):
    path, _ = written(tmp_path, "parquet", ROWS)
    whole = path.read_bytes()
    for size in (0, 3, 4, 40, len(whole) // 2, len(whole) - 5, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="not a readable Parquet file"):
            read_file(path)


def test_a_parquet_bomb_is_refused_by_its_footer_and_by_what_comes_out(tmp_path, monkeypatch):
    path = tmp_path / "bomb.parquet"
    table = pyarrow.table({"a": ["x" * 100_000] * 200})
    pyarrow.parquet.write_table(table, path, use_dictionary=False, compression="zstd")
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(files, "LARGEST", 10_000_000)
    with pytest.raises(DataError, match=r"bomb\.parquet: the file unpacks to more than 0\.0 GB"):
        read_file(path)
    # One text that stands for all rows: the footer knows of one, what comes out is 20 MB.
    for made in (table, pyarrow.table({"a": table["a"].dictionary_encode()})):
        pyarrow.parquet.write_table(made, path)
        footer = pyarrow.parquet.read_metadata(path)
        assert footer.row_group(0).total_byte_size < 200_000
        with pytest.raises(DataError, match="the file unpacks to more than"):
            read_file(path)


def test_parquet_columns_of_one_name_and_text_that_is_none_are_errors(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table([[1], [2]], names=["a", "a"]), path)
    with pytest.raises(DataError, match="two columns are called 'a'"):
        read_file(path)
    bad = pyarrow.Array.from_buffers(pyarrow.string(), 1, pyarrow.array([b"\xff\xfe"]).buffers())
    pyarrow.parquet.write_table(pyarrow.table({"a": bad}), path)
    with pytest.raises(DataError, match=r"a\.parquet: not a readable Parquet file: .*codec"):
        read_file(path)


def test_a_parquet_file_of_many_groups_and_kinds_comes_in_order(tmp_path):
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"n": list(range(5000)), "l": [["x", str(i)] for i in range(5000)]})
    pyarrow.parquet.write_table(table, path, row_group_size=700)
    found = read_file(path)
    assert [row["n"] for row in found.rows] == list(range(5000)) and found.rows[4999]["l"] == ["x", "4999"]
    assert found.place(4999) == f"{path}, row 5000"


def test_numbers_keep_the_digits_they_are_written_with(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1.50, "b": [1e5], "c": 3}\n')
    (row,) = read_file(path).rows
    assert (str(row["a"]), row["a"], str(row["b"][0]), json.dumps(row)) == (
        "1.50", 1.5, "1e5", '{"a": 1.5, "b": [100000.0], "c": 3}')  # fmt: skip
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": pyarrow.array([0.1, None, 3.0], pyarrow.float32())}), path)
    assert [row["a"] for row in read_file(path).rows] == [0.1, None, 3.0]
