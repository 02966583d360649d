"""Readings as a tidy table. In: runs with their diagnoses. Out: one row a number. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rankscope.errors import InputError
from rankscope.plugins import did_you_mean
from rankscope.records import Diagnosis, RunSpec

COLUMNS = ("run", "arm", "rank", "seed", "train", "layer", "module", "part", "variant", "name", "index", "value")


@dataclass(frozen=True)
class Diagnostics:
    """What one diagnostic said of the runs of a study."""

    rows: tuple[tuple[RunSpec, Diagnosis], ...]

    def frame(self) -> Any:
        """A pandas DataFrame, one row a number; ``index`` counts along a reading's own axis from 0. A number that is
        not defined is NaN there, a failed diagnosis has no rows."""
        import pandas as pd

        found = [
            (s.name, s.arm.name, s.arm.rank, s.seed, s.train.name if s.train else None, r.layer, r.module, r.part,
             r.variant, r.name, index, value)
            for s, diagnosis in self.rows
            for r in diagnosis.readings
            for index, value in enumerate(r.values)
        ]  # fmt: skip
        frame = pd.DataFrame(found, columns=list(COLUMNS))
        return frame.astype({"layer": "Int64", "rank": "Int64", "value": "float64"})


def of_study(evidence: Any, name: str) -> Diagnostics:
    """All that one diagnostic said of a study's runs. Raises InputError, with the nearest name, if it said nothing."""
    found = evidence.diagnoses
    if not any(own == name for _, own in found):
        names = sorted({own for _, own in found})
        there = ", ".join(names) or "none yet; list it under diagnose: and run the study"
        raise InputError(f"no diagnostic {name!r} was measured{did_you_mean(name, names)}", hint=f"There is: {there}")
    rows = ((spec, found[key, name]) for spec, key, *_ in evidence.runs if (key, name) in found)
    return Diagnostics(tuple(rows))
