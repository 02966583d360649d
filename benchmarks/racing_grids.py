"""Full grids of short runs, recorded for the replay of races. In: a folder and how many. Out: a store and looks.

A grid is one study of one seed: five LoRA ranks and full SFT, each at three learning rates, none stopped early. Every
run is read at each look and at its end (losses and drift of the validation rows) and scored on all test tasks at its
end. Runs and scores go into an ordinary store, so that a replay asks the real study for its recommendation; looks go
beside it, one file a grid. What is there isn't done again.

Legend: R runs, K looks (the last is the end), N validation rows.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import planted
import torch
import yaml

from rankscope.evaluation.divergence import Reference, reference
from rankscope.evaluation.suite import evaluate
from rankscope.models.base import Base, load, token_kl
from rankscope.models.lora import AdapterBank
from rankscope.provenance import environment
from rankscope.records import RunResult, RunSpec, Score
from rankscope.stats.racing import Look, Racer
from rankscope.storage.store import Store
from rankscope.study import measures
from rankscope.study.plan import base_spec, cohorts, run_key
from rankscope.study.study import Study
from rankscope.training.cohort import TrainSet, encode_train_set, recruit
from rankscope.training.loop import Loop
from rankscope.worker import Trained, validation_losses, where

DEMO = Path(__file__).parents[1] / "studies" / "demo.yaml"
SHARES = (0.0625, 0.125, 0.25, 0.375, 0.5, 1.0)
"""More looks than a race has, so that others can be tried on the same grids."""
KINDS = ("demo_people", "demo_compose", "planted")
STEPS, TOKENS, LIMIT = {"planted": 96, "tied": 48}, {"planted": 768}, 200
"""Steps, tokens of a step (else 48 and 512) and test items of a task: small, so that many grids can be had."""
RANKS = [1, 2, 4, 8, 16]
FIRST = 1000
"""The first fresh seed; grid g has seed ``FIRST + g``."""
TIED = 100
"""Grids of this number and above are of the planted world's first scale alone."""


@dataclass(frozen=True)
class Grid:
    """One recorded grid: its study, and what every run showed at every share."""

    number: int
    kind: str
    study: dict
    start: tuple[float, ...]
    looks: dict[float, tuple[Look, ...]]
    tokens: int


def kind_of(number: int) -> str:
    return "tied" if number >= TIED else KINDS[number % len(KINDS)]


def study_of(number: int, folder: Path) -> dict:
    """The study of a grid, as a file would have it."""
    kind = kind_of(number)
    if kind in ("planted", "tied"):
        study = planted.build(folder / "world")
        if kind == "tied":
            study["train"] = [one_scale(folder / "world", study["train"][0])]
        lora = {**study["arms"][1]["lora"], "rank": RANKS, "lr": [3e-3, 1e-2, 3e-2]}
        full = {"lr": [1e-3, 3e-3, 1e-2]}
    else:
        study = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
        study["train"] = [kind]
        lora = {"rank": RANKS, "alpha": 32, "lr": [1e-3, 3e-3, 1e-2]}
        full = {"lr": [1e-3, 3e-3, 1e-2]}
    study.pop("diagnose", None)
    study["arms"] = ["base", {"lora": lora}, {"full": full}]
    study["training"] = {"max_steps": STEPS.get(kind, 48), "batch_tokens": TOKENS.get(kind, 512),
                         "seeds": [FIRST + number]}  # fmt: skip
    study["evaluate"] = {**study["evaluate"], "divergence": False, "noise_floor": False, "trials": False,
                         "limit": LIMIT}  # fmt: skip
    return study


def one_scale(folder: Path, task: dict) -> dict:
    """The planted world's questions about its first scale alone: rank 1 answers them all, so that the ranks tie."""
    rows = [json.loads(line) for line in Path(task["train"]).read_text(encoding="utf-8").splitlines()]
    mine = [json.dumps(row) + "\n" for row in rows if row["subject"] == "on00"]
    for name, part in (("test", mine[:LIMIT]), ("train", mine[LIMIT:])):
        (folder / f"one_{name}.jsonl").write_text("".join(part), encoding="utf-8")
    return {**task, "train": str(folder / "one_train.jsonl"), "test": str(folder / "one_test.jsonl"), "name": "scale"}


def record(folder: Path, numbers: range) -> None:
    """Record the grids that aren't there yet."""
    bases: dict[str, Base] = {}
    (folder / "looks").mkdir(parents=True, exist_ok=True)
    for number in numbers:
        if (folder / "looks" / f"{number}.npz").is_file():
            continue
        began = time.monotonic()
        study = Study.load(study_of(number, folder))
        model = study.resolve()[0][0]
        base = bases.setdefault(model.key, load(model))
        with Store.open(folder / "store") as store:
            Recorder(study, base, store).go(folder / "looks" / f"{number}.npz")
        print(f"grid {number} ({kind_of(number)}): {time.monotonic() - began:.0f} s", flush=True)


class Recorder:
    """One grid of one study, run for run."""

    def __init__(self, study: Study, base: Base, store: Store):
        self.study, self.base, self.store = study, base, store
        (self.model,), ((self.raw, self.ref),) = study.resolve()
        self.measures = measures.scores(study, study.config.evaluations(self.raw))
        self.data: TrainSet = encode_train_set(base, study.samples(self.ref), study.config.recipe())
        self.known: Reference = reference(base, self.data.validation, [Score("", 0.0)] * len(self.data.validation))

    def go(self, path: Path) -> None:
        self._score_base()
        start = self._losses(self.base)
        specs = [s for arm in self.study.arm_trials(self.model, self.ref) for s in arm]
        losses = np.full((len(specs), len(SHARES), len(start)), np.nan, np.float32)  # (R, K, N)
        drift, tokens = losses.copy(), np.zeros(len(specs), int)
        for group in cohorts(specs):
            for spec, (its_losses, its_drift, its_tokens) in zip(group, self._train(group), strict=True):
                place = specs.index(spec)
                losses[place], drift[place], tokens[place] = its_losses, its_drift, its_tokens
        arms = np.array([[s.arm.name, s.arm.kind, str(s.arm.rank or 0), repr(s.lr)] for s in specs])
        new = path.with_name("new.npz")
        np.savez_compressed(new, start=np.float32(start), losses=losses, drift=drift, tokens=tokens, arms=arms,
                            shares=np.array(SHARES))  # fmt: skip
        new.replace(path)

    def _score_base(self) -> None:
        spec = base_spec(self.model)
        key = run_key(spec)
        if self.store.run(key) is None:
            self.store.put_run(spec, key, RunResult(key, "done", environment=environment(where(self.base))))
        self._score(self.base, key)

    def _score(self, base: Base, key: str) -> None:
        for m in self.measures:
            if self.store.eval_outcome(key, m.key) is None:
                self.store.put_eval(evaluate(base, self.study.prepared(m.ref), key, m.key), m.ref, m.key)

    def _losses(self, base: Base) -> tuple[float, ...]:
        return validation_losses(base, self.data.validation, 4096)

    def _train(self, group: list[RunSpec]) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """Train a cohort to the end, read at every share, score and store it."""
        is_full = group[0].arm.kind == "full"
        mine = self.base.trainable_copy() if is_full else self.base
        bank = None if is_full else AdapterBank(mine)
        trained = Trained(mine, bank, [recruit(mine, bank, run_key(s), s, self.data) for s in group])
        total = len(trained.trainees[0].steps)
        stops = [math.ceil(share * total) for share in SHARES]
        shape = (2, len(SHARES), len(self.data.validation))
        seen = {t.key: np.full(shape, np.nan, np.float32) for t in trained.trainees}

        def tick(step: int, total: int, loss: float) -> None:
            for place in [i for i, stop in enumerate(stops) if stop == step]:
                for t in trained.trainees:
                    if t.failed is None:
                        with trained.using(t.key) as base:
                            seen[t.key][:, place] = look(base, self.known)

        Loop(mine, bank).train(trained.trainees, tick)
        done = [(t.spec, t.key, trained.result(t)) for t in trained.trainees]
        self.store.put_runs(done)
        for _, key, result in done:
            if result.status == "done":
                with trained.using(key) as base:
                    self._score(base, key)
        trained.close()
        return [(*seen[t.key], t.tokens) for t in trained.trainees]


@torch.inference_mode()
def look(base: Base, known: Reference) -> np.ndarray:
    """Losses and drift (2, N) of the rows, from one pass."""
    out = np.zeros((2, len(known.rows)))
    for batch, before in zip(known.batches, known.hidden, strict=True):
        rows = [known.rows[i] for i in batch]
        ids = torch.tensor([[*r.ids, *[0] * (max(len(r.ids) for r in rows) - len(r.ids))] for r in rows])
        owner = np.array([i for i, r in zip(batch, rows, strict=True) for _ in r.labels])
        row = torch.tensor([b for b, r in enumerate(rows) for _ in r.labels])
        place = torch.tensor([t for r in rows for t in r.labels])
        logits = base.logits(base.hidden(ids, (torch.arange(ids.shape[1]) < torch.tensor(
            [len(r.ids) for r in rows])[:, None]).long())[row, place - 1])  # fmt: skip
        nll = torch.nn.functional.cross_entropy(logits.float(), ids[row, place], reduction="none")
        for values, into in ((nll, out[0]), (token_kl(known.head(before), logits), out[1])):
            np.add.at(into, owner, values.numpy())
    return out / np.array([r.num_labels for r in known.rows])


def read(folder: Path, number: int) -> Grid:
    """A recorded grid."""
    found = np.load(folder / "looks" / f"{number}.npz")
    racers = [Racer(str(a), str(kind), int(rank) or None, float(lr)) for a, kind, rank, lr in found["arms"]]
    looks = {
        float(share): tuple(
            Look(racer, float(share), tuple(losses[k].tolist()), tuple(drift[k].tolist()))
            for racer, losses, drift in zip(racers, found["losses"], found["drift"], strict=True)
        )
        for k, share in enumerate(found["shares"])
    }
    return Grid(number, kind_of(number), study_of(number, folder), tuple(found["start"].tolist()), looks,
                int(found["tokens"].max()))  # fmt: skip
