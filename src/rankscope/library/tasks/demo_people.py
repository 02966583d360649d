"""Demo, training for recall: four facts about each of sixty people that the bundled model has never met.

Paper: none; a micro world made for rankscope, after the synthetic biographies of Allen-Zhu and Li, "Physics of Language
Models: Part 3.1" (2309.14316). Data: bundled, made by ``rankscope.demo.world``. Licence: as rankscope, Apache-2.0.
Chance: 0.25; every answer position is equally frequent, and the four choices have one length.
Trained with two wordings of each question, tested with another one. ``cluster`` is the person.

Worked instance (invented): What kind of pet does Ada Example have? Answer: puffin
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
    name="demo_people",
    summary="New facts about people the bundled model has never met",
    source=Source("demo_people", splits=_SPLITS, bundled=True),
    to_sample=to_sample,
    forms=("cloze", "generate"),
    default_form="cloze",
    uniform=0.25,
    skill="recall",  # facts that can only be memorised
    licence="Apache-2.0",
    paper="after 2309.14316",
    example={
        "id": "example-1",
        "prompt": "What kind of pet does Ada Example have? Answer:",
        "completion": "puffin",
        "subject": "people/pet",
        "cluster": "Ada Example",
        "choices": ["toucan", "badger", "spider", "puffin"],
        "answer": 3,
    },
    stop=("\n",),
    max_new_tokens=16,
)
