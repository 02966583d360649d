"""Where a race stands. In: a study, the looks and runs of an open store. Out: who is stopped, and why. No torch.

All state of a race are the looks that its first-seed runs left in the store. Who is dropped follows from them by
``stats.racing.race``, so that a race that was interrupted, or is asked about again, comes to the same. A run that is
finished counts in full, whoever trained it, and is never dropped; without looks it takes part in none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rankscope.errors import StoreError
from rankscope.records import Dropped, ModelRef, Preview, RunLook, RunSpec, TaskRef
from rankscope.stats.racing import LOOKS, Drop, Look, Racer, order, race
from rankscope.study.measures import rows_key
from rankscope.study.plan import base_spec, run_key
from rankscope.study.rates import Find


@dataclass(frozen=True)
class Standing:
    """One race: of one model and train task. ``drops`` and ``live`` (neither stopped nor finished) go by run key.

    ``looks`` by run key and share. ``previews``: the first look's truncations.
    """

    racers: dict[str, RunSpec] = field(default_factory=dict)
    drops: dict[str, Drop] = field(default_factory=dict)
    live: tuple[str, ...] = ()
    looks: dict[tuple[str, float], RunLook] = field(default_factory=dict)
    previews: tuple[Preview, ...] = ()

    def rows(self, trials: list[list[RunSpec]]) -> list[Dropped]:
        """Every stopped run of the arms (lists of one arm's trials), for a reader."""
        told = []
        for arm in trials:
            is_out = all(run_key(spec) in self.drops for spec in arm)
            for spec in arm:
                if (drop := self.drops.get(key := run_key(spec))) is not None:
                    look = self.looks[key, drop.share]
                    loss = float(np.mean(look.losses))
                    told.append(Dropped(spec.model.name, spec.train.name, spec.arm.name, spec.arm.top_rank, spec.lr,
                                        spec.seed, drop.share, look.step, drop.reason, drop.by.arm, drop.by.lr,
                                        drop.lag, drop.limit, loss, is_out, look.ledger))  # fmt: skip
        return told

    def order(self) -> tuple[int, ...]:
        """Ranks in the order in which their arms go on: the preview's, or as declared where there is none."""
        ranks = tuple(dict.fromkeys(s.arm.top_rank for s in self.racers.values() if s.arm.kind == "lora"))
        return order(ranks, {p.rank: p.kept for p in self.previews}) if self.previews else ranks


def look_steps(total: int) -> dict[float, int]:
    """After how many of ``total`` steps each look is; of looks at one step the last counts, none is at the end."""
    steps = {share: _ceil(share * total) for share in LOOKS}
    return {s: n for s, n in steps.items() if n < total and not any(steps[t] == n for t in LOOKS if t > s)}


def _ceil(steps: float) -> int:
    return int(np.ceil(round(steps, 6)))  # 0.1 x 30 is a little more than 3


def standing(study: Any, find: Find, store: Any, model: ModelRef, train: TaskRef) -> Standing:
    """Where the race stands; nobody races without a store or where the study doesn't ask for it."""
    if not study.config.training.race or store is None:
        return Standing()
    racers = {run_key(spec): spec for trials in study.arm_trials(model, train) for spec in trials}
    rows, base = rows_key(train, study.config.recipe()), run_key(base_spec(model))
    stored = store.looks(rows, [*racers, base])
    start = next((look.losses for look in stored if look.run_key == base), None)
    if any({len(look.losses), len(look.drift)} != {len(stored[0].losses)} for look in stored):
        raise StoreError("what runs showed at looks is of other rows for one than for another", where=str(store.folder),
                         hint="Restore the store from a copy, or give another --store")  # fmt: skip
    whole = {(look.run_key, look.share): look for look in stored if not look.cut and look.run_key != base}
    finished = find(racers)
    drops = {} if start is None else _drops(racers, whole, start, set(finished), study.config.recommend.prefer)
    live = tuple(key for key in racers if key not in drops and key not in finished)
    cut = [look for look in stored if look.cut]
    return Standing(racers, drops, live, whole, () if start is None else _previews(racers, whole, cut, start))


def _drops(racers: Mapping[str, RunSpec], looks: Mapping[tuple[str, float], RunLook], start: tuple[float, ...],
           finished: set[str], prefer: str) -> dict[str, Drop]:  # fmt: skip
    """Look by look, as far as all that are still racing have been looked at."""
    keys = {_racer(spec): key for key, spec in racers.items()}
    drops: dict[str, Drop] = {}
    for share in LOOKS:
        racing = [key for key in racers if key not in drops]
        seen = [key for key in racing if (key, share) in looks]
        if seen and any(key not in finished and key not in seen for key in racing):
            break
        found = [Look(_racer(racers[key]), share, looks[key, share].losses, looks[key, share].drift) for key in seen]
        for drop in race(found, share, start, prefer) if found else ():
            if keys[drop.racer] not in finished:
                drops[keys[drop.racer]] = drop
    return drops


def _racer(spec: RunSpec) -> Racer:
    return Racer(spec.arm.name, spec.arm.kind, spec.arm.top_rank, spec.lr)


def _previews(racers: Mapping[str, RunSpec], whole: Mapping[tuple[str, float], RunLook], cut: list[RunLook],
              start: tuple[float, ...]) -> tuple[Preview, ...]:  # fmt: skip
    """Of the runs that were truncated at the first look, the one that had learned most."""
    before = float(np.mean(start))
    gains = {k.run_key: before - float(np.mean(whole[k.run_key, k.share].losses)) for k in cut
             if (k.run_key, k.share) in whole}  # fmt: skip
    best = max(gains, key=gains.get, default=None)
    if best is None or gains[best] <= 0:
        return ()
    spec = racers[best]
    return tuple(
        Preview(spec.model.name, spec.train.name, spec.arm.name, spec.lr, look.share, look.cut,
                (before - float(np.mean(look.losses))) / gains[best])
        for look in cut if look.run_key == best
    )  # fmt: skip
