"""A whole study on conversations: a model with a chat template, trained and scored, and resumed for nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import rankscope
from rankscope.study.study import Study

MODEL = Path(rankscope.__file__).parent / "demo" / "model"
TEMPLATE = (
    "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A chatty copy of the bundled model, and conversations that it can learn by heart."""
    shutil.copytree(MODEL, tmp_path / "chatty")
    config = json.loads((tmp_path / "chatty" / "tokenizer_config.json").read_text())
    (tmp_path / "chatty" / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": TEMPLATE}))
    words = sorted(json.loads((MODEL / "tokenizer.json").read_text())["model"]["vocab"])[50:100]
    rows = [
        {"messages": [{"role": "user", "content": f"{word} ?"}, {"role": "assistant", "content": words[0]},
                      {"role": "user", "content": f"{word} . ?"}, {"role": "assistant", "content": words[1]}]}
        for word in words
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def study(folder: Path, **options) -> Study:
    entry = {"task": "data", "path": str(folder / "rows.jsonl"), "name": "talks", **options}
    document = {
        "models": [str(folder / "chatty")],
        "train": [entry],
        "arms": ["base", {"lora": {"rank": 4, "lr": 0.01}}],
        "training": {"max_steps": 6, "batch_tokens": 512, "seeds": [0]},
        "evaluate": {"cross_domain": "none"},
    }
    return Study.load(document)


def test_a_study_on_conversations_lowers_the_nats_of_their_last_answers_and_a_new_scorer_trains_nothing(folder):
    store = folder / "runs"
    result = study(folder).run(store)
    assert (
        result.contrast("lora-r4", "base", task="talks").estimate.value > 0.5
    )  # nats, the sign turned: more is better
    before = sorted(p.name for p in (store / "blobs").rglob("*"))
    plan = study(folder, scorer="exact_match", max_new_tokens=4).plan(store)
    assert plan.num_done == len(plan.runs)
    study(folder, scorer="exact_match", max_new_tokens=4).run(store)
    assert sorted(p.name for p in (store / "blobs").rglob("*")) == before
