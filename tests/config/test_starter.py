"""A study file that is written loads, says what it should, and finds its files wherever it is read from."""

from __future__ import annotations

import pytest

from rankscope.config import load
from rankscope.config.arms import FULL_GRID, LORA_GRID
from rankscope.config.starter import Question, Scale, entry, retained, study_text, usual
from rankscope.errors import InputError

LARGE = Scale(ranks=(1, 4), seeds=1, rates="listed", rows=500, items=150, batch_tokens=512, race=True, extras=False)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my rows.jsonl", "sets/train.csv", "sets/test.csv", "one/only.parquet", "notes.md", "more.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    return tmp_path


def test_every_part_of_a_scale_is_what_the_file_says(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(study_text(Question("demo", title="Why: not?"), LARGE, ["", "A head"]))
    config = load(path)
    assert config.title == "Why: not?" and "# A head\n" in path.read_text()
    lora, full = config.arms()[1], config.arms()[-1]
    assert [arm.name for arm in config.arms()] == ["base", "lora-r1", "lora-r4", "full"]
    assert (lora.lr, lora.lr_auto, full.lr) == (LORA_GRID, False, FULL_GRID)
    assert config.seeds == (0,) and config.training.race and config.recipe().batch_tokens == 512
    assert config.evaluate.limit == 150 and not config.evaluate.trials and config.diagnose == ()
    assert config.train_refs()[0].limit == 500


@pytest.mark.parametrize(("rates", "count"), [("auto", 3), ("widest", 5), ("listed", 3), ("fixed", 1)])
def test_rates_are_as_many_as_they_say(tmp_path, rates, count):
    path = tmp_path / "study.yaml"
    path.write_text(study_text(Question("demo"), Scale(rates=rates)))
    assert {len(arm.lr) for arm in load(path).arms() if arm.kind != "base"} == {count}


def test_words_of_the_user_become_entries(rows):
    assert entry("mmlu", "--train") == {"task": "mmlu"}
    assert entry("my rows.jsonl", "--train") == {"task": "data", "path": "my rows.jsonl", "name": "my-rows"}
    assert entry("sets", "--train") == {
        "task": "data",
        "train": "sets/train.csv",
        "test": "sets/test.csv",
        "name": "sets",
    }
    assert entry("one/", "--train") == {"task": "data", "path": "one/only.parquet", "name": "one"}
    assert entry("hub:tatsu-lab/alpaca", "--train") == {"task": "data", "hub": "tatsu-lab/alpaca", "name": "alpaca"}
    assert entry("my.py@PORTS", "--train") == {"task": "my.py@PORTS"}
    (rows / "mmlu.csv").write_text("x")
    assert entry("mmlu.csv", "--train")["name"] == "my_mmlu"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("mmlo", "Did you mean 'mmlu'"),
        ("notes.md", "this kind of file holds no rows"),
        (".", "a folder of rows has one"),
    ],
)
def test_a_word_that_is_nothing_is_one_clear_error(rows, word, says):
    with pytest.raises(InputError, match=says) as error:
        entry(word, "--train")
    assert str(error.value).startswith("--train")


def test_paths_hold_for_the_file_wherever_it_is_read_from(rows, monkeypatch):
    (rows / "data").mkdir()
    question = Question("demo", (entry("my rows.jsonl", ""),), (), data_dir="data").seen_from("new")
    (rows / "new").mkdir()
    (rows / "new" / "study.yaml").write_text(study_text(question))
    monkeypatch.chdir(rows / "one")
    config = load("../new/study.yaml")
    assert dict(config.train_refs()[0].options)["path"] == "../new/../my rows.jsonl"
    assert config.data_dir == "../new/../data" and "# base_shots: 5" in (rows / "new" / "study.yaml").read_text()


def test_what_is_trained_on_is_not_what_is_kept():
    assert retained([{"task": "arc_easy"}], ("arc_easy", "mmlu")) == ({"task": "mmlu"},)
    assert usual("demo")[0] == ("demo_people",)
