"""The recommended range of ranks, and the recommended arm against full SFT. In: an evidence `Index`, headlines,
effects. Out: rows.

The choice itself is ``rankscope.stats.recommend``'s; here its candidates are put together. Arms are compared on the
in-domain tasks (pooled where there are several) over the items that all of them have. What they kept comes from the
study's family of verdicts; a share to retain is judged at a level that holds for all candidates together. Arms that a
race stopped are candidates without scores: they can't be chosen, but count wherever arms are judged together.
"""

from __future__ import annotations

import math

from rankscope.errors import InputError
from rankscope.records import GIVEN, Estimate
from rankscope.report.answer_rows import Advice, Aspect, FrontierRow
from rankscope.report.effects import kept_tasks
from rankscope.report.evidence import Evidence, Index, Panel, shared_items
from rankscope.report.family import ACROSS, POOLED, SKILLS, statuses, texts, usable
from rankscope.report.pooling import pool
from rankscope.report.rows import BaseRow, Effect, Headline
from rankscope.report.tables import blocks
from rankscope.report.wording import stopped
from rankscope.stats.choice import PREFERENCES, Candidate
from rankscope.stats.frontier import Spot, frontier
from rankscope.stats.mcb import Scores
from rankscope.stats.recommend import Recommendation, Recommender
from rankscope.stats.retention import retentions
from rankscope.stats.thresholds import pieces

ASPECTS = (("Learning", "in_domain"), ("Retention", POOLED), ("Generalisation", ACROSS), ("Reasoning", SKILLS[0]),
           ("Recall", SKILLS[1]), ("Neutral text", "text"))  # fmt: skip
_UNTRAINED = "nothing is trained, so there is no rank to choose"
COSTS = (
    ("Trained parameters", "trainable", "count"),
    ("Stored bytes", "blob_bytes", "bytes"),
    ("Training time a run", "seconds", "seconds"),
    ("Peak memory", "peak_bytes", "bytes"),
)


def advices(
    index: Index, headlines: tuple[Headline, ...], effects: tuple[Effect, ...], base: tuple[BaseRow, ...]
) -> tuple[Advice, ...]:
    """One recommendation for each model and train task with a LoRA arm that has scores."""
    rows = []
    for model, train in blocks(index):
        mine = tuple(h for h in headlines if (h.model, h.train) == (model, train))
        chooser = recommender(index, mine, base)
        if chooser is None:
            continue
        found = chooser.under(index.evidence.retain, index.evidence.prefer)
        ours = tuple(e for e in effects if (e.model, e.train) == (model, train))
        metric = next((h.gain.metric for h in mine if h.gain), "accuracy")
        rows.append(Advice(model, train, metric, index.evidence.prefer, index.evidence.retain, found,
                           _aspects(index, mine, ours, found.arm), pieces(chooser),
                           {c.arm: c.retention for c in chooser.scored}))  # fmt: skip
    return tuple(rows)


def recommender(index: Index, headlines: tuple[Headline, ...], base: tuple[BaseRow, ...]) -> Recommender | None:
    """Chooses among the LoRA arms of one model and train task; None if there are none with scores."""
    ranked = [h for h in headlines if h.kind == "lora"]
    if not ranked:
        return None
    model, train = ranked[0].model, ranked[0].train
    arms = [h.arm for h in ranked]
    panels = _in_domain(index, model, train, arms)
    if not panels:
        return None
    out = [d for d in index.evidence.dropped if (d.model, d.train) == (model, train) and d.is_out and d.rank]
    shares, known = _shares(index, model, train, arms, base), _known(index, model, train, arms, base)
    labels = next(((p.clusters, p.strata) for p in known.values()), (None, None))
    candidates = [
        Candidate(h.arm, h.rank, h.kept, shares.get(h.arm), float(h.trainable or h.rank), _scores(h.arm, panels),
                  h.gain and h.gain.contrast, _scores(h.arm, known), labels, _is_awaited(index, h))
        for h in ranked
    ]  # fmt: skip
    candidates += [Candidate(d.arm, d.rank, "no data", None, math.inf, None,
                             stopped=f"was stopped at {100 * d.share:g} % of its steps: {stopped(d)}")
                   for d in {d.arm: d for d in sorted(out, key=lambda d: d.share)}.values()]  # fmt: skip
    first = next(iter(panels.values()))
    return Recommender(candidates, index.evidence.margin, first.clusters, first.strata,
                       unit="points" if first.higher_is_better else "nats")  # fmt: skip


def silences(evidence: Evidence, advice: tuple[Advice, ...]) -> list[str]:
    """Why there is no recommendation, for each model and train task that has none."""
    index, told = Index(evidence), {(row.model, row.train) for row in advice}
    found = []
    for model, train in blocks(index):
        if (model, train) not in told:
            found.append(f"{model}, trained on {train}: {_silence(index, train)}" if train else _UNTRAINED)
    return list(dict.fromkeys(found))


def _silence(index: Index, train: str) -> str:
    if not any(arm.kind == "lora" for arm in index.trained_arms):
        return "the study trains no LoRA arm, so there is no rank to choose"
    if len(_units(index, train)) > 1:
        return "its in-domain tasks are scored in points and in nats, which can't be added up"
    return "no LoRA arm has in-domain scores"


def _is_awaited(index: Index, row: Headline) -> bool:
    """Whether runs of the arm, or their scores on what was taught, are still to come; failed ones are not."""
    finals = index.finals(row.model, row.train, row.arm)
    taught = [task for task, role in index.tasks(row.train) if role == "in_domain"]
    unscored = any((run.key, task) not in index.evidence.evals for run in finals for task in taught)
    return unscored or row.num_seeds + row.num_failed < row.num_seeds_planned


def _in_domain(index: Index, model: str, train: str, arms: list[str]) -> dict[str, Panel]:
    """Each arm's scores on what was taught; none where points and nats would have to be pooled."""
    tasks = [task for task, role in index.tasks(train) if role == "in_domain"]
    found = _pooled(index, model, train, arms, tasks)
    return found if len(_units(index, train)) == 1 else {}


def _units(index: Index, train: str) -> set[bool]:
    """Whether what was taught is scored in nats; both where some tasks are and others aren't."""
    taught = [task for task, role in index.tasks(train) if role == "in_domain"]
    return {e.metric == "cross_entropy" for (_, task), e in index.evidence.evals.items() if task in taught}


def _known(index: Index, model: str, train: str, arms: list[str], base: tuple[BaseRow, ...]) -> dict[str, Panel]:
    """Each arm's scores on the retention tasks whose base is above chance; without any, cross-entropy on texts."""
    tasks, there = dict(index.tasks(train)), {row.task for row in base if row.model == model and row.estimate}
    in_nats = [t for t in texts(index, train) if tasks[t] == "retention" and t in there]
    scored = [t for t in usable(index, model, train, statuses(base), "retention") if t in there]
    return _pooled(index, model, train, arms, scored or in_nats)


def _pooled(index: Index, model: str, train: str, arms: list[str], tasks: list[str]) -> dict[str, Panel]:
    """The scores of every arm that has all the tasks, over the items that all these arms have; several are pooled."""
    finals = {arm: index.finals(model, train, arm) for arm in arms}
    whole = [arm for arm in arms if all(index.panel(finals[arm], task) for task in tasks)]
    by_task = {task: shared_items({arm: index.panel(finals[arm], task) for arm in whole}) for task in tasks}
    if not tasks or not all(by_task.values()):
        return {}
    found = {arm: {task: panels[arm] for task, panels in by_task.items()} for arm in whole}
    pooled = {arm: next(iter(p.values())) if len(p) == 1 else pool(p) for arm, p in found.items()}
    return {arm: panel for arm, panel in pooled.items() if panel is not None}


def _scores(arm: str, panels: dict[str, Panel]) -> Scores | None:
    """An arm's table, more is better; None if it has none."""
    panel = panels.get(arm)
    if panel is None:
        return None
    sign = 1 if panel.higher_is_better else -1
    return Scores(arm, sign * panel.values, panel.seeds, tuple((sign * table, groups) for table, groups in panel.tasks))


def _shares(
    index: Index, model: str, train: str, arms: list[str], base: tuple[BaseRow, ...]
) -> dict[str, Estimate | None]:
    """Chance-corrected retention with intervals that hold for all the arms together, stopped ones too (Bonferroni)."""
    tables = [kept_tasks(index, model, train, arm, base) for arm in arms]
    level = 1 - 0.05 / max(len(arms) + len(index.out(model, train)), 1)
    return {arm: kept.estimate for arm, kept in zip(arms, retentions(tables, level), strict=True)}


def _aspects(
    index: Index, headlines: tuple[Headline, ...], effects: tuple[Effect, ...], arm: str | None
) -> tuple[Aspect, ...]:
    """The recommended arm against full SFT, point by point: what was measured, or why nothing was."""
    ours = next((h for h in headlines if h.arm == arm), None)
    full = next((h for h in headlines if h.kind == "full"), None)
    if ours is None or full is None:
        return ()
    against = [e for e in effects if (e.contrast.arm, e.contrast.other) == (arm, full.arm)]
    rows = [Aspect("Efficiency", name, ours.arm, full.arm, None, getattr(ours, field), getattr(full, field), unit)
            for name, field, unit in COSTS]  # fmt: skip
    for name, key in ASPECTS:
        hit = _on(index, against, key)
        rows += [Aspect(name, e.task, ours.arm, full.arm, e, None, None, "") for e in hit]
        rows += [] if hit else [Aspect(name, "", ours.arm, full.arm, None, None, None, "")]
    return tuple(rows)


def _on(index: Index, against: list[Effect], key: str) -> list[Effect]:
    """The comparisons that an aspect is about: the pool, or the one task that stands for it."""
    skills = index.evidence.skills
    texts = [e for e in against if e.metric == "cross_entropy" and e.role != "in_domain"]
    if key == "text":
        return texts
    scored = [e for e in against if e not in texts]
    if key == "in_domain":
        return [e for e in scored if e.role == key]
    pooled = [e for e in scored if e.task in (key, f"{key}, pooled")]
    if pooled:
        return pooled
    roles = {POOLED: "retention", ACROSS: "cross_domain"}
    return [e for e in scored if (e.role == roles[key] if key in roles else skills.get(e.task) == key)][:1]


def frontiers(index: Index, headlines: tuple[Headline, ...]) -> tuple[FrontierRow, ...]:
    """Which trained arms nobody beats at gain, forgetting and trained parameters at once, by point estimates."""
    rows = []
    for model, train in blocks(index):
        mine = [h for h in headlines if (h.model, h.train) == (model, train) and h.gain and h.kind not in GIVEN]
        for place in frontier([_spot(h) for h in mine]):
            s = place.spot
            rows.append(FrontierRow(model, train, s.arm, s.gain, s.forgetting, s.cost, place.is_on, place.dominated_by))
    return tuple(rows)


def _spot(row: Headline) -> Spot:
    lost = row.forgotten or row.ce_rise
    cost = None if row.trainable is None else float(row.trainable)
    return Spot(row.arm, row.gain.contrast.estimate.value, lost and lost.value, cost)


def check_terms(retain: float | None, prefer: str | None) -> None:
    """Raises InputError for a share or a preference that makes no sense; None leaves the study's own."""
    if retain is not None and not 0 < retain <= 1:
        raise InputError("retain is a share of what the base could do: above 0, at most 1", got=retain)
    if prefer not in (None, *PREFERENCES):
        raise InputError(f"prefer is one of {', '.join(PREFERENCES)}", got=prefer)


def under_terms(
    evidence: Evidence,
    headlines: tuple[Headline, ...],
    base: tuple[BaseRow, ...],
    row: Advice,
    terms: tuple[float | None, str | None],
) -> Recommendation:
    """The choice behind ``row`` under another share to retain and preference; None leaves the study's own."""
    mine = tuple(h for h in headlines if (h.model, h.train) == (row.model, row.train))
    retain, prefer = terms
    wanted = row.retain if retain is None else retain
    chooser = recommender(Index(evidence), mine, base)
    return row.choice if chooser is None else chooser.under(wanted, prefer or row.prefer)
