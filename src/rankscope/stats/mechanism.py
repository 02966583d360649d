"""Claims about what training changed inside a network, asked of a study. In: one number a run. Out: ``Answer``s.

The first three are what arXiv 2512.15634 reports of its models: change is uneven over depth and more so at high rank,
the norm of the update grows about like log rank, full fine-tuning reshapes representations more than LoRA. A run gives
one number, so every interval here is Student's t over seeds, and with one seed nothing is decided. Where a claim is
about several arms, its intervals hold together at 95 % (Bonferroni; Dunn 1961). What is not shown is undecided.

Correlations and the ranking of estimators describe; they are exploratory and nothing is concluded from them.

Knows nothing about where the numbers come from.

Legend: S seeds, M arms, C runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy import special, stats

from rankscope.records import Estimate
from rankscope.stats.claims import Answer
from rankscope.stats.wording import listed, minus, number

BENT = 0.05
"""How far the middle of a curve may lie from the straight line, as a share of its rise, for it to count as straight."""
UPWARD = "Middle and upper layers change more than lower ones"
WITH_RANK = "And they do so more as the rank grows"
LOG_RANK = "The norm of the update grows like the logarithm of the rank"
RESHAPES = "Full fine-tuning reshapes representations more than LoRA"
ONE_SEED = "one seed: how much this varies from seed to seed is not known"
_EXACT = 7
_DRAWS = 20_000
_ROUNDING = 1e-12

Runs = Mapping[str, Mapping[int, float]]
"""One number a run: by arm, then by seed."""


def over_seeds(values: Sequence[float], level: float = 0.95) -> Estimate:
    """The mean of one number a run with Student's t interval over seeds; one seed: no interval, and ``scope`` says so.

    Raises ValueError without values.
    """
    if not len(values):
        raise ValueError("no run to average over")
    table, count = np.asarray(values, dtype=float), len(values)
    mean = float(table.mean())
    if count == 1:
        return Estimate(mean, -math.inf, math.inf, math.nan, 1, 1, level, "t over seeds", "this seed only")
    se = float(table.std(ddof=1)) / math.sqrt(count)
    half = se * float(special.stdtrit(count - 1, (1 + level) / 2))
    return Estimate(mean, mean - half, mean + half, se, 1, count, level, "t over seeds", "seeds")


def change_grows_upward(ratios: Runs, level: float = 0.95, absent: int = 0) -> Answer:
    """In: of every run, log of the mean relative change of the upper two thirds of layers over that of the lower.

    ``absent``: arms that a race left out; they count in the level.
    """
    test = (
        "log ratio of the mean relative change of the upper two thirds of the layers to that of the lower third, "
        "t intervals over seeds that hold together over the arms at 95 % (Bonferroni): holds if it is above 0 in every "
        "arm, and not if it is below 0 in one"
    )
    missing = "the study has no arm whose change was measured by layer"
    return _every_arm(UPWARD, test, ratios, 1 - level, absent, missing, _factor)


def grows_upward_with_rank(ratios: Runs, ranks: Mapping[str, int], level: float = 0.95) -> Answer:
    """In: the same log ratios, and the rank of every LoRA arm."""
    test = (
        "slope of that log ratio on log2 of the rank, fitted within each seed; t interval over seeds at 95 %: holds if "
        "it is above 0, and not if it is below"
    )
    lines = _by_seed(ratios, ranks, least=2)
    if not lines:
        return Answer(WITH_RANK, "not asked", test, "two ranks are needed that were measured under the same seed")
    slopes = [_leading(x, y, 1) for x, y in lines]
    found = over_seeds(slopes, level)
    why = f"a slope of {_said(found)} per doubling of the rank, over {number(len(slopes), 'seed')}"
    return _judged(WITH_RANK, test, why, found)


def norm_grows_like_log_rank(norms: Runs, ranks: Mapping[str, int], level: float = 0.95) -> Answer:
    """In: ||dW||_F of every LoRA run over all matrices, and the ranks. Like the log: a straight rise over log2 rank.

    Straight is shown, not assumed: the middle of a parabola through a seed's points must be shown to lie nearer to the
    line between its ends than ``BENT`` of the rise. A norm that grows like a power of the rank bends the other way.
    """
    test = (
        f"per seed a line and a parabola over log2 of the rank; t intervals over seeds that hold together at 95 %: "
        f"holds if the rise is above 0 and the parabola's middle is shown to lie within {100 * BENT:.0f} % of the rise "
        "from the straight line; does not hold if there is shown to be no rise, or a larger bend"
    )
    lines = _by_seed(norms, ranks, least=3)
    if not lines:
        return Answer(LOG_RANK, "not asked", test, "three ranks are needed that were measured under the same seed")
    rises, bends = zip(*(_rise_and_bend(x, y) for x, y in lines), strict=True)
    together = 1 - (1 - level) / 3
    rise = over_seeds(rises, together)
    up, down = (over_seeds([sign * b - BENT * r for r, b in zip(rises, bends, strict=True)], together)
                for sign in (1, -1))  # fmt: skip
    mean = np.mean(bends) / np.mean(rises) if np.mean(rises) else math.nan
    bent = f"; its middle lies {abs(100 * mean):.1f} % of the rise " if math.isfinite(mean) else ""
    bent += ("above" if np.mean(bends) > 0 else "below") + " a straight line" if bent else ""
    why = f"a rise of {_said(rise)} over the ranks tried{bent}, over {number(len(rises), 'seed')}"
    if len(rises) == 1:
        return Answer(LOG_RANK, "undecided", test, f"{why}; {ONE_SEED}")
    if rise.low > 0 and up.high < 0 and down.high < 0:
        return Answer(LOG_RANK, "holds", test, why)
    if rise.high <= 0 or (rise.low > 0 and (up.low > 0 or down.low > 0)):
        return Answer(LOG_RANK, "does not hold", test, why)
    return Answer(LOG_RANK, "undecided", test, why)


def full_reshapes_more(distances: Runs, full: str, level: float = 0.95, absent: int = 0) -> Answer:
    """In: of every run the mean CKA distance of its hidden states from the base's; the name of the full arm.

    ``absent``: LoRA arms that a race left out; they count in the level.
    """
    test = (
        "CKA distance from the base, mean over layers and prompts, full minus each LoRA arm under the same seed; t "
        "intervals over seeds that hold together over the arms at 95 % (Bonferroni): holds if it is above 0 for every "
        "LoRA arm, and not if it is below 0 for one"
    )
    mine = distances.get(full, {})
    gaps = {
        f"full − {arm}": {seed: mine[seed] - value for seed, value in runs.items() if seed in mine}
        for arm, runs in distances.items()
        if arm != full
    }
    return _every_arm(RESHAPES, test, {arm: runs for arm, runs in gaps.items() if runs}, 1 - level, absent,
                      "the study has no LoRA arm and full fine-tuning measured under the same seed", _said)  # fmt: skip


@dataclass(frozen=True)
class Association:
    """Spearman's rank correlation of two numbers over ``num_runs`` runs, and over the means of ``num_arms`` arms.

    ``p_value`` is that over arms, by permutation: runs of one arm are no independent observations.
    """

    over_runs: float
    num_runs: int
    over_arms: float
    num_arms: int
    p_value: float


def associated(first: Runs, second: Runs) -> Association | None:
    """Spearman's (1904) correlation over the runs that have both; None below three arms or where one never varies."""
    shared = {arm: [s for s in runs if s in second.get(arm, {})] for arm, runs in first.items()}
    shared = {arm: seeds for arm, seeds in shared.items() if seeds}
    if len(shared) < 3:
        return None
    pairs = np.array([(first[arm][s], second[arm][s]) for arm, seeds in shared.items() for s in seeds])  # (C, 2)
    means = np.array([[np.mean([table[arm][s] for s in seeds]) for table in (first, second)]
                      for arm, seeds in shared.items()])  # (M, 2)  # fmt: skip
    if min(np.ptp(means[:, 0]), np.ptp(means[:, 1])) == 0:
        return None
    x, y = (stats.rankdata(means[:, i]) for i in (0, 1))
    seen = float(np.corrcoef(x, y)[0, 1])
    over_runs = float(np.corrcoef(stats.rankdata(pairs[:, 0]), stats.rankdata(pairs[:, 1]))[0, 1])
    return Association(over_runs, len(pairs), seen, len(shared), _permuted(x, y, seen))


def distance_in_doublings(estimate: float | None, needed: int | None) -> float | None:
    """|log2(estimate) - log2(needed rank)|: 1 is a factor of two, either way. None where one of them is missing."""
    return None if not estimate or not needed else abs(math.log2(estimate) - math.log2(needed))


def _every_arm(claim: str, test: str, runs: Runs, alpha: float, absent: int, missing: str, say) -> Answer:
    """Holds if the mean over seeds is shown above 0 in every arm, and not if it is shown below in one."""
    runs = {arm: seeds for arm, seeds in runs.items() if seeds}
    if not runs:
        return Answer(claim, "not asked", test, missing)
    together = 1 - alpha / (len(runs) + absent)
    found = {arm: over_seeds(list(seeds.values()), together) for arm, seeds in runs.items()}
    lowest = min(found, key=lambda arm: found[arm].value)
    why = f"the smallest of {number(len(found), 'arm')}: {lowest} {say(found[lowest])}"
    if single := [arm for arm, e in found.items() if e.num_seeds == 1]:
        who = "every arm" if len(single) == len(found) else listed(single)
        has = "have" if 1 < len(single) < len(found) else "has"
        why = f"{why}; {who} {has} {ONE_SEED}"
    if below := [arm for arm, e in found.items() if e.high < 0]:
        return Answer(claim, "does not hold", test, f"{below[0]} {say(found[below[0]])}")
    return Answer(claim, "holds" if all(e.low > 0 for e in found.values()) else "undecided", test, why)


def _judged(claim: str, test: str, why: str, found: Estimate) -> Answer:
    if found.num_seeds == 1:
        return Answer(claim, "undecided", test, f"{why}; {ONE_SEED}")
    answer = "holds" if found.low > 0 else "does not hold" if found.high < 0 else "undecided"
    return Answer(claim, answer, test, why)


def _by_seed(runs: Runs, ranks: Mapping[str, int], least: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(log2 rank, value) of the arms of every seed that has at least so many different ranks."""
    found = []
    for seed in dict.fromkeys(seed for arm in ranks for seed in runs.get(arm, {})):
        points = [(math.log2(ranks[arm]), runs[arm][seed]) for arm in ranks if seed in runs.get(arm, {})]
        x, y = np.array(points).T
        found += [(x, y)] if len(set(x)) >= least else []
    return found


def _rise_and_bend(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The line's rise from the lowest rank to the highest, and how far a parabola's middle lies above its chord."""
    span = float(np.ptp(x))
    return _leading(x, y, 1) * span, -_leading(x, y, 2) * span**2 / 4


def _leading(x: np.ndarray, y: np.ndarray, degree: int) -> float:
    """The leading coefficient of the polynomial through the points; 0 where it is rounding, which has a sign too."""
    found = float(np.polyfit(x, y, degree)[0])
    return found if abs(found) * float(np.ptp(x)) ** degree > _ROUNDING * float(np.abs(y).max()) else 0.0


def _permuted(x: np.ndarray, y: np.ndarray, seen: float) -> float:
    """Two-sided p over all orders of y, or over random ones where there are too many."""
    if len(y) <= _EXACT:
        orders = np.array(list(permutations(y)))
    else:
        orders = np.random.default_rng(0).permuted(np.tile(y, (_DRAWS, 1)), axis=1)
    x, orders = x - x.mean(), orders - y.mean()
    drawn = orders @ x / math.sqrt((x @ x) * ((y - y.mean()) ** 2).sum())
    hits = int((np.abs(drawn) >= abs(seen) - 1e-12).sum())
    return hits / len(orders) if len(y) <= _EXACT else (hits + 1) / (len(orders) + 1)


def _said(found: Estimate) -> str:
    value, low, high = (minus(f"{x:+.3g}") for x in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]" if math.isfinite(found.low) else value


def _factor(found: Estimate) -> str:
    """A log ratio told as the factor it stands for."""
    value, low, high = (minus(f"{math.exp(min(x, 700)):.3g}") for x in (found.value, found.low, found.high))
    return f"by a factor of {value} [{low}, {high}]" if math.isfinite(found.low) else f"by a factor of {value}"
