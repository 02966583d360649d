"""Planted truth: arms, seeds and items whose true mean difference from the base is known. For tests and benchmarks.

A world's tables look like a study's. The base answers an item rightly or wrongly; an arm flips a share of the items,
half of those under every seed, half under some; a seed effect shifts all items of an arm at once. Arms flip partly the
same items, and items of one passage flip partly together. Continuous scores: skewed item effects, normal noise.

Legend: A arms, S seeds, N items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from rankscope.stats.contrast import Pair
from rankscope.stats.estimate import flips

BASE_RATE = 0.6
DISCORDANT = (0.05, 0.1, 0.15, 0.2, 0.3)
_ITEM_SD, _NOISE_SD, _ALIKE = 0.15, 0.15, 0.5


@dataclass(frozen=True)
class World:
    """``seed_sd`` is the SD of one seed's effect on the mean, in units of the score; ``effect`` the true difference.

    ``scale`` multiplies the seed effects arm by arm; ``alike`` is the share of their variance that the arms have in
    common. ``discordant``: the share of items that each arm answers otherwise than the base, repeated as needed.
    """

    seeds: int
    items: int
    seed_sd: float = 0.0
    is_binary: bool = True
    is_clustered: bool = False
    effect: float = 0.0
    arms: int = 5
    scale: tuple[float, ...] = ()
    alike: float = 0.0
    discordant: tuple[float, ...] = DISCORDANT


def tables(world: World, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Scores of the arms (A, S, N), of the base (N,), and each item's passage (N,) where the world has passages."""
    clusters = None
    if world.is_clustered:
        clusters = np.repeat(np.arange(world.items), np.resize(np.arange(1, 10), world.items))[: world.items]
    common, own = _normal(1, world.items, clusters, rng), _normal(world.arms, world.items, clusters, rng)
    alike = np.sqrt(_ALIKE) * common + np.sqrt(1 - _ALIKE) * own  # (A, N)
    effects = np.sqrt(1 - world.alike) * rng.standard_normal((world.arms, world.seeds))  # (A, S)
    effects += np.sqrt(world.alike) * rng.standard_normal(world.seeds)
    effects *= world.seed_sd * np.array(world.scale or (1.0,) * world.arms)[:, None]
    start = _normal(1, world.items, clusters, rng)[0]
    if not world.is_binary:
        skewed = (np.exp(0.3 * alike) - np.exp(0.045)) / np.sqrt(np.exp(0.18) - np.exp(0.09))  # mean 0, SD 1, skew 1
        noise = _NOISE_SD * rng.standard_normal((world.arms, world.seeds, world.items))
        return start + (world.effect + _ITEM_SD * skewed)[:, None] + effects[:, :, None] + noise, start, clusters
    base = special.ndtr(start) < BASE_RATE
    return _answers(world, base, special.ndtr(alike), effects, rng).astype(float), base.astype(float), clusters


def pairs(world: World, rng: np.random.Generator, task: str = "task") -> list[Pair]:
    """Each arm against the base, as a study declares it."""
    arms, base, clusters = tables(world, rng)
    found = []
    for number, arm in enumerate(arms):
        change = flips(arm - base, clusters) if world.is_binary else None
        found.append(Pair(f"arm {number}", "base", task, arm - base, clusters=clusters, changed=change))
    return found


def _answers(world: World, base: np.ndarray, uniform: np.ndarray, effects: np.ndarray, rng) -> np.ndarray:
    """Right answers (A, S, N): half of an arm's flips under every seed, half seed by seed, then the seed's shift."""
    discordant = np.resize(world.discordant, world.arms)[:, None]
    lost, gained = (discordant - world.effect) / 2 / BASE_RATE, (discordant + world.effect) / 2 / (1 - BASE_RATE)
    share = np.where(base, lost, gained)  # (A, N): of items like this one, how many flip
    always = uniform < share / 2
    shape = (world.arms, world.seeds, world.items)
    sometimes = rng.random(shape) < (share / 2 / (1 - share / 2))[:, None]
    right = base ^ (always[:, None] | sometimes)
    mean = BASE_RATE + world.effect
    up, down = np.clip(effects, 0, None) / (1 - mean), np.clip(-effects, 0, None) / mean
    return right ^ (rng.random(shape) < np.where(right, down[:, :, None], up[:, :, None]))


def _normal(rows: int, items: int, clusters: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Standard normal (rows, N); half of the variance is the passage's where there are passages."""
    values = rng.standard_normal((rows, items))
    if clusters is None:
        return values
    return np.sqrt(0.5) * values + np.sqrt(0.5) * rng.standard_normal((rows, clusters[-1] + 1))[:, clusters]
