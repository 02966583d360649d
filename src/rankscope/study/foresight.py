"""What a study can show before it has run. In: items, seeds, arms as planned; what stored runs say. Out: ``Smallest``.

An effect that is too small for the items and seeds comes out undecided, whatever it costs to measure. The level is that
of the verdicts, with as many comparisons as the study makes, counted as if none went with another: a little careful.
Where no run of this model was scored on a task, two things are assumed between two ends: how many answers an arm turns
over, and how far seeds lie apart. No torch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from rankscope.records import ModelRef
from rankscope.stats.estimate import Flips, Parts, rate_estimate
from rankscope.stats.power import POWER, default_margin, detectable, needed, planned, power
from rankscope.storage.history import Past, moved
from rankscope.study.plan import Smallest, base_spec, run_key, task_key

LEVEL = 0.95
FLIPPED = (0.1, 0.35)
"""Share of answers that an arm turns over, right to wrong or the reverse, where nothing is measured."""
SEED_SD = (0.0, 0.01)
"""The standard deviation of the true scores of seeds, where nothing is measured."""
USUAL = 0.2
"""The share of answers turned over by which a margin is judged, where nothing is measured; seeds are then alike."""


def smallest(study: Any, store: Any | None, past: Sequence[Past], model: ModelRef) -> list[Smallest]:
    """For every train task and every task of scores that its arms are judged on. Texts, in nats, are left out."""
    config, found = study.config, []
    arms = [arm for arm in config.arms() if arm.kind in ("lora", "full")]
    specs = {p.key: p.spec for p in past if p.kind == "train" and p.model == model.key}
    seeds, alpha = len(config.seeds), (1 - LEVEL) / max(1, comparisons(study))
    known: dict[str, tuple] = {}
    margin = _margin(study)
    for raw in config.train_refs():
        for ref, role in config.evaluations(raw):
            task = study.test_task(ref)
            prepared = study.prepared(task)
            if prepared.metric == "cross_entropy":
                continue
            key = task_key(task)
            if key not in known:
                known[key] = _known(store, specs, model, key)
            items, clusters = len(prepared.samples), len({s.cluster or s.id for s in prepared.samples})
            found.append(_smallest((model.name, raw.name, ref.name, role), (items, clusters, seeds, len(arms)), alpha,
                                   margin, known[key]))  # fmt: skip
    return found


def _margin(study: Any) -> float:
    """The study's own, or the one that a report would take: what the smallest in-domain test can reach."""
    config = study.config
    taught = [ref for raw in config.train_refs() for ref, role in config.evaluations(raw) if role == "in_domain"]
    sizes = [len(study.prepared(study.test_task(ref)).samples) for ref in taught]
    return config.recommend.margin or default_margin(min(sizes, default=0))


def comparisons(study: Any) -> int:
    """How many differences the study judges together, at most: each arm with the base on each task and on pooled
    retention; each LoRA arm with full SFT on each set of tasks that they are compared on (``report.family``)."""
    config, skills = study.config, study.skills()
    arms = [arm for arm in config.arms() if arm.kind != "base"]
    pairs, count = sum(a.kind == "lora" for a in arms) * sum(a.kind == "full" for a in arms), 0
    for raw in config.train_refs():
        judged = config.evaluations(raw)
        texts = {ref.name for ref, _ in judged if study.prepared(study.test_task(ref)).metric == "cross_entropy"}
        scored = {ref.name: role for ref, role in judged if ref.name not in texts}
        kept = [name for name, role in scored.items() if role == "retention"]
        sets = [{ref.name} for ref, role in judged if role == "in_domain" or ref.name in texts]
        sets += [set(kept), {name for name, role in scored.items() if role == "cross_domain"}]
        sets += [{name for name in scored if skills.get(name) == skill} for skill in ("reasoning", "recall")]
        count += len(arms) * (len(judged) + (len(kept) > 1)) + pairs * len({frozenset(s) for s in sets if s})
    return count * len(config.models())


def not_above_chance(study: Any, store: Any | None, model: ModelRef) -> list[str]:
    """Retention tasks on which the stored base is not above chance: nothing can be lost there. None where not known."""
    told = []
    for ref, role in study.config.evaluations(None):
        task = study.test_task(ref)
        if role != "retention" or store is None or study.prepared(task).metric == "cross_entropy":
            continue
        found = store.eval(run_key(base_spec(model)), task_key(task))
        if found is not None and found.scores:
            clusters = [s.cluster or s.item for s in found.scores]
            own = np.array(clusters) if any(s.cluster for s in found.scores) else None
            if rate_estimate(np.array([s.value for s in found.scores]), own).low <= (found.chance or 0.0):
                told.append(ref.name)
    return told


def _known(store: Any | None, specs: dict[str, dict], model: ModelRef, key: str) -> tuple:
    """(variance over items, spread of seeds) as runs of this store show them; None for what they don't."""
    if store is None:
        return None, None
    found = [m for m in moved(store, run_key(base_spec(model)), key) if m.key in specs and m.items > 1]
    if not found:
        return None, None
    variance = float(np.median([m.variance for m in found]))
    groups = defaultdict(list)
    for m in found:
        spec = specs[m.key]
        # By what it is, not by its name: under one name it may have had other settings before.
        arm = sorted((k, str(v)) for k, v in spec["arm"].items() if k not in ("name", "lr", "lr_auto", "path"))
        groups[str(arm), spec["lr"], str(spec["train"]), str(spec["recipe"])].append(m)
    several = [g for g in groups.values() if len(g) > 1]
    if not several:
        return variance, None
    between = [float(np.var([m.mean for m in g], ddof=1)) - np.mean([m.variance / m.items for m in g]) / 2
               for g in several]  # fmt: skip
    return variance, math.sqrt(max(0.0, float(np.mean(between))))


def _smallest(names: tuple[str, str, str, str], sizes: tuple[int, int, int, int], alpha: float, margin: float,
              known: tuple) -> Smallest:  # fmt: skip
    items, clusters, seeds, arms = sizes
    variance, sd = known

    def at(count: int, flipped: float, spread: float) -> tuple[Parts, Flips]:
        flipped = max(flipped, 1 / count)
        return planned(count, seeds, flipped, spread, arms), Flips(
            float(count), count * flipped / 2, count * flipped / 2
        )

    variances = FLIPPED if variance is None else (variance, variance)
    spreads = SEED_SD if sd is None else (sd, sd)
    ends = [at(*end) for end in zip((items, clusters), variances, spreads, strict=True)]
    low, high = (min(1.0, detectable(parts.spread, alpha, flips)) for parts, flips in ends)
    parts, flips = at(items, USUAL if variance is None else variance, sd or 0.0)
    is_enough = power(0.0, parts.spread, alpha, margin, flips) >= POWER
    more = items if is_enough else needed(0.0, parts, items, alpha, margin, flips).items
    return Smallest(*names, items, seeds, low, high, margin, variance is not None, is_enough, more)
