"""A study whose arms adapt parts of a model, from its file to its page."""

from __future__ import annotations

import json

import pytest

from rankscope.errors import ModelError
from rankscope.models.locate import shape
from rankscope.records import ModelRef
from rankscope.report.charts import charts
from rankscope.study.sizes import size_of
from rankscope.study.study import Study

ARMS = [
    {"lora": {"rank": 4, "lr": 3e-3}},
    {"lora": {"rank": 4, "lr": 3e-3, "layers": ["0", "1-2"]}},
    {"lora": {"rank": 2, "lr": 3e-3, "rank_pattern": {"q_proj": 4, "up_proj": 1}, "name": "shaped"}},
]


@pytest.fixture
def parts(small):
    training = small["training"] | {"seeds": [0], "max_steps": 4}
    evaluate = {"retention": [{"task": "demo_facts", "limit": 8}], "limit": 8, "noise_floor": False}
    return small | {"arms": ARMS, "training": training, "evaluate": evaluate}


@pytest.fixture
def result(parts, tmp_path):
    return Study.load(parts).run(tmp_path / "runs")


def test_arms_of_one_rank_are_trained_scored_stored_and_shown_side_by_side(parts, result, tmp_path):
    assert result.is_complete and not result.failed
    ledgers = {spec.arm.name: found.ledger for spec, _, found, role in result.evidence.runs if role == "final"}
    size = size_of(shape(ModelRef("demo")), "float32")
    for spec, _, found, _ in result.evidence.runs:
        if spec.arm.kind == "lora":
            assert found.ledger.trainable == size.trainable(spec)
    assert ledgers["lora-r4-l0"].trainable < ledgers["lora-r4"].trainable
    each = {name: ledger.flops / ledger.tokens for name, ledger in ledgers.items() if ledger.tokens}
    assert each["lora-r4-l1-2"] < each["lora-r4"]

    ranks = {h.arm: h.rank for h in result.view().headlines if h.kind == "lora"}
    assert ranks == {"lora-r4": 4, "lora-r4-l0": 4, "lora-r4-l1-2": 4, "shaped": 4}
    assert result.recommend().ranks == (4, 4)
    curve = next(chart for chart in charts(result.view()) if chart.id == "rank-0-0").spec
    line = next(layer for layer in curve["layer"] if layer["mark"].get("strokeWidth") == 1.5)
    assert [point["arm"] for point in line["data"]["values"]] == ["lora-r4"]
    page = result.report(tmp_path / "page.html", "html").read_text()
    assert "lora-r4-l1-2" in page and "shaped" in page

    again = Study.load(parts).run(tmp_path / "runs")
    assert again.is_complete and len(again.evidence.runs) == len(result.evidence.runs)
    result.adapter("lora-r4-l1-2", 0).save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["layers_to_transform"] == [1, 2]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"layers": "0-40"}, r"lora.layers: the model has no such layer to adapt \(got '\d+-40'\)"),
        ({"rank_pattern": {"q_prj": 4}}, "lora.rank_pattern: this pattern matches no adapted module. Did you mean"),
        ({"alpha_pattern": {"lm_head": 4}}, "lora.alpha_pattern: this pattern matches no adapted module"),
        ({"rank_pattern": {"q_proj": 5000}}, r"lora.rank_pattern: no update of .* can have this rank \(got 5000\)"),
    ],
)
def test_check_finds_parts_that_are_not_there_without_weights(entry, sentence, small):
    study = Study.load(small | {"arms": ["base", {"lora": {"rank": 4} | entry}]})
    with pytest.raises(ModelError, match=sentence):
        study.check()
