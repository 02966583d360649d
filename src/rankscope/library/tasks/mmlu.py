"""MMLU: exam questions from 57 subjects, four options; a common measure of general knowledge.

Paper: Hendrycks et al., "Measuring Massive Multitask Language Understanding" (2009.03300).
Data: hub cais/mmlu, config all: 285 dev (5 a subject), 1,531 validation, 14,042 test rows.
Licence: MIT.
Chance: 0.25; a little more for the commonest position.
The usual setting is ``form: letters, shots: 5``: examples are the dev rows of the item's own subject, under the paper's
header. Small models are at chance with letters; give them ``form: cloze`` (no header, since no options are listed).
A ``limit`` takes rows of all subjects in turn, so 570 rows are 10 of each subject, not the first 14 subjects. Subjects
are strata, not clusters. For evaluation only: there is no training split of its own.

Worked instance (invented, letters, no shots):
    The following are multiple choice questions (with answers) about astronomy.

    Which planet is the largest of the solar system?
    A. Mars
    B. Jupiter
    C. Venus
    D. Mercury
    Answer: B
"""

from __future__ import annotations

from typing import Any

from rankscope.data.dataset import Source
from rankscope.tasks.samples import Sample, choice_sample
from rankscope.tasks.task import Task


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The question with its options; in the letters form without 'Question:', as in the paper."""
    return choice_sample(row["question"], row["choices"], row["answer"], form, subject=row["subject"], lead="")


def header(sample: Sample, form: str) -> str:
    """The paper's line about the subject, in front of the letters form."""
    if form != "letters":
        return ""
    subject = sample.subject.replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {subject}.\n\n"


PLUGIN = Task(
    name="mmlu",
    summary="Exam questions from 57 subjects with four options",
    source=Source("mmlu", "cais/mmlu", "all", splits=(("dev", "dev"), ("validation", "validation"), ("test", "test"))),
    to_sample=to_sample,
    forms=("letters", "cloze"),
    default_form="letters",
    uniform=0.25,
    skill="recall",  # mostly knowledge of 57 subjects; a recall task in 2512.15634
    licence="MIT",
    paper="2009.03300",
    example={
        "question": "Which planet is the largest of the solar system?",
        "subject": "astronomy",
        "choices": ["Mars", "Jupiter", "Venus", "Mercury"],
        "answer": 1,
    },
    shots_split="dev",
    is_trainable=False,
    header=header,
    shots_same_subject=True,
    spread_limit=True,
)
