"""Does the recommended range of ranks come out again with fresh seeds, and does it hold the truth where it is known?

    python benchmarks/reproduce.py STORE [SETS] [--only demo_compose demo_people planted] [--full]

Runs each study over SETS (10) fresh sets of three seeds and asks every result for its recommendation. What is in the
store is not done again: a second call takes seconds. ``demo_compose`` and ``demo_people`` are the two train tasks of
studies/demo.yaml, here without full SFT unless ``--full`` says so; the demo's own seeds are not used. ``planted`` is
the world of benchmarks/planted.py, in which ranks up to 4 are too small and 16 is enough by construction. Prints the
range and the gains of every set, then how many ranges share a rank (wanted: 9 of 10) and how many hold the truth
(planted; wanted: 9 of 10), and one JSON line last.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import planted
import yaml

from rankscope.cli.console import PlainConsole, format_table
from rankscope.study.result import StudyResult
from rankscope.study.study import Study

DEMO = Path(__file__).parents[1] / "studies" / "demo.yaml"
STUDIES = ("demo_compose", "demo_people", "planted")
FIRST = 200
"""The first fresh seed: the demo's own are 0 to 2, demo_tradeoff.py uses 100 on."""


def demo_study(train: str, with_full: bool) -> dict:
    """The bundled study on one of its train tasks."""
    study = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    return {**study, "train": [train], "arms": [arm for arm in study["arms"] if with_full or "full" not in arm]}


def run(study: dict, store: str, number: int, seeds: int = 3) -> StudyResult:
    """The study with one fresh set of seeds."""
    fresh = [FIRST + seeds * number + k for k in range(seeds)]
    # The range needs scores alone.
    scores = {**study.get("evaluate", {}), "divergence": False, "noise_floor": False, "trials": False}
    loaded = Study.load({**study, "evaluate": scores, "training": {**study["training"], "seeds": fresh}})
    return loaded.run(store, progress=PlainConsole(every_seconds=60))


def row_of(result: StudyResult, train: str) -> dict:
    """A set's recommended range, and the gain of every arm in points."""
    seeds = result.evidence.seeds
    found = result.recommend(train=train).ranks
    gains = {h.arm: round(100 * h.gain.contrast.estimate.value, 1) for h in result.view().headlines if h.gain}
    return {"seeds": f"{seeds[0]}-{seeds[-1]}", "range": None if found is None else list(found), **gains}


def overlap(ranges: list[list[int] | None], ranks: list[int]) -> int:
    """The largest number of ranges that have one of the study's ranks in common."""
    held = Counter(rank for found in ranges if found for rank in ranks if found[0] <= rank <= found[1])
    return max(held.values(), default=0)


def finds_the_truth(found: list[int] | None) -> bool:
    """The planted world: every rank that is known to be too small is left out, and one that is enough is in."""
    return found is not None and planted.TOO_SMALL < found[0] <= planted.ENOUGH <= found[1]


def answer(name: str, folder: Path, sets: int, with_full: bool) -> dict:
    """One study over all sets, as the JSON line has it."""
    if name == "planted":
        study, store = planted.build(folder / "planted" / "world"), folder / "planted"
    else:
        study, store = demo_study(name, with_full), folder / "demo"
    train = planted.TASK if name == "planted" else name
    rows = [row_of(run(study, str(store), number), train) for number in range(sets)]
    print(f"\n{name}\n{format_table(rows)}")
    ranges = [row["range"] for row in rows]
    ranks = next(arm["lora"]["rank"] for arm in study["arms"] if "lora" in arm)
    said = {"sets": sets, "overlap": overlap(ranges, ranks)}
    if name == "planted":
        said["found"] = sum(map(finds_the_truth, ranges))
    print(", ".join(f"{key}: {value}" for key, value in said.items()))
    return {**said, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("sets", nargs="?", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=STUDIES, help="these studies alone")
    parser.add_argument("--full", action="store_true", help="the demo with full SFT too")
    asked = parser.parse_args()
    print(json.dumps({name: answer(name, asked.store, asked.sets, asked.full) for name in asked.only}))


if __name__ == "__main__":
    main()
