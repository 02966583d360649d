"""The frozen records that cross layers. Plain data: no torch, no I/O, no behaviour beyond names and keys.

Legend: N samples, S seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["in_domain", "cross_domain", "retention"]
ArmKind = Literal["base", "lora", "full", "adapter", "checkpoint"]
GIVEN = ("adapter", "checkpoint")
"""Kinds of arms that exist already: they are scored and never trained."""
Status = Literal["done", "failed"]
ALARM = 0.1
"""The drop in score (0 to 1) that a study warns of, unless it names another."""
Skill = Literal["reasoning", "recall", "language"]
"""What a task mainly asks for: steps of thought, stored knowledge, or a feeling for how text goes on."""


@dataclass(frozen=True)
class ModelRef:
    """Which model: a hub id, a local folder, or a GGUF file; ``key`` is its content hash (see provenance).

    ``quantization``: nf4 or fp4, the frozen weights in 4 bits. ``trust_remote_code``: run the model's own Python.
    """

    id: str
    revision: str | None = None
    dtype: str = "auto"
    label: str | None = None
    key: str = ""
    quantization: str | None = None
    trust_remote_code: bool = False

    @property
    def name(self) -> str:
        return self.label or self.id.rstrip("/").rsplit("/", 1)[-1]


@dataclass(frozen=True)
class TaskRef:
    """A task as a study uses it: the plug-in's name, and everything that can change a score."""

    task: str
    form: str = "default"
    shots: int = 0
    limit: int | None = None
    options: tuple[tuple[str, Any], ...] = ()
    label: str = ""
    data_key: str = ""

    @property
    def name(self) -> str:
        """How the task is called on the page: few-shot variants are tasks of their own."""
        name = self.label or self.task
        return name if not self.shots else f"{name}@{self.shots}shot"


@dataclass(frozen=True)
class Arm:
    """One treatment. ``lr`` holds the candidates; a run has exactly one. ``lr_auto``: the grid may be extended.

    ``path`` and ``key`` (its content hash) are those of an adapter or checkpoint that exists already. ``layers`` are
    the adapted ones (None: all); the patterns give modules a rank or alpha of their own, the first that matches counts
    (``models.names``).
    """

    name: str
    kind: ArmKind
    lr: tuple[float, ...] = ()
    lr_auto: bool = False
    rank: int | None = None
    alpha: float | None = None
    targets: tuple[str, ...] = ("all-linear",)
    scaling: Literal["standard", "rslora"] = "standard"
    dropout: float = 0.0
    path: str | None = None
    key: str = ""
    layers: tuple[int, ...] | None = None
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()

    @property
    def top_rank(self) -> int | None:
        """The largest rank of any module, as declared: what the arm is called on a scale of ranks."""
        return max((self.rank, *(rank for _, rank in self.rank_pattern))) if self.rank else None


@dataclass(frozen=True)
class Recipe:
    """How every arm is trained; the same for all arms of a study (the learning rate is the arm's)."""

    epochs: float = 1.0
    max_steps: int | None = None
    batch_tokens: int = 4096
    accumulate: int = 1
    max_length: int = 1024
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = 0.05
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    validation: float = 0.1
    validation_max: int = 200
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class RunSpec:
    """One model, train task, arm, learning rate and seed. ``key`` hashes all that can change the weights."""

    model: ModelRef
    arm: Arm
    lr: float
    train: TaskRef | None
    recipe: Recipe | None
    seed: int

    @property
    def name(self) -> str:
        if self.train is None:
            return f"{self.model.name}/{self.arm.name}"
        return f"{self.model.name}/{self.train.name}/{self.arm.name}/lr{self.lr:g}/seed{self.seed}"


@dataclass(frozen=True)
class Score:
    """The judgement of one sample. ``value`` is what the task's metric averages (0/1, or nats per token)."""

    item: str
    value: float
    subject: str = ""
    cluster: str = ""
    response: str = ""


@dataclass(frozen=True)
class CurvePoint:
    """One logged training step: ``loss`` in nats per label token, ``tokens`` counted from the start."""

    step: int
    loss: float
    lr: float
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Ledger:
    """What a piece of work cost, as measured. Seconds are wall clock; bytes are peak resident set or device memory."""

    seconds: float = 0.0
    tokens: int = 0
    label_tokens: int = 0
    flops: float = 0.0
    peak_bytes: int = 0
    trainable: int = 0
    blob_bytes: int = 0


@dataclass(frozen=True)
class Work:
    """What one stage's seconds went into, as ``samples`` of it say: shares of them that add up to one.

    ``reached`` is the rate of the stage's matrix products, by count, over what this machine's can be; None: not known.
    """

    products: float
    attention: float
    optimiser: float
    rest: float
    reached: float | None
    samples: int
    sampled_seconds: float


@dataclass(frozen=True)
class Breakdown:
    """Where a command's wall time went: ``stages`` add up to ``seconds``; ``work`` by stage, where it was sampled.

    ``ceiling``: matrix-product FLOPs a second of this machine, on the model's own shapes; None: not measured.
    """

    seconds: float
    stages: dict[str, float]
    work: dict[str, Work]
    ceiling: float | None


@dataclass(frozen=True)
class RunResult:
    """What training one run gave. ``blob`` names the stored weights (None: not kept)."""

    key: str
    status: Status
    stage: str = "train"
    message: str = ""
    validation_loss: float | None = None
    validation_se: float | None = None
    validation_items: tuple[float, ...] = ()
    steps: int = 0
    curve: tuple[CurvePoint, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)
    environment: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunLook:
    """What a run showed on the validation rows that ``rows_key`` names, after ``share`` of its steps (``step``).

    ``losses``: nats per completion token of each row; ``drift``: KL(base || run) in nats per token of each row.
    ``cut``: the rank that its update was truncated to for this; 0: whole. ``ledger``: the training up to here. The
    base's own look has share 0.
    """

    run_key: str
    rows_key: str
    share: float
    step: int
    losses: tuple[float, ...]
    drift: tuple[float, ...]
    cut: int = 0
    ledger: Ledger = field(default_factory=Ledger)


@dataclass(frozen=True)
class Dropped:
    """A first-seed run that a race stopped at a look, and ``by`` which run. What it showed there is partial.

    ``reason``, ``lag`` and ``limit`` as ``stats.racing.Drop`` has them; ``loss``: the mean validation loss in nats per
    completion token at the look; ``is_out``: whether no learning rate of its arm is left.
    """

    model: str
    train: str
    arm: str
    rank: int | None
    lr: float
    seed: int
    share: float
    step: int
    reason: str
    by_arm: str
    by_lr: float
    lag: float
    limit: float
    loss: float
    is_out: bool
    ledger: Ledger


@dataclass(frozen=True)
class Preview:
    """A run's update truncated to ``rank`` at a look: the share of its validation gain that this kept. No verdict."""

    model: str
    train: str
    arm: str
    lr: float
    share: float
    rank: int
    kept: float


@dataclass(frozen=True)
class EvalResult:
    """All scores of one run on one task, or why there are none."""

    run_key: str
    task_key: str
    status: Status
    message: str = ""
    metric: str = "accuracy"
    chance: float | None = None
    scores: tuple[Score, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)


@dataclass(frozen=True)
class Reading:
    """Numbers of a diagnostic about one place in the network. None: not defined there (a zero update has no rank).

    ``values`` run along the quantity's own axis: singular values from the largest, heads, positions, items; one
    number has length 1. ``layer`` None: the whole model, or what lies outside its layers. ``module``: full name of a
    module. ``part``: what it was measured on (a set of prompts, a task). ``variant``: which part of the update was in
    effect; empty: all of it.
    """

    name: str
    values: tuple[float | None, ...]
    layer: int | None = None
    module: str = ""
    part: str = ""
    variant: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What one diagnostic said of one run, or why it said nothing. ``key`` hashes all that can change it."""

    run_key: str
    key: str
    name: str
    status: Status
    message: str = ""
    readings: tuple[Reading, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)


@dataclass(frozen=True)
class RowCounts:
    """What the rows of a train task hold; each count is of rows (``data.overlap`` defines them)."""

    rows: int
    empty: int
    duplicates: int
    conflicts: int


@dataclass(frozen=True)
class Overlap:
    """How many of a test's ``items`` stand in the training rows too, in three senses (``data.overlap`` defines them).

    ``ngram``: share a run of ``n`` words; ``exact``: have the prompt of a training row; ``template``: have it but for
    numbers, the exact ones included.
    """

    items: int
    ngram: int
    exact: int
    template: int
    n: int


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, which speaks for ``scope``: 'seeds and items', 'seeds' (one number a run), 'this seed
    only' or 'items'.
    """

    value: float
    low: float
    high: float
    se: float
    num_items: int
    num_seeds: int
    level: float = 0.95
    method: str = ""
    scope: str = "seeds and items"


@dataclass(frozen=True)
class Needed:
    """How many items in all, the seeds being as they are, or how many seeds, the items being as they are, would decide.

    None: no number would, or, of seeds, nothing is known because there was one.
    """

    items: int | None
    seeds: int | None


@dataclass(frozen=True)
class Contrast:
    """Paired difference ``arm - other`` on one task, with its interval and a verdict word.

    ``verdict`` is one of equivalent, better, worse, undecided; words are about the sign of the score, so for
    cross-entropy (lower is better) the difference is negated before it comes here. ``detectable`` is the true
    difference seen with 80 % power; ``needed`` goes with undecided ones only (``stats.power`` defines both).
    """

    arm: str
    other: str
    task: str
    estimate: Estimate
    low: float
    high: float
    p_value: float
    margin: float
    verdict: Literal["equivalent", "better", "worse", "undecided"]
    detectable: float
    needed: Needed | None = None

    @property
    def is_non_inferior(self) -> bool:
        """Whether a loss of the margin or more is excluded, by the simultaneous interval."""
        return self.low > -self.margin
