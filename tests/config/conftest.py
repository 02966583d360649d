"""The shelf as these tests see it, so that they don't hang on which tasks exist."""

from __future__ import annotations

import pytest

from rankscope import plugins

TASKS = ["arc_easy", "gsm8k", "data", "math_qa", "medmcqa", "mmlu", "openbookqa"]


@pytest.fixture(autouse=True)
def shelf(monkeypatch):
    monkeypatch.setattr(plugins, "names", lambda kind: TASKS if kind == "tasks" else [])


@pytest.fixture
def minimal():
    """The smallest study, as a dict."""
    return {"models": ["demo"], "train": ["gsm8k"], "arms": ["base", {"lora": {"rank": 8}}]}
