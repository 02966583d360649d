"""A real study, killed with SIGKILL at three moments and resumed, gives the same bits as one left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rankscope.models.adapter import read_tensors
from rankscope.storage.store import Store
from rankscope.study.plan import run_key
from rankscope.study.study import Study
from rankscope.training import checkpoint

STUDY = """
models: [{id: demo, dtype: float32}]
train: [{task: demo_people, limit: 300}]
arms: [{lora: {rank: [1, 4], lr: 3e-3, dropout: 0.1}}, {full: {lr: 5e-4}}]
training: {max_steps: 40, batch_tokens: 512, seeds: [0], checkpoint_seconds: 0.2}
evaluate: {retention: [{task: demo_facts, limit: 24}], limit: 24}
keep: all
"""


def _start(study: Path, store: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rankscope", "run", str(study), "--store", str(store), "-q"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _finish(study: Path, store: Path) -> None:
    child = _start(study, store)
    _, said = child.communicate(timeout=240)
    assert child.returncode == 0, said


def _kill_when(study: Path, store: Path, is_time) -> None:
    child = _start(study, store)
    until = time.monotonic() + 120
    while not is_time() and child.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    assert child.poll() is None, "the study ended before it could be killed"
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()


def _contents(study: Study, folder: Path) -> dict:
    """Everything that must not differ: losses, weights, scores of all runs."""
    models, pairs = study.resolve()
    found = {}
    with Store.open(folder, write=False) as store:
        specs = [s for model in models for _, ref in pairs for trials in study.arm_trials(model, ref) for s in trials]
        for spec in specs:
            key = run_key(spec)
            run = store.run(key)
            found[key, "losses"] = (run.status, run.validation_items, [(p.step, p.loss, p.tokens) for p in run.curve])
            found[key, "weights"] = {
                name: tensor.numpy().tobytes() for name, tensor in read_tensors(store.blobs.path(key))[0].items()
            }
            for task in store.eval_ledgers(key):
                found[key, task] = store.eval(key, task).scores
    return found


@pytest.fixture
def study(tmp_path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


def test_a_study_killed_three_times_ends_with_the_same_bits(study, tmp_path):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    _finish(study, alone)

    _kill_when(study, killed, lambda: list(killed.glob("checkpoints/*/checkpoint.safetensors")))
    (file,) = killed.glob("checkpoints/*/checkpoint.safetensors")
    _, state = checkpoint.read(file.parent)
    assert 0 < state["step"] < 40

    _kill_when(study, killed, lambda: list(killed.glob("blobs/*/*")))
    with Store.open(killed, write=False) as store:  # whatever stands there is whole
        key, before = next(iter(state["runs"].items()))
        stored = store.run(key)
        assert stored is None or len(stored.curve) == 40

    def is_scoring() -> bool:
        with Store.open(killed, write=False) as store:
            return any(len(store.eval_ledgers(k)) == 1 for k in store.blobs.keys())  # noqa: SIM118

    _kill_when(study, killed, is_scoring)
    _finish(study, killed)

    # The first run went on from its checkpoint: the steps before it kept the seconds they were measured with.
    with Store.open(killed, write=False) as store:
        curve = store.run(key).curve
    assert [p.seconds for p in curve[: state["step"]]] == [point[4] for point in before["curve"]]
    loaded = Study.load(study)
    expected, found = _contents(loaded, alone), _contents(loaded, killed)
    assert expected.keys() == found.keys() and len(expected) == 15
    different = [name for name in expected if expected[name] != found[name]]
    assert different == []
    assert not list(killed.glob("checkpoints/*/*")) and not list(killed.rglob("*.new"))
