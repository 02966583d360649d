"""AQuA-RAT: algebra word problems of graduate admission tests, five options.

Paper: Ling et al., "Program Induction by Rationale Generation: Learning to Solve and Explain Algebraic Word Problems"
(1705.04146).
Data: hub deepmind/aqua_rat, config raw: 97,467 / 254 / 254 rows. Options carry their mark ('A)21'), which is left out.
Licence: Apache-2.0.
Chance: 0.20 uniform, but the first options are right more often: about 0.25 on test, and that is the chance level used.
The training target is the right option's text. The rationales, which give the dataset its name, aren't shown and aren't
trained on. MathQA was made from these problems, so the two are not independent; with 254 items an interval is wide.

Worked instance (invented, cloze):
    Question: A shop sells 3 pens for 2 coins. How many coins do 12 pens cost?
    Answer: 8
"""

from __future__ import annotations

from typing import Any

from rankscope.data.dataset import Source
from rankscope.tasks.samples import Sample, choice_sample
from rankscope.tasks.task import Task

_LETTERS = "ABCDE"


def unmarked(option: str, letter: str) -> str:
    """The option without its 'A)'; one that is nothing but its mark stays as it is."""
    return option.strip().removeprefix(f"{letter})").strip() or option


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The problem with its five options."""
    options = [unmarked(option, letter) for option, letter in zip(row["options"], _LETTERS, strict=True)]
    return choice_sample(row["question"], options, _LETTERS.index(row["correct"]), form)


PLUGIN = Task(
    name="aqua_rat",
    summary="Algebra word problems with five options",
    source=Source(
        "aqua_rat",
        "deepmind/aqua_rat",
        "raw",
        splits=(("train", "train"), ("validation", "validation"), ("test", "test")),
    ),
    to_sample=to_sample,
    forms=("cloze", "letters"),
    default_form="cloze",
    uniform=0.2,
    skill="reasoning",  # algebra that must be worked out; the options give little to recall
    licence="Apache-2.0",
    paper="1705.04146",
    example={
        "question": "A shop sells 3 pens for 2 coins. How many coins do 12 pens cost?",
        "options": ["A)4", "B)6", "C)8", "D)9", "E)18"],
        "rationale": "12 pens are 4 times 3 pens, so they cost 4 * 2 = 8 coins. The answer is C.",
        "correct": "C",
    },
)
