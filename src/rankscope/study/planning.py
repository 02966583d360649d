"""From a study and what its store holds to a ``Plan``. In: a study, an open store or None. Out: runs, forecast, notes.

Rows of data are read to count tokens; no weights, no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rankscope.models.locate import shape
from rankscope.records import Ledger, ModelRef, RunSpec, TaskRef
from rankscope.study import forecast as fc
from rankscope.study import measures
from rankscope.study.plan import Plan, base_spec, cohorts, given_spec, run_key
from rankscope.study.rates import Rates
from rankscope.study.rows import known
from rankscope.study.standing import standing

_FEW_SEEDS = {
    1: ("one seed: every interval speaks for that seed only",),
    2: ("two seeds: where seeds vary a lot, verdicts err more often than the 5 % meant; three seeds are safer",),
}


_AT_MOST = "a race: runs that can't win are stopped on the way, so that less may be trained than is counted here"


def make_plan(study: Any, store: Any | None) -> Plan:
    """Every run there is to do, as far as known: rates still to be chosen show as trials of the first seed."""
    models, pairs = study.resolve()
    find = store.runs if store is not None else lambda keys: {}
    names: list[tuple[str, bool]] = []
    parts: list[fc.Forecast | None] = []
    notes: list[str] = []
    stopped: list[str] = []
    is_at_most = False
    for model in models:
        work = _Work(study, store, fc.size_of(shape(model), model.dtype))
        work.measure(base_spec(model), measures.scores(study, study.config.evaluations(None)))
        work.measure(base_spec(model), measures.noise(study))
        judged = study.config.judged()
        for arm in study.given():
            spec = given_spec(model, arm)
            names.append((spec.name, work.measure(spec, measures.scores(study, judged))))
            work.measure(spec, measures.divergences(study, [ref for _, ref in pairs], judged))
        for raw, ref in pairs:
            rates, drops = study.rates(find, model, ref, store), standing(study, find, store, model, ref).drops
            # Final runs stand at the chosen rate or, until there is one, at a stand-in.
            finals = [replace(r.chosen, seed=seed) for seed in study.config.seeds for r in rates if not r.is_out]
            every = list(dict.fromkeys((*(t for r in rates for t in r.trials), *finals)))
            specs = [s for s in every if run_key(s) not in drops]
            found = find(run_key(s) for s in every)
            names += [(s.name, run_key(s) in found or s not in specs) for s in every]
            stopped += [s.name for s in every if s not in specs]
            notes += _notes(work.size, model, rates, notes)
            if study.config.training.race and any(run_key(t) not in found for r in rates for t in _racing(r)):
                is_at_most, notes = True, [*notes, *({_AT_MOST} - set(notes))]
            work.train(ref, specs, found)
            evaluations = study.config.evaluations(raw)
            scores, trial_scores = measures.scores(study, evaluations), measures.trial_scores(study, raw)
            more = measures.divergences(study, [ref], evaluations)
            for spec in finals:
                if run_key(spec) not in found or found[run_key(spec)].status == "done":
                    work.measure(spec, scores)
                    work.measure_stored(spec, more, found)
            for spec in measures.losing(finals, specs):
                work.measure_stored(spec, trial_scores, found)
        told = [f"scored on {name}: {blank:,} blank rows left out" for name, blank in work.blank.items() if blank]
        notes += [note for note in told if note not in notes]
        parts.append(work.forecast())
    if study.config.diagnose:
        names_of = ", ".join(entry.label for entry in study.config.diagnose)
        notes.append(f"diagnose: {names_of}; their time and memory are not in the prediction")
    few = _FEW_SEEDS.get(len(study.config.seeds), ()) if pairs else ()
    notes = [*notes, *few, *known(study, store).notes()]
    return Plan(tuple(names), _total(parts), tuple(notes), tuple(stopped), is_at_most)


def _racing(rates: Rates) -> list[RunSpec]:
    return [spec for spec in rates.trials if spec not in rates.dropped]


def _notes(size: fc.Size | None, model: ModelRef, rates: Sequence[Rates], told: list[str]) -> list[str]:
    if size is None:
        new = [f"{model.name}: no local config.json, so time and memory can't be predicted before the model is here"]
    else:
        new = [f"{model.name}: {note}" for note in fc.rank_warnings(size, [r.trials[0] for r in rates])]
    if any(not r.is_settled and r.trials[0].arm.lr_auto for r in rates):
        new.append("lr: auto may add up to two more trials per arm where the best rate lies at the end of its grid")
    return [note for note in new if note not in told]


@dataclass
class _Work:
    """What one model's runs still take, and what the finished ones took."""

    study: Any
    store: Any | None
    size: fc.Size | None
    flops: float = 0.0
    score_tokens: int = 0
    peak: int = 0
    trained: list[Ledger] = field(default_factory=list)
    scored: list[Ledger] = field(default_factory=list)
    blank: dict[str, int] = field(default_factory=dict)
    _tokens: dict[TaskRef, int] = field(default_factory=dict)
    _carved: dict[TaskRef, int] = field(default_factory=dict)

    def train(self, ref: TaskRef, specs: list[RunSpec], found: dict) -> None:
        """Count runs of one train task: those found, and those to do."""
        done = [r.ledger for r in found.values() if r.status == "done"]
        self.trained += done
        todo = [s for s in specs if run_key(s) not in found]
        if self.size is None or not todo:
            return
        tokens = fc.train_tokens(self.study.config.recipe(), self.study.samples(ref))
        if done:
            tokens = round(sum(x.tokens for x in done) / len(done))
        self.flops += sum(fc.train_flops(self.size, s, tokens) for s in todo)
        self.peak = max(self.peak, *(fc.train_bytes(self.size, group) for group in cohorts(todo)))

    def measure(self, spec: RunSpec, wanted: Sequence[measures.Measure]) -> bool:
        """Count what is measured of one run: what the store has, and what is to do. Whether none is left to do."""
        done = self.store.eval_ledgers(run_key(spec)) if self.store is not None else {}
        self.scored += [done[m.key] for m in wanted if m.key in done]
        left = [m for m in wanted if m.key not in done]
        if self.size is not None and left:
            self.peak = max(self.peak, fc.score_bytes(self.size, spec.arm.kind))
            self.score_tokens += sum(self._tokens_of(m) for m in left)
        return not left

    def measure_stored(self, spec: RunSpec, wanted: Sequence[measures.Measure], found: dict) -> None:
        """The same for what needs weights but no training: counted if the weights are stored or still to be made."""
        result = found.get(run_key(spec))
        if result is None or (result.status == "done" and self.store.blobs.has(run_key(spec))):
            self.measure(spec, wanted)

    def _tokens_of(self, measure: measures.Measure) -> int:
        if measure.kind == "rows":
            return self._validation_tokens(measure.ref)
        if measure.kind == "score":
            return self._test_tokens(measure.ref)
        part = measure.part(self.study.prepared(measure.ref))
        return sum(fc.text_tokens(s) + part.max_new_tokens for s in part.samples)

    def _validation_tokens(self, ref: TaskRef) -> int:
        """Tokens of the rows that the recipe carves from a train task, counted once."""
        if ref not in self._carved:
            recipe, samples = self.study.config.recipe(), self.study.samples(ref)
            num = min(recipe.validation_max, max(1, round(len(samples) * recipe.validation)))
            tokens = sum(min(recipe.max_length, fc.text_tokens(s)) for s in samples)
            self._carved[ref] = round(num * tokens / len(samples))
        return self._carved[ref]

    def _test_tokens(self, task: TaskRef) -> int:
        """Tokens of a test task, counted once; generated answers count as their full length."""
        if task not in self._tokens:
            prepared = self.study.prepared(task)
            self.blank[task.name] = prepared.blank
            if prepared.kind == "generate":
                self._tokens[task] = sum(fc.text_tokens(s) + prepared.max_new_tokens for s in prepared.samples)
            else:
                self._tokens[task] = fc.weighed_tokens(prepared.samples)
        return self._tokens[task]

    def forecast(self) -> fc.Forecast | None:
        """Scoring without a rate of its own goes at the rate of training, or of the machine."""
        if self.size is None:
            return None
        rate, score_rate = fc.rate_of(self.trained), fc.rate_of(self.scored)
        is_measured = not (self.flops and rate is None) and not (self.score_tokens and (score_rate or rate) is None)
        fallback = 0.0 if is_measured else fc.machine_rate()
        score_flops = fc.score_flops(self.size, self.score_tokens)
        train_seconds = self.flops / (rate or fallback) if self.flops else 0.0
        score_seconds = score_flops / (score_rate or rate or fallback) if score_flops else 0.0
        return fc.Forecast(train_seconds, score_seconds, self.peak, fc.MEASURED if is_measured else fc.FLOOR)


def _total(parts: list[fc.Forecast | None]) -> fc.Forecast | None:
    known = [p for p in parts if p is not None]
    if not known or len(known) < len(parts):
        return None
    basis = fc.MEASURED if all(p.basis == fc.MEASURED for p in known) else fc.FLOOR
    train, score = sum((p.train_seconds for p in known), 0.0), sum((p.score_seconds for p in known), 0.0)
    return fc.Forecast(train, score, max(p.peak_bytes for p in known), basis)
