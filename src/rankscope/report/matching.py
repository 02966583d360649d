"""Forgetting at matched gain over all ranks and learning rates. In: an evidence `Index`. Out: rows and points.

Runs of the first seed at every rate that was scored, losing trials included, so that no choice of a rate is needed
(``rankscope.stats.matched`` has the method). Shown only where some arm was scored at two rates at least.
"""

from __future__ import annotations

from rankscope.report.answer_rows import MatchedPoint, MatchedRow
from rankscope.report.evidence import Index, Panel, Run, difference, shared_items
from rankscope.report.family import statuses, texts, usable
from rankscope.report.rows import BaseRow
from rankscope.report.tables import blocks
from rankscope.stats.matched import Point, matched


def matchings(index: Index, base: tuple[BaseRow, ...]) -> tuple[tuple[MatchedRow, ...], tuple[MatchedPoint, ...]]:
    """What each arm forgot at common levels of gain, and the points that say so."""
    status = statuses(base)
    rows: list[MatchedRow] = []
    points: list[MatchedPoint] = []
    for model, train in blocks(index):
        tasks = dict(index.tasks(train))
        taught = next((t for t, role in tasks.items() if role == "in_domain"), None)
        in_nats = [t for t in texts(index, train) if tasks[t] == "retention"]
        scored = usable(index, model, train, status, "retention")
        for metric, asked in (("accuracy", scored), ("cross_entropy", in_nats)):
            if taught and asked:
                found = _Block(index, model, train, taught, asked)
                if found.is_worth_it:
                    rows += found.rows(metric)
                    points += found.points(metric)
    return tuple(rows), tuple(points)


class _Block:
    """Changes against the base, by arm and rate, on the task taught and on the retention tasks of one unit."""

    def __init__(self, index: Index, model: str, train: str, taught: str, kept: list[str]):
        self.model, self.train, self.taught, self.kept = model, train, taught, kept
        base, first = index.base(model), index.evidence.seeds[:1]
        self.arms = [a.name for a in index.trained_arms]
        self.runs: dict[tuple[str, float], Run] = {
            (arm, r.spec.lr): r for arm in self.arms for r in index.of(model, train, arm)
            if r.spec.seed in first and r.result.status == "done"
        }  # fmt: skip
        wanted = (taught, *kept)
        changes = {
            task: {k: difference(index.panel((r,), task), index.panel((base,), task) if base else None, True)
                   for k, r in self.runs.items()}
            for task in wanted
        }  # fmt: skip
        whole = [k for k in self.runs if all(changes[task][k] is not None for task in wanted)]
        self.changes: dict[str, dict[tuple[str, float], Panel]] = {
            task: shared_items({k: changes[task][k] for k in whole}) for task in wanted
        }
        self.whole = whole if all(self.changes.values()) else []

    @property
    def is_worth_it(self) -> bool:
        return any(sum(name == arm for name, _ in self.whole) > 1 for arm in self.arms)

    def _point(self, key: tuple[str, float]) -> Point:
        gain = _better(self.changes[self.taught][key])
        return Point(key[1], gain, tuple(-_better(self.changes[task][key]) for task in self.kept))

    def rows(self, metric: str) -> list[MatchedRow]:
        arms = {arm: [self._point(k) for k in self.whole if k[0] == arm] for arm in self.arms}
        first = self.whole[0]
        labels = [self.changes[task][first].clusters for task in self.kept]
        found = matched(arms, gain_clusters=self.changes[self.taught][first].clusters, clusters=labels)
        taught = self.changes[self.taught][first].metric
        return [MatchedRow(self.model, self.train, m.arm, metric, taught, m.fraction, m.gain, m.forgetting, m.why,
                           m.rates) for m in found]  # fmt: skip

    def points(self, metric: str) -> list[MatchedPoint]:
        found = []
        for key in self.whole:
            point = self._point(key)
            lost = sum(float(table.mean()) for table in point.forgotten) / len(point.forgotten)
            chosen = self.runs[key].role == "final"
            found.append(MatchedPoint(self.model, self.train, key[0], metric, key[1], float(point.gain.mean()), lost,
                                      chosen))  # fmt: skip
        return found


def _better(change: Panel):
    """Differences (S, N) with positive meaning better."""
    return change.values if change.higher_is_better else -change.values
