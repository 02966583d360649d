"""Generation judged by a pattern: what its first group last matched in the response must be what it did in the answer.

The setting ``pattern`` is a regular expression of Python's ``re`` (``.`` doesn't match a line break) with a group
around what counts. The last match decides, as models correct themselves and answers stand at the end; white space
around the group is left out. Of a text the last 4,000 characters are read. A pattern with an unbounded repeat inside
another (such as ``(a+)+``) is refused: it can take longer than the study. Source: none, this is plain extraction.

Worked instance: pattern 'answer is ([0-9]+)', expected '2 + 2, so the answer is 4', given 'The answer is 5, no: the
answer is 4.': '4' and '4', right. A response without a match is wrong; an expected answer without one is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rankscope.errors import DataError, RunFailed
from rankscope.records import Score
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Configurable, Response, Scorer, scored

try:
    from re import _parser as parser
except ImportError:  # Python 3.10
    import sre_parse as parser

READ = 4000
_HINT = "For example: pattern: 'answer is ([0-9]+)'"


def make(options: Mapping[str, Any]) -> Scorer:
    """A scorer for ``options['pattern']``. Raises DataError if it is no pattern, has no group or repeats repeats."""
    pattern = options.get("pattern")
    if not isinstance(pattern, str) or not pattern:
        raise DataError("the scorer regex needs a pattern", got=pattern, hint=_HINT)
    try:
        compiled = re.compile(pattern)
        tree = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise DataError(f"pattern: no regular expression: {error}", got=pattern, hint=_HINT) from error
    if not compiled.groups:
        raise DataError("pattern: put what counts into a group ( )", got=pattern, hint=_HINT)
    if _repeats(tree) > 1:
        raise DataError("pattern: a repeat inside a repeat can take forever", got=pattern, hint=_HINT)

    def regex(sample: Sample, response: Response) -> Score:
        """1.0 if the last match's first group is the target's. Raises RunFailed if the target has no match."""
        expected = _last(compiled, sample.target)
        if expected is None:
            raise RunFailed(f"the pattern matches nothing in the expected answer of item {sample.id}",
                            stage="evaluate", got=sample.target[-80:])  # fmt: skip
        return scored(sample, _last(compiled, response.text) == expected, response.text)

    return regex


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    groups = [match.group(1) for match in pattern.finditer(text[-READ:])]
    return groups[-1].strip() if groups and groups[-1] is not None else None


def _repeats(node: Any) -> int:
    """How many unbounded repeats lie inside one another at most."""
    found = 0
    if isinstance(node, parser.SubPattern):
        return max((_repeats(item) for item in node), default=0)
    if isinstance(node, tuple) and node and str(node[0]) in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        _, (_, most, inner) = node
        return (most is parser.MAXREPEAT or most > 100) + _repeats(inner)
    if isinstance(node, list | tuple):
        found = max((_repeats(item) for item in node), default=0)
    return found


PLUGIN = Configurable(make, ("pattern",), {"pattern": "(.+)"})
