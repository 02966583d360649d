"""A study's stages add up to its wall time, a planted delay shows in its stage, and samples change no result."""

from __future__ import annotations

import time

import pytest

from rankscope.clock import Clock
from rankscope.evaluation import divergence
from rankscope.models import adapter
from rankscope.study.plan import run_key
from rankscope.study.study import Study

TINY = {
    "name": "tiny",
    "models": [{"id": "demo", "dtype": "float32"}],
    "train": [{"task": "demo_people", "limit": 40}],
    "arms": ["base", {"lora": {"rank": 2, "lr": 1e-3}}],
    "training": {"max_steps": 3, "batch_tokens": 256, "seeds": [0]},
    "evaluate": {"retention": [{"task": "demo_facts", "limit": 8}, {"task": "demo_text", "limit": 4}], "limit": 8},
}


def _run(folder, clock):
    result = Study.load(TINY).run(folder, clock=clock)
    return {(spec.name, run_key(spec)): found for spec, _, found, _ in result.evidence.runs}, result.evidence.evals


def test_stages_add_up_a_planted_delay_shows_and_samples_change_nothing(tmp_path, monkeypatch):
    write = adapter.write_adapter

    def slowly(*args):
        time.sleep(0.4)
        write(*args)

    plain = _run(tmp_path / "plain", None)
    monkeypatch.setattr(adapter, "write_adapter", slowly)
    began, clock = time.perf_counter(), Clock(is_sampling=True)
    runs, evals = _run(tmp_path / "timed", clock)
    found, wall = clock.breakdown(), time.perf_counter() - began

    assert sum(found.stages.values()) == pytest.approx(wall, rel=0.02)
    assert found.stages["writing"] >= 0.4
    for stage in ("checking", "loading", "tokenising", "training", "scoring", "divergence", "statistics"):
        assert found.stages[stage] > 0
    assert found.stages["other"] < 0.25 * wall
    assert set(found.work) == {"training", "validation", "scoring", "divergence"}
    for work in found.work.values():
        assert work.products + work.attention + work.optimiser + work.rest == pytest.approx(1)
        assert work.products > 0 and work.reached > 0
    assert found.work["training"].optimiser > 0

    assert {k: (r.validation_loss, [p.loss for p in r.curve]) for k, r in runs.items()} == {
        k: (r.validation_loss, [p.loss for p in r.curve]) for k, r in plain[0].items()
    }
    assert {k: r.scores for k, r in evals.items()} == {k: r.scores for k, r in plain[1].items()}


def test_the_looks_of_a_race_are_validation(tmp_path, monkeypatch):
    look = divergence.look

    def slowly(*args):
        time.sleep(1.0)
        return look(*args)

    monkeypatch.setattr(divergence, "look", slowly)
    few = {"retention": [{"task": "demo_facts", "limit": 2}], "limit": 2, "divergence": False, "noise_floor": False}
    raced = TINY | {"training": TINY["training"] | {"max_steps": 2, "race": True}, "evaluate": few}
    clock = Clock()
    Study.load(raced).run(tmp_path / "runs", clock=clock)
    assert clock.breakdown().stages["validation"] >= 1.0
