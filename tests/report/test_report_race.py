"""A planted study of which a race stopped arms: their number counts in every family, and nothing else of them."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest

from rankscope.records import Dropped, Ledger
from rankscope.report import advice, family
from rankscope.report.effects import base_rows
from rankscope.report.evidence import Index
from rankscope.report.logbook import stopped
from rankscope.report.questions import questions
from rankscope.report.view import build
from rankscope.stats import claims, contrast
from rankscope.stats.mechanism import change_grows_upward, full_reshapes_more
from report.conftest import EVALUATIONS, MODEL

GONE = {"lora-r2": "lora-r1", "lora-r8": "lora-r4"}
"""Arms of the full grid that a race stops, and whose scores they would have had."""


def _full_grid(evidence):
    """The planted study with two more arms, run in full."""
    runs = [run for run in evidence.runs if run[2].status == "done"]
    evals, arms = dict(evidence.evals), {arm.name: arm for arm in evidence.arms}
    for name, like in GONE.items():
        arm = replace(arms[like], name=name, rank=int(name.removeprefix("lora-r")))
        arms[name] = arm
        for spec, key, result, role in [run for run in runs if run[0].arm.name == like]:
            runs.append((replace(spec, arm=arm), f"{name}-{key}", result, role))
            evals |= {(f"{name}-{key}", task): e for (own, task), e in evidence.evals.items() if own == key}
    return replace(evidence, retain=0.9, arms=tuple(arms.values()), runs=tuple(runs), evals=evals,
                   skills={"trivia": "recall", "recall": "recall", "qa-b": "reasoning"})  # fmt: skip


def _drop(arm, train, is_out):
    return Dropped(MODEL.name, train, arm, int(arm.removeprefix("lora-r")), 3e-3, 0, 0.25, 50, "gain", "lora-r4", 1e-3,
                   0.6, 0.45, 1.5, is_out, Ledger())  # fmt: skip


@pytest.fixture(scope="module")
def whole(evidence):
    return _full_grid(evidence)


@pytest.fixture(scope="module")
def smaller(whole):
    """The same study as if it had never had runs of the two arms."""
    return replace(whole, runs=tuple(run for run in whole.runs if run[0].arm.name not in GONE))


@pytest.fixture(scope="module")
def raced(smaller):
    return replace(smaller, dropped=tuple(_drop(arm, train, True) for arm in GONE for train in EVALUATIONS))


@pytest.fixture(scope="module", autouse=True)
def only_intervals():
    """What more data would bring takes longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contrast, "needed", lambda *_: None)
        yield


def _sizes(monkeypatch, evidence):
    """How many members each family of the report has, by the function that judges it, absent ones included."""
    seen: dict[str, list[int]] = {}

    def count(place, name):
        judge = getattr(place, name)

        def counted(members, *args, **named):
            given = inspect.signature(judge).bind(members, *args, **named).arguments
            seen.setdefault(f"{place.__name__}.{name}", []).append(len(members) + given.get("absent", 0))
            return judge(members, *args, **named)

        monkeypatch.setattr(place, name, counted)

    with monkeypatch.context() as monkeypatch:
        monkeypatch.setattr(claims, "RANKS", (2, 8))
        for place, name in ((family, "contrasts"), (claims, "contrasts"), (claims, "best")):
            count(place, name)
        index = Index(evidence)
        base = base_rows(index)
        family.family(index, base)
        questions(index, base, evidence.margin)
    return seen


def test_every_family_counts_as_many_members_as_if_no_arm_had_been_stopped(whole, smaller, raced, monkeypatch):
    full, counted, fewer = (_sizes(monkeypatch, e) for e in (whole, raced, smaller))
    assert {name.removeprefix("rankscope."): len(sizes) for name, sizes in full.items()} == {
        "report.family.contrasts": 1, "stats.claims.contrasts": 8, "stats.claims.best": 2}  # fmt: skip
    assert counted == full
    assert all(few < many for name in full for few, many in zip(fewer[name], full[name], strict=True))


@pytest.fixture(scope="module")
def views(smaller, raced):
    return build(smaller), build(raced)


def test_verdicts_retention_and_the_range_are_judged_more_carefully_for_stopped_arms(views, smaller, raced):
    alone, counted = views
    assert [e.contrast.estimate for e in alone.effects] == [e.contrast.estimate for e in counted.effects]
    for few, many in ((a.contrast, c.contrast) for a, c in zip(alone.effects, counted.effects, strict=True)):
        assert many.low < few.low and few.high < many.high or few.estimate.se < 1e-12
    for a, c in zip(alone.advice, counted.advice, strict=True):
        gaps = [(g, c.choice.compared.gap(g.arm, g.other)) for g in a.choice.compared.gaps]
        assert gaps and all(few.alpha > many.alpha and few.upper < many.upper for few, many in gaps)
    arms = ["lora-r1", "lora-r4", "lora-r16"]
    few, many = (advice._shares(Index(e), MODEL.name, "qa-a", arms, alone.base) for e in (smaller, raced))
    assert [few[arm].level for arm in arms] == [1 - 0.05 / 3] * 3 and [many[arm].level for arm in arms] == [0.99] * 3
    assert all(many[arm].low < few[arm].low for arm in arms)


def test_a_stopped_rate_of_an_arm_that_goes_on_changes_no_number(views, smaller):
    rate = replace(smaller, dropped=(_drop("lora-r4", "qa-a", False),))
    alone, told = views[0], build(rate)
    for rows in ("effects", "advice", "questions", "headlines", "scores", "verdicts"):
        assert repr(getattr(told, rows)) == repr(getattr(alone, rows))


def test_the_page_says_that_arms_which_are_out_still_count(views, smaller):
    told = "still count, by their number, wherever arms are judged together"
    assert told in stopped(views[1]).intro
    assert told not in stopped(build(replace(smaller, dropped=(_drop("lora-r4", "qa-a", False),)))).intro


def test_claims_about_the_inside_count_arms_that_were_left_out():
    runs = {arm: {0: 0.50, 1: 0.60, 2: 0.55} for arm in ("lora-r1", "lora-r4", "full")}
    gaps = {
        arm: {seed: value / (4 if arm == "full" else 20) for seed, value in own.items()} for arm, own in runs.items()
    }
    for found in ([change_grows_upward(runs, level, absent=n) for level, n in ((0.95, 0), (0.95, 2))],
                  [full_reshapes_more(gaps, "full", absent=n) for n in (0, 2)]):  # fmt: skip
        assert found[0].answer == "holds" and found[0].why != found[1].why
