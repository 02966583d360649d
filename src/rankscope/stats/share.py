"""The share of a gain that is left. In: two gains on the same rows. Out: their ratio with an interval.

By the delta method: d[part / whole] = (d[part] - share d[whole]) / mean whole, paired by row and seed by seed, so that
what moved both on a row cancels. Where the whole gain itself is not shown, a ratio to it means nothing and there is
none (Fieller 1954: its confidence set would have no end).

Legend: S seeds, N rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rankscope.records import Estimate
from rankscope.stats.estimate import mean_estimate


def share(part: np.ndarray, whole: np.ndarray, level: float = 0.95) -> Estimate | None:
    """Mean ``part`` / mean ``whole`` of two tables (S, N); None where the whole isn't shown to be above 0.

    Raises ValueError as ``mean_estimate`` does.
    """
    if not mean_estimate(whole, level=level).low > 0:
        return None
    gain = float(whole.mean())
    ratio = float(part.mean()) / gain
    found = mean_estimate(ratio + (part - ratio * whole) / gain, level=level)
    return replace(found, value=ratio, method=f"ratio by the delta method, {found.method}")
