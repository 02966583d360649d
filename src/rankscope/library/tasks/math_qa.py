"""MathQA: maths word problems with five options, in lower-case, spaced-out text.

Paper: Amini et al., "MathQA: Towards Interpretable Math Word Problem Solving with Operation-Based Formalisms"
(1905.13319). Made from AQuA-RAT (1705.04146), so the two are not independent.
Data: hub regisss/math_qa, a copy without a loading script of allenai/math_qa: 29,837 / 4,475 / 2,985 rows.
Licence: Apache-2.0.
Chance: 0.20 uniform; option c or a is right a little more often (about 0.23).
The problems are made from templates: with numbers masked, many test problems are also in the training set. A sample's
``cluster`` is the hash of its problem with numbers masked, for cluster-robust intervals; part of an in-domain gain is
recall of templates. The training target is the right option's text; the rationales are too noisy to train on.

Worked instance (invented, cloze):
    Question: a tank holds 90 litres and is one third full . how many litres does it hold now ?
    Answer: 30
"""

from __future__ import annotations

import ast
import re
from typing import Any

from rankscope.data.dataset import Source
from rankscope.errors import DataError
from rankscope.tasks.samples import Sample, choice_sample, item_id
from rankscope.tasks.task import Task

_LETTERS = "abcde"
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_MARK = re.compile(r"^(?:[a-e] \) )+")


def parse_options(text: str) -> tuple[str, ...]:
    """The five options of 'a ) 38 , b ) 27.675 , ...' or of the printed list that some rows hold instead.

    Options may hold commas and brackets, so the marks are looked for in turn. Raises DataError if one is missing.
    """
    text = text.strip()
    if text.startswith("["):
        return tuple(_MARK.sub("", option.strip()) for option in ast.literal_eval(text))
    starts, place = [], 0
    for letter in _LETTERS:
        found = re.compile(rf"(?:^|, ?){letter} \) ?").search(text, place)
        if found is None:
            raise DataError(f"no option {letter!r} in 'options'", got=text)
        starts.append((found.start(), found.end()))
        place = found.end()
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return tuple(text[start:end].strip() for (_, start), end in zip(starts, ends, strict=True))


def template(problem: str) -> str:
    """What problems with the same wording and other numbers share."""
    return item_id(" ".join(_NUMBER.sub("#", problem).split()))


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The problem with its options; ``category`` is the subject, the template the cluster."""
    return choice_sample(
        row["Problem"],
        parse_options(row["options"]),
        _LETTERS.index(row["correct"]),
        form,
        subject=row.get("category") or "",
        cluster=template(row["Problem"]),
    )


PLUGIN = Task(
    name="math_qa",
    summary="Maths word problems with five options",
    source=Source(
        "math_qa", "regisss/math_qa", splits=(("train", "train"), ("validation", "validation"), ("test", "test"))
    ),
    to_sample=to_sample,
    forms=("cloze", "letters"),
    default_form="cloze",
    uniform=0.2,
    skill="reasoning",  # each problem has an operation program of several steps; a reasoning task in 2512.15634
    licence="Apache-2.0",
    paper="1905.13319",
    example={
        "Problem": "a tank holds 90 litres and is one third full . how many litres does it hold now ?",
        "Rationale": '"90 / 3 = 30 answer : b"',
        "options": "a ) 3 , b ) 30 , c ) 45 , d ) 60 , e ) none of these",
        "correct": "b",
        "annotated_formula": "divide(90, const_3)",
        "linear_formula": "divide(n0,const_3)|",
        "category": "general",
    },
)
