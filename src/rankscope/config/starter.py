"""The commented study that ``rankscope init`` writes. In: a question, a scale, what to say first. Out: the file's text.

One template for all of them, so that what is predicted, checked and written is one text. Knows what the user's words
for a task stand for (a name, a file, a folder); knows nothing about time, rows or models.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rankscope import plugins
from rankscope.config.append import flow
from rankscope.config.arms import FULL_GRID, LORA_GRID
from rankscope.config.models import DEMO
from rankscope.errors import InputError

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
TRAIN = ("openbookqa",)
RETENTION = ("arc_easy", "mmlu")
_DEMO_TRAIN = ("demo_people",)
_DEMO_RETENTION = ("demo_facts", "demo_skills", "demo_text")
_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_LARGEST_BATCH = 4096
DIAGNOSE = ("spectrum", "intruders", "drift", "attention")

Rates = Literal["auto", "widest", "listed", "fixed"]


@dataclass(frozen=True)
class Scale:
    """How large a study is: all that a budget may take away. The defaults are those of the starter.

    ``rates``: 'auto' (three an arm, extended where the best lies at an end), 'widest' (all five that 'auto' can come
    to; for predictions), 'listed' (the three and no more) or 'fixed' (one). ``extras``: what no verdict waits for.
    """

    ranks: tuple[int, ...] = (4, 16, 64)
    seeds: int = 3
    rates: Rates = "auto"
    rows: int = 2000
    items: int = 500
    batch_tokens: int = _LARGEST_BATCH
    race: bool = False
    extras: bool = True


@dataclass(frozen=True)
class Question:
    """What a study asks: a model, entries for ``train`` and ``evaluate.retention`` as a study file holds them."""

    model: str = MODEL
    train: tuple[dict[str, Any], ...] = tuple({"task": name} for name in TRAIN)
    retention: tuple[dict[str, Any], ...] = tuple({"task": name} for name in RETENTION)
    title: str | None = None
    data_dir: str | None = None

    @property
    def heading(self) -> str:
        """The title given, or one made of the names."""
        model = self.model.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
        names = " and ".join(str(entry.get("name", entry["task"])) for entry in self.train)
        return self.title or f"How much LoRA rank is too much for {model} on {names}?"

    def seen_from(self, folder: str | Path) -> Question:
        """The same with relative paths that hold for a file in ``folder``; now they start at the working folder."""

        def moved(value: Any) -> Any:
            is_path = isinstance(value, str) and not os.path.isabs(value) and os.path.exists(value)
            return os.path.relpath(value, folder) if is_path else value

        def entries(found: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
            return tuple({k: moved(v) if k in ("path", "train", "test") else v for k, v in e.items()} for e in found)

        return replace(
            self,
            model=self.model if self.model == DEMO else moved(self.model),
            train=entries(self.train),
            retention=entries(self.retention),
            data_dir=moved(self.data_dir),
        )


def usual(model: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Train and retention tasks where nothing is said: the bundled model knows only its own world."""
    return (_DEMO_TRAIN, _DEMO_RETENTION) if model == DEMO else (TRAIN, (*RETENTION, "neutral_text"))


def retained(train: Sequence[dict[str, Any]], names: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """The tasks among ``names`` that aren't trained on: those alone can show what is kept."""
    trained = {entry.get("name", entry["task"]) for entry in train}
    return tuple({"task": name} for name in names if name not in trained)


def entry(text: str, flag: str) -> dict[str, Any]:
    """The entry of a study file for the user's word: a task's name, ``file.py@name``, a data file, a folder with one
    or with a train and a test file, or ``hub:ORG/NAME``.

    Raises InputError, which blames ``flag``.
    """
    known = plugins.names("tasks")
    if text in known:
        return {"task": text}
    if text.startswith("hub:"):
        name = text.removeprefix("hub:")
        return {"task": "data", "hub": name, "name": _name(name.rsplit("/", 1)[-1], known)}
    path = Path(text).expanduser()
    if path.is_dir():
        return {"task": "data", **_files(path, flag), "name": _name(path.resolve().name, known)}
    if path.is_file():
        if path.suffix.lower() not in _ENDINGS:
            raise InputError("this kind of file holds no rows", got=text, where=flag,
                             hint=f"Known by their endings: {', '.join(_ENDINGS)}")  # fmt: skip
        return {"task": "data", "path": text, "name": _name(path.stem, known)}
    if "@" in text or plugins.bridge_parts(text):
        return {"task": text}
    near = plugins.did_you_mean(text, known) or ""
    raise InputError(f"neither a task nor a file or folder of rows{near}", got=text, where=flag,
                     hint="See: rankscope list tasks, and docs/own-data.md")  # fmt: skip


def _files(folder: Path, flag: str) -> dict[str, str]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _ENDINGS and p.is_file())
    parts = {p.stem: str(p) for p in found}
    if "train" in parts:
        return {key: parts[key] for key in ("train", "test") if key in parts}
    if len(found) == 1:
        return {"path": str(found[0])}
    raise InputError("a folder of rows has one data file, or train and test files", got=f"{len(found)} data files",
                     where=f"{flag} {folder}", hint="Name the file itself")  # fmt: skip


def _name(stem: str, known: Sequence[str]) -> str:
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "-", stem).strip("-._+") or "mine"
    return f"my_{name}" if name in known else name


# ---- the text


def study_text(question: Question, scale: Scale | None = None, said: Sequence[str] = ()) -> str:
    """A commented study file. ``said``: sentences for its head, such as what a budget cost."""
    scale = scale or Scale()
    return _HEAD.format(said="".join(f"\n# {line}".rstrip() for line in said)) + _BODY.format(
        title=flow(question.heading),
        model=flow(question.model),
        train="\n".join(f"  - {flow({**one, 'limit': scale.rows})}" for one in question.train),
        arms=_arms(scale),
        batch_tokens=_commented(f"batch_tokens: {scale.batch_tokens}", "tokens in one step of the optimiser"),
        seeds=_commented(f"seeds: {_list(range(scale.seeds))}", "with one seed, intervals speak for that seed only"),
        race=_race(scale),
        retention=_commented(f"retention: {_list(question.retention)}", "what the model should not forget"),
        limit=_commented(f"limit: {scale.items}", "test rows per task"),
        shots=_shots(question),
        trials="" if scale.extras else "\n" + _commented("trials: false", "learning rates that lost are not scored"),
        diagnose=_diagnose(scale),
        data_dir="" if question.data_dir is None else _DATA.format(folder=flow(question.data_dir)),
    )


def _arms(scale: Scale) -> str:
    lora, full = (_rates(grid, scale.rates) for grid in (LORA_GRID, FULL_GRID))
    ranks = _list(scale.ranks)
    return f"  - lora: {{rank: {ranks}, alpha: 32, targets: all-linear, lr: {lora}}}\n  - full: {{lr: {full}}}"


def _rates(grid: tuple[float, ...], rates: Rates) -> str:
    if rates == "auto":
        return "auto"
    if rates == "widest":  # which two come in doesn't change the time
        return _list([*grid, grid[-1] * 3, grid[-1] * 10])
    return _list(grid) if rates == "listed" else flow(grid[len(grid) // 2])


def _race(scale: Scale) -> str:
    return "\n" + _commented("race: true", "stop runs that can hardly win") if scale.race else ""


def _shots(question: Question) -> str:
    """Rows of one's own may be conversations or texts, which take no worked examples."""
    is_own = any(one["task"] == "data" for one in question.train)
    line = _commented(("# " if is_own else "") + "base_shots: 5", "the base few-shot too: tells format from knowledge")
    return line


def _diagnose(scale: Scale) -> str:
    line = f"diagnose: {_list(DIAGNOSE)}"
    return f"{line if scale.extras else '# ' + line}  # inside the networks; attribution and truncation take longer"


def _commented(line: str, meaning: str) -> str:
    return f"  {line:<28} # {meaning}" if len(line) <= 28 else f"  # {meaning}\n  {line}"


def _list(values: Any) -> str:
    """A list in brackets, also of one; a task that is only a name is written short."""
    short = (v["task"] if isinstance(v, dict) and list(v) == ["task"] else v for v in values)
    return "[" + ", ".join(map(flow, short)) + "]"


_HEAD = """\
# A rankscope study: one question, asked fairly. Next:
#   rankscope check study.yaml    resolve models and tasks; reads no weights
#   rankscope plan study.yaml     the runs, with predicted time and memory
#   rankscope run study.yaml      resumes where it was stopped
# Every key and its default: docs/config.md. A list under an arm's key sweeps it.{said}
"""

_BODY = """
title: {title}

# A hub id, a folder, a .gguf file, or demo (the small bundled model).
models:
  - id: {model}
    dtype: auto                  # auto | float32 | bfloat16

# One run per model, train task, arm and seed. limit counts train rows.
train:
{train}

# base is always there. lr: auto tries three learning rates per arm and keeps the best by validation loss.
arms:
  - base
{arms}

training:
  epochs: 1                    # passes over the train rows
{batch_tokens}
  schedule: linear             # linear | cosine | constant
{seeds}{race}

evaluate:
  in_domain: same              # each train task's own test
  cross_domain: all            # the other train tasks' tests; needs two train tasks to show anything
{retention}
{limit}
{shots}{trials}

{diagnose}

recommend:
  prefer: cost                 # cost | retention | gain: what decides between ranks that can all be the best
  # margin: 0.02               # differences below this count as equal; unsaid, what the tests can reach

keep: adapters                 # adapters | best | all: the weights that stay on disk
{data_dir}"""

_DATA = """\
data_dir: {folder}  # datasets as DATASET/SPLIT.jsonl, read before the hub
"""

STARTER = study_text(Question(title="How much LoRA rank is too much for SmolLM2 on science questions?"))
"""What ``rankscope init`` writes where nothing is asked or said."""
