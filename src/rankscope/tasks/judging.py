"""Which scorer judges a task, the one its form usually has or the one a study names. In: a name. Out: a ``Scorer``.

Three kinds: one on the shelf, one on the shelf with settings, and a Python function of the user's (``file.py@name``),
whose value must lie between 0 and 1. A named scorer is tried on perfect answers before anything is trained, so that
what can't be judged, or can't be right, is known then. Knows nothing about models.
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

TRIED = 5
"""Perfect answers that a user's function is tried on."""


def choose(
    usual: str,
    options: Mapping[str, Any],
    samples: Sequence[Sample],
    is_generated: bool,
    stop: Sequence[str] = (),
    places: Mapping[str, str] | None = None,
) -> Scorer:
    """The scorer that the options name, tried on ``samples``, or else the usual one of the form.

    ``stop``: texts that end a generated answer; ``places``: where the item of an id stands. Raises as ``pick`` and
    ``_try``, and DataError for a scorer of answers that aren't generated.
    """
    name = options.get("scorer")
    if name is None:
        return pick(usual, options)
    if not is_generated:
        raise DataError("scorer: judges generated answers, and this form generates none", got=name,
                        hint="Leave it out, or set form: generate")  # fmt: skip
    found = pick(name, options)
    _try(found, name, samples, stop, places or {})
    return found


def pick(name: str, options: Mapping[str, Any]) -> Scorer:
    """The scorer called ``name`` with its settings from ``options``.

    Raises PluginError if there is none, DataError if a setting is missing, unknown or wrong.
    """
    found = plugins.get("scorers", name)
    settings = found.options if isinstance(found, Configurable) else ()
    if "pattern" in options and "pattern" not in settings:
        raise DataError("pattern: only the scorer regex has one", got=name, hint="Write scorer: regex beside it")
    if isinstance(found, Configurable):
        return found.make(options)
    if "@" in name:
        return _users(found, name)
    if not callable(found):
        raise DataError(f"{name!r} is not a scorer", got=type(found).__name__)
    return found


def _try(judge: Scorer, name: str, samples: Sequence[Sample], stop: Sequence[str], places: Mapping[str, str]) -> None:
    """Raises DataError with the place of the first perfect answer that isn't judged 1, cut as a model's would be.

    A user's function, which may be slow, is tried on a few items alone: the first, and the first that are cut.
    """
    cuts = [(sample, _cut(sample, stop)) for sample in samples]
    if "@" in name:
        cuts = cuts[:TRIED] + [(sample, text) for sample, text in cuts[TRIED:] if text != sample.target][:TRIED]
    for sample, text in cuts:
        at = places.get(sample.id, f"item {sample.id}")
        try:
            value = judge(sample, Response(text=text)).value
        except RunFailed as error:
            if text == sample.target:
                what = f"the scorer {name!r} can't judge a perfect answer: {error.what}, at {at}"
                raise DataError(what, got=error.got, hint=error.hint) from error
            value = 0.0
        if value < 1 - 1e-9 and text != sample.target:
            raise DataError(f"a generated answer ends at a text that stands in the answer of {at}: none can be right",
                            got=next(s for s in stop if s in sample.target),
                            hint="Set form: completion, or leave such rows out")  # fmt: skip
        if value < 1 - 1e-9:
            raise DataError(f"the scorer {name!r} gives a perfect answer less than 1, at {at}", got=value,
                            hint="1 must be for the row's own answer: change the row, or the scorer")  # fmt: skip


def _cut(sample: Sample, stop: Sequence[str]) -> str:
    """The perfect answer up to the first stop text; a conversation's ends where its template says, and isn't cut."""
    text = sample.target
    return text if sample.turns else text[: min((text.find(s) for s in stop if s in text), default=len(text))]


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
