"""The texts that ``scaffold`` writes: a plug-in and its test for each kind. ``@NAME@`` and ``@ORIGIN@`` are filled in.

A template keeps the contract as it stands, so that its test passes before anything is changed: what breaks later was
broken later.
"""

from __future__ import annotations

BESIDE = """\
PLUGIN = plugins.get("{kind}", f"{{Path(__file__).with_name('{name}.py')}}@PLUGIN")"""
"""How the test of a file outside a checkout finds it: as ``NAME.py@PLUGIN``, wherever the test is started."""

_TASK = '''\
"""@NAME@: TODO what it asks, in one line.

Paper: TODO authors, "title" (number), or none.
Data: TODO where the rows come from, how many in each split, and what is wrong with them.
Licence: TODO the data's licence.
Chance: 0.33 uniform over three options. TODO: and how often the commonest answer is right.

Worked instance (invented, cloze; TODO replace):
    Question: Which port does the staging server use?
    Answer: 9090
"""

from __future__ import annotations

from typing import Any

from rankscope.data.dataset import Source
from rankscope.tasks.samples import Sample, choice_sample
from rankscope.tasks.task import Task


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """A row of the dataset as a question. TODO: the names of your fields."""
    return choice_sample(row["question"], row["options"], row["right"], form, id=str(row.get("id") or ""))


PLUGIN = Task(
    name="@NAME@",
    summary="TODO: what it asks, in one line",
    # Rows lie in DATA_DIR/@NAME@/train.jsonl and test.jsonl. TODO: a hub id, if it is on the hub.
    source=Source("@NAME@", hub_id=None, splits=(("train", "train"), ("test", "test"))),
    to_sample=to_sample,
    forms=("cloze", "letters"),
    default_form="cloze",
    uniform=1 / 3,  # TODO: the score of a uniform guess
    licence="TODO",
    paper="TODO",
    skill="recall",  # TODO: reasoning, recall or language, with the evidence
    example={"question": "Which port does the staging server use?", "options": ["8080", "9090", "443"], "right": 1},
)
'''

_TASK_TEST = '''\
"""The task @NAME@: the contract, the worked example, and a score computed by hand."""

from __future__ import annotations

@IMPORTS@


def test_it_keeps_the_contract():
    check_task(PLUGIN)


def test_the_worked_example_becomes_the_question_of_the_docstring():
    sample = PLUGIN.to_sample(dict(PLUGIN.example), "cloze", 0)
    assert sample.prompt == "Question: Which port does the staging server use?\\nAnswer:"
    assert (sample.choices, sample.target) == ((" 8080", " 9090", " 443"), " 9090")


def test_a_score_computed_by_hand():
    # TODO: an instance of your own. Here, nats per byte: -6/5 = -1.2, -4/5 = -0.8, -4/4 = -1.0; the second is picked.
    sample = PLUGIN.to_sample(dict(PLUGIN.example), "cloze", 0)
    response = Response(loglikelihoods=(-6.0, -4.0, -4.0), num_tokens=(1, 1, 1))
    assert plugins.get("scorers", "choice")(sample, response).value == 1.0
'''

_SCORER = '''\
"""@NAME@: TODO how a response is judged, in one line.

Source: TODO authors, "title" (number), or the rule's home.

Worked instance (TODO replace): expected ' Port 9090'; ' port 9090' is right, ' 9090' is wrong. Value: 1.0 or 0.0.
"""

from __future__ import annotations

from rankscope.records import Score
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Response, scored


def judge(sample: Sample, response: Response) -> Score:
    """1.0 if the response is the target but for case. TODO. An empty response is wrong, not missing.

    A response that can't be judged at all is a RunFailed, never a 0.
    """
    given = response.text.strip()
    return scored(sample, given.casefold() == sample.target.strip().casefold(), response.text)


PLUGIN = judge
'''

_SCORER_TEST = '''\
"""The scorer @NAME@, on responses judged by hand."""

from __future__ import annotations

@IMPORTS@


# TODO: instances of your own, the docstring's first.
@pytest.mark.parametrize(("text", "value"), [(" port 9090", 1.0), (" 9090", 0.0), ("", 0.0)])
def test_responses_are_judged_as_by_hand(text, value):
    sample = Sample("item-1", "Which port?", " Port 9090")
    score = PLUGIN(sample, Response(text=text))
    assert (score.item, score.value, score.response) == ("item-1", value, text)
'''

_IMPORTS = {
    ("task", True): """\
from rankscope import plugins
@ORIGIN@
from rankscope.tasks.scoring import Response
from rankscope.testing import check_task""",
    ("task", False): """\
from pathlib import Path

from rankscope import plugins
from rankscope.tasks.scoring import Response
from rankscope.testing import check_task

@ORIGIN@""",
    ("scorer", True): """\
import pytest

@ORIGIN@
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Response""",
    ("scorer", False): """\
from pathlib import Path

import pytest

from rankscope import plugins
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Response

@ORIGIN@""",
}


def code(singular: str, name: str) -> str:
    """The plug-in's file."""
    return {"task": _TASK, "scorer": _SCORER}[singular].replace("@NAME@", name)


def test(singular: str, name: str, kind: str, is_shelf: bool) -> str:
    """Its test; on the shelf the plug-in is imported, elsewhere it is the file beside the test."""
    origin = f"from rankscope.library.{kind}.{name} import PLUGIN" if is_shelf else BESIDE.format(kind=kind, name=name)
    text = {"task": _TASK_TEST, "scorer": _SCORER_TEST}[singular]
    imports = _IMPORTS[singular, is_shelf].replace("@ORIGIN@", origin)
    return text.replace("@IMPORTS@", imports).replace("@NAME@", name)
