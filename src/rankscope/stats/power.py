"""How likely a verdict is, and how much more data would bring one. In: parts of a variance. Out: chances and counts.

The standard error is itself estimated: the chance averages over its chi distribution, so that for better or worse it is
that of the noncentral t. What more data would do follows from the parts: v_item/N + v_seed/S + v_rest/(N S). All of it
holds if the parts, as estimated, are the truth. With one seed the seed part is unknown: then the chance is that of a
verdict on this seed only, and how many seeds it takes can't be said.

Legend: S seeds, N items.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import special

from rankscope.records import Needed
from rankscope.stats.estimate import Flips, Parts, Spread, unseen

POWER = 0.8
MOST_ITEMS, MOST_SEEDS = 10_000_000, 1_000
_NODES = (np.arange(64) + 0.5) / 64


def power(
    effect: float, found: Spread, alpha: float, margin: float | None = None, changed: Flips | None = None
) -> float:
    """The chance that the interval at ``1 - alpha`` excludes 0, or with a ``margin`` lies inside it, if ``effect`` is
    true.

    NaN without a standard error.
    """
    if not math.isfinite(found.se):
        return math.nan
    se = max(found.se, 1e-200)  # no flip seen: all hangs on those that weren't
    half = (
        found.se
        * float(special.stdtrit(found.df, 1 - alpha / 2))
        * np.sqrt(special.chdtri(found.df, _NODES) / found.df)
    )
    below = half if changed is None else np.maximum(half, unseen(changed.lost, changed.items, alpha))
    above = half if changed is None else np.maximum(half, unseen(changed.gained, changed.items, alpha))
    chance = special.ndtr((effect - below) / se) + special.ndtr((-above - effect) / se)
    if margin is not None:
        first, last = np.maximum(below - margin, -above), np.minimum(margin - above, below)
        chance += np.where(first < last, special.ndtr((last - effect) / se) - special.ndtr((first - effect) / se), 0.0)
    return float(chance.mean())


def detectable(found: Spread, alpha: float, changed: Flips | None = None) -> float:
    """The true difference that would be shown with 80 % power; flips need enough of them, and can't exceed 1."""
    if not math.isfinite(found.se):
        return math.inf
    seen = 0.0
    if found.se:
        limit = float(special.stdtrit(found.df, 1 - alpha / 2))
        seen = found.se * float(special.nctdtrinc(found.df, 1 - POWER, limit))
    if changed is None:
        return seen
    z = float(special.ndtri(1 - alpha / 2))
    seen = max(seen, z * (z + float(special.ndtri(POWER))) / (changed.items + z * z))
    return seen if seen < 1 else math.inf


def needed(
    effect: float, found: Parts, num_items: int, alpha: float, margin: float, changed: Flips | None = None
) -> Needed:
    """How many items, or seeds, bring a verdict with 80 % power if ``effect`` is the truth; to 1 %.

    An effect of the margin or more calls for better or worse; a smaller one for any verdict, whichever is sooner.
    """
    goal = margin if abs(effect) < margin else None

    def with_items(count: int) -> bool:
        times = count / num_items
        more = None if changed is None else Flips(changed.items * times, changed.gained * times, changed.lost * times)
        return power(effect, scaled(found, times).spread, alpha, goal, more) >= POWER

    def with_seeds(count: int) -> bool:
        return power(effect, scaled(found, seeds=count).spread, alpha, goal, changed) >= POWER

    if not math.isfinite(found.item):
        return Needed(None, None)
    seeds = None if found.num_seeds == 1 else _least(with_seeds, found.num_seeds + 1, MOST_SEEDS)
    return Needed(_least(with_items, num_items + 1, MOST_ITEMS), seeds)


def default_margin(num_items: int) -> float:
    """A margin that so many items can reach: of 20 % discordant items, 0.02 takes thousands, 0.01 about 17,000."""
    return 0.02 if num_items >= 2000 else 0.03


def planned(num_items: int, num_seeds: int, item_variance: float, seed_sd: float = 0.0, arms: int = 1,
            item_df: float | None = None) -> Parts:  # fmt: skip
    """The parts of a mean difference before anything is measured: of ``arms`` alike, over items and seeds to come.

    ``item_variance`` is that of one seed's differences over items (of right and wrong answers, about the share that
    flips), half of it the items' own and half anew with each seed; ``seed_sd`` the true means' between seeds. Arms
    share what they say about seeds, as verdicts do. Few seeds say it badly: where they are alike the estimated part is
    above zero by luck in some studies, whose intervals are wider for it, so that its expected value counts here.
    """
    df = max(num_items - 1.0, 1.0) if item_df is None else item_df
    if num_seeds == 1:
        return Parts(1, item_variance / num_items, df)
    rest = item_variance / 2 / num_items
    seed_df = arms * (num_seeds - 1.0)
    true, least = seed_sd**2 + rest, seed_df * rest / (seed_sd**2 + rest)  # seeds' mean square is true chi2(df) / df
    above = true * float(special.chdtrc(seed_df + 2, least)) - rest * float(special.chdtrc(seed_df, least))
    return Parts(num_seeds, rest + rest / num_seeds, df, rest + above, seed_df, rest, max(seed_df * df, 1.0))


def scaled(found: Parts, items: float = 1.0, seeds: int | None = None) -> Parts:
    """The parts to expect with ``items`` times as many items and with ``seeds`` in all, degrees of freedom included.

    Raises ValueError if the number of seeds is to change and there was one.
    """
    old = found.num_seeds
    if old == 1:
        if seeds not in (None, 1):
            raise ValueError("one seed says nothing about more of them")
        return replace(found, item=found.item / items, item_df=found.item_df * items)
    new = old if seeds is None else seeds
    rest = found.rest if math.isfinite(found.rest) else 0.0
    fixed, own = max(found.item - rest / old, 0.0), max(found.seed - rest, 0.0)  # v_item/N and v_seed
    more = (new - 1) / (old - 1)
    return Parts(
        new,
        (fixed + rest / new) / items,
        found.item_df * items,
        own + rest / items,
        found.seed_df * more,
        rest / items,
        found.rest_df * more * items,
    )


def _least(is_enough, start: int, most: int) -> int | None:
    """A number from ``start`` on that is enough, at most 1 % above the least one; None if none up to ``most`` is."""
    too_few, enough = start - 1, start
    while not is_enough(enough):
        if enough >= most:
            return None
        too_few, enough = enough, min(2 * enough, most)
    while enough - too_few > 1 + too_few // 100:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if is_enough(middle) else (middle, enough)
    return enough
