"""An adapter of a smaller rank from one that exists. In: a PEFT folder or hub id. Out: a PEFT folder, and what it kept.

Each module's update is replaced by its best approximation of the rank asked for (Eckart & Young 1936), or of the
smallest rank that keeps a share of its energy ||dW||_F^2. No training, no base model, no scores: whether the smaller
adapter is as good is for tasks to say. Loads torch only when called.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from rankscope.errors import InputError


@dataclass(frozen=True)
class Cut:
    """One module: its rank before and after, and the share of ||dW||_F^2 kept (None: the update is zero)."""

    name: str
    before: int
    rank: int
    energy: float | None
    params_before: int
    params: int


@dataclass(frozen=True)
class Truncated:
    """A truncated adapter as written. ``kept``: the share of ||dW||_F^2 over all modules together."""

    adapter: str
    folder: str
    modules: tuple[Cut, ...]
    kept: float | None

    @property
    def least(self) -> float | None:
        """The share of energy kept in the module that lost most."""
        return min((cut.energy for cut in self.modules if cut.energy is not None), default=None)

    @property
    def params_before(self) -> int:
        return sum(cut.params_before for cut in self.modules)

    @property
    def params(self) -> int:
        return sum(cut.params for cut in self.modules)

    @property
    def unchanged(self) -> tuple[str, ...]:
        """The modules whose rank was small enough already."""
        return tuple(cut.name for cut in self.modules if cut.rank == cut.before)

    @property
    def next(self) -> str:
        """What to do with it: it is not judged yet."""
        return f"rankscope score MODEL TASK --adapter {shlex.quote(self.folder)}"

    def as_dict(self) -> dict:
        """For programs."""
        rows = [{"name": c.name, "rank_before": c.before, "rank": c.rank, "energy_kept": c.energy}
                for c in self.modules]  # fmt: skip
        return {"adapter": self.adapter, "folder": self.folder, "modules": rows,
                "energy_kept": {"least": self.least, "total": self.kept},
                "parameters": {"before": self.params_before, "after": self.params},
                "unchanged": len(self.unchanged), "next": self.next}  # fmt: skip


def truncate(adapter: str, folder: str, rank: int | None = None, energy: float | None = None) -> Truncated:
    """Write the adapter again with at most ``rank`` directions a module, or with as few as keep ``energy`` of each.

    Raises InputError on anything but one of the two and if the folder exists, ModelError on an adapter that can't be
    read.
    """
    _check(folder, rank, energy)
    from rankscope.analysis.spectra import energy_rank, singular_values, truncated
    from rankscope.models.given import read_given
    from rankscope.models.locate import adapter_folder
    from rankscope.models.truncate import at_scale, write_again

    given = read_given(adapter_folder(adapter))
    cuts, pieces, kept, total = [], {}, 0.0, 0.0
    for name, piece in given.pieces.items():
        squares = singular_values(piece).square()
        # A zero update has no rank; one direction, of zeros, is the least that a LoRA layer can have.
        wanted = rank if rank is not None else energy_rank(squares.sqrt(), energy) or 1
        smaller = piece if wanted >= piece.rank else at_scale(truncated(piece, wanted), piece.scale)
        mine, whole = float(squares[: smaller.rank].sum()), float(squares.sum())
        pieces[name] = smaller
        kept, total = kept + mine, total + whole
        cuts.append(Cut(name, piece.rank, smaller.rank, mine / whole if whole else None,
                        sum(piece.shape) * piece.rank, sum(piece.shape) * smaller.rank))  # fmt: skip
    write_again(given, pieces, Path(folder).expanduser())
    return Truncated(adapter, folder, tuple(cuts), kept / total if total else None)


def _check(folder: str, rank: int | None, energy: float | None) -> None:
    if (rank is None) == (energy is None):
        raise InputError("give exactly one of a rank and a share of energy to keep",
                         got="neither" if rank is None else "both",
                         hint="For example: --rank 4, or --energy 0.99")  # fmt: skip
    if rank is not None and rank < 1:
        raise InputError("the rank must be at least 1", got=rank, hint="For example: --rank 4")
    if energy is not None and not 0 < energy <= 1:
        raise InputError("the share of energy to keep must be above 0 and at most 1", got=energy,
                         hint="For example: --energy 0.99")  # fmt: skip
    if Path(folder).expanduser().exists():
        raise InputError("this exists already, and nothing is overwritten", where=folder,
                         hint="Name a folder that is not there yet")  # fmt: skip
    above = next(place for place in Path(folder).expanduser().absolute().parents if place.exists())
    if not above.is_dir():
        raise InputError("no folder can be made below a file", got=str(above), where=folder,
                         hint="Name a folder that is not there yet")  # fmt: skip
