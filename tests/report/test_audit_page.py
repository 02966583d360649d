"""What an audit advises, on planted rows; and its page: complete, escaped, with nothing undefined called a number."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest

from rankscope.report import audit_advice
from rankscope.report.audit import Audit
from rankscope.report.audit_charts import charts
from rankscope.report.audit_page import page
from rankscope.report.audit_rows import Against, Module, Place, by_kind


def module(layer: int | None, kind: str, values: tuple[float, ...], rank: int | None = 4, name: str = "") -> Module:
    """A module of 32 x 64; its weight in the base has norm 10."""
    energy = sum(v * v for v in values)
    place = Place(name or f"model.layers.{layer}.{kind}", layer, kind, rank, 8, 2.0, (32, 64))
    beside = Against(math.sqrt(energy) / 10, values[0] / 5, 0, (0.9,) * 10, 0, 0.25 if energy else None)
    if not energy:
        return Module(place, values, None, None, None, None, None, 0.0, 0.0, beside)
    k99 = next(k for k in range(1, len(values) + 1) if sum(v * v for v in values[:k]) >= 0.99 * energy)
    stable = energy / values[0] ** 2
    return Module(place, values, stable, stable, 1, k99, rank and stable / rank, math.sqrt(energy), values[0], beside)


def found(*modules: Module, base: str | None = "base") -> Audit:
    modules = modules if base else tuple(replace(m, base=None) for m in modules)
    total = math.sqrt(sum(m.frobenius**2 for m in modules))
    return Audit("mine", "dir/mine", "lora", base, "some/model", modules, total)


def layers(sizes: list[float], base: str | None = "base") -> Audit:
    """One q_proj a layer, of these norms."""
    return found(*(module(i, "q_proj", (size, 0.0)) for i, size in enumerate(sizes)), base=base)


@pytest.mark.parametrize("base", ["base", None])
def test_layers_below_a_tenth_of_the_largest_are_called_idle(base):
    about = layers([0.09, 1.0, 0.11, 0.05, 0.04, 0.03], base)
    assert (about.summary["idle_layers"], about.summary["most_changed_layer"]) == ([0, 3, 4, 5], 1)
    assert any(text.startswith("Layers 0 and 3-5 are nearly idle") for text in about.advice)


def test_where_no_layer_is_idle_the_least_changed_is_named():
    assert any("No layer is idle: the least changed, layer 2, has 50 % of" in t for t in layers([1.0, 0.8, 0.5]).advice)


def test_a_layer_s_size_weighs_modules_by_their_weights():
    about = found(module(0, "q_proj", (3.0,)), module(0, "k_proj", (4.0,)), module(1, "q_proj", (0.0,)))
    assert audit_advice.layer_sizes(about) == pytest.approx({0: 5 / math.sqrt(200), 1: 0.0})
    bare = found(*about.modules, base=None)
    assert audit_advice.layer_sizes(bare) == pytest.approx({0: 5.0, 1: 0.0})


def test_the_smaller_rank_keeps_its_promise_and_counts_what_it_saves():
    about = found(module(0, "q_proj", (1.0, 1.0, 0.01, 0.0)), module(1, "q_proj", (1.0, 0.0, 0.0, 0.0)))
    cut = about.summary["truncation"]
    assert (cut["ranks"], cut["uniform_rank"]) == ({"min": 1, "max": 2}, 2)
    assert (cut["parameters_before"], cut["parameters_after"]) == (8 * 96, 3 * 96)
    assert cut["bytes_saved"] == 4 * 5 * 96
    assert cut["command"] == "rankscope adapter truncate dir/mine --energy 0.99 -o mine-99"


def test_nothing_is_advised_to_be_cut_where_all_ranks_are_needed():
    about = found(module(0, "q_proj", (1.0,), rank=1), module(1, "q_proj", (2.0,), rank=1))
    assert about.summary["truncation"]["command"] is None
    assert any(text.startswith("Nothing to truncate") for text in about.advice)


def test_intruders_are_counted_with_the_module_that_has_most():
    plain = module(0, "q_proj", (1.0,))
    some = replace(plain, place=replace(plain.place, name="worst"), base=replace(plain.base, intruders=3, near_ties=1))
    told = " ".join(found(plain, some).advice)
    assert "3 intruder dimensions in 1 of 2 modules (1 near tie at the threshold), most in worst (3)" in told
    assert "No intruder dimension" in " ".join(found(plain, plain).advice)
    assert "ntruder" not in " ".join(found(plain, base=None).advice)


def test_what_has_no_proof_is_marked_as_exploratory():
    about = layers([1.0, 0.01])
    marked = [text for text in about.advice if "Exploratory: " in text]
    assert any("stable rank" in text for text in marked) and any("idle" in text for text in marked)


def test_two_modules_of_one_kind_in_a_layer_are_told_apart():
    names = ("h.0.attn.c_proj", "h.0.mlp.c_proj", "h.0.attn.c_attn")
    modules = [module(0, name.rsplit(".", 1)[1], (1.0,), name=name) for name in names]
    assert list(by_kind(modules)) == ["attn.c_proj", "mlp.c_proj", "c_attn"]


def test_names_cannot_break_out_of_the_page():
    evil = "</script><script>alert(1)</script><b>"
    plain = module(0, "q_proj", (1.0, 0.5))
    about = replace(found(replace(plain, place=replace(plain.place, name=f"l.0.{evil}", kind=evil))), adapter=evil,
                    source=evil, made_for=evil, left_out=(evil,))  # fmt: skip
    text = page(about)
    assert "<b>" not in text and "alert(1)</script>" not in text
    specs = json.loads(re.search(r'id="chart-specs">(.*?)</script>', text, re.DOTALL)[1])
    assert "alert(1)" in json.dumps(specs)


def test_an_undefined_cell_is_drawn_grey_and_has_no_hue():
    about = found(module(0, "q_proj", (1.0, 0.5)), module(1, "q_proj", (0.0, 0.0)))
    heat = next(chart for chart in charts(about) if chart.id == "stable")
    grey, hued = heat.spec["layer"]
    assert [(v["layer"], v["value"]) for v in grey["data"]["values"]] == [(1, None)]
    assert [(v["layer"], v["value"]) for v in hued["data"]["values"]] == [(0, 1.25)]
    assert "color" not in grey["encoding"] and "color" in hued["encoding"]
    assert grey["encoding"]["x"]["sort"] == hued["encoding"]["x"]["sort"] == [0, 1]


def test_a_long_spectrum_is_drawn_with_few_points_that_keep_both_ends():
    long = module(0, "q_proj", tuple(1 / (i + 1) for i in range(4000)), rank=None)
    chart = next(chart for chart in charts(found(long)) if chart.section == "spectra")
    drawn = [v["index"] for v in chart.spec["data"]["values"]]
    assert len(drawn) < 50 and (drawn[0], drawn[-1]) == (1, 4000) and len(set(drawn)) == len(drawn)


def test_modules_outside_the_layers_stand_in_the_table_alone():
    text = page(found(module(None, "lm_head", (1.0,), name="lm_head")))
    assert 'id="chart-specs"' not in text and ">lm_head<" in text


@pytest.mark.parametrize(("numbers", "words"), [([3], "3"), ([0, 1], "0 and 1"), ([0, 1, 2, 5], "0-2 and 5")])
def test_runs_of_layers_are_drawn_together(numbers, words):
    assert audit_advice.spans(numbers) == words


def test_the_page_shows_no_path_of_this_machine_in_its_head():
    about = replace(layers([1.0, 0.5]), base="/home/me/models/big", made_for="/home/me/cache/other")
    head = page(about).split("<main")[0] + page(about)[:20000]
    assert "measured against big (local)" in page(about) and "made for other (local)" in page(about)
    assert "/home/me" not in head.split("Next:")[0]
