"""A planted study of which a race stopped arms: their number counts in every family, and nothing else of them."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest

from rankscope.records import Dropped, Ledger
from rankscope.report import family
from rankscope.report.evidence import Index
from rankscope.report.logbook import stopped
from rankscope.report.view import build
from rankscope.stats import claims, contrast, recommend
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


@pytest.fixture(autouse=True)
def only_intervals(monkeypatch):
    """What more data would bring takes longer than all the rest."""
    monkeypatch.setattr(contrast, "needed", lambda *_: None)


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
        for place, name in ((family, "contrasts"), (claims, "contrasts"), (claims, "best"), (recommend, "best")):
            count(place, name)
        build(evidence)
    return seen


def test_every_family_counts_as_many_members_as_if_no_arm_had_been_stopped(whole, smaller, raced, monkeypatch):
    full, counted, fewer = (_sizes(monkeypatch, e) for e in (whole, raced, smaller))
    assert {name: len(sizes) for name, sizes in full.items()} == {
        "rankscope.report.family.contrasts": 1,
        "rankscope.stats.claims.contrasts": 8,
        "rankscope.stats.claims.best": 2,
        "rankscope.stats.recommend.best": len(full["rankscope.stats.recommend.best"]),
    }
    assert counted == full
    assert all(few < many for name in full for few, many in zip(fewer[name], full[name], strict=True))
