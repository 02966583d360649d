"""From a study and what its store holds to a ``Plan``. In: a study, an open store or None, a host. Out: the plan.

Rows of data are read to count tokens; no weights, no torch. One model's work is added up in ``study.work``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rankscope.records import ModelRef, RunSpec
from rankscope.stats.racing import LOOKS
from rankscope.storage.history import history
from rankscope.study import measures
from rankscope.study.forecast import joined
from rankscope.study.foresight import not_above_chance, smallest
from rankscope.study.host import Host, here
from rankscope.study.plan import Plan, Smallest, base_spec, given_spec, run_key
from rankscope.study.rates import Find, Rates
from rankscope.study.rows import known
from rankscope.study.sizes import rank_warnings
from rankscope.study.standing import standing
from rankscope.study.work import Work

_FEW_SEEDS = {
    1: ("one seed: every interval speaks for that seed only",),
    2: ("two seeds: where seeds vary a lot, verdicts err more often than the 5 % meant; three seeds are safer",),
}


_AT_MOST = "a race: runs that can't win are stopped on the way, so that less may be trained than is counted here"


_DEAR_LOOK = 0.03
"""Share of a run's training from which the looks of a race are told: four of them take back a good part of what it
saves."""


@dataclass(frozen=True)
class Price:
    """What an hour of the host costs. Only ever what the user said."""

    per_hour: float
    currency: str = "USD"


def make_plan(study: Any, store: Any | None, host: Host | None = None, price: Price | None = None,
              folder: str | Path | None = None) -> Plan:  # fmt: skip
    """Every run there is to do, as far as known: rates still to be chosen show as trials of the first seed.

    ``host``: what to plan for (None: this machine); ``folder``: the store's, there or still to be made.
    """
    host, models = host or here(), study.resolve()[0]
    past = history(store) if store is not None else []
    planner = _Planner(study, store, _finder(store))
    works, effects = [], []
    for index, model in enumerate(models):
        work = Work(study, store, model, index, host, past)
        planner.add(work)
        works.append(work)
        if study.resolve()[1]:
            effects += smallest(study, store, past, model)
            if none := not_above_chance(study, store, model):
                planner.note(f"{model.name} is not above chance on {', '.join(none)}: nothing can be lost there")
    notes = [*planner.notes, *_about_effects(effects)]
    notes += _FEW_SEEDS.get(len(study.config.seeds), ()) if study.resolve()[1] else ()
    forecast, disk = joined([work.forecast() for work in works]), sum(work.disk_bytes() for work in works)
    notes += [*known(study, store).notes(), *_about_disk(disk, folder)]
    cost = forecast.span * (price.per_hour / 3600) if price is not None and forecast is not None else None
    return Plan(
        tuple(planner.names), forecast, tuple(dict.fromkeys(notes)), tuple(planner.stopped), planner.is_at_most,
        tuple(row for work in works for row in work.rows()), host.name, sum(work.num_cohorts for work in works), disk,
        cost, price.currency if price is not None else "", tuple(effects),
    )  # fmt: skip


@dataclass
class _Planner:
    """Walks through all that a study asks, model by model."""

    study: Any
    store: Any | None
    find: Find

    def __post_init__(self) -> None:
        self.names: list[tuple[str, bool]] = []
        self.notes: list[str] = []
        self.stopped: list[str] = []
        self.is_at_most = False

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def add(self, work: Work) -> None:
        """One model's base, given arms and train tasks."""
        study, model, judged = self.study, work.model, self.study.config.judged()
        pairs = study.resolve()[1]
        work.measure(base_spec(model), measures.scores(study, study.config.evaluations(None)))
        work.measure(base_spec(model), measures.noise(study))
        for arm in study.given():
            spec = given_spec(model, arm)
            self.names.append((spec.name, work.measure(spec, measures.scores(study, judged))))
            work.measure(spec, measures.divergences(study, [ref for _, ref in pairs], judged))
            work.look(spec, pairs[0][1] if pairs else None, judged, {})
        for raw, ref in pairs:
            self._train_task(work, raw, ref)
        for name, blank in work.blank.items():
            if blank:
                self.note(f"scored on {name}: {blank:,} blank rows left out")
        if work.unforeseen:
            listed = ", ".join(sorted(work.unforeseen))
            self.note(f"diagnose: {listed}: never made here of this model, so their time and memory are not in the "
                      "prediction")  # fmt: skip

    def _train_task(self, work: Work, raw: Any, ref: Any) -> None:
        study, model = self.study, work.model
        rates = study.rates(self.find, model, ref, self.store)
        drops = standing(study, self.find, self.store, model, ref).drops
        # Final runs stand at the chosen rate or, until there is one, at a stand-in.
        finals = [replace(r.chosen, seed=seed) for seed in study.config.seeds for r in rates if not r.is_out]
        every = list(dict.fromkeys((*(t for r in rates for t in r.trials), *finals)))
        specs = [s for s in every if run_key(s) not in drops]
        found = self.find(run_key(s) for s in every)
        self.names += [(s.name, run_key(s) in found or s not in specs) for s in every]
        self.stopped += [s.name for s in every if s not in specs]
        for text in _about_rates(work, model, rates):
            self.note(text)
        if study.config.training.race and any(run_key(t) not in found for r in rates for t in _racing(r)):
            self.is_at_most = True
            self.note(_AT_MOST)
            if work.size is not None and (share := work.look_share(ref)) > _DEAR_LOOK:
                self.note(f"a race: each of its {len(LOOKS)} looks takes about {100 * share:.0f} % of a run's training "
                          f"on {ref.task}, which is not counted here: fewer validation rows (training.validation_max) "
                          "or more steps make it pay")  # fmt: skip
        work.train(ref, specs, finals, found)
        evaluations = study.config.evaluations(raw)
        scores, trial_scores = measures.scores(study, evaluations), measures.trial_scores(study, raw)
        more = measures.divergences(study, [ref], evaluations)
        for spec in finals:
            if run_key(spec) not in found or found[run_key(spec)].status == "done":
                work.measure(spec, scores)
                work.measure_stored(spec, more, found)
                work.look(spec, ref, evaluations, found)
        for spec in measures.losing(finals, specs):
            work.measure_stored(spec, trial_scores, found)


def _finder(store: Any | None) -> Find:
    """Stored runs by key, each read once."""
    known: dict[str, Any] = {}

    def find(keys: Iterable[str]) -> dict[str, Any]:
        asked = list(keys)
        new = [key for key in asked if key not in known]
        found = store.runs(new) if store is not None and new else {}
        known.update({key: found.get(key) for key in new})
        return {key: known[key] for key in asked if known[key] is not None}

    return find


def _racing(rates: Rates) -> list[RunSpec]:
    return [spec for spec in rates.trials if spec not in rates.dropped]


def _about_rates(work: Work, model: ModelRef, rates: Sequence[Rates]) -> list[str]:
    if work.size is None:
        new = [f"{model.name}: no local config.json, so time and memory can't be predicted before the model is here"]
    else:
        new = [f"{model.name}: {note}" for note in rank_warnings(work.size, [r.trials[0] for r in rates])]
    if any(not r.is_settled and r.trials[0].arm.lr_auto for r in rates):
        new.append("lr: auto may add up to two more trials per arm where the best rate lies at the end of its grid")
    return new


def _about_effects(effects: Sequence[Smallest]) -> list[str]:
    """Tasks with too few items for the margin, in one sentence."""
    told: dict[str, str] = {}
    for one in effects:
        if not one.supports_margin:
            more = "more seeds needed" if one.items_needed is None else f"about {_round(one.items_needed):,} needed"
            told[one.task] = f"{one.task} has {one.items:,}, {more}"
    if not told:
        return []
    return [f"too few items to show equality within the margin {effects[0].margin:g}: {'; '.join(told.values())}"]


def _round(count: int) -> int:
    """To two digits: it rests on assumptions."""
    return int(float(f"{count:.1e}"))


def _about_disk(disk: int, folder: str | Path | None) -> list[str]:
    if folder is None or not disk:
        return []
    there = next(p for p in (Path(folder).absolute(), *Path(folder).absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free >= disk:
        return []
    return [f"disk: {disk / 1e9:.1f} GB will be written and {free / 1e9:.1f} GB are free"]
