"""What a study will write. In: specs of runs to do, sizes, items to score. Out: bytes. No torch.

Weights as ``keep`` has them, the largest full copy that is there until it is scored, the largest checkpoint, and rows
of the database.
"""

from __future__ import annotations

from collections.abc import Sequence

from rankscope.records import RunSpec
from rankscope.study.sizes import Size

_WEIGHT = 4  # bytes of a stored weight: adapters and full copies are float32
_STATE = 12  # bytes of a checkpoint for each trained weight: itself and AdamW's moments
_ROW = 130  # bytes of a stored score with its place in the index
_WRITTEN = 4  # bytes of a generated token, as text
_RUN = 30_000  # bytes of a run's record, curve and diagnoses


def weights_bytes(size: Size, finals: Sequence[RunSpec], todo: Sequence[RunSpec], keep: str) -> int:
    """Weights of one train task's runs at the worst moment. Those that lost wait there until all is scored; with
    ``keep: adapters`` full SFT's final weights go as soon as they are, one by one."""
    each = [(spec, _WEIGHT * size.trainable(spec)) for spec in dict.fromkeys(todo)]
    passing = [n for spec, n in each if keep == "adapters" and spec.arm.kind == "full" and spec in finals]
    return sum(n for _, n in each) - sum(passing) + max(passing, default=0)


def checkpoint_bytes(size: Size, groups: Sequence[Sequence[RunSpec]]) -> int:
    """The largest checkpoint of any cohort."""
    return max((_STATE * sum(size.trainable(s) for s in group) for group in groups), default=0)


def rows_bytes(num_runs: int, num_scores: int, written_tokens: int) -> int:
    return _RUN * num_runs + _ROW * num_scores + _WRITTEN * written_tokens
