"""Every error of a study file says file, line, key, what is wrong and what comes next."""

from __future__ import annotations

import time

import pytest

from rankscope.config import StudyFileError, from_dict, load
from rankscope.errors import ConfigError

GOOD = """\
models: [demo]
train:
  - gsm8k
  - {task: math_qa, limit: 100}
arms:
  - base
  - lora: {rank: [4, 16], lr: 1e-4}
evaluate:
  retention:
    - mmlu
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Write a study.yaml in the working folder and return its name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "study.yaml") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return write


def error_of(path, overrides=()):
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return str(caught.value)


def test_a_good_file_loads_and_is_called_after_itself(study):
    config = load(study(GOOD, "my first study.yaml"))
    assert config.name == "my-first-study"
    assert [ref.limit for ref in config.train_refs()] == [None, 100]


def test_exponents_without_a_dot_are_numbers(study):
    assert load(study(GOOD)).arms()[1].lr == (1e-4,)


def test_an_unknown_task_is_reported_with_file_line_and_nearest_name(study):
    message = error_of(study(GOOD.replace("- mmlu", "- mmlu_lite")))
    expected = "no task named 'mmlu_lite'. Did you mean 'mmlu'? See: rankscope list tasks"
    assert message == f"study.yaml:10: evaluate.retention[0]: {expected}"


def test_an_unknown_key_is_reported_with_its_own_line_and_the_nearest_key(study):
    message = error_of(study(GOOD + "training:\n  seeds: [0]\n  epoch: 2\n"))
    assert message == "study.yaml:13: training.epoch: unknown key. Did you mean 'epochs'?"


def test_a_key_that_belongs_to_another_section_is_sent_there(study):
    assert error_of(study(GOOD + "epochs: 2\n")).endswith("epochs: unknown key. Did you mean 'training.epochs'?")


def test_an_unknown_key_that_resembles_nothing_lists_the_keys(study):
    assert "Keys here: margin" in error_of(study(GOOD + "recommend: {zzz: 2}\n"))


def test_what_is_planned_says_so(study):
    text = GOOD + "mitigate: []\n"
    assert error_of(study(text)) == (
        "study.yaml:11: mitigate: is planned but not built in this version. Leave it out for now"
    )


def test_several_errors_are_reported_at_once_in_the_order_of_the_file(study):
    text = GOOD.replace("gsm8k", "gsm8q").replace("[4, 16]", "[4, 0]") + "keep: everything\n"
    with pytest.raises(StudyFileError) as caught:
        load(study(text))
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["study.yaml:3", "study.yaml:7", "study.yaml:11"]
    assert len(caught.value.errors) == 3


def test_a_rule_between_sections_points_at_the_entry_to_blame(study):
    assert error_of(study(GOOD.replace("- mmlu", "- gsm8k"))).startswith(
        "study.yaml:10: evaluate.retention[0]: 'gsm8k'"
    )


def test_a_key_given_twice_is_an_error(study):
    assert error_of(study(GOOD + "train: [mmlu]\n")) == (
        "study.yaml:11: the key 'train' is given twice, first on line 2"
    )


def test_anchors_and_merges_work(study):
    text = GOOD.replace("{task: math_qa, limit: 100}", "{<<: &some {limit: 100}, task: math_qa}").replace(
        "- mmlu", "- {<<: *some, task: mmlu}"
    )
    assert load(study(text)).evaluations(None)[-1][0].limit == 100


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "study.yaml: the study file is empty"),
        ("# nothing\n", "study.yaml: the study file is empty"),
        ("- a\n- b\n", "study.yaml:1: a study file is a list of 'key: value' lines"),
        ("models: [demo\ntrain: x\n", "study.yaml:2: not valid YAML: "),
        ("a:\n\t- b\n", "study.yaml:2: not valid YAML: "),
        ("models: !!python/object:os.x {}\n", "study.yaml:1: not valid YAML: "),
        ("a: !!int x\n", "study.yaml: not valid YAML: "),
        ("a: \x00\n", "study.yaml: not valid YAML: "),
        ("a: 1\n---\nb: 2\n", "study.yaml:2: not valid YAML: "),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_an_error_with_its_line(study, text, start):
    assert error_of(study(text)).startswith(start)


def test_a_missing_file_says_how_to_start_one(study):
    assert error_of("nope.yaml") == "nope.yaml: no such study file. To start one: rankscope init"


def test_a_folder_points_at_the_study_in_it(study, tmp_path):
    study(GOOD)
    assert f"Did you mean '{tmp_path / 'study.yaml'}'?" in error_of(tmp_path)


def test_a_missing_key_is_shown_by_example(study):
    message = error_of(study("models: [demo]\ntrain: [gsm8k]\n"))
    assert message.startswith("study.yaml:1: arms: missing. For example: arms: [base")


def test_unquoted_numbers_where_text_is_meant_say_to_quote_them(study):
    assert "name: must be text; put it in quotes (got 2024)" in error_of(study(GOOD + "name: 2024\n"))


def test_dates_stay_text(study):
    assert load(study(GOOD + "name: 2024-01-02\n")).name == "2024-01-02"


def test_overrides_set_values_in_sections_and_lists(study):
    path = study(GOOD)
    overrides = ["training.epochs=2", "training.seeds=[7]", "arms[1].lora.rank=8", "train.1.limit=5", "title=A = b"]
    config = load(path, overrides)
    assert (config.training.epochs, config.seeds, config.title) == (2, (7,), "A = b")
    assert [arm.name for arm in config.arms()] == ["base", "lora-r8"]
    assert config.train_refs()[1].limit == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=2", "--set training.epoch=2: training.epoch: unknown key. Did you mean 'epochs'?"),
        ("trainng.epochs=2", "--set trainng.epochs=2: trainng: unknown key. Did you mean 'training'?"),
        ("training.epochs=x", "--set training.epochs=x: training.epochs: must be a number (got 'x')"),
        ("arms[1].lora.rnk=2", "--set arms[1].lora.rnk=2: arms[1].lora.rnk: unknown key. Did you mean 'rank'?"),
        ("train.limit=3", "--set train.limit=3: train is a list of 2; name an item, as in train[0]"),
        ("train[9]=gsm8k", "--set train[9]=gsm8k: train is a list of 2; name an item, as in train[0]"),
        ("models[0].dtype=auto", "--set models[0].dtype=auto: models[0] is 'demo', so nothing can be set inside it"),
        ("title=[", "--set title=[: the value is not valid YAML (got '[')"),
        ("epochs", "--set epochs: an override is key=value. For example: --set training.epochs=2"),
    ],
)
def test_a_bad_override_is_blamed_itself(study, override, message):
    assert error_of(study(GOOD), [override]) == message


def test_an_error_of_the_file_is_not_blamed_on_an_override(study):
    path = study(GOOD + "training: {epoch: 1}\n")
    assert error_of(path, ["training.seeds=[0]"]).startswith("study.yaml:11: training.epoch")


def test_errors_of_a_dict_name_the_key_alone(minimal):
    with pytest.raises(ConfigError) as caught:
        from_dict({**minimal, "keep": "none"})
    assert str(caught.value).startswith("keep: must be adapters, best or all")
    with pytest.raises(ConfigError, match="a study must be a dict"):
        from_dict(["demo"])


def test_a_document_that_aliases_blow_up_is_refused_at_once(study):
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    assert error_of(study(bomb)) == "study.yaml:5: aliases make this part larger than any study: over 20,000 values"


def test_a_document_that_contains_itself_is_refused(study):
    assert error_of(study("models: &m [demo, *m]\n")) == "study.yaml:1: this part contains itself, by an alias"


def test_ordinary_aliases_are_welcome(study):
    text = GOOD.replace("lr: 1e-4}", "lr: &rates [1e-4, 1e-3]}\n  - full: {lr: *rates}")
    assert [arm.lr for arm in load(study(text)).arms()[1:]] == [(1e-4, 1e-3)] * 3


def test_a_file_longer_than_any_study_is_not_read_whole(study):
    assert error_of(study("# " + "x" * 1_100_000 + "\n")) == (
        "study.yaml: longer than any study file: over 1,000,000 characters"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("models: " + "[" * 3000, r"study\.yaml:1: not valid YAML: nested more than 50 levels deep"),
        ("{a: " * 3000, "nested more than 50 levels deep"),
        ("models: &a [*a]", "this part contains itself"),
        ('title: "\\ud800"', r"study\.yaml:1: half of a surrogate pair"),
        ("seeds: " + "9" * 5000, "not valid YAML: .*5000 digits"),
    ],
)
def test_a_file_made_to_take_forever_is_refused_at_once(content, message, tmp_path):
    (tmp_path / "study.yaml").write_text(content)
    before = time.monotonic()
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "study.yaml")
    with pytest.raises(ConfigError):
        from_dict({}, ["title=" + content.partition(": ")[2]])
    assert time.monotonic() - before < 5


def test_an_alias_or_a_merged_mapping_may_be_used_many_times(tmp_path):
    lines = ["models: [demo]", "train: [gsm8k]", "arms:", "- base", "- &a {lora: {rank: 4}}", "- <<: *a"]
    (tmp_path / "study.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="there is an arm 'lora-r4' already"):
        load(tmp_path / "study.yaml")
