"""A planted study: scores drawn around known effects, two train tasks, four arms, three seeds, one failed run, one
task at chance.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rankscope.records import (
    Arm,
    CurvePoint,
    EvalResult,
    Ledger,
    ModelRef,
    Overlap,
    Recipe,
    RowCounts,
    RunResult,
    RunSpec,
    Score,
    TaskRef,
)
from rankscope.report.view import Evidence, build

NUM_ITEMS = 600
SEEDS = (0, 1, 2)
MODEL = ModelRef("hub/tiny-model", revision="abc123", key="modelkey0")
ARMS = (
    Arm("base", "base"),
    Arm("lora-r1", "lora", lr=(1e-3,), rank=1, alpha=32.0),
    Arm("lora-r4", "lora", lr=(1e-3, 3e-3), rank=4, alpha=32.0),
    Arm("lora-r16", "lora", lr=(1e-3,), rank=16, alpha=32.0),
    Arm("full", "full", lr=(1e-4,)),
)
BASE = {"qa-a": 0.40, "qa-b": 0.50, "trivia": 0.62, "recall": 0.55, "letters": 0.24}
GAIN = {"lora-r1": 0.03, "lora-r4": 0.148, "lora-r16": 0.15, "full": 0.15}
LOSS = {"lora-r1": 0.0, "lora-r4": 0.0, "lora-r16": 0.04, "full": 0.16}
CHANCE = {"qa-a": 0.2, "qa-b": 0.25, "trivia": 0.25, "recall": 0.3, "letters": 0.25}
EVALUATIONS = {
    "qa-a": (
        ("qa-a", "in_domain"),
        ("qa-b", "cross_domain"),
        ("trivia", "retention"),
        ("recall", "retention"),
        ("letters", "retention"),
        ("neutral_text", "retention"),
    ),
    "qa-b": (
        ("qa-b", "in_domain"),
        ("qa-a", "cross_domain"),
        ("trivia", "retention"),
        ("recall", "retention"),
        ("letters", "retention"),
        ("neutral_text", "retention"),
    ),
}
NOT_HERE = "the rows were not here"
FAILED = ("qa-b", "lora-r16", 2)


def evaluation(key: str, task: str, values: np.ndarray, metric: str = "accuracy") -> EvalResult:
    scores = tuple(Score(f"{task}-{i}", float(v)) for i, v in enumerate(values))
    return EvalResult(
        key,
        f"key-{task}",
        "done",
        metric=metric,
        chance=CHANCE.get(task.split("@")[0]),
        scores=scores,
        ledger=Ledger(seconds=3.0, tokens=1000),
    )


def right(rate: float, task: str, seed: int) -> np.ndarray:
    """0/1 scores: items keep their difficulty over arms and seeds, so differences are paired."""
    difficulty = np.random.default_rng(sum(map(ord, task))).permutation(NUM_ITEMS) / NUM_ITEMS
    noise = np.random.default_rng([seed + 1, sum(map(ord, task))]).normal(0, 0.015, NUM_ITEMS) if seed >= 0 else 0.0
    return (difficulty + noise < rate).astype(float)


def nats(mean: float, seed: int) -> np.ndarray:
    text = np.random.default_rng(7).normal(0, 0.5, NUM_ITEMS)
    return 3.0 + mean + text + (np.random.default_rng(seed + 20).normal(0, 0.02, NUM_ITEMS) if seed >= 0 else 0.0)


def arm_values(train: str, arm: str, task: str, seed: int) -> np.ndarray:
    if task == "neutral_text":
        return nats(LOSS[arm], seed)
    if task == "letters":
        return right(BASE[task], task, seed)
    shift = GAIN[arm] if task == train else -LOSS[arm]
    return right(BASE[task] + shift, task, seed)


def run_of(train: str, arm: Arm, lr: float, seed: int, status: str = "done", loss: float = 1.2) -> tuple:
    spec = RunSpec(MODEL, arm, lr, TaskRef(train, limit=2000, data_key=f"data-{train}"), Recipe(), seed)
    key = f"{train}-{arm.name}-{lr:g}-{seed}"
    curve = tuple(CurvePoint(s, 3 * 0.99**s + 1, lr, s * 64, s * 0.1) for s in range(1, 201))
    ledger = Ledger(
        seconds=60.0 + (arm.rank or 100),
        tokens=128_000,
        flops=1e15,
        peak_bytes=2_500_000_000,
        trainable=4_000 * (arm.rank or 20_000),
        blob_bytes=16_000 * (arm.rank or 20_000),
    )
    if status == "failed":
        return spec, key, RunResult(key, "failed", "train", "loss is not finite at step 31", ledger=Ledger(seconds=9.0))
    result = RunResult(key, "done", validation_loss=loss, validation_se=0.01, steps=200, curve=curve, ledger=ledger,
                       notes=("2 items were cut",))  # fmt: skip
    return spec, key, result


def planted() -> Evidence:
    base = RunSpec(MODEL, ARMS[0], 0.0, None, None, 0)
    runs: list[tuple] = [(base, "base-key", RunResult("base-key", "done"), "final")]
    evals = {("base-key", task): evaluation("base-key", task, right(rate, task, -1)) for task, rate in BASE.items()}
    evals["base-key", "neutral_text"] = evaluation("base-key", "neutral_text", nats(0.0, -1), "cross_entropy")
    evals["base-key", "qa-a@5shot"] = evaluation("base-key", "qa-a", right(0.47, "qa-a", -1))
    for train in EVALUATIONS:
        for arm in ARMS[1:]:
            runs.append((*run_of(train, arm, arm.lr[0] * 3, 0, loss=1.4), "trial"))
            for seed in SEEDS:
                failed = (train, arm.name, seed) == FAILED
                run = run_of(train, arm, arm.lr[0], seed, "failed" if failed else "done")
                runs.append((*run, "final"))
                for task, _ in () if failed else EVALUATIONS[train]:
                    metric = "cross_entropy" if task == "neutral_text" else "accuracy"
                    evals[run[1], task] = evaluation(run[1], task, arm_values(train, arm.name, task, seed), metric)
    environment = {"versions": {"torch": "2.9", "peft": None}, "device": "cpu", "threads": 2}
    return Evidence(
        "planted",
        "Planted study",
        SEEDS,
        ARMS,
        tuple(EVALUATIONS),
        EVALUATIONS,
        tuple(runs),
        evals,
        environment,
        notes=("Synthetic scores.",),
        row_counts={"qa-a": RowCounts(2000, 0, 3, 7), "qa-b": NOT_HERE},
        overlaps={
            **{("qa-a", task): Overlap(NUM_ITEMS, 0, 0, 0, 13) for task, _ in EVALUATIONS["qa-a"][1:]},
            ("qa-a", "qa-a"): Overlap(NUM_ITEMS, 30, 0, 249, 13),
            ("qa-b", "qa-b"): NOT_HERE,
        },
    )


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    return planted()


@pytest.fixture(scope="session")
def view(evidence):
    return build(evidence)


@pytest.fixture(scope="session")
def unfinished(evidence) -> Evidence:
    """Only the base and seed 0 of two arms on the first train task; one of them not evaluated everywhere."""
    kept = tuple(
        r
        for r in evidence.runs
        if r[0].train is None
        or (r[0].train.name == "qa-a" and r[0].seed == 0 and r[0].arm.name in ("lora-r4", "full") and r[3] == "final")
    )
    keys = {r[1] for r in kept}
    evals = {k: e for k, e in evidence.evals.items() if k[0] in keys and k != ("qa-a-full-0.0001-0", "trivia")}
    return replace(evidence, runs=kept, evals=evals)
