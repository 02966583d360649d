"""The data section: what rows hold and share, what was cut; and "not measured" where nobody counted, never zero."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rankscope.records import Overlap, RowCounts
from rankscope.report import render
from rankscope.report.page import sections
from rankscope.report.view import build
from report.conftest import NOT_HERE


def tables(view):
    section = next(s for s in sections(view) if s.id == "data")
    return {table.id: [[cell.text for cell in row] for row in table.rows] for table in section.tables}


def test_counts_of_rows_and_overlaps_are_shown_as_recorded(view):
    found = tables(view)
    assert found["rows"] == [["qa-a", "2,000", "0", "3", "7"], ["qa-b", "not measured", "–", "–", "–"]]
    assert found["shared"][:2] == [["qa-a", "qa-a", "600", "30", "0", "249"], ["qa-a", "qa-b", "600", "0", "0", "0"]]
    section = next(s for s in sections(view) if s.id == "data")
    (row,) = [row for row in section.tables[1].rows if [c.text for c in row[:2]] == ["qa-a", "qa-a"]]
    assert [cell.note for cell in row] == ["", "in-domain", "", "5.0 %", "", "41.5 %"]
    assert [cell.tone for cell in row[3:]] == ["flag", "", "flag"]
    assert section.tables[1].titles[3] == "Share 13 words in a row"


def test_what_was_not_measured_says_why_and_is_no_zero(view):
    of_qa_b = [s for s in view.shared if s.train == "qa-b"]
    assert all(s.overlap is None for s in of_qa_b) and len(of_qa_b) == 6
    assert {s.missing for s in of_qa_b} == {NOT_HERE, "not recorded"}
    assert [(r.counts, r.missing) for r in view.rows] == [(RowCounts(2000, 0, 3, 7), ""), (None, NOT_HERE)]
    assert "0" not in {text for row in tables(view)["shared"] if row[0] == "qa-b" for text in row[2:]}


@pytest.mark.parametrize("format", ["html", "md", "json"])
def test_every_format_has_the_counts_and_the_reason(view, format):
    text = render(view, format)
    assert NOT_HERE in text and ("249" in text if format == "json" else "41.5 %" in text)


def test_cut_rows_and_items_are_counted_by_run_and_other_notes_stay_out(evidence):
    lost = "7 items were cut to fit the model"
    evals = {
        key: replace(found, message=lost) if key[1] == "trivia" and key[0].startswith("qa-a-full") else found
        for key, found in evidence.evals.items()
    }
    runs = tuple(
        (s, k, replace(r, notes=(*r.notes, "out of memory at step 3: each batch is now cut into 2 parts")), role)
        for s, k, r, role in evidence.runs
    )
    rows = tables(build(replace(evidence, evals=evals, runs=runs)))["cuts"]
    # Four arms with three final runs and a trial each; one final run of qa-b failed and noted nothing of the kind.
    assert rows == [["trained on qa-a", "2 items were cut", "16"], ["scored on trivia", lost, "3"],
                    ["trained on qa-b", "2 items were cut", "15"]]  # fmt: skip


def test_a_study_that_trains_nothing_has_no_rows_to_speak_of(evidence):
    untrained = replace(evidence, train=("",), evaluations={"": evidence.evaluations["qa-a"]}, runs=evidence.runs[:1])
    assert "data" not in {s.id for s in sections(build(untrained))}
    evals = {key: replace(found, message="5 items were cut to fit the model") for key, found in evidence.evals.items()}
    found = tables(build(replace(untrained, evals=evals)))
    assert set(found) == {"cuts"} and ["scored on trivia", "5 items were cut to fit the model", "1"] in found["cuts"]


def test_evidence_that_holds_no_counts_says_so(evidence):
    found = build(replace(evidence, row_counts={}, overlaps={}))
    assert {r.missing for r in (*found.rows, *found.shared)} == {"not recorded"}
    other = build(replace(evidence, overlaps={("qa-a", "qa-a"): Overlap(0, 0, 0, 0, 13)}))
    assert tables(other)["shared"][0][2:] == ["0", "0", "0", "0"]
