"""The rows of the flips browser: items whose answer changed, each with its texts once. Plain data, no statistics.

"Lost" is right before and wrong after, "won" the reverse; one item under one arm is one flip, however many seeds show
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ItemText:
    """What an item asks. ``choices`` are empty where the answer is written freely; ``answer`` is then None, and
    ``target`` the expected text. ``names`` are what a scorer calls the choices, if that isn't their text.
    """

    prompt: str
    target: str
    choices: tuple[str, ...] = ()
    answer: int | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class FlippedItem:
    """One item with its texts; long ones are cut in the middle, and say so. Without rows ``prompt`` is None and
    ``target`` empty.

    ``before`` maps a model's name to its own answer, untouched: an index of ``choices``, or a text.
    """

    task: str
    item: str
    subject: str
    prompt: str | None
    choices: tuple[str, ...]
    target: str
    answer: int | None
    before: dict[str, int | str]


@dataclass(frozen=True)
class FlipCell:
    """One arm on one task, right or wrong: how many items flipped under at least one of its ``seeds``."""

    model: str
    train: str
    arm: str
    task: str
    role: str
    seeds: tuple[int, ...]
    num_items: int
    lost: int
    won: int


@dataclass(frozen=True)
class Flip:
    """One item that flipped under an arm. ``cell`` and ``item`` are places in the lists of `Flipped`.

    ``under`` says for each seed of the cell whether it flipped; ``answers`` are the arm's by seed, an index of the
    item's choices or a text.
    """

    cell: int
    item: int
    is_lost: bool
    under: tuple[bool, ...]
    answers: tuple[int | str, ...]

    @property
    def is_under_all(self) -> bool:
        return all(self.under)


@dataclass(frozen=True)
class Flipped:
    """Flips with their items. ``cells`` count all that there are, ``flips`` may hold fewer: those of the recommended
    arms and full SFT first, those under most seeds first.

    ``graded`` are tasks whose scores aren't right or wrong, so that nothing flips; ``silent`` maps a task to the reason
    why its texts aren't here.
    """

    cells: tuple[FlipCell, ...] = ()
    items: tuple[FlippedItem, ...] = ()
    flips: tuple[Flip, ...] = ()
    graded: tuple[str, ...] = ()
    silent: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(cell.lost + cell.won for cell in self.cells)
