"""CommonsenseQA: everyday questions around one concept, five options of a few words.

Paper: Talmor et al., "CommonsenseQA: A Question Answering Challenge Targeting Commonsense Knowledge" (1811.00937).
Data: hub tau/commonsense_qa. The official test split has no answers, so our test is its validation split (1,221).
Licence: MIT.
Chance: 0.20; a little more for the commonest position.

Worked instance (invented, cloze):
    Question: Where would you most likely keep milk cold?
    Answer: fridge
"""

from __future__ import annotations

from typing import Any

from rankscope.data.dataset import Source
from rankscope.tasks.samples import Sample, labelled_sample
from rankscope.tasks.task import Task


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The question with its options."""
    return labelled_sample(row, row["question"], form)


PLUGIN = Task(
    name="commonsense_qa",
    summary="Everyday questions with five short options",
    source=Source("commonsense_qa", "tau/commonsense_qa", splits=(("train", "train"), ("test", "validation"))),
    to_sample=to_sample,
    forms=("cloze", "letters"),
    default_form="cloze",
    uniform=0.2,
    skill="recall",  # one hop of ConceptNet, known or not known
    licence="MIT",
    paper="1811.00937",
    example={
        "id": "example-1",
        "question": "Where would you most likely keep milk cold?",
        "question_concept": "milk",
        "choices": {"label": ["A", "B", "C", "D", "E"], "text": ["oven", "shelf", "fridge", "garden", "cupboard"]},
        "answerKey": "C",
    },
)
