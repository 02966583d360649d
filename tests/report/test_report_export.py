"""LaTeX, CSV and BibTeX of the report: what is copied is what is shown, and no text can break out of its place."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import pytest

import rankscope
from rankscope.report import render
from rankscope.report.cells import Cell, Table, columns
from rankscope.report.cite import SOURCES, to_bibtex, used
from rankscope.report.export import latex, to_csv, to_latex
from rankscope.report.methods import METHODS
from rankscope.report.page import sections
from rankscope.report.view import build

EVIL = "50 % of R&D_x #1 $2 {a} ~b^c \\d </script>"


def tables(view):
    return [table for section in sections(view) for table in section.tables if table.rows]


def balanced(text: str) -> bool:
    """Whether all braces close, comments left out; nothing that LaTeX escapes stands for a brace here."""
    depth = 0
    for mark in re.sub(r"(?m)^%.*$", "", text):
        depth += {"{": 1, "}": -1}.get(mark, 0)
        if depth < 0:
            return False
    return depth == 0


def small(*rows: tuple[Cell, ...], **given) -> Table:
    return Table("t", given.pop("caption", "T"), columns("Arm", ("Gain, %", "Mean 5 % of x\n\\input{y}.")), rows, (1,))


def test_every_table_as_latex_has_one_width_balanced_braces_and_no_bare_character(view):
    for table in tables(view):
        text = to_latex(table)
        code = [line for line in text.splitlines() if not line.startswith("%")]
        body = [line for line in code if line.endswith(r" \\")]
        assert balanced(text)
        assert len(body) == len(table.rows) + 1
        assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(table.columns) - 1}
        spec = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1]
        assert [i for i, side in enumerate(spec) if side == "r"] == list(table.numeric)
        assert len(spec) == len(table.columns)
        for line in body:
            assert not re.search(r"(?<!\\)[%#_]|[~^<>|\N{MINUS SIGN}–▲▼→]", line)
        assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]


def test_latex_keeps_intervals_and_signs():
    text = to_latex(small((Cell("lora-r4"), Cell("−3.1", "[−5.0, +0.4]")), (Cell("full"), Cell("+1", "nats"))))
    assert r"lora-r4 & $-$3.1 [$-$5.0, +0.4] \\" in text
    assert r"full & +1 (nats) \\" in text
    assert "% Gain, \\%" not in text and "% Gain, %: Mean 5 % of x \\input{y}." in text.splitlines()


@pytest.mark.parametrize("given, shown", [
    ("50 % & #1 $2 a_b", r"50 \% \& \#1 \$2 a\_b"),
    ("{a}", r"\textbraceleft{}a\textbraceright{}"),
    ("~ ^ \\", r"\textasciitilde{} \textasciicircum{} \textbackslash{}"),
    ("−0.5 – 1 → 2", r"$-$0.5 -- 1 $\rightarrow$ 2"),
    ("a---b", "a-{}-{}-b"),
    ("two\nlines", "two lines"),
])  # fmt: skip
def test_what_latex_would_read_as_a_command_is_escaped(given, shown):
    assert latex(given) == shown and balanced(latex(given))


def test_a_bracket_at_the_start_of_a_row_is_no_option_of_the_line_break():
    text = to_latex(small((Cell("a"), Cell("1")), (Cell("[3pt]"), Cell("2")), (Cell("*b"), Cell("3"))))
    assert "\n{}[3pt] & 2" in text and "\n{}*b & 3" in text


def test_every_table_as_csv_can_be_read_back_in_full(view):
    for table in tables(view):
        text = to_csv(table)
        assert text.count("\r\n") == text.count("\n") == len(table.rows) + 1
        head, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        assert len({len(row) for row in (head, *rows)}) == 1 and len(set(head)) == len(head)
        for shown, row in zip(rows, table.rows, strict=True):
            found = dict(zip(head, shown, strict=True))
            for title, cell in zip(table.titles, row, strict=True):
                assert found[title].lstrip("'") == " ".join(cell.text.split()).replace("−", "-").lstrip("'")
                assert found.get(f"{title} (note)", "").lstrip("'") == " ".join(cell.note.split()).replace("−", "-")


def test_csv_has_notes_only_where_there_are_some_and_numbers_that_programs_read():
    table = small((Cell('a, "b"\nc'), Cell("−3.1", "[−5.0, +0.4]")), (Cell("d"), Cell("+1.5")))
    head, first, second = csv.reader(io.StringIO(to_csv(table), newline=""), strict=True)
    assert head == ["Arm", "Gain, %", "Gain, % (note)"]
    assert first == ['a, "b" c', "-3.1", "[-5.0, +0.4]"] and float(first[1]) == -3.1
    assert second == ["d", "+1.5", ""]


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "@SUM(1)", "+1+cmd|' /C x'!A0", "-a"])
def test_text_that_a_spreadsheet_would_run_is_made_text(text):
    rows = list(csv.reader(io.StringIO(to_csv(small((Cell(text), Cell("+3.1 [+1.0, +5.2]"))))), strict=True))
    assert rows[1] == [f"'{text}", "+3.1 [+1.0, +5.2]"]


def test_citation_names_rankscope_the_study_and_its_models(evidence, view):
    text = to_bibtex(view)
    assert text.startswith("@software{rankscope,") and f"version = {{{rankscope.__version__}}}" in text
    assert "title = {{Planted study}}" in text and "key modelkey0" in text
    assert "date =" not in text.split("@misc")[1] and "doi" not in text.lower() and "://" not in text
    dated = to_bibtex(build(replace(evidence, date="2026-03-04")))
    assert "date = {2026-03-04},\n  year = {2026}," in dated.split("@misc")[1]


def test_citation_has_one_entry_a_key_and_closes_its_braces(evidence):
    view = build(replace(evidence, title=EVIL, name="a}b,{c"))
    text = to_bibtex(view)
    keys = re.findall(r"(?m)^@\w+\{([^,]+),$", text)
    assert len(keys) == len(set(keys)) == len(used(view)) + 2 and "rankscope-a-b-c" in keys
    assert balanced(text) and all(balanced(entry) for entry in text.split("\n\n"))


def test_every_source_with_a_year_or_number_in_the_glossary_can_be_cited():
    said = "; ".join(m.source for m in METHODS)
    marks = re.findall(r"\d{4}\.\d{5}", said) + re.findall(r"\b(?:1[89]|20)\d\d\b(?!\.)", said)
    known = " ".join(mark for mark, *_ in SOURCES)
    assert len(marks) > 15 and [mark for mark in marks if mark not in known] == []


def test_rslora_is_cited_only_where_an_arm_is_scaled_so(evidence, view):
    assert "kalajdzievski" not in to_bibtex(view)
    arms = tuple(replace(a, scaling="rslora") if a.kind == "lora" else a for a in evidence.arms)
    assert "kalajdzievski2023rslora" in to_bibtex(build(replace(evidence, arms=arms)))


def test_no_name_reaches_the_markup_through_the_texts_to_copy(evidence):
    notes = (f"odd {EVIL}",)
    view = build(replace(evidence, title=EVIL, notes=notes))
    page = render(view, "html")
    assert page.count("</script>") == page.count("<script") == 7
    texts = json.loads(re.search(r'id="copy-texts">(.*?)</script>', page, re.S)[1])
    assert set(texts) == {table.id for table in tables(view)}
    assert EVIL in texts["provenance"]["csv"] and latex(EVIL) in texts["provenance"]["latex"]
    assert EVIL not in page
