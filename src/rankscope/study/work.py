"""What one model's runs still take. In: specs and measures, one after another. Out: rows of a plan, a ``Forecast``.

Counted work becomes seconds by what was measured here (``study.calibration``) or is plausible (``study.forecast``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rankscope.models.locate import local_folder, shape
from rankscope.records import ModelRef, Recipe, RunSpec, TaskRef
from rankscope.storage.history import Past, measured
from rankscope.study import disk, measures
from rankscope.study.calibration import Calibration, Job
from rankscope.study.diagnosis import wanted
from rankscope.study.fits import NO, PERHAPS, fits, remedies, usable_bytes
from rankscope.study.forecast import MEASURED, Clockwork, Forecast, basis_of, starting
from rankscope.study.host import Host
from rankscope.study.memory import train_bytes, train_need
from rankscope.study.packing import SHARE, most_that_fit, packed
from rankscope.study.plan import ArmPlan, run_key
from rankscope.study.sizes import model_size, score_flops, train_flops
from rankscope.study.span import NOTHING, Span, largest, total
from rankscope.study.tokens import Counter


@dataclass
class _Row:
    """One arm, while its work is added up. ``spec``: one of its runs that are left to train."""

    kind: str
    runs: int = 0
    done: int = 0
    tokens: int = 0
    score_tokens: int = 0
    flops: float = 0.0
    train: list[Span] = field(default_factory=list)
    score: list[Span] = field(default_factory=list)
    looks: list[Span] = field(default_factory=list)
    peaks: list[Span] = field(default_factory=list)
    spec: RunSpec | None = None


class Work:
    """Adds up what is left of one model's study. ``index`` is the model's place in the study file."""

    def __init__(self, study: Any, store: Any | None, model: ModelRef, index: int, host: Host, past: Sequence[Past]):
        self.study, self.store, self.model, self.index, self.host = study, store, model, index, host
        self.shape = shape(model)
        self.size = model_size(model, self.shape, host.is_gpu)
        is_half = self.size is not None and self.size.width < 4
        # Of another machine than this one nothing is known.
        self.past = Calibration(past if host.is_here else (), host.device, is_half, _shape)
        self.clock = None if self.size is None else Clockwork(host, self.size, self.past)
        folder = local_folder(model)
        self.counter = Counter(None if folder is None else str(folder))
        self.blank: dict[str, int] = {}
        self.unforeseen: set[str] = set()
        self.num_cohorts = 0
        self._done = measured(store) if store is not None else set()
        self._wanted: dict[tuple, list] = {}
        self._rows: dict[str, _Row] = {}
        self._tokens: dict[tuple, int] = {}
        self._weights = self._checkpoint = self._scores = self._written = 0

    def train(self, ref: TaskRef, specs: Sequence[RunSpec], finals: Sequence[RunSpec], found: dict) -> None:
        """Count runs of one train task: those found, and those to do."""
        for spec in specs:
            row = self._row(spec)
            row.runs, row.done = row.runs + 1, row.done + (run_key(spec) in found)
        todo = [s for s in specs if run_key(s) not in found]
        if self.size is None or not todo:
            return
        recipe = self.study.config.recipe()
        for spec in todo:
            row = self._row(spec)
            tokens = self.past.run_tokens(spec) or self._train_tokens(ref, recipe)
            flops = train_flops(self.size, spec, tokens)
            row.tokens, row.flops, row.spec = row.tokens + tokens, row.flops + flops, spec
            row.train.append(self.clock.seconds(Job("train", self.model, spec.arm.kind, ref.task, "", flops,
                                                    spec.arm.rank)))  # fmt: skip
            row.train.append(self._pass("weigh", spec, ref.task, "", self._held_tokens(ref, recipe)))  # validation
            row.peaks.append(self._train_peak(spec))
        groups = self._groups(todo)
        self.num_cohorts += len(groups)
        self._weights += disk.weights_bytes(self.size, finals, todo, self.study.config.keep)
        self._checkpoint = max(self._checkpoint, disk.checkpoint_bytes(self.size, groups))

    def look_share(self, ref: TaskRef) -> float:
        """What one look of a race takes, as a share of a LoRA run's training: a forward pass and two heads (losses and
        KL) over the validation rows, where a trained token takes about twice a forward pass."""
        recipe = self.study.config.recipe()
        trained = self._train_tokens(ref, recipe)
        return self._held_tokens(ref, recipe) / (2 * trained) if trained else 0.0

    def measure(self, spec: RunSpec, wanted: Sequence[measures.Measure]) -> bool:
        """Count what is measured of one run: what the store has, and what is to do. Whether none is left to do."""
        row, key = self._row(spec), run_key(spec)
        left = [m for m in wanted if (key, m.key) not in self._done]
        if spec.train is None and wanted and wanted[0].kind == "score":
            row.runs, row.done = row.runs + 1, row.done + (not left)
        if self.size is None or not left:
            return not left
        for measure in left:
            kind, items = self._kind(measure)
            tokens = self.past.tokens(self.model, measure.key) or self._tokens_of(measure)
            row.score_tokens += tokens
            row.score.append(self._pass(kind, spec, measure.ref.task, measure.key, tokens))
            self._scores += items
            self._written += tokens if kind == "generate" else 0
        row.peaks.append(self.past.score_bytes(self.size, spec.arm.kind, self.model))
        return False

    def measure_stored(self, spec: RunSpec, wanted: Sequence[measures.Measure], found: dict) -> None:
        """The same for what needs weights but no training: counted if the weights are stored or still to be made."""
        if self._will_have_weights(spec, found):
            self.measure(spec, wanted)

    def look(self, spec: RunSpec, train: TaskRef | None, evaluations: Sequence, runs: dict) -> None:
        """Count the diagnoses of a run, as far as the store knows how long such ones take."""
        is_first = spec.seed == self.study.config.seeds[0]
        alike = spec.arm.name, is_first, train
        if alike not in self._wanted:
            self._wanted[alike] = wanted(self.study, spec, train, evaluations)
        key = run_key(spec)
        left = [want for want in self._wanted[alike] if (key, want.key) not in self._done]
        if not left or (spec.train is not None and not self._will_have_weights(spec, runs)):
            return
        for want in left:
            found = self.past.seconds(Job("diagnose", self.model, spec.arm.kind, want.plugin, want.key))
            if found is None:
                self.unforeseen.add(want.name)
            else:
                self._row(spec).looks.append(found)

    def rows(self) -> list[ArmPlan]:
        """One row an arm, in the study's order."""
        order = [arm.name for arm in self.study.config.arms()]
        found = []
        for name in sorted(self._rows, key=order.index):
            row = self._rows[name]
            peak = largest(row.peaks) if row.peaks else None
            verdict = fits(peak, self.host) if peak is not None else ""
            cures: tuple[str, ...] = ()
            if verdict in (NO, PERHAPS) and row.spec is not None:
                cure = remedies(row.spec, self.shape, self.host, self.index)
                cures = cure.settings or ((f"a {cure.gpu}",) if cure.gpu else ())
            seconds = total([*row.train, *row.score, *row.looks])
            found.append(ArmPlan(self.model.name, name, row.kind, row.runs, row.done, row.tokens, row.score_tokens,
                                 row.flops, seconds, peak, verdict, cures))  # fmt: skip
        return found

    def forecast(self) -> Forecast | None:
        """All arms together; None where the model's sizes aren't known."""
        if self.size is None:
            return None
        rows = list(self._rows.values())
        train, score, looks = (total([s for r in rows for s in part(r)])
                               for part in (lambda r: r.train, lambda r: r.score, lambda r: r.looks))  # fmt: skip
        is_any = not (train.is_none and score.is_none and looks.is_none)
        basis = basis_of(self.clock.bases) if is_any else MEASURED
        return Forecast(train, score, None if self.unforeseen else looks, starting(is_any),
                        largest([s for r in rows for s in r.peaks]), basis)  # fmt: skip

    def disk_bytes(self) -> int:
        runs = sum(row.runs - row.done for row in self._rows.values())
        return self._weights + self._checkpoint + disk.rows_bytes(runs, self._scores, self._written)

    def _row(self, spec: RunSpec) -> _Row:
        return self._rows.setdefault(spec.arm.name, _Row(spec.arm.kind))

    def _pass(self, kind: str, spec: RunSpec, task: str, measure: str, tokens: int) -> Span:
        """Seconds of reading or writing so many tokens under a run's weights."""
        flops = score_flops(self.size, tokens)
        return self.clock.seconds(Job(kind, self.model, spec.arm.kind, task, measure, flops)) if tokens else NOTHING

    def _train_peak(self, spec: RunSpec) -> Span:
        """Memory of the run alone; what trains side by side is cut to what memory holds."""
        if self.host.is_here:
            return self.past.train_bytes(self.size, [spec])
        return train_need(self.size, [spec], self.host.is_gpu).span

    def _groups(self, todo: Sequence[RunSpec]) -> list[list[RunSpec]]:
        """Cohorts as they are likely to be cut: alone on a CPU, as many as fit on a GPU; of one seed."""
        room = usable_bytes(self.host)
        found = []
        for seed in dict.fromkeys(s.seed for s in todo):
            own = [s for s in todo if s.seed == seed]
            lora = [s for s in own if s.arm.kind == "lora"]

            def holds(group: Sequence[RunSpec]) -> bool:
                return room is None or train_bytes(self.size, group, True) <= SHARE * room

            found += packed(own, most_that_fit(lora, holds) if self.host.is_gpu and len(lora) > 1 else 1)
        return found

    def _will_have_weights(self, spec: RunSpec, found: dict) -> bool:
        result = found.get(run_key(spec))
        return result is None or (result.status == "done" and self.store.blobs.has(run_key(spec)))

    def _kind(self, measure: measures.Measure) -> tuple[str, int]:
        """The kind of work that a measure is, and how many scores it makes."""
        if measure.kind == "rows":
            return "kl", self.study.config.recipe().validation_max
        part = measure.part(self.study.prepared(measure.ref))
        kind = "kl" if measure.kind == "text" else "generate" if part.kind == "generate" else "weigh"
        return kind, len(part.samples)

    def _tokens_of(self, measure: measures.Measure) -> int:
        if measure.kind == "rows":
            return self._held_tokens(measure.ref, self.study.config.recipe())
        task = self.study.prepared(measure.ref)
        if measure.kind == "score":
            self.blank[measure.ref.name] = task.blank
        part, own = measure.part(task), (measure.ref, measure.kind)
        if own not in self._tokens:
            written = part.kind == "generate"
            self._tokens[own] = (self.counter.written(part.samples, part.max_new_tokens) if written
                                 else self.counter.weighed(part.samples))  # fmt: skip
        return self._tokens[own]

    def _train_tokens(self, ref: TaskRef, recipe: Recipe) -> int:
        if (ref, "train") not in self._tokens:
            self._tokens[ref, "train"] = self.counter.train_tokens(recipe, self.study.samples(ref))
        return self._tokens[ref, "train"]

    def _held_tokens(self, ref: TaskRef, recipe: Recipe) -> int:
        """Tokens of the rows that the recipe holds back from a train task."""
        if (ref, "held") not in self._tokens:
            self._tokens[ref, "held"] = self.counter.row_tokens(recipe, self.study.samples(ref))
        return self._tokens[ref, "held"]


def _shape(ref: ModelRef) -> dict | None:
    """A past model's sizes; None where it is gone."""
    from rankscope.errors import ModelError

    try:
        return shape(ref)
    except ModelError:
        return None
