"""The arms of a study file: what may be said about a treatment, and the sweep from one entry to many ``Arm`` records.

A list under ``rank``, ``alpha``, ``scaling``, ``dropout`` or ``layers`` sweeps, and several lists give every
combination. A list under ``lr`` does not sweep: its values are the candidates from which each arm's learning rate is
tuned. Patterns don't sweep either: each arm of the entry has them.
"""

from __future__ import annotations

import itertools
import os
import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rankscope.config.layers import layer_numbers, layer_text
from rankscope.plugins import did_you_mean
from rankscope.records import Arm

LORA_GRID = (1e-4, 3e-4, 1e-3)
"""Learning rates tried for LoRA under ``lr: auto``: one decade around what works at any rank under alpha/r."""
FULL_GRID = (1e-5, 3e-5, 1e-4)
"""The same for full SFT, ten times lower (LoRA Without Regret, Thinking Machines 2025, fits a factor of 9.8)."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"


class Section(BaseModel):
    """A part of the study file: frozen, and a key it doesn't know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def listed(value: Any) -> Any:
    """One value as a list of one; text too."""
    return value if isinstance(value, list | tuple) else [value]


def unique(values: tuple) -> tuple:
    """The values, if none comes twice. Raises ValueError naming the first that does."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{value!r} is listed twice")
    return values


def filled(values: tuple) -> tuple:
    """The values, if there are any. Raises ValueError; unlike a length limit, only once every item is right."""
    if not values:
        raise ValueError("must not be empty")
    return values


def near(value: str, folder: str) -> str:
    """A path as written if it lies in ``folder`` (that of the study file), else as seen from the working folder."""
    value = os.path.expanduser(value)
    beside = os.path.join(folder, value)
    return beside if os.path.exists(beside) else value


def word_or_list(value: Any) -> str:
    """Which branch of a ``word | list`` union is meant, so that an error speaks about that branch only."""
    return "list" if isinstance(value, list | tuple) else "word"


def empty_if_none(value: Any) -> Any:
    """A key with nothing under it is a section with its defaults."""
    return {} if value is None else value


def _listed_number(value: Any) -> Any:
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value


Whole = Annotated[int, Strict()]
Positive = Annotated[Whole, Field(gt=0)]
Natural = Annotated[Whole, Field(ge=0)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Name = Annotated[str, Strict(), Field(pattern=NAME_PATTERN)]

Rate = Annotated[Number, Field(gt=0)]
Rates = Annotated[
    Annotated[Literal["auto"], Tag("word")]
    | Annotated[tuple[Rate, ...], AfterValidator(filled), AfterValidator(unique), Tag("list")],
    Discriminator(word_or_list),
    BeforeValidator(_listed_number),
]
Alpha = Annotated[
    Annotated[Rate, Tag("number")] | Annotated[Literal["2r"], Tag("rule")],
    Discriminator(lambda value: "rule" if isinstance(value, str) else "number"),
]


def _layers(value: Any) -> str:
    """One set of layers in its shortest text, or ``all``."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"layers are text such as 8-29 or 0-3,12, or all (got {value!r})")
    return "all" if value == "all" else layer_text(layer_numbers(str(value)))


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no pattern: {error}") from None
    return text


Layers = Annotated[str, BeforeValidator(_layers)]
Pattern = Annotated[str, Strict(), Field(min_length=1), AfterValidator(_pattern)]
T = TypeVar("T")
Several = Annotated[tuple[T, ...], BeforeValidator(listed), AfterValidator(filled), AfterValidator(unique)]


class LoraArm(Section):
    """LoRA at one or several ranks. Scaling of the update: alpha / rank, or alpha / sqrt(rank) for ``rslora``.

    ``alpha`` is a number, or ``2r``: twice the rank, so that alpha / rank is 2 at every rank. ``layers`` None: all of
    them. The patterns are PEFT's: a module's name, the end of one or a regular expression, and a value of its own.
    """

    rank: Several[Positive]
    alpha: Several[Alpha] = (32.0,)
    targets: Several[Annotated[str, Strict(), Field(min_length=1)]] = ("all-linear",)
    lr: Rates = "auto"
    scaling: Several[Literal["standard", "rslora"]] = ("standard",)
    dropout: Several[Annotated[Number, Field(ge=0, lt=1)]] = (0.0,)
    layers: Several[Layers] | None = None
    rank_pattern: dict[Pattern, Positive] | None = None
    alpha_pattern: dict[Pattern, Rate] | None = None
    name: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _layers_are_whole(cls, value: Any) -> Any:
        """Inside braces YAML ends a value at a comma, so that ``{layers: 0-3,12}`` has a key 12."""
        loose = [k for k in value if re.fullmatch(r"\d+(-\d+)?", str(k))] if isinstance(value, dict) else []
        if loose and "layers" in value:
            whole = ",".join(map(str, (value["layers"], *loose)))
            raise ValueError(f'inside braces layers with a comma must be in quotes: layers: "{whole}"')
        return value

    @model_validator(mode="after")
    def _all_linear_stands_alone(self) -> LoraArm:
        if "all-linear" in self.targets and len(self.targets) > 1:
            raise ValueError("targets is either all-linear or a list of module names, not both")
        return self

    def arms(self) -> list[Arm]:
        """One Arm per combination of the swept keys, ranks outermost.

        Where alphas of a list are the same at some rank (32 and 2r at rank 16), the first of them is the arm.
        """
        lr, lr_auto = candidates(self.lr, LORA_GRID)
        arms: dict[tuple[int, float, str, float, str], Arm] = {}
        swept = (self.rank, self.alpha, self.scaling, self.dropout, self.layers or ("all",))
        for rank, alpha, scaling, dropout, layers in itertools.product(*swept):
            value = 2.0 * rank if alpha == "2r" else float(alpha)
            arm = Arm(
                name=self._name(rank, alpha, scaling, dropout, layers),
                kind="lora",
                lr=lr,
                lr_auto=lr_auto,
                rank=rank,
                alpha=value,
                targets=self.targets,
                scaling=scaling,
                dropout=float(dropout),
                layers=None if layers == "all" else layer_numbers(layers),
                rank_pattern=tuple((self.rank_pattern or {}).items()),
                alpha_pattern=tuple((pattern, float(a)) for pattern, a in (self.alpha_pattern or {}).items()),
            )
            arms.setdefault((rank, value, scaling, float(dropout), layers), arm)
        return list(arms.values())

    def _name(self, rank: int, alpha: float | str, scaling: str, dropout: float, layers: str) -> str:
        """``lora-r16``, and a suffix for each further key that really varies; ``name`` takes the place of 'lora-r16'
        if the entry has one rank, of 'lora' if it has several."""
        name = self.name or "lora"
        if self.name is None or len(self.rank) > 1:
            name += f"-r{rank}"
        if len(self.alpha) > 1:
            name += f"-a{alpha}" if isinstance(alpha, str) else f"-a{alpha:g}"
        if len(self.scaling) > 1 and scaling == "rslora":
            name += "-rslora"
        if len(self.dropout) > 1:
            name += f"-d{dropout:g}"
        if self.layers and len(self.layers) > 1 and layers != "all":
            name += f"-l{layers}".replace(",", "+")
        return name


class FullArm(Section):
    """Full supervised fine-tuning: every weight is trained."""

    lr: Rates = "auto"
    name: Name | None = None

    def arms(self) -> list[Arm]:
        lr, lr_auto = candidates(self.lr, FULL_GRID)
        return [Arm(name=self.name or "full", kind="full", lr=lr, lr_auto=lr_auto)]


class BaseArm(Section):
    """The untouched model. Every study has it, listed or not: all gains and losses are measured against it."""

    def arms(self) -> list[Arm]:
        return [Arm(name="base", kind="base")]


class GivenArm(Section):
    """An adapter or a checkpoint that exists already: a folder (a checkpoint also a .gguf file) or a hub id.

    It is scored like any other arm and never trained. Its default name is the last part of the path.
    """

    path: Annotated[str, Strict(), Field(min_length=1)]
    name: Name | None = None

    @field_validator("path")
    @classmethod
    def _beside_the_file(cls, value: str, info: ValidationInfo) -> str:
        path = near(value, (info.context or {}).get("folder", ""))
        is_file = path.endswith(".gguf") and os.path.isfile(path)
        if not (is_file or os.path.isdir(path)) and value.startswith(("./", "../", "~", "/")):
            raise ValueError(f"no such folder (got {value!r})")
        return path

    @model_validator(mode="after")
    def _has_a_name(self) -> GivenArm:
        if self.name is None and not re.match(NAME_PATTERN, self._last_part):
            raise ValueError(f"{self._last_part!r} can't be the name of an arm; give it a 'name'")
        return self

    @property
    def _last_part(self) -> str:
        return os.path.basename(os.path.normpath(self.path))

    def arm(self, kind: Literal["adapter", "checkpoint"]) -> Arm:
        return Arm(name=self.name or self._last_part, kind=kind, targets=(), path=self.path)


class ArmEntry(Section):
    """One entry of ``arms``: exactly one of the five kinds."""

    base: Annotated[BaseArm | None, BeforeValidator(empty_if_none)] = None
    lora: Annotated[LoraArm | None, BeforeValidator(empty_if_none)] = None
    full: Annotated[FullArm | None, BeforeValidator(empty_if_none)] = None
    adapter: GivenArm | None = None
    checkpoint: GivenArm | None = None

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in (kinds := list(cls.model_fields)):
            raise ValueError(f"no kind of arm named {value!r}{did_you_mean(value, kinds)}")
        return {value: None}

    @model_validator(mode="after")
    def _one_kind(self) -> ArmEntry:
        if len(self.model_fields_set) != 1:
            raise ValueError("an arm is base, or one of lora: {rank: ...}, full: {lr: ...}, adapter: {path: ...} and "
                             "checkpoint: {path: ...}")  # fmt: skip
        return self

    def arms(self) -> list[Arm]:
        """The Arm records of this entry, in the order of the sweep."""
        if self.adapter is not None:
            return [self.adapter.arm("adapter")]
        if self.checkpoint is not None:
            return [self.checkpoint.arm("checkpoint")]
        entry = self.base or self.lora or self.full
        return entry.arms() if entry is not None else []


def candidates(lr: str | tuple[float, ...], grid: tuple[float, ...]) -> tuple[tuple[float, ...], bool]:
    """Learning rates to try, ascending, and whether the grid was chosen here (and so may be extended)."""
    return (grid, True) if lr == "auto" else (tuple(sorted(float(rate) for rate in lr)), False)
