"""Which scorer judges a task, the one its form usually has or the one a study names. In: a name. Out: a ``Scorer``.

Three kinds: one on the shelf, one on the shelf with settings, and a Python function of the user's (``file.py@name``),
whose value must lie between 0 and 1. A named scorer is tried on perfect answers before anything is trained, so that
what can't be judged is known then. Knows nothing about models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

from rankscope import plugins
from rankscope.errors import DataError, RankscopeError, RunFailed
from rankscope.records import Score
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Configurable, Response, Scorer, scored


def choose(usual: str, options: Mapping[str, Any], samples: Sequence[Sample], is_generated: bool) -> Scorer:
    """The scorer that the options name, or else the usual one of the form. Raises as ``pick``."""
    name = options.get("scorer")
    if name is None:
        return pick(usual, options)
    if not is_generated:
        raise DataError("scorer: judges generated answers, and this form generates none", got=name,
                        hint="Leave it out, or set form: generate")  # fmt: skip
    return pick(name, options, samples)


def pick(name: str, options: Mapping[str, Any], tried: Sequence[Sample] = ()) -> Scorer:
    """The scorer called ``name`` with its settings from ``options``, tried on perfect generated answers to ``tried``.

    A user's function is tried on the first of them alone. Raises PluginError if there is none, DataError if it can't
    judge a perfect answer or a setting is missing, unknown or wrong.
    """
    found = plugins.get("scorers", name)
    settings = found.options if isinstance(found, Configurable) else ()
    if "pattern" in options and "pattern" not in settings:
        raise DataError("pattern: only the scorer regex has one", got=name, hint="Write scorer: regex beside it")
    if isinstance(found, Configurable):
        found = found.make(options)
    elif "@" in name:
        found, tried = _users(found, name), tried[:1]
    elif not callable(found):
        raise DataError(f"{name!r} is not a scorer", got=type(found).__name__)
    for sample in tried:
        try:
            found(sample, Response(text=sample.target))
        except RunFailed as error:
            raise DataError(
                f"the scorer {name!r} can't judge a perfect answer: {error.what}", hint=error.hint
            ) from error
    return found


def perfect(sample: Sample) -> Response:
    """What a model would give that is certain of the right answer."""
    if not sample.choices:
        return Response((0.0,), (1,), sample.target)
    # Far below: per byte of the longest choice it must still be less likely than the right one.
    sums = tuple(-0.001 if index == sample.answer else -1e6 for index in range(len(sample.choices)))
    return Response(sums, tuple(1 for _ in sums))


def _users(function: Any, name: str) -> Scorer:
    """A function of the user's: it may give a Score, a number or a truth value, and may raise whatever it likes."""
    path, _, attribute = name.rpartition("@")
    called = f"{Path(path).name}@{attribute}"
    if not callable(function):
        raise DataError(f"the scorer {called} is no function", got=type(function).__name__)

    def judge(sample: Sample, response: Response) -> Score:
        try:
            value = function(sample, response)
        except RankscopeError:
            raise
        except Exception as error:  # the user's own code, which can raise anything: say which item it failed on
            what = f"the scorer {called} failed on item {sample.id}: {type(error).__name__}: {error}"
            raise RunFailed(what, stage="evaluate") from error
        found = value if isinstance(value, Score) else None
        number = found.value if found else value
        if not isinstance(number, Real) or not math.isfinite(number) or not 0 <= number <= 1:
            raise RunFailed(f"the scorer {called} gave no number between 0 and 1 for item {sample.id}",
                            stage="evaluate", got=number)  # fmt: skip
        return replace(
            scored(sample, float(number), response.text), response=found.response if found else response.text
        )

    return judge
