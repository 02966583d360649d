"""The schema takes what ``load`` takes, and refuses what a slip of the pen makes of it."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from rankscope.config import STARTER
from rankscope.config.schema import study_schema
from rankscope.errors import PluginError

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))
SHORT = """
models: [demo, {id: ./here, dtype: float32}]
train: [arc_easy, {task: data, path: a.csv, prompt: "{q}", scorer: exact_match}, {task: my.py@TASK, depth: 3}]
arms: [base, full, {lora: {rank: 4, lr: 3.0e-4, layers: 0-3, alpha: [32, 2r], rank_pattern: {q_proj: 2}}}, {base: },
       {lora: {rank: [1, 2], scaling: [standard, rslora], dropout: 0.1}}, {adapter: {path: x, name: y}}]
training:
evaluate: {in_domain: same, cross_domain: none, retention: [mmlu, "lm_eval:arc_easy"]}
diagnose: [spectrum, {intruders: {k: 5}}, {name: drift, arms: lora-r4}, {attribution: }, my.py@LOOK]
"""


@pytest.fixture(scope="module")
def judge():
    found = study_schema()
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


@pytest.fixture(autouse=True)
def shelf():
    """The real shelf: the schema names what is on it."""


@pytest.mark.parametrize("file", STUDIES, ids=lambda path: path.stem)
def test_every_ready_study_is_valid(judge, file):
    judge.validate(yaml.safe_load(file.read_text(encoding="utf-8")))


def test_the_starter_and_every_short_form_are_valid(judge):
    judge.validate(yaml.safe_load(STARTER))
    judge.validate(yaml.safe_load(SHORT))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("diagnose: [", "diagnos: ["),
        ("train: [arc_easy", "train: [arc_esay"),
        ("path: a.csv", "pth: a.csv"),
        ("{rank: 4", "{rnk: 4"),
        ("rank: 4", "rank: 0"),
        ("[base, full", "[base, lora"),
        ("lr: 3.0e-4", "lr: fast"),
        ("{adapter: {path: x, name: y}}", "{adapter: {path: x}, full: {}}"),
        ("dtype: float32", "dtype: float7"),
        ("intruders: {k: 5}", "intruders: {kk: 5}"),
        ("models: [demo, {id: ./here, dtype: float32}]", "models: []"),
        ("cross_domain: none", "cross_domain: some"),
    ],
)
def test_a_slip_of_the_pen_is_invalid(judge, right, wrong):
    assert right in SHORT
    assert not judge.is_valid(yaml.safe_load(SHORT.replace(right, wrong, 1)))


def test_names_and_keys_are_there_to_complete(judge):
    parts = judge.schema["$defs"]
    assert "mmlu" in parts["TaskEntry"]["anyOf"][0]["anyOf"][0]["enum"]
    assert {"path", "scorer", "limit"} <= set(parts["TaskEntry"]["anyOf"][1]["properties"])
    assert "race" in parts["Training"]["properties"] and "``" not in str(judge.schema)


def test_a_broken_plug_in_spoils_no_schema(monkeypatch):
    from rankscope import plugins

    def broken(kind, name):
        raise PluginError("broken")

    monkeypatch.setattr(plugins, "get", broken)
    assert study_schema()["properties"]["train"]
