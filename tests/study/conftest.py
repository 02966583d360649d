"""One small finished study on the bundled model, made once; tests that write work on a copy."""

from __future__ import annotations

import copy
import shutil

import pytest

_SMALL = {
    "name": "small",
    "models": [{"id": "demo", "dtype": "float32"}],
    "train": [{"task": "demo_people", "limit": 200}],
    "arms": ["base", {"lora": {"rank": [1, 4], "lr": [1e-3, 3e-3]}}, {"full": {"lr": 5e-4}}],
    "training": {"max_steps": 12, "batch_tokens": 512, "seeds": [0, 1]},
    "evaluate": {"retention": [{"task": "demo_facts", "limit": 16}, {"task": "demo_text", "limit": 8}], "limit": 16},
}


@pytest.fixture
def small():
    """The small study as a dict of its own, to change at will."""
    return copy.deepcopy(_SMALL)


@pytest.fixture(scope="session")
def _finished(tmp_path_factory):
    from rankscope.study.study import Study

    folder = tmp_path_factory.mktemp("finished")
    assert Study.load(_SMALL).run(folder).is_complete
    return folder


@pytest.fixture
def store(_finished, tmp_path):
    """A copy of the finished study's store."""
    return shutil.copytree(_finished, tmp_path / "runs")
