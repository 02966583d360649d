"""The flips browser: which items, in which order, with which texts; what is cut is counted; no text becomes markup."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from html import unescape

from rankscope.records import Arm, EvalResult, Ledger, RunResult, Score
from rankscope.report import render
from rankscope.report.distance import noise
from rankscope.report.evidence import Evidence, Index
from rankscope.report.flip_choice import MOST_BYTES, MOST_FLIPS, NOT_READ, PROMPT_END, PROMPT_START, flipped, shortened
from rankscope.report.flip_rows import ItemText
from rankscope.report.flipped import MOST, browser, data
from rankscope.report.html import inline_json
from rankscope.report.view import build
from rankscope.study.result import StudyResult
from report.conftest import MODEL, run_of
from report.flips_planted import asked

EVIL = "</script><script>alert(1)</script><!-- & \"'"
CHOICES = (" red", " green", " blue")


def judged(key, picks, right=0, subject=""):
    """Scores of a question with three colours, the right one red, from what was picked."""
    scores = tuple(Score(f"q{i}", float(p == right), subject, "", CHOICES[p].strip()) for i, p in enumerate(picks))
    return EvalResult(key, "quiz-key", "done", metric="accuracy", chance=1 / 3, scores=scores, ledger=Ledger(1.0))


def small(base, arms, texts=True, subject="") -> Evidence:
    """One task, arms as {name: (picks under seed 0, picks under seed 1)}."""
    given = tuple(Arm(n, "full") if n == "full" else Arm(n, "lora", lr=(1e-3,), rank=4, alpha=8.0) for n in arms)
    runs, evals = [(*run_of("quiz", Arm("base", "base"), 0.0, 0), "final")], {}
    spec, _, _, _ = runs[0]
    runs = [(replace(spec, train=None, recipe=None), "base", RunResult("base", "done"), "final")]
    evals["base", "quiz"] = judged("base", base, subject=subject)
    for arm in given:
        for seed, picks in enumerate(arms[arm.name]):
            run = run_of("quiz", arm, 1e-3, seed)
            runs.append((*run, "final"))
            evals[run[1], "quiz"] = judged(run[1], picks, subject=subject)
    items = {f"q{i}": ItemText(f"Colour {i}?\nAnswer:", " red", CHOICES, 0) for i in range(len(base))}
    return Evidence("small", None, (0, 1), (Arm("base", "base"), *given), ("quiz",), {"quiz": (("quiz", "in_domain"),)},
                    tuple(runs), evals, items={"quiz": items} if texts else {}, models=(MODEL,))  # fmt: skip


def with_given(evidence, picks) -> Evidence:
    """The same with an adapter that existed already, named before the trained arms."""
    (base, _, _, _), (first, *others) = evidence.runs[0], evidence.arms
    mine = Arm("mine", "adapter", path="somewhere/mine")
    runs = (*evidence.runs, (replace(base, arm=mine), "mine", RunResult("mine", "done"), "final"))
    evals = evidence.evals | {("mine", "quiz"): judged("mine", picks)}
    return replace(evidence, arms=(first, mine, *others), runs=runs, evals=evals)


def told(found):
    """(arm, item, lost, seeds that flipped, answers) in order."""
    return [(found.cells[f.cell].arm, found.items[f.item].item, f.is_lost, f.under, f.answers) for f in found.flips]


def test_flips_are_exactly_the_items_that_changed_with_both_answers():
    #                  right, wrong, right, wrong, right
    evidence = small([0, 1, 0, 2, 0], {"lora-r4": ([0, 0, 1, 2, 0], [0, 1, 2, 2, 0])})
    found = flipped(Index(evidence), ())
    assert told(found) == [
        ("lora-r4", "q2", True, (True, True), (1, 2)),
        ("lora-r4", "q1", False, (True, False), (0, 1)),
    ]
    assert [(c.lost, c.won, c.num_items, c.seeds) for c in found.cells] == [(1, 1, 5, (0, 1))]
    first, second = found.items
    assert (first.prompt, first.choices, first.answer) == ("Colour 2?\nAnswer:", ("red", "green", "blue"), 0)
    assert (first.before, second.before) == ({MODEL.name: 0}, {MODEL.name: 1})
    assert found.silent == {} and found.graded == ()


def test_full_and_the_recommended_arm_come_first_then_what_flips_under_most_seeds():
    lost = ([1, 1, 0, 0], [1, 0, 0, 0])  # q0 under both seeds, q1 under one
    evidence = small([0, 0, 0, 0], {"lora-r1": lost, "lora-r4": lost, "full": lost})
    view = build(evidence)
    best = view.advice[0].choice.arm
    other = ({"lora-r1", "lora-r4"} - {best}).pop()
    order = [(arm, item) for arm, item, *_ in told(view.flipped)]
    assert order[:2] in ([(best, "q0"), ("full", "q0")], [("full", "q0"), (best, "q0")])
    assert sorted(order[2:4]) == sorted([(best, "q1"), ("full", "q1")])
    assert order[4:] == [(other, "q0"), (other, "q1")]
    assert len(view.flipped.items) == 2


def test_what_does_not_fit_is_counted_and_said_and_the_json_form_has_all(tmp_path, monkeypatch):
    count = 400
    lost = [1] * count
    evidence = small([0] * count, {"lora-r4": (lost, lost), "full": (lost, lost)})
    whole = flipped(Index(evidence), (), None)
    part = flipped(Index(evidence), (), 5000)
    assert len(whole.flips) == whole.total == part.total == 2 * count
    assert 20 < len(part.flips) < count and told(part) == told(whole)[: len(part.flips)]
    view = replace(build(evidence), flipped=part)
    assert len(inline_json(data(view)["items"]) + inline_json(data(view)["flips"])) < 5000
    intro = browser(view).intro
    assert "800 answers changed under at least one seed" in intro and "800 right → wrong, 0 wrong → right" in intro
    assert f"This page holds {len(part.flips)} of them" in intro and "rankscope report STUDY --format json" in intro
    assert "This page holds" not in browser(replace(view, flipped=whole)).intro
    monkeypatch.setattr("rankscope.report.flip_choice.MOST_FLIPS", 7)
    assert told(flipped(Index(evidence), ())) == told(whole)[:7]
    result = StudyResult(view, evidence, tmp_path)
    assert len(json.loads(result.report(tmp_path / "a.json", "json").read_text())["flipped"]["flips"]) == 2 * count


def test_texts_are_read_only_for_a_report_and_once(tmp_path):
    evidence = small([0, 1], {"lora-r4": ([1, 0], [1, 0])})
    items, read = evidence.items, []
    bare = replace(evidence, items={})
    result = StudyResult(build(bare), bare, tmp_path, read_items=lambda: read.append(1) or items)
    assert result.view().flipped.silent == {"quiz": NOT_READ} and read == []
    for form in ("html", "md"):
        assert "Colour 0?" in unescape(result.report(tmp_path / f"a.{form}", form).read_text())
    for form in ("html", "md", "json"):  # on request no item is shown, and none is read
        text = unescape(result.report(tmp_path / f"b.{form}", form, has_items=False).read_text())
        assert "Colour 0?" not in text and "lora-r4" in text
        assert form == "html" or "green" not in text  # the drawing library knows colours
    assert read == [1]
    assert result.full_view().flipped.items[0].prompt == "Colour 0?\nAnswer:"


def test_without_rows_answers_are_shown_as_texts_and_the_reason_is_said():
    evidence = replace(small([0, 0], {"lora-r4": ([1, 0], [1, 0])}), items={"quiz": "the rows were not here"})
    view = build(evidence)
    assert told(view.flipped) == [("lora-r4", "q0", True, (True, True), ("green", "green"))]
    item = view.flipped.items[0]
    assert (item.prompt, item.choices, item.before) == (None, (), {MODEL.name: "red"})
    section = browser(view)
    assert "The questions of quiz are not shown: the rows were not here." in section.intro
    assert [c.text for c in section.tables[0].rows[0]] == ["–", "–", "red", "green", "2 of 2"]


def test_a_study_in_which_nothing_flips_has_no_section_and_graded_tasks_are_named(view):
    assert browser(build(small([0, 1], {"lora-r4": ([0, 1], [0, 2])}))) is None
    assert view.flipped.graded == ("neutral_text",)
    assert "neutral_text is not scored right or wrong" in browser(view).intro
    assert {c.task for c in view.flipped.cells} == {"qa-a", "qa-b", "trivia", "recall", "letters"}
    assert "The base is not shown above chance on letters" in browser(view).intro


def test_counts_of_items_agree_with_the_counts_over_seeds(view):
    sums = {}
    for flip in view.flipped.flips:
        cell = view.flipped.cells[flip.cell]
        own = sums.setdefault((cell.train, cell.arm, cell.task), [0, 0])
        own[0 if flip.is_lost else 1] += sum(flip.under)
    assert len(view.flipped.flips) == view.flipped.total
    for row in view.flips:
        assert sums.get((row.train, row.arm, row.task), [0, 0]) == [row.lost, row.won]


def test_seeds_are_told_one_by_one_however_many():
    picks = tuple([1, seed % 2] for seed in range(40))
    evidence = replace(small([0, 0], {"lora-r4": picks}), seeds=tuple(range(40)))
    view = build(evidence)
    assert [(flip[1], flip[3]) for flip in data(view)["flips"]] == [(0, "1" * 40), (1, "01" * 20)]
    assert [row[4].text for row in browser(view).tables[0].rows] == ["40 of 40", "20 of 40"]


def test_an_arm_that_existed_already_is_told_without_a_seed():
    evidence = with_given(small([0, 0, 0], {"lora-r4": ([0, 0, 0], [0, 0, 0])}), [1, 0, 2])
    view = replace(build(evidence), advice=())
    assert told(view.flipped) == [("mine", "q0", True, (True,), (1,)), ("mine", "q2", True, (True,), (2,))]
    shown = data(view)
    assert [shown["arms"][place] for place in shown["given"]] == ["mine"]
    (table,) = browser(view).tables
    assert table.caption.startswith("Right before, wrong with mine, ")
    assert [[cell.text for cell in row[3:]] for row in table.rows] == [["green", "–"], ["blue", "–"]]


def test_choices_with_the_text_of_the_right_one_and_named_choices_find_their_place():
    evidence = small([0, 0], {"lora-r4": ([1, 0], [2, 0])})
    same = ItemText("Which?", " green", (" red", " green", " green"), 2)
    named = ItemText("", " fits", (" it fits", " she fits", " he fits"), 0, ("red", "green", "blue"))
    for text, answers, before in ((same, (2, "blue"), 0), (named, (1, 2), 0)):  # green is also the right one's text
        found = flipped(Index(replace(evidence, items={"quiz": {"q0": text}})), ())
        assert found.flips[0].answers == answers and found.items[0].before == {MODEL.name: before}


def test_long_texts_are_cut_in_the_middle_and_say_so():
    text = "".join(str(i % 10) for i in range(3000))
    cut = shortened(text, PROMPT_START, PROMPT_END)
    assert cut == f"{text[:400]} [… 1,800 characters left out …] {text[-800:]}"
    assert shortened(text[:1200], PROMPT_START, PROMPT_END) == text[:1200]
    evidence = small([0], {"lora-r4": ([1], [1])})
    long = ItemText(text, " red", (" red", " green", " " + text), 0)
    item = flipped(Index(replace(evidence, items={"quiz": {"q0": long}})), ()).items[0]
    assert (
        item.prompt == cut and item.choices[:2] == ("red", "green") and "2,600 characters left out" in item.choices[2]
    )


def test_the_table_shows_both_ends_of_an_items_own_paragraph():
    evidence = small([0], {"lora-r4": ([1], [1])})
    long = ItemText("An example.\n\n" + "a" * 200 + "b" * 200, " red", CHOICES, 0)
    view = replace(build(evidence), flipped=flipped(Index(replace(evidence, items={"quiz": {"q0": long}})), ()))
    assert browser(view).tables[0].rows[0][0].text == "a" * 160 + " … " + "b" * 80


def test_the_base_against_itself_stands_beside_flips_where_it_was_measured(evidence, view):
    again = replace(evidence.evals["base-key", "trivia"], scores=tuple(
        replace(s, value=1 - s.value) if i < 3 else s
        for i, s in enumerate(evidence.evals["base-key", "trivia"].scores[:200])))  # fmt: skip
    measured = replace(view, noise=noise(Index(replace(evidence, noise={("base-key", "trivia"): again}))))
    assert "The base scored twice, in other batches, changed 3 of 200 answers" in browser(measured).intro
    assert "How often the base alone does so was not measured." in browser(view).intro


def test_without_scripts_a_folded_table_has_the_most_consistent_losses(evidence, view):
    view = replace(view, flipped=flipped(Index(asked(evidence)), view.advice))
    tables = browser(view).tables
    assert len(tables) == len(view.blocks) and all(t.is_folded and len(t.rows) == MOST for t in tables)
    best = {(a.model, a.train): a.choice.arm for a in view.advice}
    for (model, train), table in zip(view.blocks, tables, strict=True):
        arm = best[model, train]
        assert f"Right before, wrong with {arm}, trained on {train} (the 10 under most seeds, of " in table.caption
        seeds = [row[4].text for row in table.rows]
        assert seeds == sorted(seeds, reverse=True)
        assert all(row[1].text == row[2].text != row[3].text for row in table.rows)
    assert tables[0].rows[0][0].text.startswith("Question ")


def test_texts_from_data_never_become_markup():
    evidence = small([0, 1], {f"lora{EVIL}": ([1, 0], [1, 0])}, subject=EVIL)
    items = {f"q{i}": ItemText(EVIL + str(i), EVIL, (EVIL, EVIL + "x", "y"), 0) for i in range(2)}
    evals = {key: replace(e, scores=tuple(replace(s, response=EVIL + s.response) for s in e.scores))
             for key, e in evidence.evals.items()}  # fmt: skip
    page = render(build(replace(evidence, items={"quiz": items}, evals=evals)), "html")
    assert "<script>alert" not in page and "<!-- &" not in page
    inside = re.search(r'data-kind="flips".*?<script type="application/json">(.*?)</script>', page, re.S).group(1)
    assert "<" not in inside
    read = json.loads(inside)
    assert read["items"][0][3].startswith(EVIL) and EVIL in read["subjects"] and f"lora{EVIL}" in read["arms"]
    assert EVIL + "green" in read["flips"][0][4]


def test_thirty_arms_and_half_a_million_scores_stay_small_and_quick():
    count, subjects = 20_000, [f"subject_{i}" for i in range(57)]
    start = small([0], {"lora-r4": ([0], [0])})
    base = judged("base", [0] * count)
    scores = tuple(replace(s, subject=subjects[i % 57]) if i < 2000 else s for i, s in enumerate(base.scores))
    arms = [Arm(f"lora-r{i}", "lora", lr=(1e-3,), rank=i, alpha=8.0) for i in range(1, 31)]
    runs, evals = [start.runs[0]], {("base", "quiz"): replace(base, scores=scores)}
    for number, arm in enumerate(arms):
        run = run_of("quiz", arm, 1e-3, 0)
        own = list(scores)
        for i in range(number, 2000, 3):  # 667 flips an arm, the same items under every third
            own[i] = Score(scores[i].item, 0.0, scores[i].subject, "", "green")
        runs.append((*run, "final"))
        evals[run[1], "quiz"] = replace(base, scores=tuple(own))
    texts = {f"q{i}": ItemText(f"{i} " + "long question? " * 90, " red", CHOICES, 0) for i in range(2000)}
    evidence = replace(start, arms=(start.arms[0], *arms), seeds=(0,), runs=tuple(runs), evals=evals,
                       items={"quiz": texts})  # fmt: skip
    index = Index(evidence)
    for arm in arms:  # the panels are there anyway: every table needs them
        index.panel(index.finals(MODEL.name, "quiz", arm.name), "quiz")
    began = time.process_time()
    found = flipped(index, ())
    view = replace(build(start), flipped=found, arms=evidence.arms)
    size = len(inline_json(data(view)))
    assert time.process_time() - began < 4
    assert found.total == sum(len(range(number, 2000, 3)) for number in range(30))
    assert MOST_BYTES / 2 < size < MOST_BYTES
    assert len(found.items) < len(found.flips) == MOST_FLIPS < found.total
    assert len({f.item for f in found.flips}) == len(found.items)
