"""Reading rows: the mirror first, the hub last, and errors that say where."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest

from rankscope.data.dataset import VARIABLE, Source, fingerprint, locate, read
from rankscope.data.files import read_jsonl
from rankscope.errors import DataError

SOURCE = Source("toy", "someone/toy", "main", splits=(("train", "train"), ("test", "validation")))


@pytest.fixture(autouse=True)
def no_mirror_by_chance(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def mirror(tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "test.jsonl").write_text('{"a": 1}\n\n{"a": "é"}\n', encoding="utf-8")
    return tmp_path


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the ``datasets`` module that notes how it was called."""
    calls = []

    def load_dataset(*args, **kwargs):
        calls.append((args, kwargs))
        return [{"a": 7}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return calls


class _Broken(Exception):
    """Stands in for the base error of the ``datasets`` package."""


def test_the_mirror_is_read_and_the_hub_is_left_alone(mirror, hub):
    rows = read(SOURCE, "test", mirror)
    assert rows.rows == ({"a": 1}, {"a": "é"})
    assert rows.origin == "local mirror"
    assert rows.place(1) == f"{mirror}/toy/test.jsonl:3"
    assert hub == []


def test_the_environment_variable_names_the_mirror(mirror, hub, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(mirror))
    assert len(read(SOURCE, "test").rows) == 2
    assert hub == []


def test_the_folder_given_wins_over_the_environment_variable(mirror, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(mirror / "nowhere"))
    assert locate(SOURCE, "test", mirror) == mirror / "toy" / "test.jsonl"


def test_a_split_that_is_in_no_mirror_comes_from_the_hub_under_the_hubs_split_name(hub, mirror):
    rows = read(SOURCE, "train", mirror)
    assert rows.rows == ({"a": 7},)
    assert rows.origin == "hub someone/toy (main)"
    read(SOURCE, "test")
    assert hub == [
        (("someone/toy", "main"), {"split": "train", "revision": None}),
        (("someone/toy", "main"), {"split": "validation", "revision": None}),
    ]


@pytest.mark.parametrize(
    "error", [ConnectionError("no route"), ValueError("no split"), RuntimeError("scripts"), _Broken()]
)
def test_a_hub_that_cant_be_reached_is_an_error_that_names_the_way_out(monkeypatch, error):
    def load_dataset(*args, **kwargs):
        raise error

    fake = SimpleNamespace(load_dataset=load_dataset, exceptions=SimpleNamespace(DatasetsError=_Broken))
    monkeypatch.setitem(sys.modules, "datasets", fake)
    with pytest.raises(DataError, match=r"can't get someone/toy \(main\).*data_dir.*RANKSCOPE_DATA"):
        read(SOURCE, "test")


def test_an_empty_split_of_the_hub_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda *a, **k: []))
    with pytest.raises(DataError, match="has no rows"):
        read(SOURCE, "test")


def test_an_unknown_split_is_an_error_that_lists_the_known_ones():
    with pytest.raises(DataError, match="toy has no 'dev' split. It has: train, test"):
        read(SOURCE, "dev")


def test_a_mirror_that_is_no_folder_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="data_dir: no such folder"):
        read(SOURCE, "test", tmp_path / "nowhere")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="RANKSCOPE_DATA: no such folder"):
        read(SOURCE, "test")


def test_a_source_without_hub_or_mirror_says_where_to_put_the_file(tmp_path):
    with pytest.raises(DataError, match=r"Put the rows into <folder>/mine/test\.jsonl"):
        read(Source("mine"), "test", tmp_path)


def test_bundled_rows_need_no_mirror_and_missing_ones_are_an_error():
    with pytest.raises(DataError, match="bundled rows nothing/test.jsonl are missing"):
        read(Source("nothing", bundled=True), "test")


def test_a_mirror_file_is_known_by_its_content_and_not_by_its_place(mirror, tmp_path):
    other = tmp_path / "elsewhere"
    (other / "toy").mkdir(parents=True)
    file = other / "toy" / "test.jsonl"
    file.write_bytes((mirror / "toy" / "test.jsonl").read_bytes())
    before = fingerprint(SOURCE, "test", other)
    assert before == fingerprint(SOURCE, "test", mirror) == read(SOURCE, "test", mirror).key
    file.write_text('{"a": 2}\n', encoding="utf-8")
    assert fingerprint(SOURCE, "test", other) != before


def test_a_hub_dataset_is_known_by_name_config_split_and_revision_without_loading_it(hub):
    keys = {
        fingerprint(SOURCE, "test"),
        fingerprint(SOURCE, "train"),
        fingerprint(Source("toy", "someone/toy", "other", SOURCE.splits), "test"),
        fingerprint(Source("toy", "someone/toy", "main", SOURCE.splits, revision="abc"), "test"),
    }
    assert len(keys) == 4
    assert hub == []
    assert fingerprint(SOURCE, "test") == read(SOURCE, "test").key


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n{"a": \n', r"my\.jsonl:2: not valid JSON: .* column"),
        ('{"a": 1}\n\n[1]\n', r"my\.jsonl:3: a line must be a JSON object \(got 'list'\)"),
        ("", r"my\.jsonl: the file has no rows"),
        ("\n  \n", r"my\.jsonl: the file has no rows"),
    ],
)
def test_a_bad_file_is_an_error_with_file_and_line(tmp_path, content, message):
    file = tmp_path / "my.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_jsonl(file)


def test_a_file_that_isnt_there_or_isnt_utf8_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such file of data"):
        read_jsonl(tmp_path / "nowhere.jsonl")
    (tmp_path / "latin.jsonl").write_bytes('{"a": "é"}'.encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_jsonl(tmp_path / "latin.jsonl")


def test_a_byte_order_mark_and_a_line_separator_inside_a_text_do_no_harm(tmp_path):
    row = {"a": "one\u2028two\x85three"}
    (tmp_path / "my.jsonl").write_text("\ufeff" + json.dumps(row, ensure_ascii=False) + "\r\n", encoding="utf-8")
    assert read_jsonl(tmp_path / "my.jsonl").rows == (row,)
