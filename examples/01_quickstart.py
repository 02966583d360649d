"""A study from Python, small enough for a coffee break: two ranks and full SFT on the bundled model.

    python examples/01_quickstart.py [FOLDER]

Results stay in FOLDER (``quickstart``); running it again does nothing new and returns at once.
"""

import sys
from pathlib import Path

import rankscope as rs


def main(folder: str = "quickstart") -> None:
    study = rs.Study.load(
        {
            "name": "quickstart",
            "models": ["demo"],
            "train": [{"task": "demo_people", "limit": 240}],
            "arms": ["base", {"lora": {"rank": [1, 8], "lr": 3e-3}}, {"full": {"lr": 5e-4}}],
            "training": {"max_steps": 20, "batch_tokens": 512, "seeds": [0, 1]},
            "evaluate": {"retention": ["demo_facts", "demo_text"], "limit": 60},
        }
    )
    print(study.plan(folder))
    result = study.run(folder)
    print(result.verdict)
    change = result.contrast("lora-r8", "base", task="demo_people")
    print(f"rank 8 learned {change.estimate.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]: {change.verdict}")
    print("adapter:", result.adapter("lora-r8", seed=0).save(Path(folder) / "adapter"))
    print("report:", result.report(Path(folder) / "quickstart.html"))


if __name__ == "__main__":
    main(*sys.argv[1:2])
