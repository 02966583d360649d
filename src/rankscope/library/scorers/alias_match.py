"""TriviaQA's official exact match: is the answer, normalised, one of the names that the thing goes by?

Right are the target and the texts in ``accepted``. Both sides are normalised: lower case, underscores and punctuation
(ASCII and the quotation marks that stand for an apostrophe) as spaces, the articles a, an and the left out, one space
between words. Only the first line of the response that isn't empty is read, because a base model goes on after its
answer.
Source: Joshi et al., "TriviaQA: A Large Scale Distantly Supervised Challenge Dataset for Reading Comprehension"
(1705.03551) and the rule of mandarjoshi90/triviaqa (``evaluation/triviaqa_evaluation.py``). The code here is our own.

Worked instance: expected 'The Nile', accepted 'river nile': ' the River Nile.' and ' Nile' are right, ' Nile, in
Africa' is wrong. Value: 1.0 or 0.0.
"""

from __future__ import annotations

import re
import string

from rankscope.records import Score
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Response, scored

_SPACED = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))
_ARTICLE = re.compile(r"\b(a|an|the)\b")


def normalised(text: str) -> str:
    """The text as it is compared."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_SPACED)).split())


def alias_match(sample: Sample, response: Response) -> Score:
    """1.0 if the response is the target or an accepted text. An empty response is wrong, not missing."""
    given = normalised(response.text.strip().partition("\n")[0])
    is_right = given != "" and given in {normalised(text) for text in (sample.target, *sample.accepted)}
    return scored(sample, is_right, response.text)


PLUGIN = alias_match
