"""HellaSwag: how does the scene go on? Four endings, the wrong ones written by a model and chosen to fool models.

Paper: Zellers et al., "HellaSwag: Can a Machine Really Finish Your Sentence?" (1905.07830).
Data: hub Rowan/hellaswag: 39,905 / 10,042 rows. The official test split has no answers, so our test is the official
validation split. Scenes come from ActivityNet's captions of videos and from wikiHow's articles.
Licence: MIT (the texts of wikiHow have terms of their own).
Chance: 0.25; a little more for the commonest position.
Context and endings are those of lm-evaluation-harness: the activity, the context with its last part capitalised, and no
'Question:'; the brackets that wikiHow's headings left behind are taken out. Items from one video or article share their
``source_id``, the ``cluster``.

Worked instance (invented, cloze):
    Making tea: A woman fills a kettle and puts it on the stove. She
    waits until the water boils and pours it over the leaves.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from rankscope.data.dataset import Source
from rankscope.tasks.samples import Sample, choice_sample
from rankscope.tasks.task import Task

_BRACKETS = re.compile(r"\[.*?\]")


def cleaned(text: str) -> str:
    """The text without wikiHow's marks: '[title]' ends a sentence, any other bracket goes."""
    found = _BRACKETS.sub("", text.strip().replace(" [title]", ". ")).replace("  ", " ")
    return found if found.strip() else text


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The scene with its four endings; where it comes from is the cluster."""
    # str.capitalize also lowers the rest, as the harness does: scores could not be compared otherwise.
    context = cleaned(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}").strip()
    sample = choice_sample(
        context,
        [cleaned(ending) for ending in row["endings"]],
        int(row["label"]),
        form,
        cluster=row["source_id"],
        lead="",
    )
    return sample if form == "letters" else replace(sample, prompt=context)


PLUGIN = Task(
    name="hellaswag",
    summary="Which of four endings continues a scene?",
    source=Source("hellaswag", "Rowan/hellaswag", splits=(("train", "train"), ("test", "validation"))),
    to_sample=to_sample,
    forms=("cloze", "letters"),
    default_form="cloze",
    uniform=0.25,
    skill="language",  # which ending goes on with the text
    licence="MIT",
    paper="1905.07830",
    example={
        "ind": 1,
        "activity_label": "Making tea",
        "ctx_a": "A woman fills a kettle and puts it on the stove.",
        "ctx_b": "she",
        "ctx": "A woman fills a kettle and puts it on the stove. she",
        "endings": [
            "paints the kettle with a brush and walks away.",
            "waits until the water boils and pours it over the leaves.",
            "throws the stove over a fence.",
            "sings to the crowd while riding the kettle.",
        ],
        "source_id": "activitynet~v_example",
        "split": "train",
        "split_type": "indomain",
        "label": "1",
    },
)
