"""The slider's words and its table: what is recommended when more or less must be kept; LoRA against full SFT drawn."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rankscope.report import answers
from rankscope.report.full_chart import full_charts
from rankscope.report.html import inline_json
from rankscope.report.retain import asked_tables, head, outcome, places, said, sliders
from rankscope.report.text import markdown
from rankscope.report.view import build
from rankscope.stats.choice import PREFERENCES
from report.retain_planted import moving


@pytest.fixture(scope="module")
def moved(view):
    return moving(view)


def _pick(data, share, prefer):
    """What the page's script does: the first piece that reaches up to the share."""
    piece = data["pieces"][0] if share is None else next(p for p in data["pieces"][1:] if share <= p["upto"])
    return piece["choices"][prefer]


def test_every_position_of_the_slider_picks_what_recommend_says(moved):
    view, chooser = moved
    data = json.loads(inline_json(sliders(view)[0].data))
    names = [arm["arm"] for arm in data["arms"]]
    heads = set()
    for percent in range(101):
        share = percent / 100 or None
        for prefer in PREFERENCES:
            picked, wanted = _pick(data, share, prefer), chooser.under(share, prefer)
            assert data["texts"][picked["head"]] == head(wanted)
            assert data["texts"][picked["said"]] == said(wanted)
            told = [(s, data["texts"][t].replace("{asked}", f"{share or 0:.1%}")) for s, t in picked["arms"]]
            assert told == [places(wanted).get(name, ("other", "")) for name in names]
            heads.add(head(wanted))
    assert len(heads) >= 4 and any("lora-r1" in h for h in heads) and any("lora-r16" in h for h in heads)


def test_marks_stand_where_the_outcome_changes_and_nowhere_else(moved):
    view, chooser = moved
    data = sliders(view)[0].data
    assert len(data["ticks"]["cost"]) >= 3
    for prefer in PREFERENCES:
        shares = [i / 1000 for i in range(1, 1001)]
        after = [b for a, b in zip(shares, shares[1:], strict=False)
                 if outcome(chooser.under(a, prefer)) != outcome(chooser.under(b, prefer))]  # fmt: skip
        assert [pytest.approx(tick, abs=0.0011) for tick in data["ticks"][prefer]] == after


def test_each_arm_comes_with_the_interval_that_the_share_is_set_against(view):
    data = sliders(view)[0].data
    row, arms = view.advice[0], {a["arm"]: a for a in data["arms"]}
    assert list(arms) == ["lora-r1", "lora-r4", "lora-r16", "full"]
    e = row.shares["lora-r16"]
    assert arms["lora-r16"]["kept"] == pytest.approx([100 * e.value, 100 * e.low, 100 * e.high])
    h = next(h for h in view.headlines if (h.train, h.arm) == (row.train, "full"))
    assert arms["full"]["kept"] == pytest.approx(
        [100 * h.retention.value, 100 * h.retention.low, 100 * h.retention.high]
    )
    ordinary = next(h for h in view.headlines if (h.train, h.arm) == (row.train, "lora-r16")).retention
    assert e.low < ordinary.low < ordinary.high < e.high  # that of all arms together is the wider one
    assert len({a["hue"] for a in data["arms"]}) == 4


def test_the_table_says_the_same_by_ranges_of_the_share(moved):
    view, _ = moved
    table = asked_tables(view)[0]
    assert table.rows[0][0].text == "not asked" and table.rows[1][0].text.startswith("up to ")
    assert table.rows[-1][0].text.startswith("above ") and table.rows[-1][0].text.endswith("up to 100.00 %")
    arms = [row[1].text for row in table.rows]
    assert arms == ["lora-r4", "lora-r4", "lora-r4", "lora-r1", "lora-r1", "lora-r4"]
    assert [row[3].text for row in table.rows] == ["lora-r16", "lora-r16", "lora-r4", "lora-r1", "lora-r1", "lora-r16"]
    assert "no rank is shown to keep as much as asked for" in table.rows[-1][-1].text
    text = markdown(view)
    assert "What is recommended by how much must be kept" in text and "up to 100.00 %" in text


def test_the_studys_own_terms_are_where_the_slider_starts(evidence):
    asked = build(replace(evidence, retain=0.955, prefer="gain"))
    data = sliders(asked)[0].data
    assert (data["retain"], data["prefer"]) == (0.955, "gain")
    assert data["words"]["own"] == "The study asks: 95.5 %, the score first."
    own = next(p for p in asked.advice[0].pieces if p.holds(0.955)).choices["gain"]
    assert own.reason == asked.advice[0].choice.reason


def test_where_no_share_was_measured_there_is_no_slider(view):
    rows = tuple(replace(a, shares=dict.fromkeys(a.shares)) for a in view.advice)
    silent = replace(view, advice=rows)
    assert sliders(silent) == () and asked_tables(silent) == ()
    assert answers.frontier(silent).widgets == () and "must be kept" not in answers.frontier(silent).intro


def test_every_rank_is_drawn_against_full_with_the_margin(view):
    found = full_charts(view)
    first = found[0]
    assert {c.section for c in found} == {answers.against_full(view).id}
    assert first.title == "LoRA minus full SFT, qa-a (in-domain)"
    values = [v["values"] for v in (layer["data"] for layer in first.spec["layer"])]
    assert values[0] == [{"low": pytest.approx(-100 * view.margin), "high": pytest.approx(100 * view.margin)}]
    drawn = {p["arm"]: p for p in values[2]}
    assert list(drawn) == ["lora-r1", "lora-r4", "lora-r16"]
    effect = next(e for e in view.effects if (e.train, e.task, e.contrast.arm, e.contrast.other)
                  == ("qa-a", "qa-a", "lora-r1", "full"))  # fmt: skip
    assert drawn["lora-r1"]["low"] == pytest.approx(100 * effect.contrast.low)
    assert "lora-r1 −" in first.alt and "worse" in first.alt
    assert full_charts(replace(view, advice=())) == []
