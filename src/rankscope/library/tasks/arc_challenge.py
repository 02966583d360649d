"""ARC-Challenge: the school science questions that word overlap and retrieval get wrong, mostly with four options.

Paper: Clark et al., "Think you have Solved Question Answering? Try ARC, the AI2 Reasoning Challenge" (1803.05457).
Data: hub allenai/ai2_arc, config ARC-Challenge: 1,119 / 299 / 1,172 rows. A few rows have three or five options, and a
few name them 1 to 4.
Licence: CC BY-SA 4.0.
Chance: 0.25 (the mean of 1 / number of options); a little more for the commonest position.
The cloze form is that of lm-evaluation-harness; its ``acc_norm`` is what our score is closest to (bytes instead of
characters). Small models are near chance here.

Worked instance (invented, cloze):
    Question: A pond freezes from the top down. Which property of water explains this?
    Answer: Ice is less dense than liquid water.
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
    name="arc_challenge",
    summary="School science questions, the hard set of ARC",
    source=Source(
        "arc_challenge",
        "allenai/ai2_arc",
        "ARC-Challenge",
        splits=(("train", "train"), ("validation", "validation"), ("test", "test")),
    ),
    to_sample=to_sample,
    forms=("cloze", "letters"),
    default_form="cloze",
    uniform=0.25,
    skill="reasoning",  # its authors kept the questions that retrieval and word overlap get wrong
    licence="CC BY-SA 4.0",
    paper="1803.05457",
    example={
        "id": "example-1",
        "question": "A pond freezes from the top down. Which property of water explains this?",
        "choices": {
            "text": [
                "Water has no colour.",
                "Ice is less dense than liquid water.",
                "Water dissolves salt.",
                "Ice melts at the same temperature everywhere.",
            ],
            "label": ["A", "B", "C", "D"],
        },
        "answerKey": "B",
    },
)
