"""Generation judged by a pattern: what its first group last matched in the response must be what it did in the answer.

The setting ``pattern`` is a regular expression of Python's ``re`` (``.`` doesn't match a line break) with a group
around what counts. The last match decides, as models correct themselves and answers stand at the end; white space
around the text and around the group is left out, so ``^`` is where the answer begins. Of a text the last 4,000
characters are read. A repeat of what can match in several ways (``(a+)+``, ``(?:a|aa)+``, ``([0-9]{3},?)+``) is refused
unless the ways are few: it can take longer than the study. ``[ab]+`` and ``[0-9]{1,3}(?:,[0-9]{3})*`` are fine. That
bounds repeats inside repeats alone: many side by side are slow, too. Source: none, this is plain extraction.

Worked instance: pattern 'answer is ([0-9]+)', expected '2 + 2, so the answer is 4', given 'The answer is 5, no: the
answer is 4.': '4' and '4', right. A response without a match is wrong; an expected answer without one is an error.
"""

from __future__ import annotations

import math
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
MOST = 4096  # ways to match what is repeated; they are tried at every place of a text
MANY = 64  # a longer repeat counts as so many ways, so that it may come twice in a row
_HINT = "For example: pattern: 'answer is ([0-9]+)'"


def make(options: Mapping[str, Any]) -> Scorer:
    """1.0 if the last match of your pattern's first group is the one in the expected answer.

    Raises DataError for a setting that is no pattern, has no group, or repeats what can match in several ways.
    """
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
    if _ways(tree) is None:
        raise DataError("pattern: a repeat inside a repeat, or alternatives inside one, can take forever", got=pattern,
                        hint="Repeat what matches in one way alone: [0-9,]+ and not ([0-9]+,?)+")  # fmt: skip

    def regex(sample: Sample, response: Response) -> Score:
        """1.0 if the last match's first group is the target's. Raises RunFailed if the target has no match."""
        expected = _last(compiled, sample.target)
        if expected is None:
            raise RunFailed(f"the pattern matches nothing in the expected answer of item {sample.id}",
                            stage="evaluate", got=sample.target.strip()[-80:])  # fmt: skip
        return scored(sample, _last(compiled, response.text) == expected, response.text)

    return regex


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    groups = [match.group(1) for match in pattern.finditer(text.strip()[-READ:])]
    return groups[-1].strip() if groups and groups[-1] is not None else None


def _ways(node: Any) -> int | None:
    """In how many ways a part of a pattern can match at one place at most; None if a repeat multiplies too many."""
    if isinstance(node, parser.SubPattern):
        parts = [_ways(item) for item in node]
        return None if None in parts else math.prod(parts)
    name, inside = str(node[0]), node[1]
    if name == "BRANCH":
        parts = [_ways(item) for item in inside[1]]
        return None if None in parts else sum(parts)
    if "REPEAT" in name:
        least, most, inner = inside
        if (ways := _ways(inner)) is None or ways == 1:
            return ways and max(1, min(int(most) - least + 1, MANY))
        if most > 1 and (most >= MOST.bit_length() or ways**most > MOST):
            return None
        return ways**most + (least == 0)
    held = inside if isinstance(inside, tuple) else (inside,)
    parts = [_ways(item) for item in held if isinstance(item, parser.SubPattern)]
    return None if None in parts else math.prod(parts)


PLUGIN = Configurable(make, ("pattern",), {"pattern": "(.+)"})
