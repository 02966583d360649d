"""The statistics of a report: scores, retention, headlines. In: an evidence `Index`. Out:
rows.

All intervals come from ``rankscope.stats``; the comparisons judged together are `rankscope.report.family`'s.

Legend: N items, S seeds.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import product

from rankscope.records import GIVEN, Estimate
from rankscope.report import verdict
from rankscope.report.evidence import Index, Panel, common, difference
from rankscope.report.family import POOLED, of_items, statuses, to_pool
from rankscope.report.rows import BaseRow, Effect, FewShot, Headline, ScoreRow, Transfer
from rankscope.report.tables import blocks, side_by_side
from rankscope.report.wording import amount
from rankscope.stats.estimate import mean_estimate, mean_estimates, rate_estimate
from rankscope.stats.retention import Kept, retention, retentions

_FEW_SHOT = re.compile(r"^(?P<task>.+)@(?P<shots>\d+)shot$")


def base_rows(index: Index) -> tuple[BaseRow, ...]:
    """The untouched models on every task, with chance. A few-shot variant that only the base has goes with its task."""
    rows = []
    for model in index.models:
        base = index.base(model)
        roles: dict[str, list[str]] = {}
        for train in index.evidence.train:
            for task, role in index.tasks(train):
                roles.setdefault(task, []).append(role)
        scored = [task for key, task in index.evidence.evals if base and key == base.key]
        extra = [task for task in scored if task not in roles and _few_shot(task)[0] not in roles]
        for task in dict.fromkeys((*roles, *extra)):
            rows.append(_base_row(index, model, task, tuple(dict.fromkeys(roles.get(task, ())))))
    return tuple(rows)


def _base_row(index: Index, model: str, task: str, roles: tuple[str, ...]) -> BaseRow:
    base = index.base(model)
    found = index.evaluation(base, task)
    shots = []
    for name in (t for key, t in index.evidence.evals if base and key == base.key):
        stem, count = _few_shot(name)
        panel = index.panel((base,), name)
        if name == task or stem != task or not count or panel is None:
            continue
        lift = difference(panel, index.panel((base,), task), against_base=True)
        shots.append(FewShot(name, count, rate_estimate(panel.values[0], panel.clusters), lift and _lift(lift)))
    panel = index.panel((base,), task) if found else None
    estimate = rate_estimate(panel.values[0], panel.clusters) if panel else None
    metric = found.metric if found else "accuracy"
    chance = found.chance if found else None
    return BaseRow(model, task, roles, metric, estimate, chance, above_chance(estimate, chance, metric), tuple(shots))


def above_chance(base: Estimate | None, chance: float | None, metric: str) -> bool | None:
    """Whether the base's whole 95 % interval lies above chance (0 if none is given). None for cross-entropy."""
    return None if base is None or metric == "cross_entropy" else bool(base.low > (chance or 0.0))


def scores(index: Index, base: tuple[BaseRow, ...]) -> tuple[ScoreRow, ...]:
    """The score of every arm on every task it is judged on, the base's first."""
    known = {(row.model, row.task): row for row in base}
    rows = [
        ScoreRow(
            r.model,
            "",
            "base",
            None,
            r.task,
            "/".join(r.roles),
            r.metric,
            r.estimate,
            r.chance,
            r.is_above_chance,
            "" if r.estimate else "not scored",
        )
        for r in base
    ]
    for model, train in blocks(index):
        tasks = index.tasks(train)
        estimates = {task: _arm_scores(index, model, train, task) for task, _ in tasks}
        for arm, (task, role) in product(index.tuned_arms, tasks):
            finals = index.finals(model, train, arm.name)
            panel, row = index.panel(finals, task), known[model, task]
            why = "" if panel else "not evaluated" if finals else "no finished run"
            rows.append(
                ScoreRow(
                    model,
                    train,
                    arm.name,
                    arm.top_rank,
                    task,
                    role,
                    panel.metric if panel else row.metric,
                    estimates[task].get(arm.name),
                    row.chance,
                    row.is_above_chance,
                    why,
                )
            )
    return tuple(rows)


def _arm_scores(index: Index, model: str, train: str, task: str) -> dict[str, Estimate]:
    """The mean score of each arm that has one; arms share what they say about how seeds vary."""
    panels = {arm.name: index.panel(index.finals(model, train, arm.name), task) for arm in index.trained_arms}
    panels = {name: panel for name, panel in panels.items() if panel is not None}
    is_score = all(p.higher_is_better for p in panels.values())
    found = mean_estimates([(p.values, p.clusters) for p in panels.values()], is_score=is_score)
    given = {arm.name: index.panel(index.finals(model, train, arm.name), task) for arm in index.given_arms}
    fixed = {name: rate_estimate(p.values[0], p.clusters) for name, p in given.items() if p is not None}
    return dict(zip(panels, found, strict=True)) | fixed


def transfers(index: Index, effects: tuple[Effect, ...]) -> tuple[Transfer, ...]:
    """Every arm's matrix train task x eval task, with empty cells where nothing was measured."""
    known = {(e.model, e.train, e.contrast.arm, e.task): e for e in effects if e.contrast.other == "base"}
    return tuple(
        Transfer(model, arm.name, train, task, role, known.get((model, train, arm.name, task)))
        for arm in index.tuned_arms
        for model, train in blocks(index)
        for task, role in index.tasks(train)
    )


def headlines(index: Index, effects: tuple[Effect, ...], base: tuple[BaseRow, ...]) -> tuple[Headline, ...]:
    """One row per train task and arm, failed and missing ones included; none for what a race stopped."""
    rows = []
    for model, train in blocks(index):
        kept, wanted = _retention(index, model, train, base), to_pool(index, model, train, statuses(base))
        arms = [arm.name for arm in index.tuned_arms if not index.is_out(model, train, arm.name)]
        first = _first_in_domain(index, model, train, effects)
        rows += [_headline(index, model, train, name, effects, kept[name], first, wanted) for name in arms]
    return tuple(rows)


def _first_in_domain(index: Index, model: str, train: str, effects: tuple[Effect, ...]) -> str | None:
    """The in-domain task that all gains are about: the first declared on which any arm can be compared."""
    wanted = (model, train, "in_domain", "base")
    there = {e.task for e in effects if (e.model, e.train, e.role, e.contrast.other) == wanted}
    declared = [task for task, role in index.evidence.evaluations.get(train, ()) if role == "in_domain"]
    return next((task for task in declared if task in there), None)


def _headline(
    index: Index,
    model: str,
    train: str,
    name: str,
    effects: tuple[Effect, ...],
    kept_share: Estimate | None,
    in_domain: str | None,
    to_keep: list[str],
) -> Headline:
    arm = next(a for a in index.evidence.arms if a.name == name)
    mine = [e for e in effects if (e.model, e.train, e.contrast.arm, e.contrast.other) == (model, train, name, "base")]
    gain = next((e for e in mine if e.role == "in_domain" and e.task == in_domain), None)
    ce = next((e for e in mine if e.role == "retention" and e.metric == "cross_entropy"), None)
    finals = index.finals(model, train, name)
    ledgers = [r.result.ledger for r in finals]
    failed = [r for r in index.of(model, train, name, "final") if r.result.status == "failed"]
    unscored = [task for task in to_keep if task not in {e.task for e in mine}]
    pooled = None if unscored else _pooled(mine)
    kept, reason = _kept(mine, pooled, index.evidence.margin, unscored)
    timed = [x.seconds for x in ledgers if x.seconds]
    is_given = arm.kind in GIVEN
    return Headline(
        model=model,
        train=train,
        arm=name,
        kind=arm.kind,
        rank=arm.top_rank,
        lr=finals[0].spec.lr if finals and not is_given else None,
        gain=gain,
        gain_is_above_chance=gain.is_above_chance if gain else None,
        retention=kept_share,
        forgotten=negated(pooled.contrast.estimate) if pooled else None,
        kept=kept,
        kept_reason=reason,
        ce_rise=negated(ce.contrast.estimate) if ce else None,
        ce_effect=ce,
        trainable=max((x.trainable for x in ledgers), default=0) or None,
        seconds=sum(timed) / len(timed) if timed else None,
        peak_bytes=max((x.peak_bytes for x in ledgers), default=0) or None,
        blob_bytes=max((x.blob_bytes for x in ledgers), default=0) or None,
        num_seeds=len(finals),
        num_seeds_planned=1 if is_given else len(index.evidence.seeds),
        num_failed=len(failed),
        side_by_side=tuple(sorted({n for r in finals if (n := side_by_side(r)) is not None})),
    )


def _pooled(effects: list[Effect]) -> Effect | None:
    """Pooled forgetting: the pooled comparison, or the one task that could be pooled."""
    found = next((e for e in effects if e.task == POOLED), None)
    single = [
        e for e in effects if e.role == "retention" and e.metric != "cross_entropy" and e.is_above_chance is not False
    ]
    return found or (single[0] if len(single) == 1 else None)


def _kept(effects: list[Effect], pooled: Effect | None, margin: float, unscored: list[str]) -> tuple[str, str]:
    """Non-inferiority of the pooled retention by its simultaneous interval, unless a single task is shown worse.

    Cross-entropy shown to rise beyond the margin forbids 'shown'; where nothing else can be used, it alone decides.
    Where retention tasks are ``unscored``, nothing is shown to be kept: one of them may be what was lost.
    """
    tasks = [e for e in effects if e.role == "retention" and e.metric != "cross_entropy"]
    texts = [e for e in effects if e.role == "retention" and e.metric == "cross_entropy"]
    risen = [e for e in texts if e.contrast.high < -margin]
    said = [f"CE on {e.task} rose by at least {amount(-e.contrast.high, e.metric).lstrip('+')}" for e in risen]
    worse = [
        e.task for e in tasks if e.contrast.verdict == "worse" and e.task != POOLED and e.is_above_chance is not False
    ]
    if pooled is None and not worse:
        if risen:
            return verdict.LOST, "; ".join(said)
        return (verdict.NO_DATA, f"not scored on {', '.join(unscored)}") if unscored else _bounded(texts, "CE rise")
    if worse or pooled.contrast.verdict == "worse":
        what = f"worse on {', '.join(worse)}" if worse else "worse over the pooled tasks"
        return verdict.LOST, "; ".join([what, *said])
    word, most = _bounded([pooled], "loss")
    if risen:
        return verdict.OPEN, "; ".join(said if word == verdict.SHOWN else [most, *said])
    left = [e for e in texts if e.contrast.low < -margin and math.isfinite(e.contrast.low)]
    more = [f"a CE rise of {amount(-e.contrast.low, e.metric).lstrip('+')} on {e.task} is not excluded" for e in left]
    return word, "; ".join([most, *more])


def _bounded(effects: list[Effect], what: str) -> tuple[str, str]:
    """Whether all effects are shown above minus their margin, and the largest loss that they leave open."""
    if not effects:
        return verdict.NO_DATA, "no usable retention task"
    if not all(math.isfinite(e.contrast.low) for e in effects):
        return verdict.OPEN, "no simultaneous interval"
    worst = min(effects, key=lambda e: e.contrast.low)
    most = amount(max(-worst.contrast.low, 0.0), worst.metric).lstrip("+")
    return (verdict.SHOWN if worst.contrast.is_non_inferior else verdict.OPEN), f"{what} at most {most}"


def _retention(index: Index, model: str, train: str, base: tuple[BaseRow, ...]) -> dict[str, Estimate | None]:
    """Each arm's chance-corrected share of what the base could do, over the tasks whose base is above chance."""
    tables = {arm.name: kept_tasks(index, model, train, arm.name, base) for arm in index.trained_arms}
    found = {name: kept.estimate for name, kept in zip(tables, retentions(list(tables.values())), strict=True)}
    for arm in index.given_arms:
        estimate = retention(kept_tasks(index, model, train, arm.name, base)).estimate
        found[arm.name] = estimate and of_items(estimate)
    return found


def kept_tasks(index: Index, model: str, train: str, arm: str, base: tuple[BaseRow, ...]) -> list[Kept]:
    """An arm's retention tasks beside the base's, over the seeds that all of them have."""
    known = {row.task: row for row in base if row.model == model}
    untouched, finals = index.base(model), index.finals(model, train, arm)
    kept = []
    for task, role in index.tasks(train) if untouched else ():
        row, after, before = known.get(task), index.panel(finals, task), index.panel((untouched,), task)
        both = common(after, before) if after and before else None
        is_lacking = role == "retention" and before is not None and before.higher_is_better and after is None
        if is_lacking and row is not None and row.is_above_chance is not False:
            return []  # a share of what is left would be of something else
        if role == "retention" and both and both[0].higher_is_better and row is not None:
            after, before = both
            kept.append((after.seeds, Kept(task, after.values, before.values[0], row.chance or 0.0, after.clusters)))
    # A seed counts only if all tasks have it: the pooled share is averaged seed by seed.
    seeds = set.intersection(*(set(own) for own, _ in kept)) if kept else set()
    return [replace(k, arm=k.arm[[s in seeds for s in own]]) for own, k in kept] if seeds else []


def negated(estimate: Estimate) -> Estimate:
    """The same estimate of the opposite sign: a loss instead of a gain."""
    return replace(estimate, value=-estimate.value, low=-estimate.high, high=-estimate.low)


def _lift(change: Panel) -> Estimate:
    """A mean difference of one fixed model: no seed is involved, and the scope says so."""
    return of_items(mean_estimate(change.values, clusters=change.clusters, changed=change.changed))


def _few_shot(task: str) -> tuple[str, int]:
    match = _FEW_SHOT.match(task)
    return (match["task"], int(match["shots"])) if match else (task, 0)
