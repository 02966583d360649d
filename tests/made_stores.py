"""A store of made records: a small declared study whose scores are drawn, not measured, so that no model works."""

from __future__ import annotations

import copy
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from rankscope.records import CurvePoint, EvalResult, Ledger, RunResult, RunSpec, Score
from rankscope.storage.store import Store
from rankscope.study import measures
from rankscope.study.plan import base_spec, run_key
from rankscope.study.study import Study

NUM_ITEMS = 60
DECLARED = {
    "name": "made",
    "title": "Made </script><script>alert(1)</script> study",
    "models": [{"id": "demo", "dtype": "float32"}],
    "train": [{"task": "demo_people", "limit": 50}],
    "arms": ["base", {"lora": {"rank": [1, 4], "lr": 1e-3}}, {"full": {"lr": 5e-4}}],
    "training": {"max_steps": 12, "seeds": [0, 1]},
    "evaluate": {"retention": ["demo_facts"], "limit": NUM_ITEMS},
}


class MadeStore:
    """A folder to which one finished run after the other is added. ``arms``: trained ones, as declared."""

    def __init__(self, folder: Path, declared: dict | Path | None = None):
        self.folder, self.study = folder, Study.load(declared or DECLARED)
        (self.model,), ((self.raw, self.train),) = self.study.resolve()
        self.arms = [trials[0] for trials in self.study.arm_trials(self.model, self.train)]
        with Store.open(folder) as store:
            place = {"folder": str(folder), "data_dir": None}
            store.save_study(self.study.config.name, self.study.key, self.study.config.as_dict(), {"place": place})

    def at(self, folder: Path) -> MadeStore:
        """The same study over a copy of its store."""
        other = copy.copy(self)
        other.folder = Path(folder)
        return other

    @property
    def key(self) -> str:
        return self.study.key

    def spec(self, index: int, seed: int) -> RunSpec:
        return replace(self.arms[index], seed=seed)

    def add_base(self) -> None:
        self._put(base_spec(self.model), self.study.config.evaluations(None), 0.5)

    def add(self, index: int, seed: int) -> str:
        """One more arm's run of a seed with all its scores. Returns the run's key."""
        return self._put(self.spec(index, seed), self.study.config.evaluations(self.raw), 0.6 + 0.1 * index)

    def fail(self, index: int, seed: int, message: str) -> None:
        """One more arm's run of a seed, failed."""
        spec = self.spec(index, seed)
        with Store.open(self.folder) as store:
            store.put_run(spec, run_key(spec), RunResult(run_key(spec), "failed", message=message))

    def _put(self, spec: RunSpec, evaluations: tuple, rate: float) -> str:
        key = run_key(spec)
        curve = tuple(CurvePoint(step, 3.0 / step, 1e-3, 64 * step, 0.1 * step) for step in range(1, 13))
        took = Ledger(seconds=30.0, tokens=800, flops=1e11, peak_bytes=10**8, trainable=1000)
        made = RunResult(key, "done", validation_loss=1.0, validation_se=0.1, steps=12, curve=curve, ledger=took)
        with Store.open(self.folder) as store:
            store.put_run(spec, key, made)
            for measure in measures.scores(self.study, evaluations):
                drawn = np.random.default_rng(zlib.crc32(f"{spec.seed}{measure.key}".encode())).random(NUM_ITEMS)
                scores = tuple(Score(f"item-{i}", float(x < rate)) for i, x in enumerate(drawn))
                ledger = Ledger(seconds=2.0, tokens=9)
                found = EvalResult(key, measure.key, "done", "", "accuracy", 0.25, scores, ledger)
                store.put_eval(found, measure.ref, measure.key)
        return key
