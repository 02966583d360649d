"""From the first run to the last under an open page: what runs is said while it runs, and nothing after."""

from __future__ import annotations

import time

from rankscope.study.study import Study

STUDY = {
    "name": "short",
    "models": [{"id": "demo", "dtype": "float32"}],
    "train": [{"task": "demo_people", "limit": 80}],
    "arms": ["base", {"lora": {"rank": 4, "lr": 1e-3}}],
    "training": {"max_steps": 6, "batch_tokens": 256, "seeds": [0]},
    "evaluate": {"limit": 8},
}


class Visitor:
    """A console that asks the server how it goes, once a piece of work."""

    def __init__(self, ask):
        self.ask, self.seen = ask, {}

    def advance(self, name, n=1, **info):
        if name not in self.seen:
            self.seen[name] = self.ask()

    def start(self, *_):
        pass

    stage = finish = note = table = start


def test_a_study_is_followed_from_its_start_to_its_end(made, following):
    study = Study.load(STUDY)

    def ask():
        return following.get(f"/api/studies/{study.key}/state").json()

    visitor = Visitor(ask)
    study.run(made.folder, progress=visitor)
    assert any("seed 0: lora-r4" in name for name in visitor.seen) and "scoring base" in visitor.seen
    for name, state in visitor.seen.items():
        assert state["running"] and state["work"].startswith(f"{name}: 0 of ")
    until = time.monotonic() + 60
    while not (last := ask())["said"].startswith("done") and time.monotonic() < until:
        time.sleep(0.1)
    assert (last["said"], last["running"], last["work"]) == ("done: 1 of 1 runs done", False, "")
    assert not (made.folder / "cache" / "now.json").exists()
    assert {cell["state"] for row in last["arms"] for cell in row["cells"]} == {"done"}
