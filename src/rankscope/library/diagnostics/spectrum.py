"""Spectrum: how large is the update of each matrix, and how many directions does it use?

Evidence. Only the product dW = s B A means anything, not the factors, and its singular values say how it is spent.
Stable rank, energy rank and utilisation: Gradience, WeightWatcher (Martin & Mahoney 2021). Effective rank: Roy and
Vetterli 2007. Norms against the base's: how much of the weight has moved; forgetting goes with log ||dW||_F in one
unpublished log. Full fine-tuning's updates need 10 to 100 times LoRA's ranks (Biderman et al. 2024, 2405.09673). That
any of these predicts the rank a task needs is not known.

Worked instance: dW with singular values 3, 1, 1 and rank 4 spent has stable rank 11/9 = 1.22, effective rank
exp(.6 ln(1/.6) + .4 ln(1/.2)) = 2.59, energy rank 2 at .9 (10/11 = .909) and 3 at .99, utilisation .31.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rankscope.analysis.diagnostic import Diagnostic, Quantity
from rankscope.errors import ModelError
from rankscope.records import Reading

if TYPE_CHECKING:
    from torch import Tensor

    from rankscope.analysis.subject import Subject
    from rankscope.models.delta import Delta

ENERGY = "Gradience; WeightWatcher"
SVD = "Golub & Van Loan, Matrix Computations"

QUANTITIES = (
    Quantity("singular_values", "weight", "singular values of the update dW, largest first, its scale included", SVD),
    Quantity("stable_rank", "directions", "sum of squared singular values by the largest square", ENERGY),
    Quantity("effective_rank", "directions", "exp of the entropy of the shares of the singular values in their sum",
             "Roy & Vetterli 2007"),
    Quantity("energy_rank_90", "directions", "least number of directions that hold 90 % of the squared norm", ENERGY),
    Quantity("energy_rank_99", "directions", "least number of directions that hold 99 % of the squared norm", ENERGY),
    Quantity("utilisation", "share", "stable rank by the rank spent (LoRA only)", "Gradience"),
    Quantity("frobenius", "weight", "Frobenius norm of the update", SVD),
    Quantity("spectral", "weight", "largest singular value of the update", SVD),
    Quantity("relative_frobenius", "share", "Frobenius norm of the update by the base weight's", SVD),
    Quantity("relative_spectral", "share", "largest singular value of the update by the base weight's", SVD),
    Quantity("total_frobenius", "weight", "Frobenius norm of all that changed, taken as one vector", SVD),
)  # fmt: skip
RANKS = ("stable_rank", "effective_rank", "energy_rank_90", "energy_rank_99", "frobenius", "spectral")


def measure(subject: Subject, options: Mapping[str, Any]) -> Iterator[Reading]:
    """All readings of one update; those against the base only if there is one. Raises ModelError naming the module of
    a weight that is NaN or infinite."""
    squares = 0.0
    for name, delta in subject.update.deltas.items():
        try:
            readings = _module(subject, name, delta)
        except ModelError as error:
            raise ModelError(error.what, got=error.got, where=name, hint=error.hint) from error
        squares += next(r.values[0] for r in readings if r.name == "frobenius") ** 2
        yield from readings
        subject.tick(1)
    if subject.base is None:
        yield Reading("total_frobenius", (None if subject.update.whole else rounded(squares**0.5),))
        return
    for name, tensor in subject.update.whole.items():
        square, reading = _whole(subject, name, tensor)
        squares += square
        yield reading
    yield Reading("total_frobenius", (rounded(squares**0.5),))


def _module(subject: Subject, name: str, delta: Delta) -> list[Reading]:
    from rankscope.analysis.spectra import shape_of, singular_values, spectral_norm
    from rankscope.models.delta import FactoredDelta
    from rankscope.models.names import layer_of

    values = singular_values(delta)
    rank = delta.rank if isinstance(delta, FactoredDelta) else None
    shape, layer = shape_of(values, rank), layer_of(name)
    found: dict[str, tuple[float | None, ...]] = {"singular_values": tuple(map(rounded, values.tolist()))}
    found |= {key: (rounded(getattr(shape, key)),) for key in RANKS}
    if rank is not None:
        found["utilisation"] = (rounded(shape.utilisation),)
    if subject.base is not None:
        weight = subject.weight(name)
        found["relative_frobenius"] = (ratio(shape.frobenius, float(weight.double().norm())),)
        found["relative_spectral"] = (ratio(shape.spectral, spectral_norm(weight)),)
    return [Reading(key, numbers, layer, name) for key, numbers in found.items()]


def _whole(subject: Subject, name: str, tensor: Tensor) -> tuple[float, Reading]:
    """The squared norm of what a parameter outside the linear modules has moved, and the reading of it."""
    from rankscope.analysis.spectra import finite
    from rankscope.models.names import layer_of

    try:
        before = subject.base.model.get_parameter(name).detach().double()
        moved = float((finite(tensor).to(before.device).double() - before).norm())
    except ModelError as error:
        raise ModelError(error.what, where=name, hint=error.hint) from error
    return moved**2, Reading("relative_frobenius", (ratio(moved, float(before.norm())),), layer_of(name), name)


def ratio(value: float, by: float) -> float | None:
    """None where the base is zero."""
    return rounded(value / by) if by > 0 else None


def rounded(value: float | int | None) -> float | None:
    """Seven significant digits: what the computation is good for."""
    return None if value is None else float(f"{value:.7g}")


PLUGIN = Diagnostic(
    name="spectrum",
    summary="Singular values, ranks and norms of each matrix's update",
    quantities=QUANTITIES,
    measure=measure,
    reads=("base",),
)
