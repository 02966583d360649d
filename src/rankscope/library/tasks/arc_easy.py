"""ARC-Easy: natural science questions of school exams, mostly with four options.

Paper: Clark et al., "Think you have Solved Question Answering? Try ARC, the AI2 Reasoning Challenge" (1803.05457).
Data: hub allenai/ai2_arc, config ARC-Easy: 2,251 / 570 / 2,376 rows. A few rows have three or five options, and a few
name them 1 to 4.
Licence: CC BY-SA 4.0.
Chance: 0.25 (the mean of 1 / number of options).

Worked instance (invented, cloze):
    Question: Which of these is a source of light?
    Answer: the Sun
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
    name="arc_easy",
    summary="School science questions, the easy set of ARC",
    source=Source(
        "arc_easy",
        "allenai/ai2_arc",
        "ARC-Easy",
        splits=(("train", "train"), ("validation", "validation"), ("test", "test")),
    ),
    to_sample=to_sample,
    forms=("cloze", "letters"),
    default_form="cloze",
    uniform=0.25,
    skill="recall",  # its authors call these the questions that retrieval or word overlap answers
    licence="CC BY-SA 4.0",
    paper="1803.05457",
    example={
        "id": "example-1",
        "question": "Which of these is a source of light?",
        "choices": {"text": ["the Moon", "a mirror", "the Sun", "a window"], "label": ["1", "2", "3", "4"]},
        "answerKey": "3",
    },
)
