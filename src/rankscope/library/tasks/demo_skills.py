"""Demo, retention: one operation on a list of letters, which the bundled model can do.

Paper: none; a micro world made for rankscope, after the synthetic biographies of Allen-Zhu and Li, "Physics of Language
Models: Part 3.1" (2309.14316). Data: bundled, made by ``rankscope.demo.world``. Licence: as rankscope, Apache-2.0.
Chance: 0.25; every answer position is equally frequent, and the four choices have one length.
The lists themselves were never seen in pretraining.

Worked instance: Swap this: B R T. Answer: T R B
"""

from __future__ import annotations

from typing import Any

from rankscope.data.dataset import Source
from rankscope.tasks.samples import Sample, plain_sample
from rankscope.tasks.task import Task

_SPLITS = (("train", "train"), ("validation", "validation"), ("test", "test"))


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The row as it stands."""
    return plain_sample(row, form)


PLUGIN = Task(
    name="demo_skills",
    summary="List operations that the bundled model can do",
    source=Source("demo_skills", splits=_SPLITS, bundled=True),
    to_sample=to_sample,
    forms=("cloze", "generate"),
    default_form="cloze",
    uniform=0.25,
    skill="reasoning",  # an operation carried out on a list that was never seen
    licence="Apache-2.0",
    paper="after 2309.14316",
    example={
        "id": "example-1",
        "prompt": "Swap this: B R T. Answer:",
        "completion": "T R B",
        "subject": "swap",
        "choices": ["T B R", "B R T", "T R B", "R T B"],
        "answer": 2,
    },
    stop=("\n",),
    max_new_tokens=16,
)
