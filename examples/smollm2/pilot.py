"""Which tasks can this model learn at all? A pilot on validation items, before any test item is looked at.

    python examples/smollm2/pilot.py MODEL DATA_DIR STORE

Trains one LoRA arm briefly on each candidate and scores it on rows kept out of training: the dataset's validation
split, or the last 300 rows of train where there is none. A task qualifies if its gain is shown to be above 0.
"""

import itertools
import json
import sys
from pathlib import Path

from rankscope.cli.console import PlainConsole, format_table
from rankscope.study.study import Study

CANDIDATES = ("openbookqa", "arc_easy", "medmcqa", "math_qa")
HELD_OUT = 300


def mirror(data_dir: Path, folder: Path) -> Path:
    """A data folder whose test split is made of validation items only."""
    for name in CANDIDATES:
        rows = (data_dir / name / "train.jsonl").read_text(encoding="utf-8").splitlines()
        validation = data_dir / name / "validation.jsonl"
        if validation.is_file():
            held = validation.read_text(encoding="utf-8").splitlines()[:HELD_OUT]
        else:
            rows, held = rows[:-HELD_OUT], rows[-HELD_OUT:]
        (folder / name).mkdir(parents=True, exist_ok=True)
        for split, lines in (("train", rows), ("test", held)):
            (folder / name / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def main(model: str, data_dir: str, store: str) -> None:
    study = Study.load(
        {
            "name": "smollm2_pilot",
            "models": [model],
            "train": list(CANDIDATES),
            "arms": ["base", {"lora": {"rank": 16, "lr": 1e-3}}],
            "training": {"max_steps": 30, "batch_tokens": 512, "seeds": [0]},
            "evaluate": {"cross_domain": "none", "retention": []},
        },
        data_dir=str(mirror(Path(data_dir), Path(store) / "data")),
    )
    result = study.run(store, progress=PlainConsole())
    print(format_table(result.table()))
    print(json.dumps({"complete": result.is_complete, "rows": result.table()}))


if __name__ == "__main__":
    main(*itertools.islice(sys.argv, 1, 4))
