"""TriviaQA: quiz questions answered from memory, with no text to read.

Paper: Joshi et al., "TriviaQA: A Large Scale Distantly Supervised Challenge Dataset for Reading Comprehension"
(1705.03551).
Data: hub mandarjoshi/trivia_qa, config rc.nocontext: 138,384 / 17,944 rows. The official test split has no answers, so
our test is the official validation split.
Licence: unknown (the hub's card); the questions are those of quiz sites.
Chance: 0, nothing can be guessed. A model that answers in a sentence scores 0 too: take ``shots: 5``, as is usual,
before reading a gain as learning.
Scorer: ``alias_match``, the official exact match against all names of the answer. The model's first line is judged;
lm-evaluation-harness also cuts it at the first point or comma, and writes a second question mark, so its zero-shot
scores of a talkative model are higher. The training target is the answer's own name (``value``).

Worked instance (invented):
    Question: Which river flows through the town of Oldwick?
    Answer: the Brell         (accepted too: 'Brell', 'River Brell')
"""

from __future__ import annotations

from typing import Any

from rankscope.data.dataset import Source
from rankscope.data.prompts import cloze, continuation
from rankscope.tasks.samples import Sample
from rankscope.tasks.task import Task


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The question as prompt, the answer's own name as target, its normalised aliases accepted."""
    answer = row["answer"]
    accepted = tuple(alias for alias in answer["normalized_aliases"] if alias.strip())
    target = continuation(answer["value"])
    return Sample(str(row["question_id"]), cloze(row["question"]), target, accepted=accepted)


PLUGIN = Task(
    name="triviaqa",
    summary="Quiz questions answered from memory",
    source=Source(
        "triviaqa", "mandarjoshi/trivia_qa", "rc.nocontext", splits=(("train", "train"), ("test", "validation"))
    ),
    to_sample=to_sample,
    forms=("generate",),
    default_form="generate",
    uniform=0.0,
    skill="recall",  # quiz facts answered from memory
    licence="unknown",
    paper="1705.03551",
    example={
        "question": "Which river flows through the town of Oldwick?",
        "question_id": "example_1",
        "question_source": "invented",
        "answer": {
            "aliases": ["River Brell", "Brell", "The Brell"],
            "normalized_aliases": ["river brell", "brell"],
            "matched_wiki_entity_name": "",
            "normalized_matched_wiki_entity_name": "",
            "normalized_value": "brell",
            "type": "WikipediaEntity",
            "value": "the Brell",
        },
    },
    stop=("\n",),
    max_new_tokens=32,
    scorers={"generate": "alias_match"},
    options=("max_new_tokens",),
)
