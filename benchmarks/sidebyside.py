"""What the comparisons of speed share: times and ratios with their spread, peak memory, the machine's ceiling, a table.

In: seconds, shapes, processes to start. Out: plain dicts for the JSON line, and lines for people. Knows no peer and
loads torch only to measure matrix products, so that a side that is measured in a process of its own stays small.

Legend: M rows of a product, K inner, N columns; O outputs, I inputs of a linear layer; R rank.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
Product = tuple[int, int, int]


# ---- times


def spread(seconds: Sequence[float]) -> dict:
    """Median, lowest and highest of repeated times."""
    return {"median": round(statistics.median(seconds), 3), "low": round(min(seconds), 3),
            "high": round(max(seconds), 3), "repeats": len(seconds)}  # fmt: skip


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> dict:
    """Ratio of the medians, and the lowest and highest ratio of a pair timed one after the other."""
    pairs = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {"median": round(statistics.median(theirs) / statistics.median(ours), 3), "low": round(min(pairs), 3),
            "high": round(max(pairs), 3)}  # fmt: skip


def alternate(sides: Mapping[str, Callable[[], tuple[object, float]]], repeats: int) -> dict[str, list[tuple]]:
    """Each side in turn, again and again (A B A B): a machine that slows down slows both. A side gives (result,
    seconds) itself, since what counts is for it to say."""
    found: dict[str, list[tuple]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            found[name].append(run())
    return found


def quickest(sizes: Sequence[int], seconds: Callable[[int], float], patience: int = 2, near: float = 1.05) -> dict:
    """The size that takes the least time, and all times. Sizes are tried upwards; after ``patience`` in a row that
    took more than ``near`` times the best, larger ones are left out."""
    found: dict[int, float] = {}
    late = 0
    for size in sorted(sizes):
        found[size] = seconds(size)
        late = late + 1 if found[size] > near * min(found.values()) else 0
        if late == patience:
            break
    return {"best": min(found, key=lambda size: found[size]), "seconds": {k: round(v, 2) for k, v in found.items()}}


# ---- processes


def child(side: str, jobs: list[dict], folder: Path) -> dict[str, dict]:
    """Run jobs of ``side_<side>.py`` in one process; returns their results by name.

    Every result is a line of a log in ``folder`` as soon as it is there, and what is in the log is not done again.
    Raises SystemExit if the process fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log, asked = folder / f"{side}.jsonl", folder / f"{side}.jobs.json"
    done = logged(log)
    if left := [job for job in jobs if job["name"] not in done]:
        asked.write_text(json.dumps(left), encoding="utf-8")
        found = subprocess.run([sys.executable, str(HERE / f"side_{side}.py"), str(asked), str(log)])
        if found.returncode:
            raise SystemExit(f"{side} failed with exit code {found.returncode}; what is done stays in the log")
        done = logged(log)
    return {job["name"]: done[job["name"]] for job in jobs}


def serve(verbs: Mapping[str, Callable[[dict], dict]], began: float) -> None:
    """The other end of ``child``: do the jobs of the file named first, log each to the file named second.

    ``began``: when the process had done nothing yet; what its imports took is the ``start`` of the first job.
    """
    jobs, log = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    start = time.monotonic() - began
    for job in jobs:
        before = time.monotonic()
        found = verbs[job["do"]](job)
        found |= {"name": job["name"], "start": start, "seconds": time.monotonic() - before, "peak_bytes": peak_bytes()}
        start = 0.0
        with log.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(found))  # the line before may have been cut off by a kill
        print(f"{job['name']}: {found['seconds']:.1f} s", file=sys.stderr, flush=True)


def logged(log: Path) -> dict[str, dict]:
    """Finished jobs by name; a line that a kill cut off doesn't count."""
    found = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[row["name"]] = row
    return found


class Stopwatch:
    """Seconds of a piece of work that may be killed and taken up again, kept in a file every few seconds. What a kill
    threw away counts, since it has to be done once more."""

    def __init__(self, path: Path, every: float = 2.0):
        self.path, self.every, self.stop = path, every, threading.Event()
        self.before = float(path.read_text(encoding="utf-8")) if path.is_file() else 0.0

    def __enter__(self) -> Stopwatch:
        self.began = time.monotonic()
        self.thread = threading.Thread(target=self._keep, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.began

    def _keep(self) -> None:
        while True:
            self.path.write_text(f"{self.seconds:.2f}", encoding="utf-8")
            if self.stop.wait(self.every):
                return


def peak_bytes() -> int | None:
    """The most memory that this process has held; None where the system doesn't say.

    Not ``getrusage``: on Linux a new process starts there with the peak of the one that started it.
    """
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="utf-8").splitlines() if status.is_file() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


# ---- the machine and its ceiling


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def machine(threads: int) -> dict:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {"processor": processor(), "cores": os.cpu_count(), "threads": threads, "memory_gb": round(memory, 1),
            "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
            "date": time.strftime("%Y-%m-%d"), "load_before": round(os.getloadavg()[0], 2)}  # fmt: skip


def versions(*names: str) -> dict[str, str]:
    return {name: metadata.version(name) for name in names}


def forward_products(layers: Iterable[tuple[int, int]], tokens: int) -> Counter[Product]:
    """The products of a forward pass of ``tokens`` through linear layers (O, I); attention and head left out."""
    return Counter((tokens, i, o) for o, i in layers)


def lora_products(layers: Iterable[tuple[int, int]], tokens: int, rank: int) -> Counter[Product]:
    """Those of a LoRA step: frozen weights forward and for the inputs' gradient, factors forward and for both."""
    found: Counter[Product] = Counter()
    for o, i in layers:
        found.update([(tokens, i, o), (tokens, o, i)])  # x W' and dy W
        found.update([(tokens, i, rank), (tokens, rank, o), (tokens, o, rank), (tokens, rank, i)])
        found.update([(rank, tokens, i), (o, tokens, rank)])  # dA and dB
    return found


def full_products(layers: Iterable[tuple[int, int]], tokens: int) -> Counter[Product]:
    """Those of a step of full fine-tuning: x W', dy W and dW."""
    found: Counter[Product] = Counter()
    for o, i in layers:
        found.update([(tokens, i, o), (tokens, o, i), (o, tokens, i)])
    return found


def flops(products: Mapping[Product, int]) -> float:
    return float(sum(2 * m * k * n * count for (m, k, n), count in products.items()))


def product_seconds(products: Mapping[Product, int], repeats: int = 5) -> float:
    """What these products take alone, float32, the best of the repeats of each shape: the ceiling of any program that
    has to do them."""
    import torch

    total = 0.0
    for (m, k, n), count in products.items():
        x, w = torch.randn(m, k), torch.randn(n, k)
        taken = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            x @ w.T
            taken.append(time.perf_counter() - began)
        total += count * min(taken[1:])
    return total


def layer_shapes(model: object) -> list[tuple[int, int]]:
    """(O, I) of a model's linear layers, the head apart."""
    head = model.get_output_embeddings()
    return [tuple(m.weight.shape) for m in model.modules() if type(m).__name__ == "Linear" and m is not head]


def ceilings(model: object, ranks: Sequence[int] = (16,), tokens: int = 1024) -> dict:
    """Tokens a second if nothing but the products of the layers took time: to score, to train LoRA, to train all."""
    layers = layer_shapes(model)
    kinds = {"score": forward_products(layers, tokens), "full": full_products(layers, tokens)}
    kinds |= {f"lora-r{rank}": lora_products(layers, tokens, rank) for rank in ranks}
    found = {}
    for name, products in kinds.items():
        seconds = product_seconds(products)
        found[name] = {"tokens_per_second": round(tokens / seconds, 1),
                       "gflops_per_second": round(flops(products) / seconds / 1e9, 1),
                       "flops_per_token": flops(products) / tokens}  # fmt: skip
    return found


# ---- a run of the peers


def warmup(share: float, steps: int) -> int:
    """Steps of warm-up for transformers where rankscope warms up for a share of the steps. One step is none:
    rankscope begins it with the peak, transformers with a rate of 0, which would waste a step of a short run."""
    found = round(share * steps)
    return found if found > 1 else 0


# ---- items


def every(names: Sequence[str], count: int) -> list[str]:
    """``count`` of the names, evenly spread over their sorted list."""
    ordered = sorted(set(names))
    return [ordered[place * len(ordered) // count] for place in range(min(count, len(ordered)))]


def first_of_each(rows: Iterable[dict], by: str, groups: Sequence[str], most: int, key: str) -> list[dict]:
    """The first ``most`` rows of each group, none whose ``key`` came before."""
    kept: dict[str, list[dict]] = {name: [] for name in groups}
    seen = set()
    for row in rows:
        if row[by] in kept and len(kept[row[by]]) < most and row[key] not in seen:
            seen.add(row[key])
            kept[row[by]].append(row)
    return [row for found in kept.values() for row in found]


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# ---- for people


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows with the same keys as aligned text."""
    if not rows:
        return ""
    heads = list(rows[0])
    lines = [[str(h) for h in heads], *([_shown(row[h]) for h in heads] for row in rows)]
    widths = [max(len(line[c]) for line in lines) for c in range(len(heads))]
    return "\n".join("  ".join(text.ljust(width) if c == 0 else text.rjust(width)
                               for c, (text, width) in enumerate(zip(line, widths, strict=True)))
                     for line in lines)  # fmt: skip


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return f"{value['median']:.4g} ({value['low']:.4g}-{value['high']:.4g})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
