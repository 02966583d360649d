"""PIQA: which of two ways reaches an everyday goal? Physical common sense.

Paper: Bisk et al., "PIQA: Reasoning about Physical Commonsense in Natural Language" (1911.11641).
Data: hub baber/piqa, a copy without a loading script of ybisk/piqa: 16,113 / 1,838 rows. The official test split has no
answers, so our test is the official validation split.
Licence: Academic Free License 3.0 (the hub's card says unknown).
Chance: 0.50; a little more for the commonest position.
The cloze form is that of lm-evaluation-harness. The two solutions often differ in a word or two.

Worked instance (invented, cloze):
    Question: To keep soup warm on a walk,
    Answer: pour it into a flask with a lid.
"""

from __future__ import annotations

from typing import Any

from rankscope.data.dataset import Source
from rankscope.tasks.samples import Sample, choice_sample
from rankscope.tasks.task import Task


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The goal with its two solutions."""
    return choice_sample(row["goal"], [row["sol1"], row["sol2"]], row["label"], form)


PLUGIN = Task(
    name="piqa",
    summary="Which of two ways reaches an everyday goal?",
    source=Source("piqa", "baber/piqa", splits=(("train", "train"), ("test", "validation"))),
    to_sample=to_sample,
    forms=("cloze", "letters"),
    default_form="cloze",
    uniform=0.5,
    skill="recall",  # everyday physical knowledge
    licence="AFL-3.0",
    paper="1911.11641",
    example={
        "goal": "To keep soup warm on a walk,",
        "sol1": "pour it into a flask with a lid.",
        "sol2": "pour it onto a plate with a lid.",
        "label": 0,
    },
)
