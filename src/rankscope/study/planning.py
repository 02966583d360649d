"""From a study and what its store holds to a ``Plan``. In: a study, an open store or None. Out: runs, forecast, notes.

Rows of data are read to count tokens; no weights, no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rankscope.models.locate import shape
from rankscope.records import ModelRef, RunResult, RunSpec, TaskRef
from rankscope.study import forecast as fc
from rankscope.study.plan import Plan, base_spec, cohorts, run_key, task_key
from rankscope.study.rates import Rates, arm_rates
from rankscope.tasks import task as tasks


def make_plan(study: Any, store: Any | None) -> Plan:
    """Every run there is to do, as far as known: rates still to be chosen show as trials of the first seed."""
    models, pairs = study.resolve()
    find = store.runs if store is not None else lambda keys: {}
    names: list[tuple[str, bool]] = []
    parts: list[fc.Forecast | None] = []
    notes: list[str] = []
    tokens = _TestTokens(study)
    for model in models:
        size = fc.size_of(shape(model), model.dtype)
        for raw, ref in pairs:
            rates = [arm_rates(find, trials) for trials in study.arm_trials(model, ref)]
            trials, finals = _specs(rates, study.config.seeds)
            found = find(run_key(s) for s in (*trials, *finals))
            names += [(s.name, run_key(s) in found) for s in dict.fromkeys((*trials, *finals))]
            notes += _notes(size, model, rates, notes)
            parts.append(size and _block(study, store, size, raw, ref, trials, finals, found, tokens))
        parts.append(size and _base(study, store, size, model, tokens))
    return Plan(tuple(names), _total(parts), tuple(notes))


def _specs(rates: Sequence[Rates], seeds: Sequence[int]) -> tuple[list[RunSpec], list[RunSpec]]:
    """Trials of the first seed; final runs of every seed, at the chosen rate or, until then, a stand-in."""
    trials = [trial for r in rates for trial in r.trials]
    return trials, [replace(r.chosen, seed=seed) for seed in seeds for r in rates]


def _notes(size: fc.Size | None, model: ModelRef, rates: Sequence[Rates], told: list[str]) -> list[str]:
    if size is None:
        new = [f"{model.name}: no local config.json, so time and memory can't be predicted before the model is here"]
    else:
        new = [f"{model.name}: {note}" for note in fc.rank_warnings(size, [r.trials[0] for r in rates])]
    if any(not r.is_settled and r.trials[0].arm.lr_auto for r in rates):
        new.append("lr: auto may add up to two more trials per arm where the best rate lies at the end of its grid")
    return [note for note in new if note not in told]


def _block(study, store, size: fc.Size, raw: TaskRef, ref: TaskRef, trials, finals, found, tokens) -> fc.Forecast:
    """What one model and train task still take."""
    todo = [s for s in dict.fromkeys((*trials, *finals)) if run_key(s) not in found]
    num = fc.train_tokens(study.config.recipe(), tasks.train_samples(ref, study.data_dir)) if todo else 0
    rate = fc.rate_of(r.ledger for r in found.values() if r.status == "done")
    measured = {run_key(s): found[run_key(s)] for s in finals if run_key(s) in found}
    num_tokens = _per_run(measured, num)
    train = sum((fc.train_flops(size, s, num_tokens) for s in todo), 0.0)
    left, score_rate = 0, []
    for spec in finals:
        is_failed = run_key(spec) in found and found[run_key(spec)].status == "failed"
        done = store.eval_ledgers(run_key(spec)) if store is not None else {}
        score_rate += done.values()
        if not is_failed:
            left += sum(tokens.of(e) for e, _ in study.config.evaluations(raw) if tokens.key(e) not in done)
    peak = max((fc.train_bytes(size, group) for group in cohorts(todo)), default=0)
    return _forecast(size, train, rate, left, score_rate, peak)


def _base(study, store, size: fc.Size, model: ModelRef, tokens) -> fc.Forecast:
    done = store.eval_ledgers(run_key(base_spec(model))) if store is not None else {}
    left = sum(tokens.of(e) for e, _ in study.config.evaluations(None) if tokens.key(e) not in done)
    return _forecast(size, 0.0, None, left, list(done.values()), 0)


def _forecast(size, train: float, rate: float | None, score_tokens: int, ledgers, peak: int) -> fc.Forecast:
    """Scoring without a measured rate goes at the rate of training, or of the machine."""
    seconds, seen = sum(x.seconds for x in ledgers), sum(x.tokens for x in ledgers)
    score_rate = fc.score_flops(size, seen) / seconds if seconds > 0 and seen else None
    is_measured = not (train and rate is None) and not (score_tokens and (score_rate or rate) is None)
    fallback = 0.0 if is_measured else fc.machine_rate()
    train_seconds = train / (rate or fallback) if train else 0.0
    score_seconds = fc.score_flops(size, score_tokens) / (score_rate or rate or fallback) if score_tokens else 0.0
    return fc.Forecast(train_seconds, score_seconds, peak, fc.MEASURED if is_measured else fc.FLOOR)


def _per_run(measured: dict[str, RunResult], counted: int) -> int:
    done = [r.ledger.tokens for r in measured.values() if r.status == "done"]
    return round(sum(done) / len(done)) if done else counted


def _total(parts: list[fc.Forecast | None]) -> fc.Forecast | None:
    if not parts or any(p is None for p in parts):
        return None
    basis = fc.MEASURED if all(p.basis == fc.MEASURED for p in parts) else fc.FLOOR
    return fc.Forecast(sum(p.train_seconds for p in parts), sum(p.score_seconds for p in parts),
                       max(p.peak_bytes for p in parts), basis)  # fmt: skip


class _TestTokens:
    """Tokens of a test task, counted once; generated answers count as their full length."""

    def __init__(self, study: Any):
        self.study, self._known = study, {}

    def key(self, ref: TaskRef) -> str:
        return task_key(self.study.test_task(ref))

    def of(self, ref: TaskRef) -> int:
        if ref not in self._known:
            prepared = tasks.prepare(self.study.test_task(ref), self.study.data_dir)
            self._known[ref] = sum(fc.text_tokens(s) + prepared.max_new_tokens for s in prepared.samples)
        return self._known[ref]
