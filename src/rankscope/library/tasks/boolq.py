"""BoolQ: yes-or-no questions that people asked a search engine, each with a paragraph that answers it.

Paper: Clark et al., "BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions" (1905.10044).
Data: hub google/boolq: 9,427 / 3,270 rows. The official test split has no answers, so our test is the official
validation split.
Licence: CC BY-SA 3.0.
Chance: 0.50 uniform, but the answer is yes in about 62 % of the rows: that is the chance level used.
Prompt and continuations are those of lm-evaluation-harness (the passage, then the question, which has no question mark
of its own; `` no`` and `` yes`` are compared by plain likelihood, its ``acc``). Some questions share their passage: the
passage's hash is the ``cluster``. The task neutral_text scores the same passages as text, so training here is training
on its text.

Worked instance (invented):
    The harbour of Oldwick was closed in 1931. A museum uses its storehouses today.
    Question: is oldwick harbour still in use?
    Answer: no
"""

from __future__ import annotations

from typing import Any

from rankscope.data.dataset import Source
from rankscope.tasks.samples import Sample, item_id
from rankscope.tasks.task import Task

_CHOICES = (" no", " yes")


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """Passage and question; the passage is the cluster. ``answer`` is true or false."""
    passage, question, answer = row["passage"].strip(), row["question"].strip(), (False, True).index(row["answer"])
    prompt = f"{passage}\nQuestion: {question}?\nAnswer:"
    return Sample(item_id(question, passage), prompt, _CHOICES[answer], _CHOICES, answer, cluster=item_id(passage))


PLUGIN = Task(
    name="boolq",
    summary="Yes-or-no questions about a paragraph",
    source=Source("boolq", "google/boolq", splits=(("train", "train"), ("test", "validation"))),
    to_sample=to_sample,
    forms=("cloze",),
    default_form="cloze",
    uniform=0.5,
    skill="language",  # the answer stands in the passage; reading it is what is asked
    licence="CC BY-SA 3.0",
    paper="1905.10044",
    example={
        "question": "is oldwick harbour still in use",
        "answer": False,
        "passage": "The harbour of Oldwick was closed in 1931. A museum uses its storehouses today.",
    },
    scorers={"cloze": "choice_raw"},
)
