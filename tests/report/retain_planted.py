"""A planted recommendation that moves with what must be kept: the higher the rank, the more is learned and lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rankscope.records import Estimate
from rankscope.stats.choice import Candidate
from rankscope.stats.mcb import Scores
from rankscope.stats.recommend import Recommender
from rankscope.stats.thresholds import pieces

# Arm: rank, score, share kept with half its interval.
TRUTH = {"lora-r1": (1, 0.50, 0.985, 0.012), "lora-r4": (4, 0.60, 0.95, 0.021), "lora-r16": (16, 0.606, 0.90, 0.017)}


def moving(view):
    """The view with the first recommendation's pieces and shares planted, and the recommender they come from."""
    rng, found = np.random.default_rng(5), []
    hard = 0.3 * rng.standard_normal(300)
    for arm, (rank, rate, kept, half) in TRUTH.items():
        table = rate + hard + 0.12 * rng.standard_normal((3, 300))
        share = Estimate(kept, kept - half, kept + half, half / 2, 100, 3)
        found.append(Candidate(arm, rank, "shown", share, float(rank), Scores(arm, table)))
    chooser = Recommender(found, 0.03)
    first = replace(view.advice[0], pieces=pieces(chooser), shares={c.arm: c.retention for c in found})
    return replace(view, advice=(first, *view.advice[1:])), chooser
