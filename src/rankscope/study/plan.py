"""What a study has to do and what is done. In: a config with resolved models and tasks. Out: keys and ``Plan``. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from rankscope.provenance import content_key, plain
from rankscope.records import Arm, ModelRef, RunSpec, TaskRef
from rankscope.tasks.task import identity

_TRAINER = 1  # raised whenever training gives other weights for the same spec


def run_key(spec: RunSpec) -> str:
    """Identity of a run: all that can change its weights; never its name, label or place."""
    body: dict[str, Any] = {"model": spec.model.key, "dtype": spec.model.dtype, "kind": spec.arm.kind}
    if spec.train is not None:
        arm = {k: v for k, v in plain(spec.arm).items() if k not in ("name", "lr", "lr_auto")}
        body |= {"arm": arm, "lr": spec.lr, "train": identity(spec.train), "recipe": plain(spec.recipe),
                 "seed": spec.seed, "trainer": _TRAINER}  # fmt: skip
    return content_key(body)


def task_key(ref: TaskRef) -> str:
    return content_key(identity(ref))


def base_spec(model: ModelRef) -> RunSpec:
    return RunSpec(model, Arm("base", "base"), 0.0, None, None, 0)


@dataclass(frozen=True)
class Plan:
    """Runs to train by name, with whether they're done; trials are listed for the first seed."""

    runs: tuple[tuple[str, bool], ...]

    def as_dict(self) -> dict[str, Any]:
        done = sum(is_done for _, is_done in self.runs)
        return {"total": len(self.runs), "done": done, "runs": [{"run": n, "done": d} for n, d in self.runs]}

    def __str__(self) -> str:
        lines = [f"{'done ' if is_done else 'to do'}  {name}" for name, is_done in self.runs]
        return "\n".join([*lines, f"{sum(d for _, d in self.runs)} of {len(self.runs)} done"])


def candidates(config: Any, model: ModelRef, train: TaskRef, seed: int) -> list[RunSpec]:
    """Every trained run of one seed: each arm at each of its learning rates."""
    return [RunSpec(model, replace(arm, lr=()), lr, train, config.recipe(), seed)
            for arm in config.arms() if arm.kind != "base" for lr in arm.lr]  # fmt: skip
