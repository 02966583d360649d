"""Generation judged by equality: is the answer, as text, the expected one?

Both texts are compared with runs of white space as one space and none at the ends; case and punctuation count. Only as
many lines of the response are read as the expected text has, because a base model goes on after its answer.

Worked instance: expected ' M T L'; ' M  T L' and ' M T L\\nTake G' are right, ' m t l' is wrong. Value: 1.0 or 0.0.
"""

from __future__ import annotations

from rankscope.records import Score
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Response, scored


def exact_match(sample: Sample, response: Response) -> Score:
    """1.0 if the response is the target. An empty response is wrong, not missing."""
    expected = sample.target.strip()
    given = "\n".join(response.text.strip().split("\n")[: expected.count("\n") + 1])
    return scored(sample, given.split() == expected.split(), response.text)


PLUGIN = exact_match
