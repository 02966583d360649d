"""HTML, markdown and JSON: the same numbers, nothing loaded, nothing injected."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape

import pytest

from rankscope.errors import ConfigError
from rankscope.records import Estimate
from rankscope.report import render, wording
from rankscope.report.cells import Cell, Table, columns, notes
from rankscope.report.charts import charts
from rankscope.report.html import inline_json
from rankscope.report.page import sections
from rankscope.report.view import build


@pytest.fixture(scope="module")
def html(view):
    return render(view, "html")


@pytest.fixture(scope="module")
def body(html):
    """The page without the drawing library."""
    return re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


def test_page_is_one_file_under_three_megabytes(html):
    assert len(html.encode()) < 3_000_000


def test_page_loads_nothing(html, body):
    assert not re.search(r"""(src|href|action|data)\s*=\s*["']?\s*(https?:)?//""", body)
    assert "@import" not in body and "url(" not in body
    assert "<link" not in body.replace('<link rel="icon" href="data:,">', "")
    assert "default-src 'none'" in body
    assert "$schema" not in json.loads(re.search(r'id="chart-specs">(.*?)</script>', html, re.S).group(1))["frontier-0"]


def test_names_are_escaped_in_markup_and_specs(evidence):
    evil = "<script>alert(1)</script>"
    names = {"qa-a": evil}
    evals = {(k, names.get(t, t)): e for (k, t), e in evidence.evals.items()}
    train = next(r[0].train for r in evidence.runs if r[0].train and r[0].train.name == "qa-a")
    runs = tuple(
        (replace(s, train=replace(train, label=evil)) if s.train == train else s, k, r, role)
        for s, k, r, role in evidence.runs
    )
    renamed = {names.get(train, train): tuple((names.get(t, t), role) for t, role in pairs)
               for train, pairs in evidence.evaluations.items()}  # fmt: skip
    view = build(replace(evidence, title=evil, evals=evals, runs=runs, evaluations=renamed, train=(evil, "qa-b")))
    page = render(view, "html")
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "\\u003cscript>alert(1)" in page
    assert evil not in render(view, "md")


def test_inline_json_cannot_close_its_script_element():
    assert "<" not in inline_json({"</script>": ["<!--"]})
    with pytest.raises(ValueError, match="JSON"):
        inline_json({"x": float("nan")})


def test_script_elements_are_balanced(html):
    assert html.count("<script") == html.count("</script>") >= 6


@pytest.mark.parametrize("format", ["html", "md"])
def test_every_cell_of_every_table_is_in_the_text(view, format):
    text = unescape(render(view, format))
    text = re.sub(r"\\([|*_`\\])", r"\1", text) if format == "md" else text
    for section in sections(view):
        for table in section.tables:
            assert len({len(row) for row in table.rows} | {len(table.columns)}) == 1
            for row in table.rows:
                for cell in row:
                    assert cell.text in text


@pytest.mark.parametrize("format", ["html", "md", "json"])
def test_chance_flag_and_failure_are_in_every_format(view, format):
    text = render(view, format)
    assert "loss is not finite at step 31" in text
    if format == "json":
        assert any(b["is_above_chance"] is False for b in json.loads(text)["base"])
    else:
        assert text.count("base not above chance") >= 10


def test_failed_run_is_a_row_that_shows_dashes_instead_of_zeros(view):
    table = next(s for s in sections(view) if s.id == "runs").tables[0]
    row = next(r for r in table.rows if r[1].text == "failed")
    assert row[1].note == "train: loss is not finite at step 31"
    assert [row[i].text for i in (5, 7, 8, 9)] == ["–"] * 4


def test_markdown_tables_have_one_width_each(view):
    lines = render(view, "md").splitlines()
    for before, line in zip(lines, lines[1:], strict=False):
        if before.startswith("|") and line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", before)) == len(re.findall(r"(?<!\\)\|", line))


def test_tables_are_accessible(body):
    assert body.count("<table") == body.count("<caption>") == body.count("<thead>")
    assert body.count('<th scope="row"') > 100
    assert body.count('role="img" aria-label=') == body.count("<figure")
    assert body.count("<noscript>") == body.count("<figure") + body.count('class="widget"')
    assert '<html lang="en">' in body


def test_every_chart_has_caption_alternative_and_a_section_or_verdict_to_stand_in(view):
    places = {s.id for s in sections(view)} | {"verdict"}
    drawn = charts(view)
    assert {c.section for c in drawn} == {"verdict", "against-full", "ranks", "transfer", "rates", "curves"}
    assert all(c.caption and c.alt and c.title and c.section in places for c in drawn)
    assert len({c.id for c in drawn}) == len(drawn)


def test_unfinished_study_renders_with_its_gaps(unfinished):
    page = render(build(unfinished), "html")
    assert "seeds 1, 2 not run yet" in page
    assert "gaps</a>" in page


def test_study_without_runs_renders_without_a_drawing_library(evidence):
    page = render(build(replace(evidence, runs=(), evals={})), "html")
    assert "No run has started" in page
    assert len(page) < 120_000  # the library alone is 900 kB


def test_unknown_format_names_the_known_ones(view):
    with pytest.raises(ConfigError, match="html, md, json"):
        render(view, "pdf")


def test_numbers_are_written_with_sign_unit_and_interval():
    estimate = Estimate(-0.0314, -0.05, 0.0004, 0.01, 1319, 3)
    assert wording.change(estimate, "accuracy") == "−3.1 [−5.0, 0.0]"
    assert wording.change(estimate, "cross_entropy") == "−0.031 [−0.050, 0.000]"
    assert wording.change(replace(estimate, low=float("nan")), "accuracy") == "−3.1 [no interval]"
    assert wording.change(None, "accuracy") == "–"
    assert wording.sample(estimate) == "1,319 items × 3 seeds"
    assert wording.listing(["a", "b", "c"]) == "a, b and c"
    assert [wording.number_bytes(b) for b in (None, 12, 320e6, 2.5e9)] == ["–", "12 B", "320 MB", "2.5 GB"]
    durations = [wording.duration(s) for s in (None, 0.42, 61.0, 600.0, 9000.0)]
    assert durations == ["–", "0.42 s", "61 s", "10 min", "2.5 h"]
    assert [wording.count(n) for n in (None, 4000, 16_000, 1_230_000, 8e9)] == ["–", "4,000", "16 k", "1.23 M", "8 B"]
    assert [wording.count(n) for n in (999_400, 999_900, 1.62e12, 3.4e17)] == ["999 k", "1 M", "1.62 T", "340 P"]


def test_labels_of_points_that_lie_close_are_kept_apart_and_others_stay():
    from rankscope.report.charts import _apart

    def point(arm: str, loss: float, gain: float) -> dict:
        sides = {f"{n}_{e}": v + d for n, v in (("gain", gain), ("loss", loss)) for e, d in (("low", -5), ("high", 5))}
        return {"arm": arm, "gain": gain, "loss": loss, **sides}

    crowd = [point("a", 10, 17.2), point("b", 11, 17.3), point("far", 90, 17.25), point("below", 10, 5.0)]
    placed = {p["arm"]: p["label"] for p in _apart(crowd, height=215)}
    assert (placed["b"], placed["far"], placed["below"]) == (17.3, 17.25, 5.0)
    assert placed["a"] == pytest.approx(17.3 - 18 * 22.3 / 215)


def test_every_number_says_how_it_was_computed(view):
    for table in (table for section in sections(view) for table in section.tables):
        silent = [table.titles[i] for i in table.numeric if not table.columns[i].how]
        assert not silent, f"{table.id}: {silent}"
        assert all(column.how.endswith((".", "…")) and len(column.how) < 420 for column in table.columns if column.how)


def test_every_mark_in_a_heading_leads_to_its_note_under_the_same_table(body):
    marks = re.findall(r'<a class="mark" href="#([^"]+)"', body)
    targets = re.findall(r'<li id="([^"]+)"', body)
    assert len(marks) > 40 and set(marks) == set(targets) and len(targets) == len(set(targets))
    for table in re.findall(r'<table id="[^"]+">.*?</details>', body, re.S):
        assert set(re.findall(r'class="mark" href="#([^"]+)"', table)) == set(re.findall(r'<li id="([^"]+)"', table))


@pytest.mark.parametrize("format", ["html", "md"])
def test_how_a_number_was_computed_is_in_the_text(view, format):
    text = unescape(render(view, format))
    text = re.sub(r"\\([|*_`\\])", r"\1", text) if format == "md" else text
    for table in (table for section in sections(view) for table in section.tables if table.rows):
        for how, titles in notes(table).items():
            assert how in text and all(title in text for title in titles)


def test_a_sentence_that_explains_several_columns_is_said_once():
    table = Table("t", "T", columns("Arm", ("a", "Same."), ("b", "Other."), ("c", "Same.")), ((Cell("x"),) * 4,))
    assert notes(table) == {"Same.": ("a", "c"), "Other.": ("b",)}
    assert notes(replace(table, rows=())) == {}
