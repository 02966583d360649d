"""OpenBookQA: elementary science questions that need a fact and common sense, four options.

Paper: Mihaylov et al., "Can a Suit of Armor Conduct Electricity? A New Dataset for Open Book Question Answering"
(1809.02789).
Data: hub allenai/openbookqa, config main: 4,957 / 500 / 500 rows. The book of facts isn't shown.
Licence: Apache-2.0.
Chance: 0.25; a little more for the commonest position.
Many stems are beginnings of sentences rather than questions; they stand behind 'Question:' all the same.

Worked instance (invented, cloze):
    Question: A metal spoon left in hot soup will
    Answer: become warm
"""

from __future__ import annotations

from typing import Any

from rankscope.data.dataset import Source
from rankscope.tasks.samples import Sample, labelled_sample
from rankscope.tasks.task import Task


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The stem with its options."""
    return labelled_sample(row, row["question_stem"], form)


PLUGIN = Task(
    name="openbookqa",
    summary="Elementary science questions that need common sense",
    source=Source(
        "openbookqa",
        "allenai/openbookqa",
        "main",
        splits=(("train", "train"), ("validation", "validation"), ("test", "test")),
    ),
    to_sample=to_sample,
    forms=("cloze", "letters"),
    default_form="cloze",
    uniform=0.25,
    skill="recall",  # a fact of the (unseen) book and common sense
    licence="Apache-2.0",
    paper="1809.02789",
    example={
        "id": "example-1",
        "question_stem": "A metal spoon left in hot soup will",
        "choices": {"text": ["become warm", "dissolve", "turn into wood", "float away"], "label": ["A", "B", "C", "D"]},
        "answerKey": "A",
    },
)
