"""Generation judged by the words it shares with the expected answer: F1 over normalised tokens, as SQuAD measures it.

Both texts are lower-cased, lose punctuation (ASCII's) and the articles a, an and the, and are split at white space. F1
is the harmonic mean of precision and recall over the bags of words; two empty ones count as equal, one empty as 0.
Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (1606.05250), section 6.1. The
code here is our own.

Worked instance: expected 'the Denver Broncos', given 'Broncos of Denver': bags {denver, broncos} and {broncos, of,
denver}; precision 2/3, recall 1, F1 0.8. Value: between 0.0 and 1.0.
"""

from __future__ import annotations

import re
import string
from collections import Counter

from rankscope.records import Score
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Response, scored

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def words(text: str) -> list[str]:
    """The normalised tokens of an answer."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def token_f1(sample: Sample, response: Response) -> Score:
    """F1 of the response's words against the target's. An empty response to a non-empty target is wrong: 0."""
    expected, given = words(sample.target), words(response.text)
    if not expected or not given:
        return scored(sample, expected == given, response.text)
    shared = sum((Counter(expected) & Counter(given)).values())
    return scored(sample, 2 * shared / (len(expected) + len(given)), response.text)


PLUGIN = token_f1
