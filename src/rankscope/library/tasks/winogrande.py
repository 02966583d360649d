"""WinoGrande: what does the gap stand for? Two options that make nearly the same sentence, written in pairs.

Paper: Sakaguchi et al., "WinoGrande: An Adversarial Winograd Schema Challenge at Scale" (1907.10641). Scoring: the
partial evaluation of Trinh and Le, "A Simple Method for Commonsense Reasoning" (1806.02847).
Data: hub allenai/winogrande, config winogrande_xl: 40,398 / 1,267 rows. The official test split has no answers, so our
test is the official validation split.
Licence: CC BY.
Chance: 0.50; a little more for the commonest position.
The option goes into the sentence up to the gap, which is the choice's own prompt; what is scored is the rest of the
sentence, the same for both, by plain likelihood (dividing by its length would change nothing). This is
lm-evaluation-harness's way too. The training target is the rest of the sentence behind the right option. There is no
letters form.

Worked instance (invented): 'The mug did not fit into the box because the _ was too small.' with the options mug, box:
    The mug did not fit into the box because the mug| was too small.
    The mug did not fit into the box because the box| was too small.     (right; scored is what stands behind the bar)
"""

from __future__ import annotations

from typing import Any

from rankscope.data.dataset import Source
from rankscope.data.prompts import continuation
from rankscope.errors import DataError
from rankscope.tasks.samples import Sample, item_id
from rankscope.tasks.task import Task


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """One prompt an option, one continuation for both. Raises DataError if there is no gap or nothing follows it."""
    before, gap, after = row["sentence"].partition("_")
    if not gap or not after.strip():
        raise DataError("'sentence' needs a gap, written _, with text behind it", got=row["sentence"])
    prompts = tuple((before + row[name].strip()).strip() for name in ("option1", "option2"))
    answer, rest = ("1", "2").index(row["answer"]), continuation(after)
    id = item_id(row["sentence"], row["option1"], row["option2"])
    return Sample(id, prompts[answer], rest, (rest, rest), answer, prompts=prompts)


PLUGIN = Task(
    name="winogrande",
    summary="Which of two options fills the gap in a sentence?",
    source=Source(
        "winogrande", "allenai/winogrande", "winogrande_xl", splits=(("train", "train"), ("test", "validation"))
    ),
    to_sample=to_sample,
    forms=("cloze",),
    default_form="cloze",
    uniform=0.5,
    skill="reasoning",  # what a gap stands for must be inferred from the situation
    licence="CC BY",
    paper="1907.10641",
    example={
        "sentence": "The mug did not fit into the box because the _ was too small.",
        "option1": "mug",
        "option2": "box",
        "answer": "2",
    },
    scorers={"cloze": "choice_raw"},
)
