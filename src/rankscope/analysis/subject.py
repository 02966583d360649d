"""What a diagnostic looks at: an update, the base it belongs to, and prompts and tasks to read it on.

In: all of these, from whoever asks. Out: the base under any part of the update. How things are scored is handed in, so
that diagnostics know neither the scoring engine nor the training loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from rankscope.data.batching import Example
from rankscope.models.base import Base
from rankscope.models.delta import Update
from rankscope.models.update import base_weight, worn
from rankscope.records import Role, Score
from rankscope.tasks.task import Prepared


@dataclass(frozen=True)
class Asked:
    """One task as a study asks it: its name there, what it is for, and its questions."""

    name: str
    role: Role
    task: Prepared


@dataclass
class Subject:
    """One run as a diagnostic sees it. ``base`` None: only the update's own numbers can be read (an audit).

    ``texts`` maps a set of prompts ('train', 'evaluation', 'neutral') to rows of tokens; ``validation`` holds rows of
    the train task kept out of training. ``score`` judges a task's questions under a Base, ``losses`` gives nats per
    label token of every row. ``cache`` is a folder for what depends on the base alone; None: nothing is kept.
    ``tick`` is called with the number of steps done.
    """

    update: Update
    base: Base | None = None
    texts: Mapping[str, tuple[Example, ...]] = field(default_factory=dict)
    tasks: tuple[Asked, ...] = ()
    validation: tuple[Example, ...] = ()
    score: Callable[[Base, Prepared], tuple[Score, ...]] | None = None
    losses: Callable[[Base, Sequence[Example]], tuple[float, ...]] | None = None
    cache: Path | None = None
    tick: Callable[[int], None] = lambda steps: None

    @contextmanager
    def worn(self, update: Update | None = None) -> Iterator[Base]:
        """The base with the whole update in effect, or with another one."""
        with worn(self.base, self.update if update is None else update) as tuned:
            yield tuned

    def weight(self, module: str) -> Float[Tensor, "O D"]:
        """A linear module's weight in the base. Raises ModelError for weights in 4 bits."""
        return base_weight(self.base, module)
