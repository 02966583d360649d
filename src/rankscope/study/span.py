"""A predicted number: from, to and, where something like it was measured, about how much. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """``value`` None: nothing was measured that would make one number better than another between ``low`` and
    ``high``."""

    low: float
    high: float
    value: float | None = None

    def __mul__(self, times: float | int) -> Span:
        return Span(self.low * times, self.high * times, None if self.value is None else self.value * times)

    @property
    def is_none(self) -> bool:
        """Nothing left to do."""
        return self.high == 0

    @property
    def most(self) -> float:
        """The number to plan with: what is expected, or the worst where nothing is."""
        return self.high if self.value is None else self.value


NOTHING = Span(0.0, 0.0, 0.0)


def total(spans: Iterable[Span]) -> Span:
    """The sum; ends add up, since what is wrong about one is wrong about all. Without a value if one part has none."""
    found = list(spans)
    values = [s.value for s in found]
    value = None if any(v is None for v in values) else sum((v for v in values if v is not None), 0.0)
    return Span(sum((s.low for s in found), 0.0), sum((s.high for s in found), 0.0), value)


def largest(spans: Iterable[Span]) -> Span:
    """The largest of them, end by end; its value is known if none without one can be larger."""
    found = list(spans) or [NOTHING]
    value = max((s.value for s in found if s.value is not None), default=None)
    if value is not None and any(s.value is None and s.high > value for s in found):
        value = None
    return Span(max(s.low for s in found), max(s.high for s in found), value)
