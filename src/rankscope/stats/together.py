"""The critical value of statistics judged together, some of them absent. In: simulated largest values. Out: a number.

Absent are comparisons that belong to a family and were never made, because a race stopped their arm. Nothing is known
of them but their number, so each costs its whole tail: Bonferroni's inequality (Dunn, JASA 1961) needs to know neither
how they go with the others nor with each other. P(one of all exceeds z) <= P(one of those made does) + absent P(tail).

Knows nothing about arms or races.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special


def each_alpha(largest: np.ndarray, alpha: float, members: int, tails: int, absent: int = 0) -> float:
    """The error rate of each of ``members`` made comparisons at which all, absent ones too, hold with 1 - alpha.

    ``largest`` are draws of the largest normal statistic over the members: of |z| for two ``tails``, of z for one.
    Never below Bonferroni's alpha / (members + absent).
    """
    if absent:
        ordered = np.sort(largest)
        holds = np.linspace(0, 1, len(ordered)) - absent * tails * special.ndtr(-ordered)
        z = np.interp(1 - alpha, holds, ordered, right=math.inf)
    else:
        z = np.quantile(largest, 1 - alpha)
    return max(tails * float(special.ndtr(-z)), alpha / (members + absent))
