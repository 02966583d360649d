"""Does the demo show a graded trade-off, whatever the seeds? Runs it with fresh sets of seeds, checks each.

    python benchmarks/demo_tradeoff.py [STORE] [SETS]

A set passes if, for some train task, one arm gains at least 20 points and keeps at least 80 % of retention while
another loses at least 15 points more retention. Only the ends of the sweep are run (lowest rank, highest rank, full
SFT): what is trained beside a run changes nothing. The demo's own seeds are not used. Prints a table and one JSON line.
"""

import json
import sys
from pathlib import Path

import yaml

from rankscope.cli.console import PlainConsole, format_table
from rankscope.study.study import Study

DEMO = Path(__file__).parents[1] / "studies" / "demo.yaml"
FIRST = 100


def rows_of(study: dict, store: str, seeds: list[int]) -> list[dict]:
    """Gain and retention of every arm, as fractions."""
    loaded = Study.load({**study, "training": {**study["training"], "seeds": seeds}})
    view = loaded.run(store, progress=PlainConsole(every_seconds=60)).view()
    return [
        {
            "seeds": f"{seeds[0]}-{seeds[-1]}",
            "train": h.train,
            "arm": h.arm,
            "gain": round(h.gain.contrast.estimate.value, 3),
            "retention": round(h.retention.value, 3),
        }
        for h in view.headlines
    ]


def passes(rows: list[dict]) -> bool:
    """The condition on the arms of one train task."""
    good = [r["retention"] for r in rows if r["gain"] >= 0.20 and r["retention"] >= 0.80]
    return bool(good) and max(good) - min(r["retention"] for r in rows) >= 0.15


def main(store: str = "tradeoff", sets: str = "5") -> None:
    study = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    for arm in study["arms"]:
        if "lora" in arm:
            arm["lora"]["rank"] = [min(arm["lora"]["rank"]), max(arm["lora"]["rank"])]
    every, passed = [], []
    for number in range(int(sets)):
        rows = rows_of(study, store, [FIRST + 3 * number + k for k in range(3)])
        every += rows
        passed.append(any(passes([r for r in rows if r["train"] == t]) for t in study["train"]))
    print(format_table(every))
    print(json.dumps({"sets": len(passed), "passed": sum(passed), "rows": every}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
