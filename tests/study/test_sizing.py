"""A budget takes away what matters least first, the seeds last, and never says that something fits that doesn't."""

from __future__ import annotations

import json
import types
from dataclasses import replace

import pytest

from rankscope.config.starter import Question, Scale
from rankscope.errors import InputError
from rankscope.study import drafts
from rankscope.study.drafts import full_scale, size
from rankscope.study.sizing import Prediction, Rung, Sized, fit, foreseen, head, ladder, too_small

TOP = Scale(ranks=(1, 4, 16, 64, 256))
RATES = {"auto": 5, "listed": 3, "fixed": 1}


def seconds(scale):
    """Planted: runs x rows, and items; extras and a race cost what they say."""
    runs = (len(scale.ranks) + 1) * (RATES[scale.rates] + scale.seeds - 1)
    training = runs * scale.rows / 10 * (0.8 if scale.race else 1.0)
    return Prediction(training + runs * scale.items * (0.2 if scale.extras else 0.1), "measured")


def test_each_rung_is_cheaper_and_says_one_thing_for_each_that_is_gone():
    rungs = ladder(TOP)
    times = [seconds(rung.scale).seconds for rung in rungs]
    assert times == sorted(times, reverse=True) and len(set(times)) == len(times)
    assert rungs[0] == Rung(TOP) and len(rungs) == 12
    last = rungs[-1]
    assert (last.scale.seeds, last.scale.rates, last.scale.ranks, last.scale.race) == (1, "fixed", (4, 16, 64), False)
    starts = [text.split(":")[0] for text in last.given_up]
    assert starts == ["the look inside the networks (diagnose), and the scores of learning rates that lost",
                      "350 of 500 test items a task", "1,500 of 2,000 training rows", "ranks 1, 256",
                      "tuned learning rates", "2 of 3 seeds"]  # fmt: skip


def test_seeds_go_last_and_only_if_nobody_named_their_number():
    seeds = [rung.scale.seeds for rung in ladder(TOP)]
    assert seeds == [3] * 10 + [2, 1]
    assert {rung.scale.seeds for rung in ladder(replace(TOP, seeds=5), may_drop_seeds=False)} == {5}


def test_a_race_is_offered_before_rates_are_and_its_saving_is_counted():
    raced = next(rung for rung in ladder(TOP) if rung.scale.race)
    assert raced.scale.rates == "auto" and "Racing" in raced.given_up[-1]
    assert Prediction(100.0, "measured", 60.0).raced == Prediction(88.0, "measured", 48.0)


@pytest.mark.parametrize("budget", [50.0, 120.0, 400.0, 900.0, 2000.0, 4000.0, 9000.0])
def test_the_highest_rung_that_fits_is_taken(budget):
    rungs = ladder(TOP)
    fitting = [rung for rung in rungs if seconds(rung.scale).seconds <= budget]
    found = fit(rungs, seconds, budget)
    assert found == ((fitting[0], seconds(fitting[0].scale)) if fitting else None)


def test_a_few_predictions_are_enough():
    asked = []
    fit(ladder(TOP), lambda scale: asked.append(scale) or seconds(scale), 400.0)
    assert len(asked) <= 4


def test_of_a_range_the_upper_end_counts():
    span = types.SimpleNamespace
    ahead = span(span=span(low=9.0, high=90.0, value=None), train=span(high=60.0), basis="uncalibrated")
    found = foreseen(span(forecast=ahead))
    assert found == Prediction(90.0, "uncalibrated", 60.0, 9.0) and found.text == "9 s to 2 min (uncalibrated)"
    ahead.span.value = 40.0
    assert foreseen(span(forecast=ahead)).text == "up to 2 min (uncalibrated)"
    assert foreseen(span(forecast=None)) is None


def test_the_head_says_the_time_its_basis_and_what_is_gone():
    rung = ladder(TOP)[5]
    told = "\n".join(head(Sized(rung, Prediction(5400.0, "measured")), 7200.0))
    assert told.startswith(
        "Sized to 2 h. Predicted on the machine this was written on: up to 1.5 h (measured), with all"
    )
    assert "  - 250 of 500 test items a task: intervals are about 1.4 times as wide" in told
    assert (
        "a race counted as 80 % of its training" in told.replace("\n", " ") and max(map(len, told.splitlines())) <= 116
    )
    assert head(Sized(Rung(TOP), Prediction(60.0, "measured")), 90.0)[-1] == "Nothing was given up for it."
    told = head(Sized(Rung(TOP), None, "not in local files: mmlu"), 90.0)
    assert told == ["Not sized to 2 min: not in local files: mmlu. Its time, once these can be read: rankscope plan"]


def test_ranks_are_low_for_the_model():
    assert full_scale("demo").ranks == (1, 4, 16)
    assert full_scale("some/hub-model", seeds=2) == Scale(seeds=2)


def test_a_study_is_sized_by_its_own_plan(tmp_path, monkeypatch):
    """The plans are real; what a run takes is planted, so that this doesn't hang on how busy the machine is."""
    path = tmp_path / "sums.jsonl"
    rows = ({"prompt": f"What is {i} + 1?", "completion": str(i + 1)} for i in range(400))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    question = Question("demo", ({"task": "data", "path": str(path), "name": "sums"},), ())
    monkeypatch.setattr(drafts, "foreseen", lambda plan: Prediction(10.0 * len(plan.runs), "measured", 10.0))
    found = size(question, budget=150.0)
    assert (found.prediction.seconds, found.rung.scale.seeds, found.rung.scale.rates) == (120.0, 3, "fixed")
    assert found.rung.scale.batch_tokens == 256  # with more a run would have hardly a step


def test_a_budget_that_no_study_fits_is_an_error_with_the_least_time():
    error = too_small(Prediction(620.0, "measured"), ladder(TOP)[-1].scale, 300.0)
    assert isinstance(error, InputError)
    assert str(error) == (
        "--budget: the smallest study takes up to 10 min (measured): 1 seed, ranks 4, 16, 64 and full SFT, 500 rows, "
        "150 items a task (got '5 min'). Give it --budget 11m, fewer tasks, or a smaller model"
    )


def test_what_is_not_here_is_not_predicted_and_the_hub_is_not_asked(monkeypatch):
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = size(Question("some/hub-model", ({"task": "gsm8k"},), ({"task": "mmlu"},)), budget=3600.0)
    assert found.prediction is None and found.rung.given_up == ()
    assert found.why_not == "not in local files: hub-model, gsm8k, gsm8k@5shot, mmlu"
