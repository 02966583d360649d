"""Demo, retention: sentences about the known part of the micro world, in nats per token.

Paper: none; a micro world made for rankscope, after the synthetic biographies of Allen-Zhu and Li, "Physics of Language
Models: Part 3.1" (2309.14316). Data: bundled, made by ``rankscope.demo.world``. Licence: as rankscope, Apache-2.0.
Chance: none; lower is better. The sentences themselves were never seen in pretraining.

Worked instance: 'Ada Example looks after one weasel and works as joiner.' scored as a whole.
"""

from __future__ import annotations

from typing import Any

from rankscope.data.dataset import Source
from rankscope.tasks.samples import Sample, text_sample
from rankscope.tasks.task import Task

_SPLITS = (("train", "train"), ("validation", "validation"), ("test", "test"))


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The row as it stands."""
    return text_sample(row)


PLUGIN = Task(
    name="demo_text",
    summary="Cross-entropy on sentences of the bundled micro world",
    source=Source("demo_text", splits=_SPLITS, bundled=True),
    to_sample=to_sample,
    forms=("text",),
    default_form="text",
    uniform=None,
    skill="language",  # how sentences go on
    licence="Apache-2.0",
    paper="after 2309.14316",
    example={"id": "example-1", "text": "Ada Example looks after one weasel and works as joiner."},
    metric="cross_entropy",
)
