"""What an audit found of one update, as rows. In: readings of diagnostics and what the files say. Out: ``Found``.

An adapter or checkpoint that exists, looked at without training and without scores. What is not known is None, never
zero. Knows nothing about tensors, drawing or HTML.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from rankscope.records import Reading


@dataclass(frozen=True)
class Place:
    """One linear module as the files describe it. ``rank``, ``alpha`` and ``scale``: of LoRA only.

    ``shape``: outputs and inputs.
    """

    name: str
    layer: int | None
    kind: str
    rank: int | None
    alpha: float | int | None
    scale: float | None
    shape: tuple[int, int]


@dataclass(frozen=True)
class Against:
    """What is known of a module's update only beside the base's weights (``library/diagnostics`` defines each)."""

    relative_frobenius: float | None
    relative_spectral: float | None
    intruders: int | None
    intruder_cosines: tuple[float | None, ...]
    near_ties: int | None
    interference: float | None


@dataclass(frozen=True)
class Module:
    """One linear module's update: where it sits, its spectrum, and what is known beside the base (None: no base)."""

    place: Place
    singular_values: tuple[float | None, ...]
    stable_rank: float | None
    effective_rank: float | None
    energy_rank_90: int | None
    energy_rank_99: int | None
    utilisation: float | None
    frobenius: float
    spectral: float
    base: Against | None = None

    @property
    def is_zero(self) -> bool:
        return self.frobenius == 0

    def params(self, rank: int) -> int:
        """Numbers that LoRA's two factors of this module hold at a rank."""
        return sum(self.place.shape) * rank

    def as_dict(self) -> dict[str, Any]:
        """For programs: one flat object; the base's part only where there is a base."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("place", "base")}
        place = {k: v for k, v in asdict(self.place).items() if k != "shape"}
        return {**place, **own, **(asdict(self.base) if self.base else {})}


@dataclass(frozen=True)
class Whole:
    """A parameter that the update replaces by another value: a norm, a bias, an embedding."""

    name: str
    relative_frobenius: float | None = None


@dataclass(frozen=True)
class Found:
    """Everything an audit found. ``source``: the path or hub id as given. ``num_bytes``: of one stored number.

    ``base``: the model that it was measured against; ``made_for``: the one that the adapter's config names.
    ``total_frobenius``: of all that changed; None where a part of it can't be compared without the base.
    """

    adapter: str
    source: str
    kind: Literal["lora", "full"]
    base: str | None
    made_for: str
    modules: tuple[Module, ...]
    total_frobenius: float | None
    whole: tuple[Whole, ...] = ()
    left_out: tuple[str, ...] = ()
    num_bytes: float = 4.0


def by_kind(modules: Iterable[Module]) -> dict[str, list[Module]]:
    """Modules by kind; where a layer has two of one kind (GPT-2's two c_proj), the names' last two parts tell them
    apart."""
    modules = tuple(modules)
    taken = [(m.place.layer, m.place.kind) for m in modules]
    doubled = {kind for layer, kind in set(taken) if taken.count((layer, kind)) > 1}
    found: dict[str, list[Module]] = {}
    for m in modules:
        label = ".".join(m.place.name.rsplit(".", 2)[-2:]) if m.place.kind in doubled else m.place.kind
        found.setdefault(label, []).append(m)
    return found


def modules_from(places: Iterable[Place], readings: Iterable[Reading], has_base: bool) -> tuple[Module, ...]:
    """The modules with what the diagnostics said of each."""
    found = {(r.module, r.name): r.values for r in readings if r.module}
    return tuple(_module(place, found, has_base) for place in places)


def _module(place: Place, found: dict[tuple[str, str], tuple[float | None, ...]], has_base: bool) -> Module:
    def one(name: str) -> float | None:
        values = found.get((place.name, name), ())
        return values[0] if values else None

    def count(name: str) -> int | None:
        value = one(name)
        return None if value is None else int(value)

    base = None
    if has_base:
        cosines = found.get((place.name, "intruder_cosines"), ())
        base = Against(one("relative_frobenius"), one("relative_spectral"), count("intruders"), cosines,
                       count("near_ties"), one("interference"))  # fmt: skip
    return Module(
        place,
        found[place.name, "singular_values"],
        one("stable_rank"),
        one("effective_rank"),
        count("energy_rank_90"),
        count("energy_rank_99"),
        one("utilisation"),
        found[place.name, "frobenius"][0],
        found[place.name, "spectral"][0],
        base,
    )
