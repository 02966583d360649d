"""From the first run to the last under an open page: what runs is said while it runs, and nothing after."""

from __future__ import annotations

import threading

from rankscope.study.study import Study

STUDY = {
    "name": "short",
    "models": [{"id": "demo", "dtype": "float32"}],
    "train": [{"task": "demo_people", "limit": 80}],
    "arms": ["base", {"lora": {"rank": 4, "lr": 1e-3}}],
    "training": {"max_steps": 10, "batch_tokens": 256, "seeds": [0]},
    "evaluate": {"limit": 8},
}


def test_a_study_is_followed_from_its_start_to_its_end(made, following):
    study = Study.load(STUDY)
    work = threading.Thread(target=study.run, args=(made.folder,))
    work.start()
    ask, states = f"/api/studies/{study.key}/state", []
    while work.is_alive():
        answer = following.get(ask)
        if answer.status_code == 200:  # before that the study is not in the store yet
            states.append(answer.json())
        work.join(0.3)
    running = [state for state in states if state["running"]]
    assert running and any(state["work"].endswith("steps") or "items" in state["work"] for state in running)
    assert {key for state in running for row in state.get("arms", ()) for cell in row["cells"] for key in cell["keys"]}
    for _ in range(100):
        last = following.get(ask).json()
        if last["said"].startswith("done"):
            break
        work.join(0.3)
    assert (last["said"], last["running"], last["work"]) == ("done: 1 of 1 runs done", False, "")
    assert not (made.folder / "cache" / "now.json").exists()
    assert {cell["state"] for row in last["arms"] for cell in row["cells"]} == {"done"}
