"""The planted study with readings from inside: 12 layers, the gain put into layers 6-8, the forgetting into 9-11,
change that grows with depth, norms that grow like the log of the rank, full SFT farthest.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from rankscope.records import Diagnosis, EvalResult, Reading, Score
from rankscope.report.evidence import Evidence
from report.conftest import ARMS, EVALUATIONS

LAYERS, BLOCKS = 12, ((0, 2), (3, 5), (6, 8), (9, 11))
KINDS = ("q_proj", "v_proj", "o_proj", "up_proj")
WEIGHT, ASKED, SEEDS = 10.0, 300, (0, 1)
SEAT = {"in_domain": 2, "retention": 3, "cross_domain": 1}
"""The block that carries most of what changed on tasks of each role."""


def one(name: str, value: float | None, **where) -> Reading:
    return Reading(name, (value,), **where)


def relative(layer: int, rank: int, seed: int) -> float:
    """Grows with depth, and more so at high rank."""
    return 0.002 * math.log2(2 * rank) * math.exp(layer / 11 * (0.5 + 0.1 * math.log2(rank))) * (1 + 0.002 * seed)


def spectrum(rank: int, seed: int, is_full: bool) -> tuple[Reading, ...]:
    found, count = [], 48 if is_full else rank
    for layer in range(LAYERS):
        for kind in KINDS:
            name, share = f"model.layers.{layer}.{kind}", relative(layer, rank, seed)
            values = (0.95 if is_full else 0.6 + 0.06 * math.log2(rank)) ** np.arange(count) * (1 + 0.01 * layer)
            values *= share * WEIGHT / math.sqrt((values**2).sum())
            p = values / values.sum()
            stable = float((values**2).sum() / values[0] ** 2)
            energy = np.cumsum(values**2) / (values**2).sum()
            where = {"layer": layer, "module": name}
            found += [
                Reading("singular_values", tuple(map(float, values)), **where),
                one("stable_rank", stable, **where),
                one("effective_rank", float(np.exp(-(p * np.log(p)).sum())), **where),
                one("energy_rank_90", float(np.searchsorted(energy, 0.9 - 1e-9) + 1), **where),
                one("energy_rank_99", float(np.searchsorted(energy, 0.99 - 1e-9) + 1), **where),
                one("frobenius", share * WEIGHT, **where),
                one("relative_frobenius", share, **where),
                *([] if is_full else [one("utilisation", stable / rank, **where)]),
            ]
    if is_full:
        found.append(one("relative_frobenius", 0.004, module="model.embed_tokens.weight"))
    total = 1.0 + math.log2(rank) * (1 + 0.01 * seed)
    return (*found, one("total_frobenius", total))


def intruders(rank: int, seed: int) -> tuple[Reading, ...]:
    return tuple(
        reading
        for layer in range(LAYERS)
        for kind in KINDS
        for reading in (
            one("intruders", float(max(layer - 6, 0) * (rank >= 4) + (rank > 16)), layer=layer,
                module=f"model.layers.{layer}.{kind}"),
            one("interference", 0.05 + 0.001 * seed, layer=layer, module=f"model.layers.{layer}.{kind}"),
        )
    )  # fmt: skip


def drift(rank: int, seed: int) -> tuple[Reading, ...]:
    found = [Reading("kl_by_position", tuple(0.02 * rank**0.5 / (1 + i) for i in range(8)), part="train"),
             one("cka_distance", 0.0001, module="embedding", part="train")]  # fmt: skip
    for part, factor in (("train", 1.0), ("evaluation", 0.7), ("neutral", 0.4)):
        for layer in range(LAYERS):
            far = factor * 0.01 * rank**0.5 * (layer + 1) / 12 * (1 + 0.01 * seed)
            found += [
                one("cka_distance", far, layer=layer, part=part),
                one("cosine_distance", far / 2, layer=layer, part=part),
                one("sink_cosine_distance", far / 20, layer=layer, part=part),
                one("effective_rank_base", 40.0, layer=layer, part=part),
                one("effective_rank_tuned", 40.0 - 10 * far, layer=layer, part=part),
            ]
    return tuple(found)


def attention(rank: int, seed: int) -> tuple[Reading, ...]:
    heads = np.arange(4)
    return tuple(
        Reading(name, tuple(map(float, size * rank**0.4 * (layer + 1) * (1 + heads) * (1 + 0.01 * seed))), layer=layer,
                part=part)
        for layer in range(LAYERS)
        for part in ("train", "neutral")
        for name, size in (("attention_js", 1e-4), ("entropy_change", -2e-4), ("distance_change", 1e-3),
                           ("first_token_change", 1e-4))
    )  # fmt: skip


def split(before: np.ndarray, after: np.ndarray, role: str, places: int) -> np.ndarray:
    """For every item the part of the update that makes its change: mostly the one of the role's seat."""
    odds = np.full(places, 0.2 / (places - 1))
    odds[SEAT[role] % places] = 0.8
    return np.random.default_rng(len(before) + places).choice(places, len(before), p=odds)


def attribution(evidence: Evidence, key: str, train: str, seed: int) -> tuple[Reading, ...]:
    found = []
    for task, role in EVALUATIONS[train]:
        before, after = (np.array([s.value for s in evidence.evals[k, task].scores[:ASKED]]) for k in ("base-key", key))
        found += [Reading("score", tuple(map(float, after)), part=task),
                  Reading("score", tuple(map(float, before)), part=task, variant="none")]  # fmt: skip
        for names in ([f"layers {a}-{b}" for a, b in BLOCKS], list(KINDS)):
            owner = split(before, after, role, len(names))
            for i, name in enumerate(names):
                without, only = np.where(owner == i, before, after), np.where(owner == i, after, before)
                found += [Reading("score", tuple(map(float, without)), part=task, variant=f"without {name}"),
                          Reading("score", tuple(map(float, only)), part=task, variant=f"only {name}")]  # fmt: skip
    return (*found, *losses(seed))


def losses(seed: int) -> tuple[Reading, ...]:
    """Validation: 1 nat falls; the kept sets keep 60, 90 and 99 % of that; the proposal keeps 96 %."""
    rows = 2.0 + 0.2 * np.sin(np.arange(80))
    noise = np.random.default_rng(seed).normal(0, 0.01, (6, 80))
    shares = {"": 1.0, "none": 0.0, "kept 1": 0.6, "kept 2": 0.9, "kept 3": 0.99, "proposal": 0.96}
    found = [Reading("loss", tuple(map(float, rows - share + n)), part="validation", variant=name)
             for (name, share), n in zip(shares.items(), noise, strict=True)]  # fmt: skip
    kept = {"kept 1": (6, 9), "kept 2": (3, 9), "kept 3": (0, 12), "proposal": (3, 12)}
    found += [Reading("kept_layers", tuple(map(float, range(*ends))), variant=name) for name, ends in kept.items()]
    return (*found, *(one("kept_rank", float(k), module=kind, variant="proposal") for kind, k in
                      (("q_proj", 4), ("k_proj", 0), ("up_proj", 8))))  # fmt: skip


def truncation(evidence: Evidence, key: str, train: str, rank: int) -> tuple[Reading, ...]:
    found = []
    for task, _ in EVALUATIONS[train]:
        before, after = (np.array([s.value for s in evidence.evals[k, task].scores[:ASKED]]) for k in ("base-key", key))
        order = np.random.default_rng(3).random(ASKED)
        ranks = [2**i for i in range(int(math.log2(rank)) + 1)] if rank > 1 else [1]
        for k in ranks:
            share = math.log2(2 * k) / math.log2(2 * rank)
            values = np.where(order < share, after, before)
            found.append(Reading("score", tuple(map(float, values)), part=task, variant=f"rank {k}"))
        found.append(Reading("score", tuple(map(float, after)), part=task))
    return tuple(found)


def divergence(key: str, name: str, rank: int) -> EvalResult:
    return EvalResult(key, f"kl-{name}", "done", metric="kl",
                      scores=tuple(Score(str(i), 0.01 * rank + 0.001 * (i % 3)) for i in range(30)))  # fmt: skip


def with_inside(evidence: Evidence, seeds: tuple[int, ...] = SEEDS) -> Evidence:
    """The study cut to its first train task and these seeds, with everything read inside its runs."""
    arms = {a.name: a for a in ARMS}
    runs = tuple(r for r in evidence.runs if r[0].train is None
                 or (r[0].train.name == "qa-a" and r[0].seed in seeds and r[3] == "final"))  # fmt: skip
    found, far = {}, {}
    for spec, key, _, _ in runs:
        if spec.train is None:
            continue
        arm = arms[spec.arm.name]
        rank = arm.rank or 64
        read = {
            "spectrum": spectrum(rank, spec.seed, arm.kind == "full"),
            "intruders": intruders(rank, spec.seed),
            "drift": drift(rank, spec.seed),
            "attention": attention(rank, spec.seed),
        }
        if spec.seed == 0:
            read["attribution"] = attribution(evidence, key, "qa-a", spec.seed)
        if spec.seed == 0 and arm.kind == "lora":
            read["truncation"] = truncation(evidence, key, "qa-a", rank)
        far[key, "qa-a"] = divergence(key, "qa-a", rank)
        found |= {(key, name): Diagnosis(key, f"{name}-{key}", name, "done", readings=r) for name, r in read.items()}
    keys = {r[1] for r in runs}
    return replace(
        evidence,
        seeds=seeds,
        runs=runs,
        train=("qa-a",),
        evaluations={"qa-a": EVALUATIONS["qa-a"]},
        evals={k: e for k, e in evidence.evals.items() if k[0] in keys},
        divergences=far,
        diagnoses=found,
    )
