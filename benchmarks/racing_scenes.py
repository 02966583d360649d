"""Planted learning curves. In: a scene and a draw. Out: looks, test scores, and what a race makes of them.

A run's loss falls as a power of (rate x steps) to a floor that its rank sets. Above it lies what the rate's noise adds:
it goes with the square of the rate and with the schedule, so that a high rate looks worse until the schedule cools and
a low one lags until its steps add up. Every run has seed noise that is remembered from look to look, every row a
difficulty of its own and every pair of a run and a row its own noise. Test answers are right by a latent level of the
item, the same for all runs, plus noise; what was known is lost as the scene says.

Scenes: ``tie`` (all ranks have one floor), ``winner`` (the highest rank has by far the lowest), ``late`` (the highest
rank wins, but learns at a third of the speed), ``cliff`` (all gain alike; ranks from 8 move far and forget).

Legend: N rows or items.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from racing_replay import NAMES, Answer, Raced, chosen, limits_of, needs, run
from scipy.special import ndtri

from rankscope.stats.choice import Candidate
from rankscope.stats.mcb import Scores
from rankscope.stats.racing import LOOKS, Limits, Look, Racer
from rankscope.stats.recommend import recommend

RANKS, RATES = (1, 2, 4, 8, 16), (1e-3, 3e-3, 1e-2)
START, ROWS, ITEMS, MARGIN = 5.0, 100, 400, 0.03


@dataclass(frozen=True)
class Scene:
    """``floors`` and ``speeds`` by rank, and which ranks ``forget`` (and drift five times as far)."""

    floors: dict[int, float] = field(default_factory=dict)
    speeds: dict[int, float] = field(default_factory=dict)
    forget: tuple[int, ...] = ()


SCENES = {
    "tie": Scene(),
    "winner": Scene({1: 2.6, 2: 2.3, 4: 1.9, 8: 1.4}),
    "late": Scene({1: 1.6, 2: 1.5, 4: 1.3, 8: 1.1}, {16: 0.33}),
    "cliff": Scene(forget=(8, 16)),
}
FLOOR = 0.4
FRESH = 10_000
"""The first draw for calibration; those that are tried have lower numbers."""


class World:
    """One draw: every run's looks and what it would score."""

    def __init__(self, scene: str, number: int):
        self.scene, self.rng = SCENES[scene], np.random.default_rng([list(SCENES).index(scene), number])
        self.difficulty = self.rng.gamma(4.0, 0.25, ROWS)  # (N,), mean 1
        self.level, self.known = self.rng.standard_normal((2, ITEMS))
        self.best_rate = 3e-3 * np.exp(self.rng.normal(0, 0.4))  # the task's own
        self.speed = 6.0 * np.exp(self.rng.normal(0, 0.4))
        arms = [("full", "full", None), *((f"lora-r{r}", "lora", r) for r in RANKS)]
        self.racers = [Racer(*arm, lr) for arm in arms for lr in RATES]
        self.start = tuple((START * self.difficulty).tolist())
        self.looks: dict[float, list[Look]] = {share: [] for share in (*LOOKS, 1.0)}
        self.scores: dict[Racer, np.ndarray] = {}
        for racer in self.racers:
            self._draw(racer)

    def _draw(self, racer: Racer) -> None:
        rank = racer.rank or max(RANKS)
        floor, speed = self.scene.floors.get(rank, FLOOR), self.scene.speeds.get(rank, 1.0)
        rate = racer.lr / self.best_rate
        luck, own = self.rng.normal(0, 0.03), self.rng.normal(0, 0.15, ROWS)
        drift = (5.0 if rank in self.scene.forget else 1.0) * rate**0.3 * np.exp(self.rng.normal(0, 0.2))
        end = 0.0
        for share in (*LOOKS, 1.0):
            steps = self.speed * speed * rate * share * (2 - share)  # the schedule falls in a straight line
            noise = 0.12 * rate**1.5 * (1 - share) + 0.15 * max(0.0, np.log(rate)) ** 2
            luck = 0.7 * luck + self.rng.normal(0, 0.05) * (1.1 - share) * max(1.0, rate)
            end = floor + (START - floor) * (1 + steps) ** -1.5 + noise * START / 5 + luck
            losses = np.maximum(0.01, end * self.difficulty * np.exp(own * (1 - end / START)))
            moved = np.maximum(1e-3, drift * (START - end) / START * self.difficulty)
            self.looks[share].append(Look(racer, share, tuple(losses.tolist()), tuple(moved.tolist())))
        self.scores[racer] = np.array([
            self._right(self.level, 0.95 * np.exp(-0.5 * max(end, 0.0))),
            self._right(self.known, 0.5 if rank in self.scene.forget else 0.88),
        ])  # fmt: skip

    def _right(self, level: np.ndarray, share: float) -> np.ndarray:
        """Answers (N,), right with this probability; two runs of one share agree on most of them."""
        return (0.9 * level + np.sqrt(1 - 0.81) * self.rng.standard_normal(ITEMS) < ndtri(share)).astype(float)

    def answer(self, left: Sequence[Racer]) -> Answer:
        """The recommendation among the LoRA runs that are left, each arm at its chosen rate."""
        candidates, rates = [], chosen(self.looks[1.0], left)
        for racer in (r for r in left if r.rank is not None and rates[r.arm] == r.lr):
            name, rank, scores = racer.arm, racer.rank, self.scores[racer]
            candidates.append(Candidate(name, rank, "not shown", None, float(rank), Scores(name, scores[:1]),
                                        kept_scores=Scores(name, scores[1:])))  # fmt: skip
        found = recommend(candidates, MARGIN)
        return Answer(found.arm, found.ranks)


def judged(world: World, limits: Limits) -> tuple[bool, int, Raced]:
    """Whether a race holds the full grid's choice, how many rank steps wider its range is, and the race."""
    raced = run(world.looks, world.start, limits)
    whole, mine = world.answer(world.racers), world.answer(raced.left)
    place = RANKS.index
    wider = max(0, place(mine.ranks[1]) - place(whole.ranks[1])) + max(0, place(whole.ranks[0]) - place(mine.ranks[0]))
    return mine.ranks[0] <= int(whole.arm.removeprefix("lora-r")) <= mine.ranks[1], wider, raced


def answer(scene: str, draws: int, limits: Limits) -> dict:
    """Many draws of a scene, as the table and the JSON line have them."""
    found = [judged(World(scene, number), limits) for number in range(draws)]
    return {
        "scene": scene,
        "held": round(float(np.mean([held for held, _, _ in found])), 3),
        "wider than a step": sum(wider > 1 for _, wider, _ in found),
        "tokens": round(float(np.mean([raced.share for *_, raced in found])), 3),
        "of three seeds": round(float(np.mean([raced.share_of_three for *_, raced in found])), 3),
    }


def least(draws: int, share: float = 0.9) -> Limits:
    """The limits that this share of the draws of every scene needs."""
    found = []
    for scene in SCENES:
        worlds = [World(scene, FRESH + number) for number in range(draws)]
        found.append(limits_of([needs(w.looks, w.start, chosen(w.looks[1.0], w.racers), w.answer(w.racers).ranks)
                                for w in worlds], share))  # fmt: skip
    return Limits(**{name: tuple(np.max([getattr(f, name) for f in found], axis=0).tolist()) for name in NAMES},
                  tie=found[0].tie, z=found[0].z)  # fmt: skip
