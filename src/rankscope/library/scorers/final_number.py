"""GSM8K's official judgement: the number after '####' in the response must be the number after '####' in the solution.

Source: Cobbe et al., "Training Verifiers to Solve Math Word Problems" (2110.14168) and the rule of
openai/grade-school-math (``grade_school_math/dataset.py``): the first ``#### `` followed by digits, points and commas;
commas are dropped; the rest is compared as text, so '18.0' isn't '18'. The code here is our own.

Worked instance: '... so 3 * 600 = 1,800\\n#### 1,800' against '#### 1800': right. 'The answer is 1800': wrong, since no
'####' was written; a model that was never shown the format scores near 0, so score the base few-shot too.
"""

from __future__ import annotations

import re

from rankscope.records import Score
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Response, scored

_FINAL = re.compile(r"#### (-?[0-9.,]+)")


def extract(text: str) -> str | None:
    """The first final number of a text, commas dropped, or None."""
    found = _FINAL.search(text)
    return found.group(1).strip().replace(",", "") if found else None


def final_number(sample: Sample, response: Response) -> Score:
    """1.0 if the response's final number is the target's. A response without one is wrong, not missing."""
    expected = extract(sample.target)
    return scored(sample, expected is not None and extract(response.text) == expected, response.text)


PLUGIN = final_number
