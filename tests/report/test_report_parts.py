"""The page's parts: their order, their openings against the numbers, tiles, the process, the roadmap's commands."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from rankscope.records import Needed
from rankscope.report import openings, render, roadmap, tiles
from rankscope.report import wording as w
from rankscope.report.charts import charts
from rankscope.report.drawing import linked
from rankscope.report.page import parts, sections
from rankscope.report.view import build
from rankscope.report.wording import portion

ORDER = ("Verdict", "Performance trade-offs", "Generalisation and forgetting", "Inside the model", "ROI calculator",
         "Roadmap", "Method and provenance")  # fmt: skip


@pytest.fixture(scope="module")
def page(view):
    return render(view, "html")


@pytest.fixture(scope="module")
def single(evidence):
    """One train task, so that openings and tiles speak of one thing."""
    runs = tuple(r for r in evidence.runs if r[0].train is None or r[0].train.name == "qa-a")
    return build(replace(evidence, runs=runs, train=("qa-a",), evaluations={"qa-a": evidence.evaluations["qa-a"]}))


def test_parts_stand_in_the_order_of_the_design_and_empty_ones_are_left_out(view):
    titles = [part.title for part in parts(view)]
    assert titles == [title for title in ORDER if title in titles] and len(titles) >= 6
    assert all(part.sections for part in parts(view))
    ids = [part.id for part in parts(view)] + [s.id for s in sections(view)]
    assert len(ids) == len(set(ids)) and not {part.id for part in parts(view)} & {"inside", "mechanism", "roadmap"}


def test_every_part_opens_with_a_sentence_in_html_and_markdown(view, page):
    text = render(view, "md")
    assert re.findall(r"(?m)^## (.+)$", text) == [part.title for part in parts(view)]
    for part in parts(view):
        assert part.opening.endswith(".") and len(part.opening) < 900
        assert f'<h2 id="{part.id}-title">{part.title}</h2>' in page
    assert page.count('class="opening"') == len(parts(view))


def test_the_verdict_opens_with_gain_retention_and_cost_against_full_sft(single):
    opening = parts(single)[0].opening
    choice = single.advice[0].choice
    against = {e.task: e for e in single.effects if (e.contrast.arm, e.contrast.other) == (choice.arm, "full")}
    for task in ("qa-a", "retention, pooled"):
        assert w.shown(against[task].contrast, "accuracy") in opening
        assert w.VERDICTS[against[task].contrast.verdict] in opening
    ours, theirs = (next(h.trainable for h in single.headlines if h.arm == arm) for arm in (choice.arm, "full"))
    assert f"it trains {100 * ours / theirs:.2g} % of the parameters" in opening and choice.span in opening


def test_forgetting_opens_with_what_was_lost_and_names_the_worst_alarm(single):
    opening = next(p.opening for p in parts(single) if p.id == "forgetting")
    full = next(h for h in single.headlines if h.arm == "full")
    assert f"full {w.change(full.forgotten, 'accuracy')}" in opening
    worst = min((e for e in single.effects if e.is_alarm), key=lambda e: e.contrast.high)
    assert f"the worst full {w.shown(worst.contrast, 'accuracy')} on {worst.task}" in opening


def test_performance_counts_the_verdict_words_against_full_sft(single):
    opening = next(p.opening for p in parts(single) if p.id == "performance")
    words = [e.contrast.verdict for e in single.effects if e.contrast.other == "full" and e.role == "in_domain"]
    assert f"{words.count('equivalent')} within the margin" in opening and "Over 3 LoRA arms" in opening


def test_many_train_tasks_are_not_all_recited(view):
    many = replace(view, train=("qa-a", "qa-b", "qa-c"))
    assert "more below" not in openings.verdict(many)  # of the third there is nothing to say
    third = replace(view.advice[0], train="qa-c")
    assert openings.verdict(replace(many, advice=(*view.advice, third))).endswith("1 more below.")


def test_a_study_without_runs_opens_by_saying_so(evidence):
    bare = build(replace(evidence, runs=(), evals={}))
    said = {part.id: part.opening for part in parts(bare)}
    assert "nothing compares" in said["performance"] and "not measured" in said["forgetting"]
    assert "0 finished runs" in said["method"] and "rankscope run planted.yaml" in said["next"]


def test_a_share_is_never_written_as_a_power_of_ten():
    assert [portion(x) for x in (0.00046, 0.046, 0.994, 0.996, 1.0, 12.0)] == [
        "0.046 %", "4.6 %", "99 %", "100 %", "100 %", "1,200 %"]  # fmt: skip


def test_tiles_hold_range_pooled_change_and_share_of_parameters(single):
    (row,) = tiles.rows(single)
    low, high, across, share = row.tiles
    choice = single.advice[0].choice
    assert (low.value, high.value) == tuple(map(str, choice.ranks)) and row.place == ""
    effect = next(
        e for e in single.effects if (e.contrast.arm, e.contrast.other, e.task) == (choice.arm, "base", "qa-b")
    )
    assert f"{across.value} {across.spread}" == w.change(effect.contrast.estimate, "accuracy")
    assert share.value == "0.02 %" and "16 k of 80 M" in share.source


def test_the_pooled_change_over_several_tasks_is_the_mean_of_their_means(evidence):
    extra = (("qa-a", "in_domain"), ("qa-b", "cross_domain"), ("trivia", "cross_domain"), ("letters", "cross_domain"))
    runs = tuple(r for r in evidence.runs if r[0].train is None or r[0].train.name == "qa-a")
    view = build(replace(evidence, runs=runs, train=("qa-a",), evaluations={"qa-a": extra}))
    row = next(a for a in view.across if a.arm == "full")
    assert row.tasks == ("qa-b", "trivia")  # the base is at chance on letters
    means = []
    for task in row.tasks:
        before = np.array([s.value for s in evidence.evals["base-key", task].scores])
        after = [np.array([s.value for s in evidence.evals[f"qa-a-full-0.0001-{n}", task].scores]) for n in range(3)]
        means.append(np.mean(np.array(after) - before))
    assert row.estimate.value == pytest.approx(np.mean(means)) and row.estimate.low < row.estimate.value < -0.1
    assert row.estimate.num_seeds == 3 and row.estimate.num_items == 1200


def test_a_study_of_one_domain_has_a_dash_and_the_reason_in_its_tile(evidence):
    runs = tuple(r for r in evidence.runs if r[0].train is None or r[0].train.name == "qa-a")
    only = {"qa-a": (("qa-a", "in_domain"), ("trivia", "retention"))}
    tile = tiles.rows(build(replace(evidence, runs=runs, train=("qa-a",), evaluations=only)))[0].tiles[2]
    assert (tile.value, tile.source) == ("–", "The study has no cross-domain task.")


def test_the_process_counts_what_was_done_and_says_what_was_not(view, unfinished):
    said = {step.title: step for step in roadmap.process(view).steps}
    assert [*said] == ["Base", "Train", "Evaluate", "Diagnose", "Mitigate"]
    assert "23 runs finished; 1 failed" in said["Train"].text and said["Train"].state == "partly"
    assert (said["Diagnose"].state, said["Mitigate"].state) == ("next", "not built")
    assert "not above chance on letters" in said["Base"].text
    assert {s.title: s.state for s in roadmap.process(build(unfinished)).steps}["Evaluate"] == "partly"


def test_more_seeds_are_added_to_those_of_the_study_and_asked_for_only_where_they_help(view):
    def rows(view, **choice):
        asked = replace(view.advice[0], choice=replace(view.advice[0].choice, open_question="which rank?", **choice))
        found = roadmap.roadmap(replace(view, advice=(asked,))).tables[0].rows
        return {row[1].text: row[3].text for row in found}

    few = replace(view, seeds=(42, 0))
    row = "Settle what is open with more seeds"
    assert rows(few, needed=None)[row].endswith('--set "training.seeds=[42,0,1,2]"')
    assert rows(few, needed=Needed(300, 5))[row].endswith('--set "training.seeds=[42,0,1,2,3]"')
    assert row not in rows(few, needed=Needed(300, None))
    assert row in rows(replace(view, seeds=(7,)), needed=Needed(300, None))


def test_the_adapter_to_take_out_is_one_that_the_study_has(view):
    def last(view):
        return {row[1].text: row[3].text for row in roadmap.roadmap(view).tables[0].rows}

    second = view.advice[1]
    unanswered = replace(view.advice[0], choice=replace(view.advice[0].choice, arm=None))
    take = last(replace(view, advice=(unanswered, second)))["Take the adapter out, in PEFT's format"]
    assert f'.adapter("{second.choice.arm}", seed=0, train="{second.train}")' in take
    several = last(replace(view, models=("tiny-model", "other")))["Take the adapter out, in PEFT's format"]
    assert 'model="tiny-model")' in several
    assert "Take the adapter out, in PEFT's format" not in last(replace(view, advice=()))


def test_counts_of_the_process_are_of_tasks_and_of_what_was_not_stopped(view):
    twice = tuple(replace(b, model="other") for b in view.base)
    base = {s.title: s for s in roadmap.process(replace(view, base=(*view.base, *twice))).steps}["Base"].text
    assert base == {s.title: s for s in roadmap.process(view).steps}["Base"].text


def test_every_command_of_the_roadmap_exists_in_this_version(view):
    from typer.main import get_command

    from rankscope.cli.main import app

    table = roadmap.roadmap(view).tables[0]
    said = [row[3].text for row in table.rows if row[3].text.startswith("rankscope ")]
    assert len(said) >= 6
    for command in said:
        found, words = get_command(app), command.split()[1:]
        while hasattr(found, "commands"):
            found = found.commands[words.pop(0)]
        options = {name for param in found.params for name in param.opts}
        assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", command)) <= options


def test_every_chart_has_a_table_that_stands_on_the_page(view, page):
    ids = {t.id for s in sections(view) for t in s.tables if t.rows}
    drawn = linked(charts(view), sections(view))
    assert {c.table for c in drawn} <= ids
    assert {c.id: c.table for c in drawn}["frontier-1"] == "headline-1"
    assert all(f'href="#{chart.table}' in page for chart in drawn)


def test_headline_and_recommendation_stand_open_and_long_tables_are_folded(view):
    folded = {t.id: t.is_folded for s in sections(view) for t in s.tables}
    assert not folded["headline-0"] and not folded["range-0"] and not folded["failures"]
    assert folded["comparisons-0"] and folded["runs"] and folded["scores-0"]
