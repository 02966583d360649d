"""Models side by side: planted better and equal ones are told as what they are, and never without an interval."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rankscope.stats.beside import Task, beside


def answers(rate, count, seed, shared=None):
    """0/1 answers at a rate; with ``shared`` answers, nine items of ten are as there."""
    rng = np.random.default_rng(seed)
    own = (rng.random(count) < rate).astype(float)
    return own if shared is None else np.where(rng.random(count) < 0.9, shared, own)


def task(name, scores, **more):
    return Task(name, "accuracy", scores, chance=0.25, above_chance=tuple(scores), **more)


def test_a_planted_better_model_is_the_one_to_start_from():
    a = answers(0.4, 600, 0)
    found = beside(
        ["a", "b"], [task("x", {"a": a, "b": answers(0.6, 600, 3)}), task("y", {"a": a, "b": answers(0.6, 600, 4)})]
    )
    assert found.choice == "b" and found.sentence.startswith("Start from b: on the mean of x and y (1,200 items, 95 %")
    assert {c.verdict for c in found.contrasts} == {"better"} and all(c.low > 0.08 for c in found.contrasts)
    assert -0.2 < found.best.gap("a", "b").upper < -0.1


def test_equal_models_are_never_told_apart_for_certain():
    """Of 40 pairs of equal models, one is called the best in about one of 20, the level meant."""
    called = 0
    for seed in range(40):
        a, b = answers(0.5, 150, 2 * seed), answers(0.5, 150, 2 * seed + 1)
        called += beside(["a", "b"], [task("x", {"a": a, "b": b})]).choice is not None
    assert called <= 5  # two standard errors above 5 %


def test_models_that_can_not_be_told_apart_are_said_to_be():
    a = answers(0.5, 200, 0)
    found = beside(["a", "b", "c"], [task("x", {"a": a, "b": answers(0.5, 200, 1, a), "c": answers(0.1, 200, 2)})])
    assert found.choice is None and found.best.possible == ("a", "b")
    assert "a and b can't be told apart as the best" in found.sentence and "c can't be the best" in found.sentence


def test_a_best_one_that_is_not_above_every_other_by_itself_is_promised_no_least_difference():
    """b is excluded by c alone, say: then the choice need not be above b by any shown amount."""
    found = beside(["a", "b"], [task("x", {"a": answers(0.4, 600, 0), "b": answers(0.6, 600, 3)})])
    assert ", by at least" in found.sentence
    gaps = tuple(replace(g, upper=0.002) if (g.arm, g.other) == ("a", "b") else g for g in found.best.gaps)
    said = replace(found, best=replace(found.best, gaps=gaps)).sentence
    assert said.endswith("it is above every other model.")


def test_nats_count_only_between_models_of_one_vocabulary():
    a = np.random.default_rng(0).normal(3, 0.1, 50)
    texts = Task("text", "cross_entropy", {"a": a, "b": a - 0.2})
    found = beside(["a", "b"], [texts])
    assert (found.choice, found.unit, found.contrasts[0].verdict) == ("b", "nats", "better")
    assert found.contrasts[0].estimate.value == pytest.approx(0.2)
    other = beside(["a", "b"], [Task("text", "cross_entropy", texts.scores, is_comparable=False)])
    assert other.contrasts == () and other.choice is None
    assert "no task has comparable scores of all models" in other.sentence


def test_a_task_at_chance_or_without_one_model_decides_nothing():
    a, b = answers(0.25, 100, 0), answers(0.9, 100, 1)
    at_chance = Task("x", "accuracy", {"a": a, "b": a}, chance=0.25)
    failed = task("y", {"a": a})
    found = beside(["a", "b"], [at_chance, failed])
    assert found.sentence == "Nothing here says which model to start from: on no task is any model above chance."
    found = beside(["a", "b"], [at_chance, failed, task("z", {"a": a, "b": b})])
    assert found.tasks == ("z",) and found.choice == "b" and found.reason == "not in the mean: x and y"


def test_items_that_go_together_make_the_difference_less_certain():
    a = np.zeros(120)
    b = np.repeat((np.random.default_rng(0).random(12) < 0.3).astype(float), 10)
    clusters = np.repeat(np.arange(12), 10)
    alone, together = (beside(["a", "b"], [task("x", {"a": a, "b": b}, clusters=c)]) for c in (None, clusters))
    width = [c.contrasts[0].high - c.contrasts[0].low for c in (alone, together)]
    assert width[1] > 2 * width[0] and alone.choice == "b"


def test_one_model_has_nothing_beside_it():
    with pytest.raises(ValueError, match="nothing beside it"):
        beside(["a"], [])
