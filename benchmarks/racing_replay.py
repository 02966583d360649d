"""Races over recorded grids. In: the folder of racing_grids.py and limits. Out: who stays, what is recommended then.

What a race decides reads the looks alone; the recommendation is the real study's, over the scores in the store. Answers
are remembered beside the looks, since a recommendation depends only on which arm has which rate.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import racing_grids

from rankscope.stats.racing import LIMITS, LOOKS, NEVER, Drop, Field, Limits, Look, Racer, race
from rankscope.stats.tuning import Trial, choose_lr
from rankscope.study.study import Study

Looks = Mapping[float, Sequence[Look]]
NAMES = ("slow", "fast", "gain", "drift")
SLACK, GROWTH = 0.1, {"drift": 1.5}
"""Beyond what the calibration grids needed, and times it."""
SEEN = {*range(30), 32, 35, 38, 41, 44, *range(100, 106)}
"""Grids that were there when the limits of ``stats.racing`` were settled; all others try them afresh."""
TRIFLE = 0.1
"""A rate that ends with a lag below this would have done as well."""
KINDS = (None, "demo", "tied", "planted")
HOPELESS = 0.6
"""An arm that ends with a lag above this learned next to nothing: which rate it has is noise and doesn't matter."""


@dataclass(frozen=True)
class Raced:
    """The end of a race: who went to the end, who was stopped, and the share of the full grid's tokens that it took.

    ``share`` counts the first seed's runs; ``share_of_three`` two more seeds of every arm that is left, too.
    """

    left: tuple[Racer, ...]
    drops: tuple[Drop, ...]
    share: float
    share_of_three: float


@dataclass(frozen=True)
class Answer:
    """A recommendation: the arm and the range of ranks."""

    arm: str | None
    ranks: tuple[int, int] | None


def run(looks: Looks, start: Sequence[float], limits: Limits, prefer: str = "cost") -> Raced:
    """A race to its end: at each look the runs that are left are compared."""
    racers = [k.racer for k in looks[LOOKS[0]]]
    stopped: dict[Racer, float] = {}
    drops: list[Drop] = []
    for share in LOOKS:
        live = [k for k in looks[share] if k.racer not in stopped]
        new = race(live, share, start, prefer, limits)
        drops += new
        stopped |= {d.racer: share for d in new}
    left = tuple(r for r in racers if r not in stopped)
    mine = sum(stopped.get(r, 1.0) for r in racers)
    arms, arms_left = len({r.arm for r in racers}), len({r.arm for r in left})
    return Raced(left, tuple(drops), mine / len(racers), (mine + 2 * arms_left) / (len(racers) + 2 * arms))


def chosen(ends: Sequence[Look], left: Sequence[Racer]) -> dict[str, float]:
    """The rate of each arm, by the one-standard-error rule over the runs that went to the end."""
    out = {}
    for arm in dict.fromkeys(r.arm for r in left):
        mine = [k for k in ends if k.racer in left and k.racer.arm == arm]
        trials = [Trial(k.racer.lr, k.loss if np.isfinite(k.loss) else None, None, k.losses) for k in mine]
        if (found := choose_lr(trials)) is not None:
            out[arm] = found.lr
    return out


class Replay:
    """All recorded grids of some folders, no number twice."""

    def __init__(self, folders: Sequence[Path]):
        found = {int(p.stem): f for f in folders for p in (f / "looks").glob("*.npz") if p.stem.isdigit()}
        self.folders = dict(sorted(found.items()))
        self.numbers = list(self.folders)
        self.grids = {n: racing_grids.read(f, n) for n, f in self.folders.items()}
        self.memory = folders[0] / "answers.json"
        self.known: dict[str, list] = json.loads(self.memory.read_text()) if self.memory.is_file() else {}
        self.whole = {n: self.answer(n, [k.racer for k in g.looks[LOOKS[0]]]) for n, g in self.grids.items()}

    def answer(self, number: int, left: Sequence[Racer]) -> Answer:
        """What the real study recommends if only these runs exist."""
        rates = chosen(self.grids[number].looks[1.0], left)
        key = f"{number} {sorted(rates.items())}"
        if key not in self.known:
            study = racing_grids.study_of(number, self.folders[number])
            lora, full = study["arms"][1]["lora"], study["arms"][2]["full"]
            ranks = {f"lora-r{rank}": rank for rank in lora["rank"]}
            arms = [{"lora": {**lora, "rank": ranks[a], "lr": lr}} for a, lr in rates.items() if a in ranks]
            study["arms"] = ["base", *arms, {"full": {**full, "lr": rates["full"]}}]
            found = Study.load(study).result(self.folders[number] / "store").recommend()
            self.known[key] = [found.arm, found.ranks and list(found.ranks)]
            self.memory.write_text(json.dumps(self.known))
        arm, span = self.known[key]
        return Answer(arm, span and tuple(span))

    def judged(self, number: int, limits: Limits) -> dict:
        """One grid: whether its choice is held, how many rank steps wider the range is, and what it took."""
        grid = self.grids[number]
        raced = run(grid.looks, grid.start, limits)
        whole, mine = self.whole[number], self.answer(number, raced.left)
        steps = racing_grids.RANKS.index
        rank = int(whole.arm.removeprefix("lora-r"))
        wider = steps(mine.ranks[1]) - steps(whole.ranks[1]), steps(whole.ranks[0]) - steps(mine.ranks[0])
        return {"grid": number, "kind": grid.kind, "full": whole, "raced": mine, "race": raced,
                "held": mine.ranks[0] <= rank <= mine.ranks[1], "same": mine.arm == whole.arm,
                "wider": sum(max(0, w) for w in wider)}  # fmt: skip

    def row(self, name: str, numbers: Sequence[int], limits: Limits, kind: str | None = None) -> dict:
        """Many grids, as the table and the JSON line have them."""
        found = [self.judged(n, limits) for n in numbers if kind is None or self.grids[n].kind.startswith(kind)]
        if not found:
            return {"limits": name, "kind": kind or "all", "grids": 0}
        tokens, three = ([getattr(f["race"], a) for f in found] for a in ("share", "share_of_three"))
        return {
            "limits": name, "kind": kind or "all", "grids": len(found),
            "held": sum(f["held"] for f in found), "same arm": sum(f["same"] for f in found),
            "widest": max(f["wider"] for f in found),
            "tokens": round(float(np.mean(tokens)), 3), "most": round(max(tokens), 3),
            "of three seeds": round(float(np.mean(three)), 3),
        }  # fmt: skip

    def calibrated(self, numbers: Sequence[int], least: Limits) -> Limits:
        """The smallest limits that would have stopped nothing that mattered in these grids, and ``SLACK`` more.

        Never below ``least``, what planted curves need: a handful of grids can't show every way to bloom late.
        """
        found = [needs(g.looks, g.start, chosen(g.looks[1.0], [k.racer for k in g.looks[1.0]]), self.whole[n].ranks)
                 for n, g in self.grids.items() if n in numbers]  # fmt: skip
        return limits_of(found, 1.0, least)

    def crossed(self, least: Limits) -> list[dict]:
        """Limits from one half of the grids (and planted curves: ``least``), tried on the other."""
        rows = []
        for odd in (1, 0):
            mine, other = ([n for n in self.numbers if n % 2 == k] for k in (odd, 1 - odd))
            limits = self.calibrated(mine, least)
            name = f"from {'odd' if odd else 'even'}"
            rows += [self.row(name, other, limits, kind) for kind in KINDS]
        return rows


Needs = dict[str, list[float]]
"""By the name of a limit and the place of the look: the largest value of what must not be stopped."""


def needs(looks: Looks, start: Sequence[float], rates: dict[str, float], ranks: tuple[int, int]) -> Needs:
    """The limits below which a grid's looks would stop what mattered: lags less their standard errors, or drift.

    What matters: of each arm that learned the rate that the full grid chose, and the arms of its recommended range.
    """
    most = {name: [0.0] * len(LOOKS) for name in NAMES}
    at_end = {k.racer: k for k in looks[1.0]}
    ends = {k.racer.arm: k for k in looks[1.0] if rates.get(k.racer.arm) == k.racer.lr}
    top = min((k for k in ends.values() if k.racer.kind == "lora"), key=lambda k: k.loss)
    end = Field(float(np.mean(start)), 0, 1.0, LIMITS)
    learned = [arm for arm, k in ends.items() if end.lag(k, top)[0] < HOPELESS]

    def matters(racer: Racer, front: Racer) -> bool:
        """Whether the rate ahead at the look ends clearly behind the arm's chosen one."""
        is_chosen = racer.arm in learned and rates[racer.arm] == racer.lr
        return is_chosen and not end.lag(at_end[front], at_end[racer])[0] < TRIFLE

    for stage, share in enumerate(LOOKS):
        field = Field(float(np.mean(start)), stage, share, LIMITS)
        live = [k for k in looks[share] if np.isfinite(k.losses).all()]
        best = {arm: min((k for k in live if k.racer.arm == arm), key=lambda k: k.loss) for arm in rates}
        fronts = [k for k in best.values() if k.racer.kind == "lora"]
        leader = min(fronts, key=lambda k: k.loss)
        found = [("slow" if k.racer.lr < best[k.racer.arm].racer.lr else "fast", _far(field, k, best[k.racer.arm]))
                 for k in live if matters(k.racer, best[k.racer.arm].racer)]  # fmt: skip
        for look in (k for k in fronts if ranks[0] <= k.racer.rank <= ranks[1]):
            found.append(("gain", _far(field, look, leader)))
            found.append(("drift", look.moved / min(k.moved for k in fronts if k.loss <= look.loss)))
        for name, value in found:
            most[name][stage] = max(most[name][stage], value)
    return most


def limits_of(found: Sequence[Needs], share: float, least: Limits | None = None) -> Limits:
    """Limits that this share of the grids would have come through, with some slack."""
    made = {}
    for name in NAMES:
        value = np.quantile([need[name] for need in found], share, axis=0) * GROWTH.get(name, 1.0) + SLACK
        made[name] = tuple(np.maximum(value, 0.0 if least is None else getattr(least, name)).round(3).tolist())
    return Limits(**made, tie=(-NEVER,) * len(LOOKS), z=LIMITS.z)


def _far(field: Field, look: Look, other: Look) -> float:
    """What a limit must not be below, for a run not to be stopped by another."""
    lag, se = field.lag(look, other)
    return lag - LIMITS.z * se if np.isfinite(se) else 0.0
