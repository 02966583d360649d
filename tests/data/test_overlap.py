"""Overlap and faults of rows that were planted: each count is known beforehand."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from rankscope.data.dataset import VARIABLE, locate
from rankscope.data.overlap import NGRAM, compare, count_rows, fingerprint, words
from rankscope.records import Overlap, RowCounts, TaskRef
from rankscope.tasks.task import get_task, prepare, train_samples
from reference import overlap as plain

ABC = [f"word{letter}" for letter in "abcdefghijklmnopqrst"]


def text(*places: int) -> str:
    return " ".join(ABC[i] for i in places)


def measure(train, test, n=NGRAM):
    return compare(fingerprint(train, n), fingerprint(test, n))


def test_words_are_cut_at_white_space_and_punctuation_and_numbers_stay_whole():
    assert words("It's 3.5 km, or 1,200 m -- (Say: \u201cHELLO\u201d)!") == [
        "its",
        "3.5",
        "km",
        "or",
        "1,200",
        "m",
        "say",
        "hello",
    ]
    assert words("ﬁve  Caf\u00e9\nx2 _y_ 5.") == ["five", "café", "x", "2", "y", "5"]
    assert words("東京は 3 月") == ["東", "京", "は", "3", "月"]
    assert words(" ... \U0001f600 ") == []


def test_a_run_of_n_words_is_shared_and_one_word_less_is_not():
    row = ("Before the run. " + text(*range(13)), "after it")
    same = ("Something else! " + text(*range(13)).upper().replace(" ", ",  ") + " and on", "x")
    less = ("Something else! " + text(*range(12)) + " and on", "x")
    assert measure([row], [same, less]) == Overlap(2, 1, 0, 0, 13)
    assert measure([row], [same, less], n=12) == Overlap(2, 2, 0, 0, 12)


def test_a_run_may_reach_from_the_prompt_into_the_target():
    row = (text(*range(10)), text(10, 11, 12))
    assert measure([row], [row, (text(*range(10)), "other")]).ngram == 1


def test_a_short_item_counts_by_its_whole_text():
    train = [("Which port?", "80"), (f"Long row: which port? 80 {text(*range(13))}", "x")]
    whole, part, longer = ("which PORT", "80"), ("port?", "80"), ("Which port then?", "80")
    assert measure(train, [whole]).ngram == 1
    assert measure(train, [part, longer]).ngram == 0


def test_prompts_are_equal_but_for_case_punctuation_and_space_and_templates_but_for_numbers():
    train = [("A train runs 1,250 m in 30.5 s. How fast is it?", "41")]
    test = [
        ("a train runs 1,250 m, in 30.5 s: how fast is it", "9"),
        ("A train runs 80 m in 6 s. How fast is it?", "13"),
        ("A car runs 80 m in 6 s. How fast is it?", "13"),
        ("", ""),
    ]
    found = measure(train, test)
    assert (found.items, found.exact, found.template) == (4, 1, 2)


def test_plain_text_is_compared_as_a_whole():
    assert measure([("", "One line of text.")], [("", "one line of text"), ("", "another line")]).exact == 1


def test_the_frame_of_the_prompts_is_no_overlap():
    frame = "Below is an instruction that describes a task. Write a response that completes the request: "
    train = [(f"{frame}{ABC[i]} {i}", "yes") for i in range(20)]
    assert measure(train, [(f"{frame}something new", "no")]).ngram == 0
    assert measure(train[:19], [(f"{frame}something new", "no")]).ngram == 1  # too few rows to tell a frame
    assert measure(train, [train[3]]).ngram == 1


def test_nothing_is_shared_with_no_rows_and_different_lengths_are_refused():
    assert measure([], [("a", "b")]) == Overlap(1, 0, 0, 0, 13)
    assert measure([("a", "b")], []) == Overlap(0, 0, 0, 0, 13)
    with pytest.raises(ValueError, match="runs of 13 words"):
        compare(fingerprint([("a", "b")]), fingerprint([("a", "b")], 8))


@pytest.mark.parametrize("seed", range(6))
def test_counts_agree_with_the_plain_twin(seed):
    rng = random.Random(seed)
    pieces = [*ABC[:2], "3", "4.5", "70", "8,000", "don't", "—", "東", "京都", "x9"]

    def texts(count):
        made = [(" ".join(rng.choices(pieces, k=rng.randint(0, 5))), rng.choice(pieces)) for _ in range(count)]
        return [("Now then: " + prompt if rng.random() < 0.6 else prompt, target) for prompt, target in made]

    train, test, n = texts(60), texts(60), rng.choice((2, 3, 4))
    found = measure(train, test, n)
    assert (found.items, found.ngram, found.exact, found.template) == plain.compare(train, test, n)
    assert 0 < found.ngram < 60 and 0 < found.exact <= found.template
    assert [words(" ".join(t)) for t in train] == [plain.words(" ".join(t)) for t in train]


@pytest.mark.real
def test_two_in_five_test_problems_of_math_qa_have_the_template_of_a_training_row():
    folder = os.environ.get(VARIABLE) or str(Path(__file__).parents[3] / "shared" / "data")
    if not Path(folder).is_dir() or locate(get_task("math_qa").source, "train", folder) is None:
        pytest.skip(f"no math_qa/train.jsonl in a local mirror ({VARIABLE})")
    train, test = train_samples(TaskRef("math_qa"), folder), prepare(TaskRef("math_qa"), folder).samples
    found = measure(*([(s.prompt, s.target) for s in samples] for samples in (train, test)))
    by_cluster = sum(s.cluster in {t.cluster for t in train} for s in test)
    # The task's own clusters keep punctuation, so fewer agree.
    assert (found.items, by_cluster, found.exact, found.template, found.ngram) == (2000, 811, 0, 853, 772)


def test_faults_of_rows_are_counted():
    rows = [("q1", "a"), ("q1 ", " a"), ("q1", "b"), ("q2", "a"), ("", "a"), ("q3", " "), ("q2", "a")]
    assert count_rows(rows) == RowCounts(rows=7, empty=2, duplicates=2, conflicts=3)
    assert count_rows([]) == RowCounts(0, 0, 0, 0)


def test_plain_text_has_no_prompts_to_miss_or_to_contradict():
    assert count_rows([("", "one"), ("", "two"), ("", "one")]) == RowCounts(3, 0, 1, 0)


def test_a_question_without_words_in_a_frame_is_empty():
    rows = [(f"Question: why {ABC[i]}?\nAnswer:", "x") for i in range(19)]
    assert count_rows([*rows, ("Question:\nAnswer:", "x")]).empty == 1
    assert count_rows([*rows, ("Question: how?\nAnswer:", "x")]).empty == 0
    assert count_rows([*rows[:18], ("Question:\nAnswer:", "x")]).empty == 0  # too few prompts to tell a frame


def test_hashes_are_the_same_in_every_process():
    code = "from rankscope.data.overlap import fingerprint; print(fingerprint([('a b', 'c')], 2).grams.tolist())"
    one, two = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert one == two == f"{fingerprint([('a b', 'c')], 2).grams.tolist()}\n"
