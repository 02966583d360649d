"""Demo, retention: facts about made-up people and places that the bundled model knows.

Paper: none; a micro world made for rankscope, after the synthetic biographies of Allen-Zhu and Li, "Physics of Language
Models: Part 3.1" (2309.14316). Data: bundled, made by ``rankscope.demo.world``. Licence: as rankscope, Apache-2.0.
Chance: 0.25; every answer position is equally frequent, and the four choices have one length.
``cluster`` is whom or what a row is about.

Worked instance (invented): Where was Ada Example born? Answer: Fenmere
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
    name="demo_facts",
    summary="Facts of the bundled micro world that its model knows",
    source=Source("demo_facts", splits=_SPLITS, bundled=True),
    to_sample=to_sample,
    forms=("cloze", "generate"),
    default_form="cloze",
    uniform=0.25,
    skill="recall",  # facts seen in pretraining
    licence="Apache-2.0",
    paper="after 2309.14316",
    example={
        "id": "example-1",
        "prompt": "Where was Ada Example born? Answer:",
        "completion": "Fenmere",
        "subject": "people/birthplace",
        "cluster": "Ada Example",
        "choices": ["Holholm", "Lormere", "Fenmere", "Lorheim"],
        "answer": 2,
    },
    stop=("\n",),
    max_new_tokens=16,
)
