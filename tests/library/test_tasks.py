"""What single tasks do beyond the contract: parsing, headers, the user's files."""

from __future__ import annotations

import json

import pytest

from rankscope.errors import DataError
from rankscope.library.tasks import gsm8k, math_qa, mmlu, neutral_text
from rankscope.records import TaskRef
from rankscope.tasks.task import prepare, resolve


def write(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def ref(task, **options):
    return TaskRef(task, options=tuple(sorted(options.items())))


def test_gsm8k_trains_on_solutions_without_calculator_marks():
    sample = gsm8k.to_sample({"question": "How many?", "answer": "4*2=<<4*2=8>>8 plums\n#### 8"}, "generate", 0)
    assert sample.target == " 4*2=8 plums\n#### 8"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("a ) 38 , b ) 27.675 , c ) 30 , d ) 2 , e ) none", ("38", "27.675", "30", "2", "none")),
        ("a ) 5 , 3 , b ) 1,200 , c ) ( x ) , d ) b ) 2 , e ) 7 m 2", ("5 , 3", "1,200", "( x )", "b ) 2", "7 m 2")),
        ("['a ) 2 min', 'b ) 3 min', 'c ) 4', 'd ) 5', 'e ) 6']", ("2 min", "3 min", "4", "5", "6")),
        ("['a ) a ) 160', 'b ) b ) 198', 'c ) c ) 1', 'd ) d ) 2', 'e ) e ) 3']", ("160", "198", "1", "2", "3")),
    ],
)
def test_math_qa_options_are_parsed_from_text_and_from_printed_lists(text, options):
    assert math_qa.parse_options(text) == options


def test_math_qa_options_with_a_missing_mark_are_an_error():
    with pytest.raises(DataError, match="no option 'd'"):
        math_qa.parse_options("a ) 1 , b ) 2 , c ) 3 , e ) 5")


def test_math_qa_problems_that_differ_in_numbers_share_a_template():
    one = math_qa.template("a train runs 1,250 m in 30.5 seconds")
    assert one == math_qa.template("a train runs 80 m in 6  seconds")
    assert one != math_qa.template("a car runs 80 m in 6 seconds")


def test_mmlu_has_the_papers_header_for_letters_only():
    sample = mmlu.to_sample({**mmlu.PLUGIN.example, "subject": "high_school_physics"}, "letters", 0)
    assert mmlu.header(sample, "letters").endswith("(with answers) about high school physics.\n\n")
    assert mmlu.header(sample, "cloze") == ""


def test_neutral_text_counts_each_boolq_passage_once(tmp_path):
    (tmp_path / "boolq").mkdir()
    write(tmp_path / "boolq" / "test.jsonl", [{"passage": "Rain.", "question": q, "answer": True} for q in "ab"])
    found = prepare(TaskRef("neutral_text"), tmp_path)
    assert [sample.target for sample in found.samples] == ["Rain."]
    assert (found.kind, found.metric, found.chance) == ("text", "cross_entropy", None)


def test_neutral_text_joins_short_paragraphs_of_the_users_file_and_knows_their_lines(tmp_path):
    file = tmp_path / "my.txt"
    file.write_text("\nTitle\n\n" + "word " * 60 + "\nmore\n\n\nAnother\n\nend.\n", encoding="utf-8")
    found = neutral_text.rows({"path": str(file)}, "test", None)
    assert [row["text"] for row in found.rows] == ["Title\n\n" + "word " * 59 + "word\nmore", "Another\n\nend."]
    assert found.places == (f"{file}:2", f"{file}:8")
    assert len(prepare(ref("neutral_text", path=str(file))).samples) == 2


def test_neutral_text_takes_several_files_and_jsonl(tmp_path):
    first = write(tmp_path / "a.jsonl", [{"text": "Rain."}, {"text": "Sun."}])
    (tmp_path / "b.md").write_text("Wind.", encoding="utf-8")
    found = prepare(ref("neutral_text", path=(first, str(tmp_path / "b.md"))))
    assert [sample.target for sample in found.samples] == ["Rain.", "Sun.", "Wind."]
    assert found.origin == "a.jsonl, b.md"
    with pytest.raises(DataError, match="the file has no text"):
        (tmp_path / "b.md").write_text(" \n", encoding="utf-8")
        prepare(ref("neutral_text", path=str(tmp_path / "b.md")))
    with pytest.raises(DataError, match=r"a\.jsonl:1: the row has no 'text'. Its fields: words"):
        prepare(ref("neutral_text", path=write(tmp_path / "a.jsonl", [{"words": "Rain."}])))
    with pytest.raises(DataError, match="no such file of data"):
        resolve(ref("neutral_text", path=str(tmp_path / "nowhere.txt")))
