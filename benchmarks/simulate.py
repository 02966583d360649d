"""Do the intervals cover, do the verdicts err as rarely as promised? On worlds whose truth is known: tables for people,
then one JSON line.

    python benchmarks/simulate.py [--draws 400] [--quick] [--figures docs/figures]

Worlds: tests/reference/worlds.py. A draw is a family of five arms against the base. "Alone": the 95 % interval of one
arm's table by itself; "family": the same within the family, where arms share what they say about seeds; "error": share
of families with any false better or worse (nothing is true) or, at the margin, any false equivalent (every arm is
exactly the margin worse). Beyond the grid: families of 15 in harder scenes, retention, power.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from simulate_figures import write_figures

from rankscope.stats import contrast
from rankscope.stats.contrast import contrasts, default_margin
from rankscope.stats.estimate import mean_estimate
from rankscope.stats.power import power
from rankscope.stats.retention import Kept, retentions
from reference.worlds import BASE_RATE, World, pairs, tables

CHANCE, LOSS = 0.25, -0.05
SCENES = {
    "alike": {},
    "by itself": {},
    "noisy arm": {"scale": (1.0, 1.0, 1.0, 1.0, 3.0)},
    "together": {"alike": 0.5},
    "trained other": {},
    "two arms": {"arms": 2},
}


def grid(quick: bool) -> list[World]:
    seeds, deviations, items = (
        ((1, 3), (0.0, 0.02), (100, 500)) if quick else ((1, 3, 5), (0, 0.01, 0.02), (100, 500, 2000))
    )
    cells = itertools.product((True, False), (False, True), seeds, items, deviations)
    return [World(s, n, sd, b, c) for b, c, s, n, sd in cells if s > 1 or sd == 0]


def _rng(world: World) -> np.random.Generator:
    """Each cell's own stream: with one for all, they would be lucky together."""
    return np.random.default_rng([world.seeds, world.items, round(1000 * world.seed_sd), world.is_binary,
                                  world.is_clustered])  # fmt: skip


def coverage(world: World, draws: int) -> dict:
    """Coverage alone and in the family, and the family's two errors."""
    rng, margin = _rng(world), default_margin(world.items)
    alone, family, widths, false, at_margin = [], [], [], 0, 0
    for _ in range(draws):
        drawn = pairs(world, rng)
        judged = contrasts(drawn, margin)
        found = [mean_estimate(p.signed, p.clusters, changed=p.changed) for p in drawn]
        alone.append([e.low <= 0 <= e.high for e in found])
        family.append([c.estimate.low <= 0 <= c.estimate.high for c in judged])
        widths.append([(c.high - c.low) / 2 for c in judged])
        false += any(c.verdict in ("better", "worse") or c.low > 0 or c.high < 0 for c in judged)
        if not world.is_binary:  # shifting all scores by the margin shifts the intervals
            at_margin += any(c.low > 0 and c.high < 2 * margin for c in judged)
    if world.is_binary:
        lower, half = replace(world, effect=-margin), draws // 2
        found = [contrasts(pairs(lower, rng), margin) for _ in range(half)]
        at_margin = sum(any(c.verdict == "equivalent" for c in judged) for judged in found) * draws / half
    return {"alone": float(np.mean(alone)), "family": float(np.mean(family)), "error": false / draws,
            "error_at_margin": at_margin / draws, "half_width": float(np.median(widths))}  # fmt: skip


def scene(name: str, seeds: int, draws: int) -> dict:
    """Family error and coverage of 15 comparisons, arms x 3 tasks of 1,000 items each, seed SD 2 points."""
    world, false, covered, widths = World(seeds, 1000, 0.02, is_binary=False, **SCENES[name]), 0, [], []
    rng = _rng(world)
    for _ in range(draws):
        family = []
        for task in "abc":
            drawn = pairs(world, rng, task)
            other = 0.0
            if name == "trained other":
                other = pairs(replace(world, arms=1), rng)[0].difference
            family += [replace(p, difference=p.difference - other, group=p.arm if name == "by itself" else "")
                       for p in drawn]  # fmt: skip
        judged = contrasts(family)
        false += any(c.low > 0 or c.high < 0 for c in judged)
        covered.append([c.estimate.low <= 0 <= c.estimate.high for c in judged])
        widths.append([(c.high - c.low) / 2 for c in judged])
    last = float(np.mean(np.array(covered)[:, world.arms - 1 :: world.arms]))
    return {"scene": name, "seeds": seeds, "error": false / draws, "family": float(np.mean(covered)),
            "last_arm": last, "half_width": float(np.median(widths))}  # fmt: skip


def kept(world: World, draws: int) -> dict:
    """Coverage of the pooled share of retention: two tasks, the second half as long."""
    rng, hits = _rng(world), []
    truth = (BASE_RATE + world.effect - CHANCE) / (BASE_RATE - CHANCE)
    for _ in range(draws):
        both = [tables(w, rng) for w in (world, replace(world, items=world.items // 2))]
        arms = [[Kept(str(task), t[0][arm], t[1], CHANCE, t[2]) for task, t in enumerate(both)]
                for arm in range(world.arms)]  # fmt: skip
        found = [r.estimate for r in retentions(arms)]
        hits += [e.low <= truth <= e.high for e in found if e is not None]
    return {"coverage": float(np.mean(hits))}


def powers(world: World, draws: int, shares: tuple[float, ...] = (1.0,)) -> dict:
    """Chance to show a true effect, simulated and predicted from one study's own data, at shares of ``detectable``.

    Its fixed point is sought first: the effect that studies in which it is true call detectable (their mean).
    """
    rng = _rng(world)
    effect = 0.0 if world.is_binary else 0.01
    for _ in range(4):
        found = [contrasts(pairs(replace(world, effect=effect), rng)) for _ in range(max(draws // 8, 10))]
        effect = float(np.mean([c.detectable for judged in found for c in judged]))
    rows = []
    for share in shares:
        drawn = [pairs(replace(world, effect=share * effect), rng) for _ in range(draws)]
        judged = [contrasts(family) for family in drawn]
        simulated = float(np.mean([c.low > 0 for family in judged for c in family]))
        rows.append({"effect": share * effect, "share": share, "simulated": simulated,
                     "predicted": float(np.mean([_predicted(*both, share * effect) for both in
                                                 zip(drawn[:100], judged, strict=False)]))})  # fmt: skip
    return {"detectable": effect, "rows": rows}


def _predicted(drawn, judged, effect: float) -> float:
    found = contrast.variances(drawn)
    alpha = contrast.family_alpha(drawn, [p.spread for p in found], 0.05)
    return float(
        np.mean([power(effect, p.spread, alpha, changed=d.changed) for p, d in zip(found, drawn, strict=True)])
    )


def name(world: World) -> dict:
    return {"seeds": world.seeds, "items": world.items, "seed_sd": world.seed_sd,
            "scores": "0/1" if world.is_binary else "continuous", "clustered": world.is_clustered}  # fmt: skip


def show(row: dict) -> dict:
    """Print a row, and give it back."""
    cells = (f"{v:.3f}" if isinstance(v, float) and k not in ("seed_sd",) else str(v) for k, v in row.items())
    print("  ".join(f"{c:>11}" for c in cells), flush=True)
    return row


def title(text: str, columns: str) -> None:
    print(f"\n{text}\n" + "  ".join(f"{c:>11}" for c in columns.split()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="a few cells, 60 draws: seconds")
    parser.add_argument("--figures", type=Path, help="folder for three SVG figures")
    options, began = parser.parse_args(), time.monotonic()
    quick, draws = options.quick, 60 if options.quick else options.draws
    contrast.needed = lambda *_: None  # what more data would bring is not asked here, and takes as long as all the rest
    title("Coverage of 95 % intervals, and errors of families of five",
          "seeds items seed_sd scores clustered alone family error at_margin half_width")  # fmt: skip
    covered = [show(name(w) | coverage(w, draws)) for w in grid(quick)]
    title("Families of 15 in harder scenes", "scene seeds error family last_arm half_width")
    scenes = [show(scene(s, seeds, draws)) for s in SCENES for seeds in ((3,) if quick else (2, 3, 5))]
    title("Retention, two tasks", "seeds items seed_sd scores clustered coverage")
    retained = [show(name(w) | kept(replace(w, effect=LOSS), draws)) for w in grid(quick) if w.is_binary and
                not w.is_clustered]  # fmt: skip
    title("Power at the detectable effect (0.8 is meant), simulated and predicted",
          "seeds items seed_sd scores clustered detectable simulated predicted")  # fmt: skip
    kinds = itertools.product(
        (True, False), ((1, 0.0), (3, 0.0), (3, 0.01), (5, 0.01)), (500,) if quick else (500, 2000)
    )
    cells = [World(s, n, sd, binary, discordant=(0.2,)) for binary, (s, sd), n in kinds]
    shown = []
    for world in cells:
        found = powers(world, draws)
        row = found["rows"][0]
        shown.append(
            show(name(world) | {"detectable": found["detectable"]} | {k: row[k] for k in ("simulated", "predicted")})
        )
    curve = powers(World(3, 500, 0.01, discordant=(0.2,)), draws, (0.25, 0.5, 0.75, 1.0, 1.25, 1.5))["rows"]
    result = {"benchmark": "simulate", "draws": draws, "seconds": round(time.monotonic() - began, 1),
              "coverage": covered, "scenes": scenes, "retention": retained, "power": shown, "curve": curve}  # fmt: skip
    if options.figures:
        write_figures(options.figures, result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
