"""GSM8K: grade-school word problems, answered by writing out the steps and then ``#### <number>``.

Paper: Cobbe et al., "Training Verifiers to Solve Math Word Problems" (2110.14168).
Data: openai/grade-school-math (hub openai/gsm8k, config main): 7,473 training and 1,319 test problems.
Licence: MIT.
Chance: 0, nothing can be guessed. A model that never writes ``####`` scores 0 too: look at the base few-shot (8 shots
are usual) before reading a gain as learning.
Scorer: ``final_number``, the official rule. The calculator marks ``<<48/2=24>>`` of the solutions are left out of
training targets, because no calculator answers them when the model generates.

Worked instance (invented):
    Question: Mia picks 4 baskets of 12 plums and gives away 8 plums. How many plums are left?
    Answer: She picks 4 * 12 = 48 plums.
    She keeps 48 - 8 = 40 plums.
    #### 40
"""

from __future__ import annotations

import re
from typing import Any

from rankscope.data.dataset import Source
from rankscope.data.prompts import cloze, continuation
from rankscope.tasks.samples import Sample, item_id
from rankscope.tasks.task import Task

_MARK = re.compile(r"<<[^>]*>>")


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The question as prompt; the solution without calculator marks as target."""
    return Sample(item_id(row["question"]), cloze(row["question"]), continuation(_MARK.sub("", row["answer"])))


PLUGIN = Task(
    name="gsm8k",
    summary="Grade-school maths word problems, solved step by step",
    source=Source("gsm8k", "openai/gsm8k", "main"),
    to_sample=to_sample,
    forms=("generate",),
    default_form="generate",
    uniform=0.0,
    skill="reasoning",  # two to eight steps of arithmetic by its own paper, and a reasoning task in 2512.15634
    licence="MIT",
    paper="2110.14168",
    example={
        "question": "Mia picks 4 baskets of 12 plums and gives away 8 plums. How many plums are left?",
        "answer": "She picks 4 * 12 = <<4*12=48>>48 plums.\nShe keeps 48 - 8 = <<48-8=40>>40 plums.\n#### 40",
    },
    stop=("\nQuestion:",),
    max_new_tokens=320,
    scorers={"generate": "final_number"},
    options=("max_new_tokens",),
)
