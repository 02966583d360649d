"""Random damage to study files and data files: anything but a RankscopeError is a finding.

    python benchmarks/fuzz.py --seconds 60 [--seed 0] [--keep DIR]

Whole examples are damaged (bytes flipped, cut, doubled, moved; words that have special meanings put in) or put together
anew from parts, then loaded: studies by ``rankscope.config.load``, data by ``read_file`` and the task ``data``. A case
that takes more than five seconds is a finding too. Each finding's input is kept in DIR, and so is the case at work, in
case the process dies of it. Prints a table for people, then one JSON line. Exit code 1 if there are findings.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from rankscope.config import load
from rankscope.data.files import READERS, read_file
from rankscope.errors import RankscopeError
from rankscope.records import TaskRef
from rankscope.study.plan import task_key
from rankscope.tasks import task as tasks

SLOW = 5.0
STUDIES = [path.read_bytes() for path in sorted((Path(__file__).parents[1] / "studies").glob("*.yaml"))]
STUDIES += [
    b"models: [demo]\ntrain: [{task: data, path: a.jsonl, prompt: '{q}', scorer: regex, pattern: '(x)'}]\narms: []\n",
    b"name: &a x\nmodels: [{id: demo, label: *a}]\ntrain: [demo_facts]\narms:\n  - {lora: {rank: 4}}\n  - {full: }\n",
]
KEYS = [
    "models",
    "train",
    "arms",
    "training",
    "evaluate",
    "recommend",
    "keep",
    "data_dir",
    "name",
    "title",
    "id",
    "task",
    "limit",
    "form",
    "shots",
    "lora",
    "full",
    "base",
    "rank",
    "alpha",
    "lr",
    "targets",
    "scaling",
    "dropout",
    "epochs",
    "seeds",
    "betas",
    "max_steps",
    "in_domain",
    "cross_domain",
    "retention",
    "path",
    "hub",
    "prompt",
    "scorer",
    "<<",
    "diagnose",
    "dtype",
    "label",
    "margin",
]
WORDS = [
    "demo",
    "demo_facts",
    "data",
    "base",
    "auto",
    "same",
    "all",
    "none",
    "jsonl",
    "x.py@y",
    "@",
    "",
    " ",
    "~",
    "\0",
    "é",
    "../..",
    "/dev/null",
    "{a}",
    "{a.b}",
    "{",
    "nan",
    ".inf",
    "1e-4",
    "1e999",
    "0x10",
    "2024-01-01",
    "yes",
    "a" * 3000,
    "\ud800",
    "-1",
    "123456789012345678901234567890",
]
VALUES: list[Any] = [None, True, 0, -1, 1, 1.5, float("nan"), float("inf"), 10**400, [], {}, [[]], *WORDS]
ROWS: list[dict[str, Any]] = [
    {"prompt": "p", "completion": "c", "id": 1},
    {"question": "q", "choices": ["a", "b", "c"], "answer": "B"},
    {"instruction": "i", "input": "n", "output": "o"},
    {"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]},
    {"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]},
    {"text": "t" * 50, "subject": None},
]
TOKENS = [
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b'"',
    b"'",
    b"\n",
    b"\r",
    b"\t",
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"&a ",
    b"*a",
    b"!!python/object:os.system ",
    b"!!binary ",
    b"? ",
    b"- ",
    b"|\n",
    b"<<: ",
    b"NaN",
    b"1e999",
    b"\\ud800",
    b"\\u0000",
    b"9" * 5000,
    b"[" * 3000,
    b"{a: " * 500,
    b"---\n",
    b"...\n",
    b"%YAML 9.9\n",
    b"PAR1",
]


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Some random edits of some bytes."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8, 30))):
        at = rng.randrange(len(data) + 1)
        size = min(rng.choice((1, 1, 2, 5, 20, 200)), len(data) - at)
        match rng.randrange(6):
            case 0 if at < len(data):
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size] * rng.choice((1, 2, 10))
            case 3:
                to = rng.randrange(len(data) + 1)
                data[to:to] = data[at : at + size]
            case 4:
                del data[at:]
            case _:
                data[at:at] = rng.choice(TOKENS)
        if len(data) > 200_000:
            break
    return bytes(data[:200_000])


def changed(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """A document with some of its values, keys and branches exchanged."""
    if depth > 6 or rng.random() < 0.03:
        return rng.choice(VALUES)
    if isinstance(value, dict):
        found = {k if rng.random() > 0.04 else rng.choice(KEYS): changed(rng, v, depth + 1) for k, v in value.items()}
        if rng.random() < 0.15:
            found[rng.choice(KEYS)] = rng.choice(VALUES)
        if found and rng.random() < 0.08:
            del found[rng.choice(list(found))]
        return found
    if isinstance(value, list):
        return [changed(rng, v, depth + 1) for v in value] * rng.choice((1, 1, 1, 1, 2))
    return value


def a_study(rng: random.Random) -> tuple[str, bytes]:
    seed = rng.choice(STUDIES)
    if rng.random() < 0.5:
        return "study.yaml", damaged(rng, seed)
    text = yaml.safe_dump(changed(rng, yaml.safe_load(seed)), allow_unicode=rng.random() < 0.5)
    return "study.yaml", text.encode("utf-8", "surrogatepass")


def a_data_file(rng: random.Random) -> tuple[str, bytes]:
    kind = rng.choice(list(READERS))
    row = rng.choice(ROWS)
    rows = [changed(rng, row) if rng.random() < 0.2 else row for _ in range(rng.choice((1, 2, 8)))]
    if kind in (".jsonl", ".ndjson"):
        content = "".join(json.dumps(r) + "\n" for r in rows).encode()
    elif kind == ".json":
        content = json.dumps(rows).encode()
    elif kind == ".parquet":
        content = _parquet([r if isinstance(r, dict) else row for r in rows], row)
    else:
        import csv

        text = io.StringIO()
        made = csv.writer(text, delimiter="," if kind == ".csv" else "\t")
        made.writerow(row)
        made.writerows(r.values() if isinstance(r, dict) else [r] for r in rows)
        content = text.getvalue().encode("utf-8", "surrogatepass")
    return f"rows{kind}", damaged(rng, content) if rng.random() < 0.6 else content


def _parquet(rows: list[dict], plain: dict) -> bytes:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.Table.from_pylist(rows)
    except (pyarrow.ArrowException, UnicodeError, OverflowError, TypeError):
        table = pyarrow.Table.from_pylist([plain])
    buffer = io.BytesIO()
    try:
        pyarrow.parquet.write_table(table, buffer, compression="none")
    except pyarrow.ArrowException:  # a struct without fields can't be written
        return b"PAR1"
    return buffer.getvalue()


def options(rng: random.Random) -> dict[str, Any]:
    names = ["prompt", "completion", "choices", "answer", "messages", "text", "id", "chat", "scorer", "pattern"]
    return {name: rng.choice(VALUES) for name in rng.sample(names, rng.choice((0, 0, 0, 1, 2)))}


def check(rng: random.Random, path: Path) -> None:
    if path.suffix == ".yaml":
        config = load(
            path, rng.choice(((), (), ("training.epochs=2",), ("arms[0].lora.rank=3",), ("train[0].limit={",)))
        )
        config.models(), config.arms(), config.evaluations(None), config.as_dict()
        return
    read_file(path)
    form = rng.choice(("default", "default", *tasks.KINDS))
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in options(rng).items()}
    ref = tasks.resolve(
        TaskRef("data", form=form, options=tuple(sorted({**given, "train": str(path), "test": str(path)}.items())))
    )
    task_key(ref)
    for work in (tasks.prepare, tasks.train_samples):
        for sample in getattr(work(ref), "samples", ()):
            sample.prompt.encode(), sample.target.encode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "rankscope-fuzz")
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    began, cases, counts, findings = time.monotonic(), 0, Counter(), {}
    while time.monotonic() - began < given.seconds:
        rng = random.Random(f"{given.seed}/{cases}")
        make = a_study if cases % 2 else a_data_file
        name, content = make(rng)
        path = given.keep / name
        path.write_bytes(content)
        at = time.monotonic()
        faulthandler.dump_traceback_later(60, exit=True)
        try:
            check(rng, path)
            counts[name, "accepted"] += 1
        except RankscopeError:
            counts[name, "refused"] += 1
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {str(error)[:120]}"
            _note(
                findings, f"{type(error).__name__} {place.filename}:{place.lineno}", what, given, cases, name, content
            )
        faulthandler.cancel_dump_traceback_later()
        if (took := time.monotonic() - at) > SLOW:
            _note(findings, f"slow {name}", f"{took:.1f} s for one case", given, cases, name, content)
        cases += 1
    for (name, how), count in sorted(counts.items()):
        print(f"{name:14} {how:9} {count:8}")
    for what, count in findings.values():
        print(f"finding, {count} times: {what}")
    print(json.dumps({"cases": cases, "seconds": round(time.monotonic() - began), "seed": given.seed,
                      "findings": [what for what, _ in findings.values()]}))  # fmt: skip
    return 1 if findings else 0


def _note(findings: dict, key: str, what: str, given: Any, case: int, name: str, content: bytes) -> None:
    """One finding a place in the code, its first input kept."""
    if key not in findings:
        (given.keep / f"finding-{case}-{name}").write_bytes(content)
        print(f"case {case}: {what}", file=sys.stderr, flush=True)
    findings[key] = (f"case {case}, {what}", findings.get(key, ("", 0))[1] + 1)


if __name__ == "__main__":
    sys.exit(main())
