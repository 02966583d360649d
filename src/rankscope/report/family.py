"""The study's family of paired comparisons, judged together. In: an evidence `Index`. Out: `Effect`s.

Every arm against its base on all tasks and on pooled retention; every LoRA arm against full SFT in domain, on pooled
retention, across domains, on neutral text, and on the tasks of one skill (reasoning, recall). All intervals come from
``rankscope.stats``; here is only decided what is compared with what, and how many comparisons a race left out.

Legend: N items, S seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product

from rankscope.records import Contrast, Estimate
from rankscope.report.evidence import Index, Panel, difference
from rankscope.report.pooling import pool
from rankscope.report.rows import BaseRow, Effect
from rankscope.report.tables import blocks
from rankscope.stats.contrast import Pair, contrasts, mcnemar

POOLED = "retention, pooled"
ACROSS = "cross-domain, pooled"
SKILLS = ("reasoning", "recall")
Status = dict[tuple[str, str], bool | None]


@dataclass(frozen=True)
class _Key:
    """What one comparison of the family is about."""

    model: str
    train: str
    arm: str
    other: str
    task: str
    role: str


def family(index: Index, base: tuple[BaseRow, ...]) -> tuple[Effect, ...]:
    """The study's family of comparisons, judged together. Those without data on both sides are left out."""
    status = statuses(base)
    given = {arm.name for arm in index.given_arms}
    panels: dict[_Key, Panel] = {}
    for model, train in blocks(index):
        panels |= _against_base(index, model, train, status)
        panels |= _against_full(index, model, train, status)
    # Members count as correlated only if they are on the very same items, which a task's name alone does not promise.
    names = {items: str(number) for number, items in enumerate(dict.fromkeys(p.items for p in panels.values()))}
    pairs = [
        # A model that exists already was drawn by no seed: nothing is known of it from how other arms' seeds vary.
        paired(
            p,
            key.arm,
            key.other,
            names[p.items],
            f"{key.model} {key.arm}" if key.arm in given else f"{key.model} trained on {key.train}",
        )
        for key, p in panels.items()
    ]
    judged = contrasts(pairs, margin=index.evidence.margin, absent=_absent(index, panels)) if pairs else []
    judged = [replace(contrast, task=key.task) for key, contrast in zip(panels, judged, strict=True)]
    judged = [replace(c, estimate=of_items(c.estimate)) if c.arm in given else c for c in judged]
    return tuple(
        _effect(key, p, contrast, status.get((key.model, key.task)), index.evidence.alarm)
        for (key, p), contrast in zip(panels.items(), judged, strict=True)
    )


def _absent(index: Index, keys: Iterable[_Key]) -> int:
    """How many comparisons the arms that a race stopped would have had: each as many as the arm with most has.

    Without them the family would be smaller, and the verdicts on the other arms bolder for no data of their own.
    """
    sizes = Counter((key.model, key.train, key.arm) for key in keys)
    most: dict[tuple[str, str], int] = {}
    for (model, train, _), size in sizes.items():
        most[model, train] = max(size, most.get((model, train), 0))
    return sum(size * len(index.out(*place)) for place, size in most.items())


def paired(change: Panel, arm: str, other: str, task: str, group: str) -> Pair:
    """A panel of differences as statistics take it."""
    return Pair(arm, other, task, change.values, change.higher_is_better, change.clusters, change.strata, group,
                change.changed)  # fmt: skip


def as_pair(changes: dict[str, Panel], arm: str, other: str, task: str, group: str) -> Pair | None:
    """The difference on one task, or pooled over several; None if there is none."""
    change = next(iter(changes.values())) if len(changes) == 1 else pool(changes)
    return None if change is None else paired(change, arm, other, task, group)


def statuses(base: tuple[BaseRow, ...]) -> Status:
    """Whether each base is above chance on each task; None where that can't be asked."""
    return {(row.model, row.task): row.is_above_chance for row in base}


def texts(index: Index, train: str) -> list[str]:
    """The tasks scored by cross-entropy: in nats, so that they are in no pool with scores."""
    in_nats = {task for (_, task), e in index.evidence.evals.items() if e.metric == "cross_entropy"}
    return [task for task, _ in index.tasks(train) if task in in_nats]


def usable(index: Index, model: str, train: str, status: Status, role: str | None = None) -> list[str]:
    """The scored tasks (of one role) that can show something: those taught, and others whose base is above chance.

    On a task whose base is not above chance nothing can be lost, and a difference is a matter of luck.
    """
    in_nats = texts(index, train)
    found = [(t, own) for t, own in index.tasks(train) if t not in in_nats and role in (None, own)]
    return [t for t, own in found if own == "in_domain" or status.get((model, t)) is not False]


def _against_base(index: Index, model: str, train: str, status: Status) -> dict[_Key, Panel]:
    base, found = index.base(model), {}
    for arm in index.tuned_arms if base else ():
        finals = index.finals(model, train, arm.name)
        kept: dict[str, Panel] = {}
        pooled_tasks = usable(index, model, train, status, "retention")
        for task, role in index.tasks(train):
            change = difference(index.panel(finals, task), index.panel((base,), task), against_base=True)
            if change is not None:
                found[_Key(model, train, arm.name, "base", task, role)] = change
                if task in pooled_tasks:
                    kept[task] = change
        is_whole = len(kept) == len(to_pool(index, model, train, status))
        if is_whole and len(kept) > 1 and (pooled := pool(kept)) is not None:
            found[_Key(model, train, arm.name, "base", POOLED, "retention")] = pooled
    return found


def to_pool(index: Index, model: str, train: str, status: Status) -> list[str]:
    """The retention tasks that an arm's pooled retention is of: without one of them it would be of something else."""
    base = index.base(model)
    tasks = usable(index, model, train, status, "retention") if base else []
    return [task for task in tasks if index.panel((base,), task) is not None]


def _against_full(index: Index, model: str, train: str, status: Status) -> dict[_Key, Panel]:
    """Every LoRA arm against full SFT, aspect by aspect; the same tasks are compared once, whatever they stand for."""
    found: dict[_Key, Panel] = {}
    arms = index.tuned_arms
    for arm, full in product((a for a in arms if a.kind == "lora"), (a for a in arms if a.kind == "full")):
        finals = [index.finals(model, train, a.name) for a in (arm, full)]
        for name, role, tasks in aspects(index, model, train, status):
            changes = {t: difference(*(index.panel(f, t) for f in finals), against_base=False) for t in tasks}
            there = {t: change for t, change in changes.items() if change is not None}
            if len(there) > 1 and (pooled := pool(there)) is not None:
                found.setdefault(_Key(model, train, arm.name, full.name, name, role), pooled)
            elif len(there) == 1:
                task, change = next(iter(there.items()))
                found.setdefault(_Key(model, train, arm.name, full.name, task, _role(index, train, task)), change)
    return found


def aspects(index: Index, model: str, train: str, status: Status) -> list[tuple[str, str, list[str]]]:
    """What LoRA and full SFT are compared on: (name, role, tasks). Pools leave out what can't show anything.

    That is cross-entropy, which has other units, and tasks on which the base is not above chance, unless taught.
    """
    tasks = dict(index.tasks(train))
    able = usable(index, model, train, status)
    found: list[tuple[str, str, list[str]]] = [(t, "in_domain", [t]) for t in tasks if tasks[t] == "in_domain"]
    found += [(POOLED, "retention", [t for t in able if tasks[t] == "retention"])]
    found += [(ACROSS, "cross_domain", [t for t in able if tasks[t] == "cross_domain"])]
    found += [(t, tasks[t], [t]) for t in sorted(texts(index, train)) if tasks[t] != "in_domain"]
    for skill in SKILLS:
        asked = [t for t in able if index.evidence.skills.get(t) == skill]
        roles = {tasks[t] for t in asked}
        role = roles.pop() if len(roles) == 1 else "several roles"
        found += [(f"{skill}, pooled", role, asked)] if asked else []
    return found


def _is_exact(panel: Panel) -> bool:
    """Whether McNemar's test is one of these differences: one seed, 0/1, every item by itself."""
    return bool(panel.changed) and panel.strata is None and panel.clusters is None and len(panel.seeds) == 1


def _role(index: Index, train: str, task: str) -> str:
    return dict(index.tasks(train))[task]


def _effect(key: _Key, panel: Panel, contrast: Contrast, is_above_chance: bool | None, alarm: float) -> Effect:
    mark = "positive" if contrast.low > 0 else "negative" if contrast.high < 0 else ""
    points = panel.metric != "cross_entropy" and key.other == "base" and key.task != POOLED
    is_large = points and mark == "negative" and contrast.estimate.value < -alarm
    exact = mcnemar(panel.values[0]) if _is_exact(panel) else None
    return Effect(
        key.model,
        key.train,
        key.task,
        key.role,
        panel.metric,
        contrast,
        is_above_chance,
        mark,
        is_large,
        is_alarm=is_large and contrast.high < -alarm,
        exact_p=exact,
    )


def of_items(estimate: Estimate) -> Estimate:
    """The same estimate of one model that exists already: it speaks for that model, not for a seed."""
    return replace(estimate, scope="items")
