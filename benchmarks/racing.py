"""Does a race come to the full grid's choice, and at what share of the training tokens?

    python benchmarks/racing.py record FOLDER [--grids 30] [--first 0]
    python benchmarks/racing.py replay FOLDER [FOLDER ...] [--draws 200]

``record`` trains full grids with fresh seeds (racing_grids.py): five LoRA ranks and full SFT at three rates each, on
the demo's two train tasks and on the planted world (benchmarks/planted.py), where rank 16 wins by construction (grids
0 to 99) or all ranks tie (from 100 on). One seed a grid; short runs. ``replay`` races them: the looks decide who would
have been stopped, and the real study is asked for its recommendation without the stopped runs, against that of all
runs. First on planted curves (racing_scenes.py), then on the grids: with limits calibrated on the odd ones and tried on
the even ones, the other way round, and with those of ``stats.racing``, also on the grids that came after them alone. A
race holds the choice if the recommended range of ranks contains the full grid's arm. Tables for people, then one JSON
line.
"""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

import racing_grids
import racing_replay
import racing_scenes

from rankscope.cli.console import format_table
from rankscope.stats.racing import LIMITS


def replay(folders: list[Path], draws: int) -> dict:
    """Simulation, then the recorded grids."""
    scenes = [racing_scenes.answer(scene, draws, LIMITS) for scene in racing_scenes.SCENES]
    print(f"Planted curves, {draws} draws a scene\n{format_table(scenes)}\n", flush=True)
    least, found = racing_scenes.least(draws // 2), racing_replay.Replay(folders)
    rows = found.crossed(least)
    rows += [found.row("as shipped", found.numbers, LIMITS, kind) for kind in racing_replay.KINDS]
    fresh = [n for n in found.numbers if n not in racing_replay.SEEN]
    rows += [found.row("as shipped, fresh", fresh, LIMITS, kind) for kind in racing_replay.KINDS]
    print(f"{len(found.numbers)} recorded grids\n{format_table(rows)}")
    for row in (found.judged(n, LIMITS) for n in found.numbers):
        if not row["held"] or row["wider"] > 1:
            print(f"grid {row['grid']} ({row['kind']}): all runs give {row['full']}, the race {row['raced']}")
    made = {"from scenes": asdict(least), "from all grids": asdict(found.calibrated(found.numbers, least)),
            "shipped": asdict(LIMITS)}  # fmt: skip
    return {"draws": draws, "scenes": scenes, "grids": len(found.numbers), "replay": rows, "limits": made}


def finite(value: object) -> object:
    """As JSON can have it: what is not finite is None."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "replay"))
    parser.add_argument("folder", type=Path, nargs="+", help="the first is recorded into; all are replayed")
    parser.add_argument("--grids", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="the first grid; 100 and above are those where ranks tie")
    parser.add_argument("--draws", type=int, default=200)
    asked = parser.parse_args()
    if asked.what == "record":
        racing_grids.record(asked.folder[0], range(asked.first, asked.first + asked.grids))
    else:
        print(json.dumps(finite(replay(asked.folder, asked.draws))))


if __name__ == "__main__":
    main()
