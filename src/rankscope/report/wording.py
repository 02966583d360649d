"""How numbers are written, once for every format. In: numbers in the units of the records. Out: short text.

A minus is a real minus sign, what is not there is an en dash, and an interval is in square brackets.
"""

from __future__ import annotations

import math

from rankscope.records import Contrast, Dropped, Estimate, Needed

NOTHING = "–"
VERDICTS = {"better": "better", "worse": "worse", "equivalent": "within the margin", "undecided": "undecided"}


def trained(train: str) -> str:
    """'trained on gsm8k', or what stands there in a study that trains nothing."""
    return f"trained on {train}" if train else "arms given"


def source(train: str) -> str:
    """A train task as a row's heading."""
    return train or "(arms given)"


def is_nats(metric: str) -> bool:
    return metric == "cross_entropy"


def signed(value: float, metric: str) -> str:
    """A difference: points with one decimal for scores (0.031 -> '+3.1'), nats with three."""
    return _minus(f"{value:+.3f}" if is_nats(metric) else f"{100 * value:+.1f}")


def plain_number(value: float, metric: str) -> str:
    """A score: per cent with one decimal, or nats with three."""
    return _minus(f"{value:.3f}" if is_nats(metric) else f"{100 * value:.1f}")


def unit(metric: str) -> str:
    return "nats" if is_nats(metric) else "points"


def amount(value: float, metric: str) -> str:
    """A signed difference with its unit: '+3.1 points'."""
    return f"{signed(value, metric)} {unit(metric)}"


def score(estimate: Estimate | None, metric: str) -> str:
    """'43.2 [40.1, 46.3]', in per cent or nats."""
    return NOTHING if estimate is None else _spread(estimate, lambda v: plain_number(v, metric))


def change(estimate: Estimate | None, metric: str) -> str:
    """'+3.1 [+1.0, +5.2]', in points or nats."""
    return NOTHING if estimate is None else _spread(estimate, lambda v: signed(v, metric))


def percent(estimate: Estimate | None) -> str:
    """A ratio as per cent with its interval, unsigned."""
    return NOTHING if estimate is None else _spread(estimate, lambda v: _minus(f"{100 * v:.0f}"))


def tenths(estimate: Estimate | None) -> str:
    """A ratio as per cent with its interval, to tenths: '96.3 [94.0, 98.6]'."""
    return NOTHING if estimate is None else _spread(estimate, lambda v: _minus(f"{100 * v:.1f}"))


def shown(contrast: Contrast, metric: str) -> str:
    """'+3.1 [+0.2, +6.0]': the difference with its simultaneous interval."""
    return f"{signed(contrast.estimate.value, metric)} {simultaneous(contrast, metric)}"


def simultaneous(contrast: Contrast, metric: str) -> str:
    return f"[{_or_unknown(contrast.low, metric)}, {_or_unknown(contrast.high, metric)}]"


def sample(estimate: Estimate | None) -> str:
    """'1,319 items × 3 seeds', or what the interval speaks for when that is less."""
    if estimate is None:
        return NOTHING
    items = f"{estimate.num_items:,} items"
    if estimate.scope == "items":
        return items
    return f"{items} × {plural(estimate.num_seeds, 'seed')}"


def verdict(contrast: Contrast, metric: str) -> str:
    """The verdict word; beside every 'undecided' the effect that this study would have seen."""
    word = VERDICTS[contrast.verdict]
    if contrast.verdict == "undecided" and math.isfinite(contrast.detectable):
        return f"{word} (could see {plain_number(contrast.detectable, metric)})"
    return word


def needed(more: Needed) -> str:
    """'1,900 items or 7 seeds would decide', or that no number would, were the estimate the truth."""
    items = [f"{more.items:,} items"] if more.items is not None else []
    seeds = [f"{more.seeds:,} seeds"] if more.seeds is not None else []
    if not items and not seeds:
        return "no number of items or seeds would decide, if the estimate is the truth"
    return f"{' or '.join([*items, *seeds])} would decide, if the estimate is the truth"


def one_seed(estimate: Estimate) -> str:
    """'this seed only' where an interval can't speak for seeds."""
    return estimate.scope if estimate.scope == "this seed only" else ""


def measured(value: float | int | None, unit: str) -> str:
    """An amount by its unit: count, bytes or seconds."""
    return {"count": count, "bytes": number_bytes, "seconds": duration}[unit](value)


def number_bytes(value: float | int | None) -> str:
    if value is None:
        return NOTHING
    for name, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {name}" if value < 999.5 * size else f"{value / size:,.0f} {name}"
    return f"{value:.0f} B"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    if seconds < 99.5:
        return f"{seconds:.3g} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def portion(share: float) -> str:
    """A share in per cent, two digits: '0.046 %', '4.6 %', '100 %'."""
    return f"{100 * share:.2g} %" if 100 * share < 99.5 else f"{100 * share:,.0f} %"


def count(value: float | int | None) -> str:
    """A count in full below 10,000, else with k, M, B, T or P (10^3 to 10^15)."""
    if value is None:
        return NOTHING
    for name, size in (("P", 1e15), ("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= (10 * size if name == "k" else 0.9995 * size):  # what would be rounded to 1,000 of the next smaller
            return f"{value / size:.3g} {name}"
    return f"{value:,.0f}"


def side_by_side(sizes: tuple[int, ...]) -> str:
    """'5 side by side', or '2 to 5' where cohorts differ; nothing for runs trained alone."""
    if not sizes or sizes[-1] < 2:
        return ""
    return f"{sizes[0]} side by side" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} side by side"


def learning_rate(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g}"


def stopped(row: Dropped) -> str:
    """Why a race stopped a run, in a sentence."""
    return {
        "rate": f"another learning rate of its arm, {row.by_lr:g}, is ahead",
        "gain": f"its arm is far behind {row.by_arm} at {row.by_lr:g}",
        "retention": f"{row.by_arm} at {row.by_lr:g} gains as much and has moved far less from the base",
        "tie": f"{row.by_arm} at {row.by_lr:g}, which is cheaper, does as well as its arm",
    }[row.reason]


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listing(words: list[str] | tuple[str, ...]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"


def _spread(estimate: Estimate, write) -> str:
    if not math.isfinite(estimate.value):
        return NOTHING
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return f"{write(estimate.value)} [no interval]"
    return f"{write(estimate.value)} [{write(estimate.low)}, {write(estimate.high)}]"


def _or_unknown(value: float, metric: str) -> str:
    return signed(value, metric) if math.isfinite(value) else "?"


def _minus(text: str) -> str:
    bare = text.lstrip("+-")
    if float(bare) == 0:  # a rounded zero has no sign
        return bare
    return text.replace("-", "\N{MINUS SIGN}")
