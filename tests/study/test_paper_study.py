"""studies/paper.yaml is accepted without network and without weights, whether or not the cache knows the two models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from rankscope.errors import HubUnreachable, ModelError
from rankscope.models.locate import resolve
from rankscope.records import ModelRef

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _check(cache: Path) -> subprocess.CompletedProcess:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "HF_HOME": str(cache)}
    command = [sys.executable, "-m", "rankscope", "check", "studies/paper.yaml", "--json"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | offline, capture_output=True, text=True, timeout=300)


def test_check_accepts_the_papers_study_offline(tmp_path):
    study = yaml.safe_load((ROOT / "studies" / "paper.yaml").read_text(encoding="utf-8"))
    for model in study["models"]:
        folder = tmp_path / f"models--{model['id'].replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(COMMIT)
        (folder / "snapshots" / COMMIT).mkdir(parents=True)
        (folder / "snapshots" / COMMIT / "config.json").write_text("{}")
    done = _check(tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["train"] == ["gsm8k", "math_qa", "medmcqa", "mmlu"]
    assert said["arms"] == ["base", *(f"lora-r{rank}" for rank in (8, 16, 32, 64, 128)), "full"]


def test_without_the_models_and_without_the_hub_check_accepts_the_rest_and_says_what_it_could_not_see(tmp_path):
    done = _check(tmp_path)
    assert done.returncode == 0, done.stderr
    notes = json.loads(done.stdout)["notes"]
    assert len(notes) == 2 and all("not checked" in note for note in notes)


def test_a_model_that_the_hub_says_it_does_not_have_is_an_error(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    def not_found(self, *_, **__):
        raise RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None, status_code=404))

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", not_found)
    with pytest.raises(ModelError) as caught:
        resolve(ModelRef("someone/lost"))
    assert not isinstance(caught.value, HubUnreachable)
