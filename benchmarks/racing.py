"""Races against full grids.

python benchmarks/racing.py record FOLDER [GRIDS]
"""

import argparse
from pathlib import Path

import racing_grids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record",))
    parser.add_argument("folder", type=Path)
    parser.add_argument("grids", nargs="?", type=int, default=24)
    asked = parser.parse_args()
    racing_grids.record(asked.folder, range(asked.grids))


if __name__ == "__main__":
    main()
