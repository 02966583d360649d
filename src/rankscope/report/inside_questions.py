"""Claims about the inside of the model, asked of the study's own runs, and what is only explored. In: readings. Out:
rows.

Here is decided which number of a run answers which claim; how it is judged, in ``rankscope.stats.mechanism``. Each
claim is a family of its own. A published claim answers to its source; what is explored has no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from rankscope.records import Arm
from rankscope.report.answer_rows import Advice, Question
from rankscope.report.causes import lower_is_turned
from rankscope.report.depth import CHANGE, CKA, INTRUDERS, Place, Readings
from rankscope.report.evidence import Panel, Run, difference
from rankscope.report.family import POOLED, aspects
from rankscope.report.inside_rows import Finding, RunPoint
from rankscope.report.pooling import pool
from rankscope.report.rows import BaseRow
from rankscope.report.tables import blocks
from rankscope.stats import mechanism
from rankscope.stats.claims import SOURCE
from rankscope.stats.mechanism import Association, Runs
from rankscope.stats.wording import listed, number

ESTIMATORS = (("stable rank", "stable rank"), ("effective rank", "effective rank"),
              ("energy rank .9", "energy rank 90"), ("energy rank .99", "energy rank 99"))  # fmt: skip


def questions(readings: Readings) -> tuple[Question, ...]:
    """Every claim's answer, one set for each model and train task that has trained arms."""
    found = []
    for model, train in blocks(readings.index):
        if not train or not readings.names:
            continue
        arms = readings.index.trained_arms
        loras = [a.name for a in arms if a.kind == "lora"]
        ranks = {a.name: a.rank for a in swept(arms)}
        whole = {a.name for a in arms if a.layers is None}  # thirds of some layers are not those of the network
        ratios = {a: r for a, r in _by_arm(readings, model, train, log_ratio).items() if a in whole}
        norms = _by_arm(readings, model, train, lambda numbers: numbers.get(Place("total norm", "", None, "")))
        moved = _by_arm(readings, model, train, _mean_distance)
        full = next((a.name for a in arms if a.kind == "full"), "")
        full_and_loras = {a: r for a, r in moved.items() if a in loras or a == full}
        absent = len(readings.index.out(model, train))
        answers = (
            mechanism.change_grows_upward(ratios, absent=absent),
            mechanism.grows_upward_with_rank(ratios, ranks),
            mechanism.norm_grows_like_log_rank({a: r for a, r in norms.items() if a in ranks}, ranks),
            mechanism.full_reshapes_more(full_and_loras, full, absent=absent),
        )
        others = [a for a in loras if a not in ranks]
        for a in answers:
            is_of_ranks = a.claim in (mechanism.WITH_RANK, mechanism.LOG_RANK)
            why = f"{a.why}; left out, for more than rank is different: {listed(others)}"
            found.append(Question(model, train, a.claim, a.answer, a.test, why if is_of_ranks and others else a.why,
                                  SOURCE))  # fmt: skip
    return tuple(found)


def swept(arms: Iterable[Arm]) -> tuple[Arm, ...]:
    """The largest group of LoRA arms that differ in rank alone, and in the rate and alpha that go with it: what a claim
    about rank is asked of. Alpha is one for all, or a multiple of the rank."""
    groups: dict[tuple, list[Arm]] = {}
    for arm in (a for a in arms if a.kind == "lora" and a.rank):
        alike = replace(arm, name="", rank=None, alpha=None, lr=(), lr_auto=False)
        for rule in (("alpha", arm.alpha), ("alpha by rank", arm.alpha / arm.rank if arm.alpha else None)):
            groups.setdefault((alike, *rule), []).append(arm)
    largest = max(groups.values(), key=lambda group: len({a.rank for a in group}), default=[])
    return tuple(largest)


def log_ratio(numbers: dict[Place, float]) -> float | None:
    """Log of the mean relative change of the upper two thirds of the layers over that of the lower third."""
    layers = sorted((p.layer, v) for p, v in numbers.items() if p.name == CHANGE and p.layer is not None)
    third = len(layers) // 3
    if not third:
        return None
    lower, upper = (float(np.mean([v for _, v in part])) for part in (layers[:third], layers[third:]))
    return math.log(upper / lower) if lower > 0 and upper > 0 else None


def _mean_distance(numbers: dict[Place, float]) -> float | None:
    """CKA distance over layers, mean over the sets of prompts."""
    found = [v for p, v in numbers.items() if p.name == CKA and p.layer is None and not p.kind]
    return float(np.mean(found)) if found else None


def _by_arm(readings: Readings, model: str, train: str, number_of) -> Runs:
    """One number a run, by arm and seed; runs without it are left out."""
    found: dict[str, dict[int, float]] = {}
    for arm in readings.index.trained_arms:
        for run in readings.index.finals(model, train, arm.name):
            value = number_of(readings.numbers(run))
            if value is not None and math.isfinite(value):
                found.setdefault(arm.name, {})[run.spec.seed] = value
    return found


def points(readings: Readings, base: tuple[BaseRow, ...]) -> tuple[RunPoint, ...]:
    """Every run with what it forgot, and what is set against it."""
    index = readings.index
    status = {(row.model, row.task): row.is_above_chance for row in base}
    found = []
    for model, train in blocks(index):
        for arm in index.trained_arms if readings.names else ():
            finals = index.finals(model, train, arm.name)
            lost, metric = _forgotten(readings, model, train, finals, status)
            for run in finals:
                intruders = readings.numbers(run).get(Place(INTRUDERS, "", None, ""))
                divergence = _divergence(readings, run, train)
                if run.spec.seed in lost and (intruders is not None or divergence is not None):
                    found.append(RunPoint(model, train, arm.name, run.spec.seed, intruders, divergence,
                                          lost[run.spec.seed], metric))  # fmt: skip
    return tuple(found)


def _forgotten(readings: Readings, model: str, train: str, finals: tuple[Run, ...], status: dict) -> tuple:
    """By seed what was forgotten, pooled over the retention tasks; without such tasks the CE rise on text."""
    index, base = readings.index, readings.index.base(model)
    if base is None or not finals:
        return {}, "accuracy"
    changes: dict[str, Panel] = {}
    for task, role in index.tasks(train):
        change = difference(index.panel(finals, task), index.panel((base,), task), against_base=True)
        if role == "retention" and change is not None:
            changes[task] = lower_is_turned(change)
    pooled = next((tasks for name, _, tasks in aspects(index, model, train, status) if name == POOLED), [])
    kept = {task: change for task, change in changes.items() if task in pooled}
    texts = {task: change for task, change in changes.items() if not change.higher_is_better}
    change = pool(kept or texts)
    if change is None:
        return {}, "accuracy"
    losses = -change.values.mean(axis=1)
    return dict(zip(change.seeds, map(float, losses), strict=True)), "accuracy" if kept else "cross_entropy"


def _divergence(readings: Readings, run: Run, train: str) -> float | None:
    found = readings.index.evidence.divergences.get((run.key, train))
    values = [s.value for s in found.scores if math.isfinite(s.value)] if found and found.status == "done" else []
    return float(np.mean(values)) if values else None


def findings(readings: Readings, rows: tuple[RunPoint, ...], advice: tuple[Advice, ...]) -> tuple[Finding, ...]:
    """What is explored: what goes along with forgetting, and which spectral estimate is near the rank needed."""
    found = []
    for model, train in blocks(readings.index):
        mine = [p for p in rows if (p.model, p.train) == (model, train)]
        lost = _runs(mine, "forgotten")
        for name, field in (("Intruders and forgetting", "intruders"),
                            ("KL to the base on train rows and forgetting", "divergence")):  # fmt: skip
            tied = mechanism.associated(_runs(mine, field), lost)
            if mine:
                found.append(Finding(model, train, name, *_told(tied)))
        choice = next((a.choice for a in advice if (a.model, a.train) == (model, train)), None)
        found += _estimators(readings, model, train, choice)
    return tuple(found)


def _estimators(readings: Readings, model: str, train: str, choice) -> list[Finding]:
    """How far each spectral estimate of the largest LoRA arm's update lies from the smallest rank within the margin."""
    ranked = sorted(swept(readings.index.trained_arms), key=lambda a: a.rank)
    within = [a.rank for a in ranked if choice is not None and a.name in choice.within]
    means = {}
    for name, quantity in ESTIMATORS:
        runs = readings.index.finals(model, train, ranked[-1].name) if ranked else ()
        known = [v for run in runs if (v := readings.numbers(run).get(Place(quantity, "", None, ""))) is not None]
        means |= {name: float(np.mean(known))} if known else {}
    if not means:
        return []
    if not within:
        return [Finding(model, train, "Spectral estimate of the rank that is enough", "not asked",
                        "no rank is shown within the margin of the best")]  # fmt: skip
    away = {name: mechanism.distance_in_doublings(mean, within[0]) for name, mean in means.items()}
    known = sorted((name for name, gap in away.items() if gap is not None), key=lambda name: away[name])
    said = "; ".join(f"{name} {means[name]:.3g}, {away[name]:.2f} doublings away" for name in known)
    why = (
        f"the smallest rank shown within the margin of the best, of the arms that the recommendation is among, is "
        f"{within[0]}; read off {ranked[-1].name}: {said}"
    )
    nearest = f"nearest: {known[0]}" if known else "not measured"
    return [Finding(model, train, "Spectral estimate of the rank that is enough", nearest, why)]


def _runs(rows: list[RunPoint], field: str) -> Runs:
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if (value := getattr(row, field)) is not None:
            found.setdefault(row.arm, {})[row.seed] = value
    return found


def _told(tied: Association | None) -> tuple[str, str]:
    if tied is None:
        return "not asked", "three arms are needed that have both, and differ in both"
    rho = f"rho {tied.over_runs:+.2f}".replace("-", "\N{MINUS SIGN}")
    over = f"{tied.over_arms:+.2f}".replace("-", "\N{MINUS SIGN}")
    why = (
        f"over {number(tied.num_runs, 'run')}; over the means of {number(tied.num_arms, 'arm')} {over}, p = "
        f"{tied.p_value:.2g} by permutation of arms, since runs of one arm are not independent"
    )
    return rho, why
