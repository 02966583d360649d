"""MedMCQA: questions of Indian medical entrance exams, four options, 21 subjects.

Paper: Pal et al., "MedMCQA: A Large-scale Multi-Subject Multi-Choice Dataset for Medical domain Question Answering"
(2203.14371).
Data: hub openlifescienceai/medmcqa. The official test split has no answers, so our test is the official validation
split (4,183 rows).
Licence: MIT (the hub's card says Apache-2.0).
Chance: 0.25 uniform, but the first option is right about 32 % of the time: that is the chance level used.
All questions have one right option, also those whose ``choice_type`` is 'multi'. Some options speak of others ('All of
the above'), which the cloze form doesn't show.

Worked instance (invented, cloze):
    Question: Which vitamin is made in the skin under sunlight?
    Answer: Vitamin D
"""

from __future__ import annotations

from typing import Any

from rankscope.data.dataset import Source
from rankscope.tasks.samples import Sample, choice_sample
from rankscope.tasks.task import Task


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The question with options a to d; ``subject_name`` is the subject."""
    options = [row[f"op{letter}"] for letter in "abcd"]
    return choice_sample(
        row["question"], options, row["cop"], form, id=str(row["id"]), subject=row.get("subject_name") or ""
    )


PLUGIN = Task(
    name="medmcqa",
    summary="Medical entrance exam questions with four options",
    source=Source("medmcqa", "openlifescienceai/medmcqa", splits=(("train", "train"), ("test", "validation"))),
    to_sample=to_sample,
    forms=("cloze", "letters"),
    default_form="cloze",
    uniform=0.25,
    skill="recall",  # medical facts; a recall task in 2512.15634
    licence="MIT",
    paper="2203.14371",
    example={
        "id": "example-1",
        "question": "Which vitamin is made in the skin under sunlight?",
        "opa": "Vitamin A",
        "opb": "Vitamin B12",
        "opc": "Vitamin C",
        "opd": "Vitamin D",
        "cop": 3,
        "choice_type": "single",
        "exp": None,
        "subject_name": "Physiology",
        "topic_name": None,
    },
)
