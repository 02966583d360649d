"""What a report is built from, and how to look things up in it. In: runs, evaluations and the study's declaration
as plain records. Out: lookups and item-aligned panels of scores. Computes no statistics; knows no SQL and no drawing.

Legend: N items, S seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from rankscope.records import (
    ALARM,
    GIVEN,
    Arm,
    Diagnosis,
    Dropped,
    EvalResult,
    ModelRef,
    Overlap,
    Preview,
    Role,
    RowCounts,
    RunResult,
    RunSpec,
)
from rankscope.report.flip_rows import ItemText
from rankscope.stats.contrast import default_margin
from rankscope.stats.estimate import Flips, flips, is_binary

RunRole = Literal["final", "trial"]


class Run(NamedTuple):
    """One run with its key and what it was for: ``final`` runs carry the verdicts, ``trial`` runs only chose a
    learning rate.
    """

    spec: RunSpec
    key: str
    result: RunResult
    role: RunRole


@dataclass(frozen=True)
class Evidence:
    """All that a study has measured so far; it may be unfinished.

    ``evaluations`` maps a train task's name to the (task name, role) pairs its arms are judged on, ``evals`` maps
    (run key, task name) to the scores. ``runs`` may hold plain tuples in the order of `Run`. ``models`` is only
    needed when no run of a model exists yet. ``margin`` is in units of the score (0.02 = 2 points; 0.02 nats for
    cross-entropy). ``environment`` is that of the process which makes the report; runs bring their own. ``row_counts``
    (by train task) and ``overlaps`` (by train task and task) hold the reason where something was not measured. ``date``
    is the day of the newest run, if it is known.

    ``evals`` also holds the scores of learning-rate trials, under their own keys. ``margin`` None: to be decided from
    the number of items. ``retain``: the share of chance-corrected retention asked for; ``prefer``: which of the good
    arms is wanted; ``alarm``: the drop in score that transfer warns of; ``skills``: what a task asks for ('': unsaid).
    ``divergences`` maps (run key, name) to KL(base || arm) in nats per token by item: on the validation rows of the
    train task of that name, or on the text task. ``noise`` maps (base's key, task name) to the base's scores of the
    first items with another batch size, to be set against ``evals`` by item. ``diagnoses`` maps (run key, diagnostic)
    to what it read inside that run's network. ``dropped`` are runs that a race stopped, which are in none of the
    above, and ``previews`` what gave its order. ``items`` maps a task's name to the texts of its items by id, or to the
    reason why they aren't here; a task that isn't in it was not read.
    """

    name: str
    title: str | None
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    train: tuple[str, ...]
    evaluations: dict[str, tuple[tuple[str, Role], ...]]
    runs: tuple[tuple[RunSpec, str, RunResult, RunRole], ...]
    evals: dict[tuple[str, str], EvalResult]
    environment: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    margin: float | None = 0.02
    models: tuple[ModelRef, ...] = ()
    row_counts: dict[str, RowCounts | str] = field(default_factory=dict)
    overlaps: dict[tuple[str, str], Overlap | str] = field(default_factory=dict)
    divergences: dict[tuple[str, str], EvalResult] = field(default_factory=dict)
    noise: dict[tuple[str, str], EvalResult] = field(default_factory=dict)
    retain: float | None = None
    prefer: Literal["cost", "retention", "gain"] = "cost"
    alarm: float = ALARM
    skills: dict[str, str] = field(default_factory=dict)
    date: str = ""
    diagnoses: dict[tuple[str, str], Diagnosis] = field(default_factory=dict)
    dropped: tuple[Dropped, ...] = ()
    previews: tuple[Preview, ...] = ()
    items: dict[str, dict[str, ItemText] | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """Scores of the same items under several seeds: ``values`` is (S, N); a base model has S = 1.

    ``is_binary``: the scores are right or wrong. In differences of such, ``changed`` counts what flipped. ``strata``
    names each item's task where several are pooled; ``tasks`` are then the values of each as they were, with clusters.
    """

    values: np.ndarray
    items: tuple[str, ...]
    seeds: tuple[int, ...]
    clusters: np.ndarray | None
    metric: str
    is_binary: bool = False
    changed: Flips | None = None
    strata: np.ndarray | None = None
    tasks: tuple[tuple[np.ndarray, np.ndarray | None], ...] = ()

    @property
    def higher_is_better(self) -> bool:
        return self.metric != "cross_entropy"


class Index:
    """Lookups over one `Evidence`."""

    def __init__(self, evidence: Evidence):
        self.evidence = evidence
        self.runs = tuple(Run(*entry) for entry in evidence.runs)
        self._panels: dict[tuple[tuple[str, ...], str], Panel | None] = {}

    @cached_property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order of the declaration, then of the runs."""
        named = [m.name for m in self.evidence.models] + [r.spec.model.name for r in self.runs]
        return tuple(dict.fromkeys(named))

    @property
    def tuned_arms(self) -> tuple[Arm, ...]:
        """All but the base: those that this study trains, and those that existed already."""
        return tuple(a for a in self.evidence.arms if a.kind != "base")

    @property
    def trained_arms(self) -> tuple[Arm, ...]:
        return tuple(a for a in self.tuned_arms if a.kind not in GIVEN)

    @property
    def given_arms(self) -> tuple[Arm, ...]:
        return tuple(a for a in self.tuned_arms if a.kind in GIVEN)

    def given(self, model: str, arm: str) -> Run | None:
        """The one run of an arm that existed already, if it has been made."""
        found = (r for r in self.runs if r.spec.arm.kind in GIVEN)
        return next((r for r in found if (r.spec.model.name, r.spec.arm.name) == (model, arm)), None)

    def base(self, model: str) -> Run | None:
        """The untouched model's run, if it is done."""
        for run in self.runs:
            if run.spec.arm.kind == "base" and run.spec.model.name == model and run.result.status == "done":
                return run
        return None

    def dropped(self, model: str, train: str, arm: str) -> tuple[Dropped, ...]:
        """Runs of an arm that a race stopped."""
        return tuple(d for d in self.evidence.dropped if (d.model, d.train, d.arm) == (model, train, arm))

    def is_out(self, model: str, train: str, arm: str) -> bool:
        """Whether a race stopped all of an arm: no run of it will count."""
        return any(d.is_out for d in self.dropped(model, train, arm))

    def out(self, model: str, train: str) -> tuple[Arm, ...]:
        """The arms of which a race stopped all: they are in no comparison, and yet count in families of them."""
        return tuple(a for a in self.trained_arms if self.is_out(model, train, a.name))

    def of(self, model: str, train: str, arm: str, role: RunRole | None = None) -> tuple[Run, ...]:
        """Runs of one arm on one train task, by seed then learning rate; one that existed already goes with every
        task.
        """
        if (given := self.given(model, arm)) is not None:
            return (given,) if role in (None, "final") else ()
        found = [
            r
            for r in self.runs
            if r.spec.train is not None
            and (r.spec.model.name, r.spec.train.name, r.spec.arm.name) == (model, train, arm)
            and role in (None, r.role)
        ]
        return tuple(sorted(found, key=lambda r: (r.spec.seed, r.spec.lr)))

    def finals(self, model: str, train: str, arm: str) -> tuple[Run, ...]:
        """The runs that count: final and done."""
        return tuple(r for r in self.of(model, train, arm, "final") if r.result.status == "done")

    def evaluation(self, run: Run | None, task: str) -> EvalResult | None:
        """The finished evaluation with at least one score, or None."""
        found = self.evidence.evals.get((run.key, task)) if run else None
        return found if found is not None and found.status == "done" and found.scores else None

    def tasks(self, train: str) -> tuple[tuple[str, Role], ...]:
        return self.evidence.evaluations.get(train, ())

    def panel(self, runs: tuple[Run, ...], task: str) -> Panel | None:
        """Scores of those runs that have this task, over the items they all share, in the first run's order.

        A score that isn't finite is no score. Remembered from call to call.
        """
        wanted = (tuple(r.key for r in runs), task)
        if wanted not in self._panels:
            self._panels[wanted] = self._panel(runs, task)
        return self._panels[wanted]

    def _panel(self, runs: tuple[Run, ...], task: str) -> Panel | None:
        return aligned([(r, e) for r in runs if (e := self.evaluation(r, task)) is not None])


def with_margin(evidence: Evidence) -> Evidence:
    """The evidence with a margin: where none is named, one that the smallest in-domain test can reach."""
    if evidence.margin is not None:
        return evidence
    taught = {task for tasks in evidence.evaluations.values() for task, role in tasks if role == "in_domain"}
    sizes = [len(e.scores) for (_, task), e in evidence.evals.items() if task in taught and e.scores]
    return replace(evidence, margin=default_margin(min(sizes, default=0)))


def aligned(found: list[tuple[Run, EvalResult]]) -> Panel | None:
    """Scores of several runs over the items that all have; None if there are none. One that isn't finite is none."""
    if not found:
        return None
    by_item = [{s.item: s for s in e.scores if math.isfinite(s.value)} for _, e in found]
    shared = [item for item in by_item[0] if all(item in scores for scores in by_item[1:])]
    if not shared:
        return None
    values = np.array([[scores[item].value for item in shared] for scores in by_item], dtype=float)
    clusters = [by_item[0][item].cluster for item in shared]
    labels = np.array([c or f"item {i}" for c, i in zip(clusters, shared, strict=True)]) if any(clusters) else None
    metric = found[0][1].metric
    is_graded = metric in ("cross_entropy", "kl") or not is_binary(values)
    return Panel(values, tuple(shared), tuple(r.spec.seed for r, _ in found), labels, metric, not is_graded)


def common(first: Panel, second: Panel) -> tuple[Panel, Panel] | None:
    """Both panels on the items they share, in the first one's order; None if they share none."""
    if first.items == second.items:  # the usual case, quick however many there are
        return (first, second) if first.items else None
    place = {item: i for i, item in enumerate(second.items)}
    mine = [i for i, item in enumerate(first.items) if item in place]
    theirs = [place[first.items[i]] for i in mine]
    return (_take(first, mine), _take(second, theirs)) if mine else None


def shared_items(panels: dict[Any, Panel]) -> dict[Any, Panel]:
    """All panels over the items that every one of them has, in the first one's order; none if there is no such item."""
    if not panels:
        return {}
    sets = [set(p.items) for p in panels.values()]
    kept = [item for item in next(iter(panels.values())).items if all(item in s for s in sets)]
    places = {name: {item: i for i, item in enumerate(p.items)} for name, p in panels.items()}
    return {name: _take(p, [places[name][item] for item in kept]) for name, p in panels.items()} if kept else {}


def difference(arm: Panel | None, other: Panel | None, against_base: bool) -> Panel | None:
    """Paired ``arm - other`` (S, N) on shared items; seed with seed, or every seed with the one base run."""
    both = common(arm, other) if arm is not None and other is not None else None
    if both is None:
        return None
    arm, other = both
    seeds = arm.seeds if against_base else tuple(s for s in arm.seeds if s in other.seeds)
    if not seeds:
        return None
    ours = arm.values[[arm.seeds.index(s) for s in seeds]]  # (S, N)
    theirs = other.values[[0] * len(seeds) if against_base else [other.seeds.index(s) for s in seeds]]
    change = ours - theirs
    changed = flips(change, arm.clusters) if arm.is_binary and other.is_binary else None
    return replace(arm, values=change, seeds=seeds, is_binary=False, changed=changed)


def _take(panel: Panel, places: list[int]) -> Panel:
    clusters = None if panel.clusters is None else panel.clusters[places]
    items = tuple(panel.items[i] for i in places)
    strata = None if panel.strata is None else panel.strata[places]
    return replace(panel, values=panel.values[:, places], items=items, clusters=clusters, strata=strata)
