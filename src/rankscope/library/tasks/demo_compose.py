"""Demo, training for skill: two list operations after each other; the bundled model knows each alone.

Paper: none; a micro world made for rankscope, after the synthetic biographies of Allen-Zhu and Li, "Physics of Language
Models: Part 3.1" (2309.14316). Data: bundled, made by ``rankscope.demo.world``. Licence: as rankscope, Apache-2.0.
Chance: 0.25; every answer position is equally frequent, and the four choices have one length.
No list is in two splits.

Worked instance: Take M L T, rotate it, then reverse it. Answer: M T L
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
    name="demo_compose",
    summary="Two list operations after each other, to be learned",
    source=Source("demo_compose", splits=_SPLITS, bundled=True),
    to_sample=to_sample,
    forms=("cloze", "generate"),
    default_form="cloze",
    uniform=0.25,
    skill="reasoning",  # two known operations after each other
    licence="Apache-2.0",
    paper="after 2309.14316",
    example={
        "id": "example-1",
        "prompt": "Take M L T, rotate it, then reverse it. Answer:",
        "completion": "M T L",
        "subject": "rotate then reverse",
        "choices": ["L T M", "M L T", "M T L", "T M L"],
        "answer": 2,
    },
    stop=("\n",),
    max_new_tokens=16,
)
