"""A prices file goes in and out unchanged, and what is wrong in it is said with its line."""

from __future__ import annotations

import re

import pytest

from rankscope.config.prices import Prices, dump, load, number_text, save, template, write_template
from rankscope.config.reality import BY_NAME, INPUTS
from rankscope.errors import ConfigError, InputError
from rankscope.stats.gpus import GPUS

NAMES = [gpu.name for gpu in GPUS]


def written(folder, text: str):
    (folder / "prices.yaml").write_text(text, encoding="utf-8")
    return folder / "prices.yaml"


def test_what_is_saved_is_read_back_and_saved_again_byte_for_byte(tmp_path):
    text = "requests: 1e-7\ngpu: L4\ncurrency: 円\ntasks: [1, 2.5, 1.25e22]  # ours\n\ngpu_price: 0\nversions:\n"
    first = load(written(tmp_path, text), NAMES)
    assert first.numbers == {"gpu_price": (0.0,) * 3, "tasks": (1.0, 2.5, 1.25e22), "requests": (1e-7,) * 3}
    save(first, tmp_path / "again.yaml")
    again = load(tmp_path / "again.yaml", NAMES)
    assert again == first
    save(again, tmp_path / "third.yaml")
    assert (tmp_path / "third.yaml").read_bytes() == (tmp_path / "again.yaml").read_bytes() == dump(first).encode()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.yaml", "prices.yaml", "third.yaml"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gpu_prize: 3", "unknown key. Did you mean 'gpu_price'?"),
        ("zzz: 3", "unknown key. To see all keys: rankscope roi STUDY --template prices.yaml"),
        ("tasks: 0", "must be greater than 0 (got 0)"),
        ("gpu_price: -1", "must be at least 0 (got -1)"),
        ("utilisation: [0.1, 0.2, 1.5]", "must be at most 1 (got [0.1, 0.2, 1.5])"),
        ("retrainings: [1, 2]", "must be a number, or three: [low, base, high] (got [1, 2])"),
        ("requests: yes", "must be a number, or three: [low, base, high] (got True)"),
        ("requests: .inf", "must be a number, or three: [low, base, high] (got inf)"),
        ("requests: '7'", "must be a number, or three: [low, base, high] (got '7')"),
        ("gpu: A100 40G", "no such GPU is known (got 'A100 40G'). Did you mean 'A100 40GB'? Known: RTX 3090"),
        ("gpu: ''", "must be text of 1 to 60 characters that can be printed (got '')"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_wrong(tmp_path, line, said):
    place = written(tmp_path, f"currency: EUR\n\n{line}\n")
    with pytest.raises(ConfigError) as error:
        load(place, NAMES)
    assert str(error.value).startswith(f"{place}:3: {line.split(':')[0]}: {said}")


def test_several_errors_come_in_the_order_of_the_file(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, "tasks: 0\ncurrency: a very long currency\nprize: 1\n"))
    places = re.findall(r"prices\.yaml:(\d): (\w+)", str(error.value))
    assert places == [("1", "tasks"), ("2", "currency"), ("3", "prize")]


WRONG = {"": "the prices file is empty", "tasks: 3": "currency: missing", "tasks: [": "not valid YAML",
         "tasks: 1\ntasks: 2": "given twice"}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG.items())
def test_a_file_that_is_no_prices_file_says_so(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        load(written(tmp_path, text))


def test_no_file_and_a_folder_name_the_command_that_starts_one(tmp_path):
    for place, said in ((tmp_path / "no.yaml", "no such prices file"), (tmp_path, "a folder, not a prices file")):
        with pytest.raises(ConfigError, match=f"{said}. To start one: rankscope roi STUDY --template prices.yaml"):
            load(place)


def test_the_template_types_nothing_until_its_lines_are_uncommented(tmp_path):
    assert load(written(tmp_path, template(NAMES))) == Prices(currency="EUR")
    whole = re.sub(r"^# (?=(?:gpu|\w+): [\"\[\d])", "", template(NAMES), flags=re.MULTILINE)
    found = load(written(tmp_path, whole), NAMES)
    assert {name: triple[1] for name, triple in found.numbers.items()} == {e.name: e.example for e in INPUTS}
    assert found.gpu == "A100 80GB" and set(found.numbers) == set(BY_NAME)


def test_a_template_never_overwrites(tmp_path):
    write_template(tmp_path / "p.yaml")
    with pytest.raises(InputError, match="there is a file here already"):
        write_template(tmp_path / "p.yaml")


def test_numbers_are_spelled_as_a_browser_spells_them():
    spelled = {0.0: "0", 2.0: "2", 0.1: "0.1", 1e-6: "0.000001", 1.5e-7: "1.5e-7", 1e20: "100000000000000000000",
               1e21: "1e+21", 12345678.125: "12345678.125", -3.0: "-3"}  # fmt: skip
    assert {x: number_text((x, x, x)) for x in spelled} == spelled
    assert number_text((1.0, 2.0, 2.0)) == "[1, 2, 2]"
