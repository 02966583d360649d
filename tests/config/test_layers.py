"""Arms that adapt some layers, and modules by ranks of their own: what may be written, and the arms that it gives."""

from __future__ import annotations

import pytest

from rankscope.config import from_dict, load
from rankscope.config.layers import layer_numbers, layer_text
from rankscope.errors import ConfigError


def arms_of(minimal, **entry):
    return from_dict({**minimal, "arms": [{"lora": {"rank": 16, **entry}}]}).arms()[1:]


@pytest.mark.parametrize(
    ("text", "numbers"), [("8-11", (8, 9, 10, 11)), ("0-2,5", (0, 1, 2, 5)), ("7", (7,)), ("3, 1-2", (1, 2, 3))]
)
def test_text_names_layers_and_layers_have_one_shortest_text(text, numbers):
    assert layer_numbers(text) == numbers
    assert layer_numbers(layer_text(numbers)) == numbers
    assert layer_text((5, 0, 1, 2)) == "0-2,5" and layer_text((4, 5)) == "4-5"


def test_layers_are_those_of_the_text_and_all_of_them_without_it(minimal):
    assert arms_of(minimal)[0].layers is None
    assert arms_of(minimal, layers="all")[0].layers is None
    assert arms_of(minimal, layers="8-10")[0].layers == (8, 9, 10)
    assert arms_of(minimal, layers=3)[0].layers == (3,)


def test_a_list_of_layers_sweeps_and_the_names_say_which(minimal):
    arms = arms_of(minimal, layers=["0-14", "15-29", "0,29", "all"])
    assert [a.name for a in arms] == ["lora-r16-l0-14", "lora-r16-l15-29", "lora-r16-l0+29", "lora-r16"]
    assert [a.name for a in arms_of(minimal, layers="8-29")] == ["lora-r16"]


def test_patterns_do_not_sweep_and_keep_their_order(minimal):
    arms = arms_of(minimal, rank=[4, 16], rank_pattern={"v_proj": 2, "k_proj": 1}, alpha_pattern={"q_proj": 8})
    assert [a.name for a in arms] == ["lora-r4", "lora-r16"]
    assert {a.rank_pattern for a in arms} == {(("v_proj", 2), ("k_proj", 1))}
    assert {a.alpha_pattern for a in arms} == {(("q_proj", 8.0),)}


def test_the_largest_rank_of_a_pattern_is_the_arms_place_among_the_ranks(minimal):
    assert arms_of(minimal, rank_pattern={"q_proj": 64})[0].top_rank == 64
    assert arms_of(minimal, rank_pattern={"q_proj": 4})[0].top_rank == 16
    assert from_dict(minimal).arms()[0].top_rank is None


def test_an_older_study_is_written_out_as_before(minimal):
    assert set(from_dict(minimal).as_dict()["arms"][1]["lora"]) == {
        "rank", "alpha", "targets", "lr", "scaling", "dropout",
    }  # fmt: skip


def test_what_is_written_out_reads_back_the_same(minimal):
    entry = {"rank": 16, "layers": ["0-3,12", 5], "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 8}}
    config = from_dict({**minimal, "arms": [{"lora": entry}]})
    assert from_dict(config.as_dict()).arms() == config.arms()


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"layers": "8-"}, r"layers: layers are numbers and ranges such as 8-29 or 0-3,12, or all \(got '8-'\)"),
        ({"layers": "9-2"}, "layers: the range 9-2 runs backwards; write 2-9"),
        ({"layers": True}, "layers are text such as"),
        ({"layers": 1.5}, "layers are text such as"),
        ({"layers": ["1-2", "1,2"]}, "'1-2' is listed twice"),
        ({"layers": []}, "layers: must not be empty"),
        ({"rank_pattern": {"q_proj": 0}}, r"rank_pattern.q_proj: must be greater than 0 \(got 0\)"),
        ({"rank_pattern": {"q_proj": [4, 8]}}, "rank_pattern.q_proj: must be a whole number"),
        ({"rank_pattern": {"q_(": 4}}, r"'q_\(' is no pattern"),
        ({"alpha_pattern": {"q_proj": "2r"}}, "alpha_pattern.q_proj: must be a number"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_an_error_that_says_where(minimal, entry, sentence):
    with pytest.raises(ConfigError, match=sentence):
        arms_of(minimal, **entry)


def test_a_comma_that_yaml_takes_for_the_end_is_explained(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("models: [demo]\ntrain: [gsm8k]\narms:\n  - lora: {rank: 8, layers: 0-3,12, 14-15}\n")
    with pytest.raises(ConfigError, match=r'must be in quotes: layers: "0-3,12,14-15"'):
        load(path)
