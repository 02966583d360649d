"""Made tasks of the harness: a YAML file and its rows in a temporary folder, and the harness's own run of them."""

from __future__ import annotations

import json
import logging

import pytest
import yaml

from harness.made import CHOICES, rows
from rankscope.records import TaskRef


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


@pytest.fixture
def write(tmp_path):
    """Writes a task and gives its path: ``write(name, config, test=rows)``."""

    def write(name="made", config=CHOICES, test=None, train=None, folder=tmp_path):
        folder.mkdir(exist_ok=True)
        files = {}
        for split, found in (("test", test or rows(0, 6)), ("train", train or rows(20, 8))):
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
            files[split] = str(folder / f"{split}.jsonl")
        whole = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test",
                 "training_split": "train", "fewshot_split": "train", **config}  # fmt: skip
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
        return folder / f"{name}.yaml"

    return write


@pytest.fixture
def harness(base):
    """The harness's own samples of a task: ``harness(path, lm)``; its ``hf`` model on the demo's weights if no lm."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    def run(path, lm=None, **options):
        lm = lm or HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=4)
        manager = TaskManager(include_defaults=False)
        found = simple_evaluate(model=lm, tasks=[str(path)], task_manager=manager, bootstrap_iters=0, **options)
        return sorted(next(iter(found["samples"].values())), key=lambda sample: sample["doc_id"])

    return run


@pytest.fixture
def scored(base):
    """rankscope's own (sample, response, value) of every item: ``scored(path, metric="acc_norm", shots=2)``."""
    from dataclasses import replace

    from rankscope.evaluation.suite import evaluate
    from rankscope.tasks.task import prepare

    def run(path, shots=0, limit=None, **options):
        ref = TaskRef(f"lm_eval:{path}", shots=shots, limit=limit, options=tuple(sorted(options.items())))
        task, kept = prepare(ref), []

        def keep(sample, response):
            score = task.scorer(sample, response)
            kept.append((sample, response, score.value))
            return score

        found = evaluate(base, replace(task, scorer=keep), "", "")
        assert found.status == "done", found.message
        return kept

    return run
