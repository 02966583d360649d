"""The runner's step that races. In: one model's first-seed runs. Out: looks in the store, and the survivors trained.

Cohorts are cut once; survivors stay in theirs and go on from its checkpoint. At each look every run that still races is
measured on the train task's validation rows, and who goes on follows from what is stored (``standing``). Nothing is
kept beside the looks and the checkpoints. The highest-rank LoRA run (at its middle rate) is also measured at the first
look with its update truncated to every lower rank of the study: which arms go on first is all that follows from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rankscope.analysis.spectra import cut, svd
from rankscope.evaluation import divergence
from rankscope.evaluation.divergence import Reference
from rankscope.models import sampling
from rankscope.models.base import OUT_OF_MEMORY, is_out_of_memory
from rankscope.models.delta import FactoredDelta
from rankscope.records import ModelRef, RunLook, RunSpec, TaskRef
from rankscope.report.wording import stopped
from rankscope.study.measures import rows_key
from rankscope.study.plan import base_spec, run_key
from rankscope.study.standing import Standing, look_steps, standing
from rankscope.study.trainer import Trainer, cohort_name, halves
from rankscope.training.cohort import Trainee, steps_of
from rankscope.worker import Trained

_CUT = "truncated"


class Racing:
    """Races the first-seed runs of one model. ``reference`` gives what the base says of a train task's validation
    rows."""

    def __init__(self, study: Any, store: Any, model: ModelRef, trainer: Trainer,
                 reference: Callable[[TaskRef], Reference]):  # fmt: skip
        self.study, self.store, self.model = study, store, model
        self._trainer, self._reference = trainer, reference

    def race(self, ref: TaskRef) -> None:
        """Train the runs that choose rates look by look, and those that are left to the end."""
        now = self._standing(ref)
        if not now.live:
            return
        steps = self._look_steps(ref, now)
        groups = self._trainer.cohorts(list(now.racers.values()), ref)
        for share, step in steps.items():
            for group in self._in_order(groups, now):
                for part in self._parts(group):
                    if not self._trainer.has_time():
                        return
                    self._to_look(part, now, (share, step), ref)
            before, now = now, self._standing(ref)
            self._tell(ref, before, now)
            self._drop_checkpoints(groups, now)
        for group in self._in_order(groups, now):
            for part in self._parts(group):
                if (left := _live(part, now)) and self._trainer.has_time():
                    self._trainer.cohort(left, ref, "to the end", cohort_name(part))

    def _standing(self, ref: TaskRef) -> Standing:
        return standing(self.study, self._trainer.find, self.store, self.model, ref)

    def _look_steps(self, ref: TaskRef, now: Standing) -> dict[float, int]:
        """When to look; never where fewer than two rows could be compared."""
        data, recipe = self._trainer.set(ref), self.study.config.recipe()
        if len(data.validation) < 2:
            return {}
        self._look_at_base(ref)
        return look_steps(len(steps_of(data, recipe, self.study.config.seeds[0])))

    def _look_at_base(self, ref: TaskRef) -> None:
        base, key = run_key(base_spec(self.model)), rows_key(ref, self.study.config.recipe())
        if not self.store.looks(key, [base]):
            losses = divergence.base_losses(self._trainer.base(), self._reference(ref))
            self.store.put_looks([RunLook(base, key, 0.0, 0, losses, (0.0,) * len(losses))])

    def _in_order(self, groups: list[list[RunSpec]], now: Standing) -> list[list[RunSpec]]:
        """Cohorts with runs that still race, those of the ranks to look at first in front, full runs last."""
        place = {rank: i for i, rank in enumerate(now.order())}
        first = [min((place.get(s.arm.top_rank, len(place)) for s in _live(group, now)), default=None)
                 for group in groups]  # fmt: skip
        left = [(rank, i) for i, rank in enumerate(first) if rank is not None]
        return [groups[i] for _, i in sorted(left)]

    def _parts(self, group: list[RunSpec]) -> list[list[RunSpec]]:
        """A cohort, or the halves that it had to be cut into: their checkpoints tell."""
        has = [self.store.checkpoint_folder(cohort_name(part)).exists() for part in (group, *halves(group))]
        is_cut = len(group) > 1 and any(has) and not has[0]
        return [part for half in halves(group) for part in self._parts(half)] if is_cut else [group]

    def _to_look(self, part: list[RunSpec], now: Standing, at: tuple[float, int], ref: TaskRef) -> None:
        """Train what still races of a cohort up to a look (share, step), and store what it shows there."""
        (share, step), rows = at, rows_key(ref, self.study.config.recipe())
        mine, name = _live(part, now), cohort_name(part)
        left = [s for s in mine if (run_key(s), share) not in now.looks]
        if not left:
            return
        known = self._reference(ref)  # while nothing is on the base
        trained = self._trainer.start(mine, ref, f"to the look at {100 * share:g} %", name, step)
        if self._trainer.is_too_large(trained, name):
            for half in halves(part):
                self._to_look(half, now, at, ref)
            return
        try:
            is_first = not any(other < share for _, other in now.looks)
            ranks = {run_key(s): _lower_ranks(s, now) if is_first else [] for s in left}
            asked = [t for t in trained.trainees if t.key in ranks]
            clock = self.store.clock
            with clock.stage("validation"), sampling.passes(clock, "validation", trained.base):
                looks = [replace(look, rows_key=rows, share=share)
                         for t in asked for look in _looks(trained, t, ranks[t.key], known)]  # fmt: skip
            failed = [(t.spec, t.key, trained.result(t)) for t in trained.trainees if t.failed]
        finally:
            trained.close()
        self._trainer.tried |= {key for _, key, _ in failed}
        self.store.put_runs(failed)
        self.store.put_looks(looks)

    def _tell(self, ref: TaskRef, before: Standing, now: Standing) -> None:
        """Say who was stopped just now."""
        trials = self.study.arm_trials(self.model, ref)
        known = before.rows(trials)
        for row in now.rows(trials):
            if row not in known:
                self._trainer.note(f"{row.arm} at {row.lr:g} is stopped at {100 * row.share:g} % of its steps: "
                                   f"{stopped(row)}")  # fmt: skip

    def _drop_checkpoints(self, groups: list[list[RunSpec]], now: Standing) -> None:
        """Of cohorts in which nobody races any more."""
        for group in groups:
            for part in self._parts(group):
                if not _live(part, now):
                    self.store.drop_checkpoint(cohort_name(part))


def _live(specs: list[RunSpec], now: Standing) -> list[RunSpec]:
    """Those that still race, each once."""
    return list({run_key(s): s for s in specs if run_key(s) in now.live}.values())


def _looks(trained: Trained, trainee: Trainee, ranks: list[int], known: Reference) -> list[RunLook]:
    """What a run shows, whole and truncated to ``ranks``; nothing, and the reason on the trainee, if it has failed."""
    if trainee.failed:
        return []
    step, ledger = len(trainee.curve), trained.ledger(trainee)
    try:
        with trained.using(trainee.key) as base:
            found = {0: divergence.look(base, known)}
        found |= {rank: _truncated(trained, trainee, rank, known) for rank in ranks}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        trainee.failed = f"{OUT_OF_MEMORY} at the look after step {step}"
        return []
    if not all(map(math.isfinite, (*found[0][0], *found[0][1]))):
        trainee.failed = f"diverged: the validation loss after step {step} is not finite"
        return []
    return [RunLook(trainee.key, "", 0.0, step, losses, drift, rank, ledger)
            for rank, (losses, drift) in found.items() if all(map(math.isfinite, (*losses, *drift)))]  # fmt: skip


def _lower_ranks(spec: RunSpec, now: Standing) -> list[int]:
    """The ranks that a run is truncated to: all lower ones of the study if its own is the highest, and its rate the
    middle one, else none. One run is enough for an order, and each cut costs a look."""
    lora = [s for s in now.racers.values() if s.arm.kind == "lora"]
    highest = max((s.arm.top_rank for s in lora), default=None)
    rates = sorted(s.lr for s in lora if s.arm.top_rank == highest)
    is_asked = spec.arm.kind == "lora" and spec.arm.top_rank == highest and spec.lr == rates[len(rates) // 2]
    return sorted({s.arm.top_rank for s in lora} - {highest}) if is_asked else []


def _truncated(trained: Trained, trainee: Trainee, rank: int, known: Reference) -> tuple[tuple[float, ...], ...]:
    """What a LoRA run shows when each module's update is the nearest one of this rank (Eckart & Young 1936)."""
    pieces = {}
    for module, layer in trained.bank.layers.items():
        if trainee.key in layer.a:
            own = FactoredDelta(layer.a[trainee.key].detach(), layer.b[trainee.key].detach(), layer.scale[trainee.key])
            pieces[module] = cut(svd(own), rank)
    trained.bank.put(_CUT, trainee.spec.arm, pieces)
    try:
        with trained.using(_CUT) as base:
            return divergence.look(base, known)
    finally:
        trained.bank.remove(_CUT)
