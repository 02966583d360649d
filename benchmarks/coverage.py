"""How often the report's intervals hold, on data whose truth is known: a table for people, then one JSON line.

    python benchmarks/coverage.py [--draws 300]

Every draw is a family of true zeros: arms x 3 tasks, as a study declares it. The family's error is the share of draws
in which any simultaneous interval misses (nominal 5 %: a false 'better' or 'worse'); coverage is that of the ordinary
95 % intervals. Scenes: arms whose seeds vary alike; the same with every arm by itself, as if nothing were shared; one
arm of five with three times the seed SD; arms whose seed effects go together (correlation .5, since runs of one seed
see the same batches); arms against a trained arm instead of the base; two arms only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time

import numpy as np

from rankscope.stats.contrast import Pair, contrasts

TASKS, REST = 3, 0.3
SCENES = ("alike", "by itself", "noisy arm", "together", "trained other", "two arms")


def family(rng: np.random.Generator, scene: str, seeds: int, items: int, item: float, seed: float) -> list[Pair]:
    """Arms x tasks of differences whose true mean is zero; item, seed and rest are standard deviations."""
    arms = 2 if scene == "two arms" else 5
    scale = np.array([1.0] * (arms - 1) + [3.0 if scene == "noisy arm" else 1.0])
    own = 0.5 if scene == "together" else 1.0  # share of the seed variance that is an arm's own
    found = []
    for task in range(TASKS):
        effects = np.sqrt(own) * rng.standard_normal((arms, seeds)) + np.sqrt(1 - own) * rng.standard_normal(seeds)
        tables = item * rng.standard_normal((arms, 1, items)) + REST * rng.standard_normal((arms, seeds, items))
        tables += seed * (scale[:, None] * effects)[:, :, None]
        if scene == "trained other":
            tables -= (seed * rng.standard_normal(seeds)[:, None]) + REST * rng.standard_normal((seeds, items))
        for arm, table in enumerate(tables):
            group = str(arm) if scene == "by itself" else ""
            found.append(Pair(f"arm {arm}", "other", f"task {task}", table, group=group))
    return found


def measure(scene: str, seeds: int, items: int, item: float, seed: float, draws: int) -> dict:
    rng, missed, covered, widths = np.random.default_rng(1), 0, [], []
    for _ in range(draws):
        judged = contrasts(family(rng, scene, seeds, items, item, seed))
        missed += any(c.low > 0 or c.high < 0 for c in judged)
        covered.append([c.estimate.low <= 0 <= c.estimate.high for c in judged])
        widths.append(np.median([c.high for c in judged] - np.array([c.low for c in judged])) / 2)
    noisy = np.array(covered)[:, 4::5].mean() if scene == "noisy arm" else None
    return {"scene": scene, "seeds": seeds, "items": items, "item_sd": item, "seed_sd": seed, "draws": draws,
            "family_error": missed / draws, "coverage": float(np.mean(covered)),
            "coverage_noisy_arm": noisy and float(noisy), "half_width": float(np.median(widths))}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=300)
    draws, began = parser.parse_args().draws, time.monotonic()
    cells = [("alike", *c) for c in itertools.product((2, 3), (200, 1000), (0.1, 0.3), (0.0, 0.02))]
    cells += [(scene, s, 1000, 0.1, 0.02) for scene in SCENES[1:] for s in (2, 3)]
    print(f"{'scene':14}{'seeds':>6}{'items':>7}{'item SD':>9}{'seed SD':>9}{'family error':>14}{'coverage':>10}"
          f"{'half width':>12}")  # fmt: skip
    rows = []
    for cell in cells:
        row = measure(*cell, draws)
        rows.append(row)
        noisy = "" if row["coverage_noisy_arm"] is None else f"   the noisy arm's: {row['coverage_noisy_arm']:.1%}"
        line = f"{row['scene']:14}{row['seeds']:6}{row['items']:7}{row['item_sd']:9g}{row['seed_sd']:9g}"
        line += f"{row['family_error']:14.1%}{row['coverage']:10.1%}{row['half_width']:12.3f}{noisy}"
        print(line, flush=True)
    print(json.dumps({"benchmark": "coverage", "seconds": round(time.monotonic() - began, 1), "rows": rows}))


if __name__ == "__main__":
    main()
