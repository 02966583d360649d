"""The bundled model, once a process: small enough for every engine test."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def base():
    import torch

    from rankscope.models.base import load
    from rankscope.records import ModelRef

    torch.set_num_threads(1)
    return load(ModelRef("demo", dtype="float32"))


@pytest.fixture(scope="session")
def people(base):
    """Some encoded training examples of the demo's recall task, with a validation split."""
    from rankscope.records import Recipe, TaskRef
    from rankscope.tasks import task as tasks
    from rankscope.training.cohort import encode_train_set

    samples = tasks.train_samples(tasks.resolve(TaskRef("demo_people", limit=200), None, "train"), None)
    return encode_train_set(base, samples, Recipe())
