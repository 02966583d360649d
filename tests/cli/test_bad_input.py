"""Wrong input and failed work on the real command line: the exit code, one clear message, and a store left as it was.

Most rows run in this process with the bundled model; a few need a process or a disk of their own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import rankscope
from rankscope.cli.main import main

STUDY = """\
models: [demo]
train: [{task: demo_people, limit: 40}]
arms:
  - base
  - lora: {rank: [1], lr: 0.001}
training: {max_steps: 2, batch_tokens: 256, seeds: [0]}
evaluate: {cross_domain: none, retention: [demo_facts], limit: 4}
"""
TRAIN = "{task: demo_people, limit: 40}"
MODEL = Path(rankscope.__file__).parent / "demo" / "model"
ID_HINT = "Give a folder, a .gguf file, a hub id like 'HuggingFaceTB/SmolLM2-135M-Instruct', or 'demo'"
PATH_HINT = "Paths start at the study file's folder, or else at the working folder"
ANSWER_HINT = "Write an index from 0, the text of a choice, or its letter"
PAIR = '{"prompt": "a?", "completion": "x"}\n'
DATA_HINT = "Write it as: {task: data, path: my.jsonl}, with train: and test: files, or with hub: org/name"
COPY_HINT = "Restore it from a copy, or give another --store"
TARGETS = "This model has: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj; or use all-linear"


@dataclass(frozen=True)
class Row:
    """One command line and what it must say: a text, or a pattern where a library chooses the words.

    ``change`` replaces a part of the study file, ``prepare`` makes files in the working folder. STORE in the command
    line stands for a store with a finished study, and then for one that doesn't exist.
    """

    name: str
    says: str | re.Pattern[str]
    command: str = "run study.yaml --store STORE -q"
    change: tuple[str, str] = ("", "")
    prepare: Callable[[Path], Any] | None = None
    is_usage: bool = False


def text(name: str, content: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(content)


def model(name: str, *files: str, cut: int | None = None, also: str = "", config: dict | None = None
          ) -> Callable[[Path], Any]:  # fmt: skip
    """A folder with some of the bundled model's files; the weights cut after so many bytes, or a file of nonsense."""

    def make(folder: Path) -> None:
        (folder / name).mkdir()
        for file in files:
            shutil.copy(MODEL / file, folder / name / file)
        if cut is not None:
            os.truncate(folder / name / "model.safetensors", cut)
        if also:
            (folder / name / also).write_bytes(b"\xff" * 7 + b"\x7f" + b"{" * 100)
        if config is not None:
            (folder / name / "config.json").write_text(json.dumps(config))

    return make


def without_a_tensor(name: str, tensor: str) -> Callable[[Path], Any]:
    def make(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        shutil.copytree(MODEL, folder / name)
        kept = {k: v for k, v in load_file(MODEL / "model.safetensors").items() if k != tensor}
        save_file(kept, folder / name / "model.safetensors", {"format": "pt"})

    return make


def without_a_number(name: str, tensor: str) -> Callable[[Path], Any]:
    def make(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        shutil.copytree(MODEL, folder / name)
        tensors = load_file(MODEL / "model.safetensors")
        tensors[tensor][3] = float("nan")
        save_file(tensors, folder / name / "model.safetensors", {"format": "pt"})

    return make


def zipped(name: str, size: int = 50_000_000) -> Callable[[Path], Any]:
    """A small zip file that unpacks to ``size`` bytes."""

    def make(folder: Path) -> None:
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("rows", b"\0" * size)

    return make


def adapter(module: str, width: int, config: str | None = None, fill: float = 0.0, rename: str = "", cut: int = 0,
            **more: Any) -> Callable[[Path], Any]:  # fmt: skip
    """A PEFT folder ``mine`` with a rank-1 adapter of one module that has ``width`` inputs and outputs.

    ``fill`` goes into lora_A; ``more`` into its config; the file may get another name or be cut after so many bytes.
    """

    def make(folder: Path) -> None:
        import torch
        from safetensors.torch import save_file

        settings = {"peft_type": "LORA", "r": 1, "lora_alpha": 2, "base_model_name_or_path": "some/other-model"} | more
        (folder / "mine").mkdir()
        (folder / "mine" / "adapter_config.json").write_text(json.dumps(settings) if config is None else config)
        names = {f"base_model.model.{module}.lora_{letter}.weight": letter for letter in "AB"}
        tensors = {n: torch.full((1, width), fill) if letter == "A" else torch.zeros(width, 1)
                   for n, letter in names.items()}  # fmt: skip
        path = folder / "mine" / "adapter_model.safetensors"
        save_file(tensors, path)
        if cut:
            os.truncate(path, cut)
        if rename:
            path.rename(folder / "mine" / rename)

    return make


def given(path: str, kind: str = "adapter") -> tuple[str, str]:
    """An arm that exists already, in front of the one that is trained."""
    trained = "lora: {rank: [1], lr: 0.001}"
    return trained, f"{kind}: {{path: {path}}}\n  - {trained}"


def data(options: str) -> tuple[str, str]:
    return TRAIN, f"{{task: data, {options}}}"


def lora(settings: str) -> tuple[str, str]:
    return "{rank: [1], lr: 0.001}", settings


FULL = (
    "the disk is full; what was stored before is whole. Free space (see: rankscope gc), then run the same command again"
)
MORE = "--set evaluate.retention=[demo_facts,demo_skills]"
"""One task more than the finished store has scored."""
Q_PROJ = "model.layers.0.self_attn.q_proj"
SCORE = "score demo demo_people --limit 4 -q"
IN_STUDY = (
    Row(
        "an unknown key",
        "study.yaml:6: training.batch_token: unknown key. Did you mean 'batch_tokens'?",
        change=("batch_tokens", "batch_token"),
    ),
    Row(
        "a wrong type",
        "study.yaml:6: training.max_steps: must be a whole number (got 'two')",
        change=("max_steps: 2", "max_steps: two"),
    ),
    Row(
        "a negative rank",
        "study.yaml:5: arms[1].lora.rank[0]: must be greater than 0 (got -1)",
        change=lora("{rank: [-1], lr: 0.001}"),
    ),
    Row(
        "rank zero",
        "study.yaml:5: arms[1].lora.rank: must be greater than 0 (got 0)",
        change=lora("{rank: 0, lr: 0.001}"),
    ),
    Row(
        "two errors at once",
        "study.yaml:5: arms[1].lora.rank[0]: must be greater than 0 (got -1)\n"
        "study.yaml:5: arms[1].lora.alfa: unknown key. Did you mean 'alpha'?",
        change=lora("{rank: [-1], alfa: 3}"),
    ),
    Row(
        "an unknown task",
        "study.yaml:7: evaluate.retention[0]: no task named 'demo_fact'. Did you mean 'demo_facts'? "
        "See: rankscope list tasks",
        change=("demo_facts", "demo_fact"),
    ),
    Row(
        "a dtype that is none",
        "study.yaml:1: models[0].dtype: must be auto, float32, bfloat16 or float16 (got 'float7'). "
        "Did you mean 'float32'?",
        change=("[demo]", "[{id: demo, dtype: float7}]"),
    ),
    Row(
        "a YAML syntax error",
        re.compile(r"study\.yaml:2: not valid YAML: .+"),
        change=("limit: 40}]", "limit: 40]"),
    ),
    Row(
        "a study that is no file",
        "gone.yaml: no such study file. To start one: rankscope init",
        command="run gone.yaml --store STORE -q",
    ),
    Row(
        "a model folder that is not there",
        f"study.yaml:1: models[0]: no such model folder (got 'lost'). {ID_HINT}",
        change=("[demo]", "[lost]"),
    ),
    Row(
        "a model path that is not there",
        "study.yaml:1: models[0]: no such model folder or .gguf file (got './lost')",
        change=("[demo]", "[./lost]"),
    ),
    Row(
        "a model id that can be none",
        f"study.yaml:1: models[0]: neither a folder nor a hub id (got 'some/lost model'). {ID_HINT}",
        change=("[demo]", "[some/lost model]"),
    ),
    Row(
        "a folder that holds no model",
        "study.yaml:1: models[0]: this folder holds no model: neither config.json nor exactly one .gguf file "
        "(got 'hollow'). Give the folder that save_pretrained wrote",
        change=("[demo]", "[hollow]"),
        prepare=model("hollow", "README.md"),
    ),
    Row(
        "a model without weights",
        "hollow: this folder holds a config.json but no weights (*.safetensors). "
        "Save it with save_pretrained, or copy it again",
        change=("[demo]", "[hollow]"),
        prepare=model("hollow", "config.json", "tokenizer.json"),
    ),
    Row(
        "truncated weights",
        re.compile(
            r"short/model\.safetensors: this safetensors file is cut short: 100000 bytes of \d+\. Copy it again"
        ),
        change=("[demo]", "[short]"),
        prepare=model("short", "config.json", "tokenizer.json", "model.safetensors", cut=100_000),
    ),
    Row(
        "a missing data file",
        f"study.yaml:2: train[0]: no such file of data (got 'gone.jsonl'). {PATH_HINT}",
        change=data("path: gone.jsonl"),
    ),
    Row(
        "a data folder that is not there",
        "study.yaml:8: data_dir: no such folder of data (got 'gone')",
        change=(STUDY, STUDY + "data_dir: gone\n"),
    ),
    Row(
        "an empty dataset",
        "empty.jsonl: the file has no rows. Write one JSON object a line",
        change=data("path: empty.jsonl"),
        prepare=text("empty.jsonl", ""),
    ),
    Row(
        "choices without an answer",
        "bad.jsonl:2: the row has no 'answer'. Its fields: prompt, choices",
        change=data("train: bad.jsonl, test: bad.jsonl"),
        prepare=text(
            "bad.jsonl",
            '{"prompt": "a?", "choices": ["x", "y"], "answer": "x"}\n{"prompt": "b?", "choices": ["x", "y"]}\n',
        ),
    ),
    Row(
        "a line that is no JSON",
        re.compile(r"bad\.jsonl:3: not valid JSON: .+ at column 18"),
        change=data("form: generate, train: bad.jsonl, test: bad.jsonl"),
        prepare=text("bad.jsonl", '{"prompt": "a?", "completion": "x"}\n\n{"prompt": "b?", x}\n'),
    ),
    Row(
        "a task by the name it once had",
        "study.yaml:2: train[0].task: no task named 'jsonl'. It is now called 'data'. See: rankscope list tasks",
        change=(TRAIN, "{task: jsonl, path: a.jsonl}"),
    ),
    Row(
        "data without a file",
        f"study.yaml:2: train[0]: data needs a file or a hub dataset. {DATA_HINT}",
        change=(TRAIN, "data"),
    ),
    Row(
        "data of an unknown kind",
        "study.yaml:2: train[0]: a file of data is known by its ending, and this one isn't known (got 'rows.xlsx'). "
        "Known: .jsonl, .ndjson, .json, .csv, .tsv, .parquet",
        change=data("path: rows.xlsx"),
        prepare=text("rows.xlsx", "x"),
    ),
    Row(
        "an answer beyond the choices",
        f"bad.csv:3: the answer is none of the 3 choices (got 'D'). {ANSWER_HINT}",
        change=data("train: bad.csv, test: bad.csv, prompt: q, choices: [a, b, c], answer: right"),
        prepare=text("bad.csv", "q,a,b,c,right\n1?,x,y,z,A\n2?,x,y,z,D\n"),
    ),
    Row(
        "a line that is not UTF-8",
        "bad.jsonl:2: not UTF-8 text, at byte 13 of the line. Save it as UTF-8",
        change=data("train: bad.jsonl, test: bad.jsonl"),
        prepare=lambda folder: (folder / "bad.jsonl").write_bytes(PAIR.encode() + '{"prompt": "é"}'.encode("latin-1")),
    ),
    Row(
        "a quote that is never closed",
        re.compile(r"bad\.csv:3: a quote is opened and never closed\. .+"),
        change=data("path: bad.csv"),
        prepare=text("bad.csv", 'prompt,completion\na,b\nc,"d\ne,f\n'),
    ),
    Row(
        "a zip called Parquet",
        re.compile(r"bad\.parquet: not a readable Parquet file: .+\. Copy it again"),
        change=data("path: bad.parquet"),
        prepare=lambda folder: (folder / "bad.parquet").write_bytes(b"PK\3\4" + b"x" * 100),
    ),
    Row(
        "a template that names no column",
        "bad.jsonl:1: prompt: no column 'promt'. Did you mean 'prompt'? The columns: prompt, completion",
        change=data('train: bad.jsonl, test: bad.jsonl, prompt: "Q: {promt}"'),
        prepare=text("bad.jsonl", PAIR),
    ),
    Row(
        "a template with a program in it",
        "study.yaml:2: train[0]: prompt: only plain {column} can stand in a template (got '{prompt.__class__}'). "
        "Write a column as {column} and a brace as {{ or }}",
        change=data('train: bad.jsonl, test: bad.jsonl, prompt: "{prompt.__class__}"'),
        prepare=text("bad.jsonl", PAIR),
    ),
    Row(
        "a pattern that is none",
        re.compile(r"study\.yaml:2: train\[0\]: pattern: no regular expression: .+ \(got '\(x'\)\. For example: .+"),
        change=data('train: a.jsonl, test: a.jsonl, scorer: regex, pattern: "(x"'),
        prepare=text("a.jsonl", PAIR + PAIR.replace("a?", "b?")),
    ),
    Row(
        "a pattern that could take forever",
        re.compile(
            r"study\.yaml:2: train\[0\]: pattern: a repeat inside a repeat, or alternatives inside one, can take .+"
        ),
        change=data('train: a.jsonl, test: a.jsonl, scorer: regex, pattern: "((x+)+)$"'),
        prepare=text("a.jsonl", PAIR + PAIR.replace("a?", "b?")),
    ),
    Row(
        "a scorer that can't judge",
        re.compile(r"study\.yaml:2: train\[0\]: the scorer 'choice' can't judge a perfect answer: .+"),
        change=data("train: a.jsonl, test: a.jsonl, scorer: choice"),
        prepare=text("a.jsonl", PAIR + PAIR.replace("a?", "b?")),
    ),
    Row(
        "a scorer of the user's that raises",
        re.compile(
            r"study\.yaml:2: train\[0\]: the scorer '.*mine\.py@judge' can't judge a perfect answer: the scorer "
            r"mine\.py@judge failed on item \w+: ZeroDivisionError: division by zero, at .*a\.jsonl:1"
        ),
        change=data("train: a.jsonl, test: a.jsonl, scorer: mine.py@judge"),
        prepare=lambda folder: (
            (folder / "a.jsonl").write_text(PAIR + PAIR.replace("a?", "b?")),
            (folder / "mine.py").write_text("def judge(sample, response):\n    return 1 / 0\n"),
        ),
    ),
    Row(
        "a scorer that gives a perfect answer less than 1",
        re.compile(
            r"study\.yaml:2: train\[0\]: the scorer '.*mine\.py@judge' gives a perfect answer less than 1, at "
            r".*a\.jsonl:1 \(got 0\.5\)\. .+"
        ),
        change=data("train: a.jsonl, test: a.jsonl, scorer: mine.py@judge"),
        prepare=lambda folder: (
            (folder / "a.jsonl").write_text(PAIR + PAIR.replace("a?", "b?")),
            (folder / "mine.py").write_text("def judge(sample, response):\n    return 0.5\n"),
        ),
    ),
    Row(
        "a scorer file that can't be loaded",
        re.compile(
            r"study\.yaml:2: train\[0\]: the scorer '.*mine\.py@judge' can't be loaded: .+ raises NameError: .+"
        ),
        change=data("train: a.jsonl, test: a.jsonl, scorer: mine.py@judge"),
        prepare=lambda folder: (
            (folder / "a.jsonl").write_text(PAIR + PAIR.replace("a?", "b?")),
            (folder / "mine.py").write_text("import math\nnothing\n"),
        ),
    ),
    Row(
        "a chat for a model without a template",
        re.compile(r"study\.yaml:1: models\[0\]: this model's tokenizer has no chat template.+"),
        change=data("train: a.jsonl, test: a.jsonl, chat: true"),
        prepare=text("a.jsonl", PAIR + PAIR.replace("a?", "b?")),
    ),
    Row(
        "targets that match nothing",
        f"study.yaml:5: arms[1].lora.targets: no linear module named 'q_prj'. Did you mean 'q_proj'? {TARGETS}",
        change=lora("{rank: [1], lr: 0.001, targets: [v_proj, q_prj]}"),
    ),
    Row(
        "one row to train on",
        "study.yaml:2: train[0].limit: one training row can't be split into rows to train on and rows to validate on "
        "(got 1). Raise the limit, or give more rows",
        change=("limit: 40", "limit: 1"),
    ),
    Row(
        "a task without training rows",
        "study.yaml:2: train[0]: mmlu is for evaluation only: it has no training rows. "
        "List it under evaluate, or train on another task: rankscope list tasks",
        change=(TRAIN, "mmlu"),
    ),
    Row(
        "a form that the task lacks",
        "study.yaml:7: evaluate.retention[0]: demo_facts has no form 'letters'. It has: cloze, generate",
        change=("[demo_facts]", "[{task: demo_facts, form: letters}]"),
    ),
)
ELSEWHERE = (
    Row(
        "an override without a value",
        "--set epochs: an override is key=value. For example: --set training.epochs=2",
        command="run study.yaml --store STORE --set epochs",
    ),
    Row(
        "an override of an unknown key",
        "--set trainng.epochs=2: trainng: unknown key. Did you mean 'training'?",
        command="run study.yaml --store STORE --set trainng.epochs=2",
    ),
    Row(
        "an override of the wrong type",
        "--set training.epochs=two: training.epochs: must be a number (got 'two')",
        command="run study.yaml --store STORE --set training.epochs=two",
    ),
    Row(
        "an override that names a lost model",
        f"--set models[0]=lost: models[0]: no such model folder (got 'lost'). {ID_HINT}",
        command="run study.yaml --store STORE --set models[0]=lost",
    ),
    Row(
        "a budget that is no time",
        "Invalid value for --budget: 'soon' is not a time. For example: 90s, 45m, 2h, 1h30m",
        command="run study.yaml --store STORE --budget soon",
        is_usage=True,
    ),
    Row(
        "a study that is not said",
        "Missing argument 'STUDY'.",
        command="run --store STORE",
        is_usage=True,
    ),
    Row(
        "a file in place of a store",
        "study.yaml: this folder can't be a store: File exists. Give another --store",
        command="run study.yaml --store study.yaml -q",
    ),
    Row(
        "results that are not there",
        "no store here (got 'lost'). Next: rankscope run STUDY",
        command="compare study.yaml --store lost",
    ),
    Row(
        "a folder that is no store",
        "no store here (got 'plain'). Name its folder: rankscope gc DIR",
        command="gc plain --delete",
        prepare=lambda folder: (folder / "plain").mkdir(),
    ),
    Row(
        "a report for a folder that is not there",
        "lost/study.html: there is no such folder to write to (got 'lost'). Next: mkdir -p lost",
        command="report study.yaml --store STORE -o lost/study.html",
    ),
    Row(
        "a report in place of a folder",
        "plain: this is a folder, not a file to write. Name a file in it",
        command="report study.yaml --store STORE -o plain",
        prepare=lambda folder: (folder / "plain").mkdir(),
    ),
    Row(
        "a score of a missing task",
        "no task named 'demo_poeple'. Did you mean 'demo_people'? See: rankscope list tasks",
        command="score demo demo_poeple",
    ),
    Row(
        "a score with a dtype that is none",
        "no such dtype (got 'float7'). Known: auto, float32, bfloat16, float16",
        command=f"{SCORE} --dtype float7",
    ),
    Row(
        "a model whose weights lack a tensor",
        "thin: the weights lack 1 tensors that this model needs (got 'model.layers.0.self_attn.q_proj.weight'). "
        "Copy it again; a model without a language-model head can't be used",
        command="score thin demo_people --limit 4 -q",
        prepare=without_a_tensor("thin", "model.layers.0.self_attn.q_proj.weight"),
    ),
    Row(
        "items for a folder that is not there",
        "lost/items.jsonl: there is no such folder to write to (got 'lost'). Next: mkdir -p lost",
        command=f"{SCORE} --items lost/items.jsonl",
    ),
    Row(
        "an adapter without its config",
        "no adapter_config.json here (got 'plain'). Give the folder that PEFT saved",
        command=f"{SCORE} --adapter plain",
        prepare=lambda folder: (folder / "plain").mkdir(),
    ),
    Row(
        "an adapter whose config is cut short",
        re.compile(r"mine/adapter_config\.json: not valid JSON: .+\. Copy it again"),
        command=f"{SCORE} --adapter mine",
        prepare=adapter(Q_PROJ, 128, config='{"peft_type": "LO'),
    ),
    Row(
        "an adapter of another architecture",
        "mine: this adapter is not one for this model: 1 of its 1 modules are not there, such as "
        "transformer.h.0.c_attn. The model it was made for: some/other-model",
        command=f"{SCORE} --adapter mine",
        prepare=adapter("transformer.h.0.c_attn", 128),
    ),
    Row(
        "an adapter of a smaller model",
        f"mine: this adapter is not one for this model: {Q_PROJ} has 128 inputs and 128 outputs, its update has 64 and "
        "64. The model it was made for: some/other-model",
        command=f"{SCORE} --adapter mine",
        prepare=adapter(Q_PROJ, 64),
    ),
)

MERGE = "Merge it with PEFT and give the merged model as a checkpoint"
PICKLE = "a pickle can run any code"
GIVEN = (
    Row(
        "an adapter that is not there",
        "study.yaml:5: arms[1].adapter.path: no such folder (got './gone')",
        change=given("./gone"),
    ),
    Row(
        "an adapter's id that can be none",
        "study.yaml:5: arms[1].adapter.path: no such folder of an adapter (got 'gone'). Give the folder that PEFT "
        "saved, or a hub id",
        change=given("gone"),
    ),
    Row(
        "an adapter of another model as an arm",
        "mine: this adapter is not one for this model: 1 of its 1 modules are not there, such as "
        "transformer.h.0.c_attn. The model it was made for: some/other-model",
        change=given("mine"),
        prepare=adapter("transformer.h.0.c_attn", 128),
    ),
    Row(
        "an adapter with weights that are no numbers",
        f"mine: 1 tensors of this adapter hold NaN or infinity (got '{Q_PROJ}.lora_A.weight'). The training that made "
        "it has diverged",
        change=given("mine"),
        prepare=adapter(Q_PROJ, 128, fill=float("nan")),
    ),
    Row(
        "an adapter that is a pickle",
        f"mine: adapters are read from safetensors only: {PICKLE} (got 'adapter_model.bin'). Save it again with PEFT's "
        "save_pretrained",
        change=given("mine"),
        prepare=adapter(Q_PROJ, 128, rename="adapter_model.bin"),
    ),
    Row(
        "an adapter cut short",
        re.compile(r"mine/adapter_model\.safetensors: these weights can't be read \(got .+\)\. Copy it again"),
        change=given("mine"),
        prepare=adapter(Q_PROJ, 128, cut=60),
    ),
    Row(
        "an adapter of another method",
        f"mine/adapter_config.json: only LoRA adapters are read (got 'IA3'). {MERGE}",
        change=given("mine"),
        prepare=adapter(Q_PROJ, 128, peft_type="IA3"),
    ),
    Row(
        "DoRA",
        f"mine/adapter_config.json: this adapter needs what can't be applied here (got {{'use_dora': True}}). {MERGE}",
        change=given("mine"),
        prepare=adapter(Q_PROJ, 128, use_dora=True),
    ),
    Row(
        "PiSSA, whose base is another",
        "mine/adapter_config.json: this kind of adapter belongs to a base whose own weights were changed too "
        f"(got 'pissa'). {MERGE}",
        change=given("mine"),
        prepare=adapter(Q_PROJ, 128, init_lora_weights="pissa"),
    ),
    Row(
        "an adapter of another rank than it says",
        f"mine/adapter_config.json: the tensors of {Q_PROJ} are not of rank 2, as the config says "
        "(got {'lora_A': (1, 128), 'lora_B': (128, 1)}). Give the folder as PEFT saved it",
        change=given("mine"),
        prepare=adapter(Q_PROJ, 128, r=2),
    ),
    Row(
        "an adapter for classification",
        "mine/adapter_config.json: only adapters of causal language models are read (got 'SEQ_CLS')",
        change=given("mine"),
        prepare=adapter(Q_PROJ, 128, task_type="SEQ_CLS"),
    ),
    Row(
        "a checkpoint that is not there",
        "study.yaml:5: arms[1].checkpoint.path: no such folder (got '/gone')",
        change=given("/gone", "checkpoint"),
    ),
    Row(
        "a checkpoint without weights",
        "hollow: this folder holds a config.json but no weights (*.safetensors). "
        "Save it with save_pretrained, or copy it again",
        change=given("hollow", "checkpoint"),
        prepare=model("hollow", "config.json", "tokenizer.json"),
    ),
    Row(
        "nothing to train, and a task to train on",
        "study.yaml:2: train: no arm is trained; list the tasks under evaluate.in_domain instead",
        change=("  - lora: {rank: [1], lr: 0.001}\n", ""),
    ),
    Row(
        "weights that are a pickle",
        f"pickled: weights are read from safetensors only: {PICKLE} (got 'pytorch_model.bin'). Load it where you trust "
        "it, and save_pretrained",
        change=("[demo]", "[pickled]"),
        prepare=model("pickled", "config.json", "tokenizer.json", also="pytorch_model.bin"),
    ),
    Row(
        "weights that are no numbers",
        "nan: these weights hold NaN or infinity (got 'model.norm.weight'). Copy it again",
        command="score nan demo_people --limit 4 -q",
        prepare=without_a_number("nan", "model.norm.weight"),
    ),
    Row(
        "a zip file called Parquet",
        re.compile(r"bomb\.parquet: not a readable Parquet file: .+\. Copy it again"),
        change=data("path: bomb.parquet"),
        prepare=zipped("bomb.parquet"),
    ),
    Row(
        "a hub dataset that leads out of the data folder",
        "study.yaml:2: train[0]: hub: not the name of a dataset (got '../secrets'). It is written org/name",
        change=data("hub: ../secrets"),
    ),
    Row(
        "a config that leads out of the data folder",
        "study.yaml:2: train[0]: config: not a name (got '../../x')",
        change=data("hub: a/b, config: ../../x"),
    ),
    Row(
        "a file of weights whose header is a bomb",
        "bomb/model.safetensors: this is not a readable safetensors file. Copy it again",
        change=("[demo]", "[bomb]"),
        prepare=model("bomb", "config.json", "tokenizer.json", also="model.safetensors"),
    ),
    Row(
        "a model that brings its own code",
        "study.yaml:1: models[0]: this model brings Python code of its own, which was not run (got 'own'). If you "
        "trust it, set trust_remote_code: true for the model",
        command="run study.yaml --store STORE -q",
        change=("[demo]", "[own]"),
        prepare=model(
            "own",
            "tokenizer.json",
            "tokenizer_config.json",
            "model.safetensors",
            config={"model_type": "own-kind", "auto_map": {"AutoConfig": "own.C"}},
        ),  # fmt: skip
    ),
    Row(
        "a checkpoint in a quantised format",
        "study.yaml:1: models[0]: this checkpoint is saved in a quantised format, which is not read (got 'gptq'). "
        "Give the original weights; for 4 bits set quantization: nf4",
        change=("[demo]", "[four]"),
        prepare=model(
            "four",
            "tokenizer.json",
            "tokenizer_config.json",
            "model.safetensors",
            config=json.loads((MODEL / "config.json").read_text()) | {"quantization_config": {"quant_method": "gptq"}},
        ),  # fmt: skip
    ),
    Row(
        "four bits and full SFT",
        "study.yaml:1: models[0].quantization: full SFT can't train 4-bit weights (got 'full'). Leave the arm out, or "
        "quantization",
        change=(
            "models: [demo]\ntrain: [{task: demo_people, limit: 40}]\narms:\n  - base",
            "models: [{id: demo, quantization: nf4}]\ntrain: [{task: demo_people, limit: 40}]\narms:\n  - full",
        ),
    ),
    Row(
        "a study file that aliases blow up",
        "study.yaml:5: aliases make this part larger than any study: over 20,000 values",
        change=(
            STUDY,
            "\n".join(
                [
                    "a0: &a0 [x, x, x, x, x, x, x, x, x, x]",
                    *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 20)),
                ]
            ),
        ),
    ),
    Row(
        "a study file that contains itself",
        "study.yaml:1: this part contains itself, by an alias",
        change=(STUDY, "models: &m [demo, *m]\n"),
    ),
    Row(
        "a study file without end",
        "study.yaml: longer than any study file: over 1,000,000 characters",
        change=(STUDY, "# " + "x" * 1_000_001),
    ),
)


# ---- what every row is checked for


@dataclass(frozen=True)
class Said:
    """How a command ended: its code, what it printed, and the messages in it without their mark."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        found = re.findall(r"^[Ee]rror: (.*)$", self.err, re.MULTILINE)
        return "\n".join(found)


@pytest.fixture
def call(capsys) -> Callable[..., Said]:
    def run(line: str, *more: str) -> Said:
        capsys.readouterr()
        code = main([*line.split(), *more])
        said = Said(code, *capsys.readouterr())
        assert "Traceback" not in said.out + said.err
        assert "a bug in rankscope" not in said.err
        return said

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A store with the study of this file, finished."""
    import torch

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("finished")
    (folder / "study.yaml").write_text(STUDY)
    assert main(["run", str(folder / "study.yaml"), "--store", str(folder / "runs"), "-q"]) == 0
    return folder / "runs"


@pytest.fixture
def work(tmp_path, monkeypatch, finished) -> Path:
    """The working folder: the study and, as ``runs``, its finished store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANKSCOPE_DATA", raising=False)
    (tmp_path / "study.yaml").write_text(STUDY)
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def is_said(message: str, says: str | re.Pattern[str]) -> bool:
    return message == says if isinstance(says, str) else says.fullmatch(message) is not None


def change(work: Path, old: str, new: str) -> None:
    assert STUDY.count(old) >= 1
    (work / "study.yaml").write_text(STUDY.replace(old, new, 1) if old else STUDY)


def check_failure(call, work: Path, line: str, says: str | re.Pattern[str]) -> None:
    """Both for people and with --json: exit code 2 and this message, nothing else on stdout, no file touched."""
    before = snapshot(work)
    said = call(line)
    assert said.code == 2 and said.out == ""
    assert is_said(said.message, says), said.message
    assert snapshot(work) == before
    said = call(line, "--json")
    assert said.code == 2 and said.out.count("\n") == 1
    error = json.loads(said.out)["error"]
    assert is_said(error["message"], says), error["message"]
    assert error["exit_code"] == 2
    assert snapshot(work) == before


@pytest.mark.parametrize("row", [*IN_STUDY, *ELSEWHERE, *GIVEN], ids=lambda row: row.name)
def test_wrong_input_is_one_clear_message_and_touches_nothing(row, call, work):
    change(work, *row.change)
    if row.prepare is not None:
        row.prepare(work)
    for store in ("runs", "new"):
        if store == "runs" or "STORE" in row.command and "report" not in row.command:
            check_failure(call, work, row.command.replace("STORE", store), row.says)
    assert not (work / "new").exists()
    said = call(row.command.replace("STORE", "runs"))
    assert ("Usage: rankscope" in said.err) == row.is_usage


@pytest.mark.parametrize("row", IN_STUDY, ids=lambda row: row.name)
def test_check_says_the_same_before_any_run(row, call, work):
    change(work, *row.change)
    if row.prepare is not None:
        row.prepare(work)
    check_failure(call, work, f"check {row.command.split()[1]}", row.says)


# ---- the network


def test_a_model_that_the_hub_does_not_give_is_one_message(call, work, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    def unreachable(self, *_, **__):
        raise HfHubHTTPError.__bases__[0]("no route to host")  # what the HTTP client raises, whichever it is

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    change(work, "[demo]", "[someone/lost]")
    says = ("study.yaml:1: models[0]: no such model in the local cache, and the hub did not give it "
            "(got 'someone/lost'). Give a local folder or a .gguf file to work offline")  # fmt: skip
    check_failure(call, work, "run study.yaml --store new -q", says)


def test_a_dataset_that_the_hub_does_not_give_is_one_message(call, work, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    exceptions = types.SimpleNamespace(DatasetsError=type("DatasetsError", (Exception,), {}))
    fake = types.SimpleNamespace(load_dataset=unreachable, exceptions=exceptions)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    change(work, TRAIN, "gsm8k")
    says = ("study.yaml:2: train[0]: can't get openai/gsm8k (main), split 'train', from the hub: no route to host. "
            "Put the rows into <folder>/gsm8k/train.jsonl and name the folder with data_dir in the study file or the "
            "variable RANKSCOPE_DATA, or go online once")  # fmt: skip
    check_failure(call, work, "run study.yaml --store new -q", says)
    assert call("check study.yaml").code == 0  # asks nothing of the network


# ---- failed runs


def test_a_diverged_run_is_a_failed_row_and_the_others_finish(call, work):
    change(work, "  - lora: {rank: [1], lr: 0.001}", "  - lora: {rank: [1], lr: 1e30, name: wild}\n"
           "  - lora: {rank: [1], lr: [1e29, 1e30], name: hopeless}\n  - lora: {rank: [1], lr: 0.001}")  # fmt: skip
    said = call("run study.yaml --store new -q")
    failed = re.findall(r"^failed: (.*?): (.*)$", said.out, re.MULTILINE)
    assert said.code == 1
    assert ("demo/demo_people/wild/lr1e+30/seed0", "diverged at step 2: the loss is nan") in failed
    assert {name.split("/")[2] for name, _ in failed} == {"wild", "hopeless"}

    said = call("run study.yaml --store new -q --json")
    found = json.loads(said.out)
    assert said.code == 1 and said.out.count("\n") == 1
    assert found["complete"] and {"run": failed[0][0], "message": failed[0][1]} in found["failed"]
    table = {row["arm"]: row for row in found["table"]}
    assert table["lora-r1"]["gain"] and table["lora-r1"]["seeds"] == 1
    for arm in ("wild", "hopeless"):
        assert [table[arm][key] for key in ("gain", "retention", "forgotten", "seeds")] == ["", "", "", 0]


def test_the_report_shows_a_diverged_run_and_no_zero_stands_for_it(call, work):
    change(work, "{rank: [1], lr: 0.001}", "{rank: [1], lr: 1e30, name: wild}")
    assert call("run study.yaml --store new -q").code == 1
    for form in ("html", "md", "json"):
        assert call(f"report study.yaml --store new --format {form}").code == 0
        assert "diverged at step 2: the loss is nan" in (work / f"study.{form}").read_text()
    view = json.loads((work / "study.json").read_text())
    assert [row["status"] for row in view["runs"] if row["arm"] == "wild"] == ["failed"]
    assert [row["missing"] for row in view["scores"] if row["arm"] == "wild"] == ["no finished run"] * 2
    rows = [row for key in view for row in (view[key] if isinstance(view[key], list) else ()) if _is_of(row, "wild")]
    measured = [value for row in rows for name, value in _numbers(row) if isinstance(value, float)]
    assert len(rows) > 5 and 0.0 not in measured


def _is_of(row: Any, arm: str) -> bool:
    return isinstance(row, dict) and row.get("arm") == arm


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _numbers(child, key)
    elif isinstance(value, list):
        for child in value:
            yield from _numbers(child, name)
    elif isinstance(value, int | float):
        yield name, value


def test_training_without_a_single_step_is_an_error_and_not_a_result(call, work):
    says = "training.epochs: not even one step of training (got 0.001). Raise it, or set training.max_steps"
    said = call("run study.yaml --store new -q --set training.max_steps=null --set training.epochs=0.001")
    assert (said.code, said.message) == (2, says)


# ---- the store


HOLDER = """
import sys
from rankscope.storage.store import Store
with Store.open(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_store_in_use_by_another_process_is_said_and_not_harmed(call, work):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, "runs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True)  # fmt: skip
    with holder:
        assert holder.stdout.readline() == "held\n"
        says = (f"runs: this store is in use by process {holder.pid}. Wait for it, or give another --store; "
                "to watch it: rankscope status STUDY")  # fmt: skip
        check_failure(call, work, "run study.yaml --store runs -q", says)
        check_failure(call, work, "gc runs", says)
        assert call("status study.yaml --store runs").code == 0
        holder.stdin.close()
    assert call("run study.yaml --store runs -q").code == 0


def test_a_store_of_a_newer_version_is_left_alone(call, work):
    with sqlite3.connect(work / "runs" / "rankscope.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    says = re.compile(r"runs: this store was made by a newer rankscope \(schema 99, known \d+\)\. "
                      r"Next: pip install -U rankscope")  # fmt: skip
    for command in ("run study.yaml --store runs -q", "compare study.yaml --store runs", "gc runs"):
        check_failure(call, work, command, says)


def cut_in_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def overwritten_head(content: bytes) -> bytes:
    return b"\0" * 200 + content[200:]


def garbled(content: bytes) -> bytes:
    return content[:4096] + b"\xa5" * (len(content) - 4096)


def other_text(content: bytes) -> bytes:
    return content.replace(b'{"', b"{'")


@pytest.mark.parametrize("damage", [cut_in_half, overwritten_head, garbled, other_text])
def test_a_damaged_database_is_said_and_not_made_worse(damage, call, work):
    path = work / "runs" / "rankscope.db"
    path.write_bytes(damage(path.read_bytes()))
    says = re.compile(rf"runs/rankscope\.db: the database can't be used: .+\. {COPY_HINT}")
    for verb in ("run", "compare"):
        check_failure(call, work, f"{verb} study.yaml --store runs", says)


@pytest.mark.parametrize("size", [0, 5, 1000])
def test_damaged_weights_are_trained_again(size, call, work):
    (blob,) = (work / "runs").rglob("*.safetensors")
    whole = blob.stat().st_size
    os.truncate(blob, size)
    said = call(f"run study.yaml --store runs {MORE}")
    assert said.code == 0
    assert "demo/demo_people/lora-r1/lr0.001/seed0 is trained again: this" in said.err
    assert blob.stat().st_size == whole


# ---- disks


@pytest.fixture
def disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """A disk of its own: called with mount options, gives its folder. Skips where nothing can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small disk needs Linux and root")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)


def test_a_really_full_disk_keeps_what_was_done_and_the_study_goes_on_later(disk, call, work):
    folder = disk("size=1m")
    arms = "[{lora: {rank: [1], lr: 0.001}}, {full: {lr: 0.0001}}]"  # the full run's weights don't fit
    words = ["run", "study.yaml", "--store", str(folder / "runs"), "-q", "--set", f"arms={arms}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rankscope", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    said = Said(done.returncode, done.stdout, done.stderr)
    assert said.code == 2 and "Traceback" not in said.err
    assert said.message == f"{folder}/runs/blobs: {FULL}"
    assert json.loads(said.out)["error"]["kind"] == "StoreError" and said.out.count("\n") == 1
    assert not list((folder / "runs").rglob("*.new"))
    before = snapshot(folder / "runs" / "blobs")
    assert len(before) == 1

    disk("remount,size=20m")
    found = json.loads(call("run", *words[1:], "--json").out)
    assert found["complete"] and [row["arm"] for row in found["table"]] == ["lora-r1", "full"]
    assert before.items() <= snapshot(folder / "runs" / "blobs").items()


def test_a_disk_that_is_full_to_the_last_byte_is_said_and_can_still_be_read(disk, call, work):
    folder = disk("size=1m")
    shutil.copytree(work / "runs", folder / "runs")
    with pytest.raises(OSError, match="No space left"), open(folder / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(b"\0" * 4096)
    database = (folder / "runs" / "rankscope.db").read_bytes()
    for store in (folder / "runs", folder / "new"):
        said = call(f"run study.yaml -q --store {store} {MORE}")
        assert (said.code, said.message) == (2, f"{store}: {FULL}")
    said = call(f"report study.yaml --store {folder}/runs -o {folder}/study.html")
    assert (said.code, said.message) == (2, f"{folder}/study.html: can't be written: No space left on device")
    assert not (folder / "study.html.new").exists()
    assert call(f"compare study.yaml --store {folder}/runs").code == 0
    assert (folder / "runs" / "rankscope.db").read_bytes() == database


@pytest.mark.parametrize("words", ["No space left on device (os error 28)", "Disk quota exceeded (os error 122)"])
def test_a_disk_that_fills_while_weights_are_written_leaves_no_half_a_run(words, call, work, monkeypatch):
    from safetensors import SafetensorError

    from rankscope.models import files

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise SafetensorError(f"I/O error: {words}")

    with monkeypatch.context() as broken:
        broken.setattr(files, "save_file", full)
        said = call("run study.yaml --store new -q")
    assert (said.code, said.message) == (2, f"new/blobs: {FULL}")
    assert not list((work / "new").rglob("*.new")) and not list((work / "new").rglob("*.safetensors"))
    assert json.loads(call("run study.yaml --store new -q --json").out)["complete"]


@pytest.fixture
def locked(tmp_path, disk) -> Path:
    """A folder that nobody may write to, not even root."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if not os.access(folder, os.W_OK):
        return folder
    return disk("ro")


def test_a_report_where_nothing_may_be_written_is_refused_before_the_work(locked, call, work):
    place = f"{locked}/study.html"
    says = f"{place}: nothing can be written in this folder (got '{locked}'). Name another path"
    check_failure(call, work, f"report study.yaml --store runs -o {place}", says)
    check_failure(call, work, f"demo --store new -o {place}", says)
    says = re.compile(rf"{locked}/?.*: this folder can't be a store: .+\. Give another --store")
    check_failure(call, work, f"run study.yaml -q --store {locked}/runs", says)


def test_a_finished_store_can_be_read_where_nothing_may_be_written(disk, call, work):
    folder = disk("size=1m")
    shutil.copytree(work / "runs", folder / "what? 100%")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    assert call("compare study.yaml --store", str(folder / "what? 100%")).code == 0


# ---- the installed command


def test_the_real_process_ends_like_the_rest(work):
    change(work, "batch_tokens", "batch_token")
    words = [sys.executable, "-m", "rankscope", "run", "study.yaml", "--json", "--store", "new"]
    done = subprocess.run(words, capture_output=True, text=True)
    says = "study.yaml:6: training.batch_token: unknown key. Did you mean 'batch_tokens'?"
    assert (done.returncode, done.stderr) == (2, f"error: {says}\n")
    assert json.loads(done.stdout)["error"]["message"] == says
    assert not (work / "new").exists()
