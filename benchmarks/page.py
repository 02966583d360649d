"""How large the page of a big study is, and how soon it can be used: 30 arms, 57 subjects, 100,000 scores of items.

    python benchmarks/page.py [--out page.html]

Prints a table for people, then one JSON line. The browser's part needs chromium and chromedriver in PATH, and selenium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rankscope.records import Arm, CurvePoint, EvalResult, Ledger, ModelRef, Recipe, RunResult, RunSpec, Score, TaskRef
from rankscope.report import render
from rankscope.report.view import Evidence, build

NUM_ARMS, NUM_SUBJECTS, NUM_SCORES = 30, 57, 100_000
TASKS = {"science": ("in_domain", 400), "law": ("cross_domain", 300), "reading": ("cross_domain", 300)}
MODEL = ModelRef("made/model", key="made")
READY = "return document.documentElement.getAttribute('data-charts') === 'done'"
LIMITS = {"megabytes": 8.0, "usable_seconds": 2.0}


def arms() -> tuple[Arm, ...]:
    """The base, LoRA at seven ranks and four settings each, and full SFT."""
    settings = [(rank, alpha) for alpha in (8.0, 16.0, 32.0, 64.0) for rank in (1, 2, 4, 8, 16, 32, 64)]
    lora = tuple(Arm(f"lora-r{r}-a{a:g}", "lora", lr=(1e-3,), rank=r, alpha=a) for r, a in settings)
    return (Arm("base", "base"), *lora, Arm("full", "full", lr=(1e-4,)))


def evidence() -> Evidence:
    """Made scores: items keep their difficulty over arms, higher ranks gain and forget more."""
    per_arm = NUM_SCORES // NUM_ARMS
    sizes = {task: size for task, (_, size) in TASKS.items()}
    sizes["mmlu"] = per_arm - sum(sizes.values())
    roles = {**{task: role for task, (role, _) in TASKS.items()}, "mmlu": "retention"}
    runs: list[tuple] = []
    evals: dict[tuple[str, str], EvalResult] = {}
    for number, arm in enumerate(arms()):
        train = None if arm.kind == "base" else TaskRef("science", data_key="rows")
        spec = RunSpec(MODEL, arm, *((0.0, None, None, 0) if train is None else (arm.lr[0], train, Recipe(), 0)))
        curve = tuple(CurvePoint(s, 3 * 0.99**s + 1, 1e-3, s * 64, s * 0.1) for s in range(1, 201)) if train else ()
        ledger = Ledger(seconds=60.0, tokens=100_000, flops=1e15, peak_bytes=10**9, trainable=4000 * (arm.rank or 9999))
        runs.append((spec, arm.name, RunResult(arm.name, "done", steps=200, curve=curve, ledger=ledger), "final"))
        for task, size in sizes.items():
            evals[arm.name, task] = _scores(number, arm, task, roles[task], size)
    pairs = tuple(roles.items())
    return Evidence("big", "A big study", (0,), arms(), ("science",), {"science": pairs}, tuple(runs), evals)


def _scores(number: int, arm: Arm, task: str, role: str, size: int) -> EvalResult:
    strength = 0.0 if arm.kind == "base" else 0.5 + 0.5 * np.log2(arm.rank or 128) / 7
    rate = 0.5 + strength * {"in_domain": 0.2, "cross_domain": -0.02, "retention": -0.06}[role]
    hard = np.random.default_rng(len(task)).permutation(size) / size
    right = hard + np.random.default_rng([number, len(task)]).normal(0, 0.03, size) < rate
    subjects = [f"subject_{i % NUM_SUBJECTS:02d}" if task == "mmlu" else "" for i in range(size)]
    scores = tuple(
        Score(f"{task}-{i}", float(v), subject=s) for i, (v, s) in enumerate(zip(right, subjects, strict=True))
    )
    return EvalResult(arm.name, task, "done", metric="accuracy", chance=0.25, scores=scores, ledger=Ledger(seconds=2.0))


def in_browser(file: Path) -> dict[str, float] | None:
    """Seconds from the request to the load event, to the first chart, to an answered click, and to the last chart."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        return None
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(flag)
    options.page_load_strategy = "none"
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.get("about:blank")
        driver.set_script_timeout(120)
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _PROBE})
        driver.get(file.as_uri())
        until = time.monotonic() + 120
        while time.monotonic() < until and not driver.execute_script("return !!(window.probe && window.probe.usable)"):
            time.sleep(0.1)
        while time.monotonic() < until and not driver.execute_script(READY):
            time.sleep(0.1)
        return driver.execute_script("return {...window.probe, all_charts: performance.now() / 1000}")
    finally:
        driver.quit()


_PROBE = """
window.probe = {};
addEventListener('load', () => { probe.load = performance.now() / 1000; });
const timer = setInterval(() => {
  const button = document.querySelector('[data-theme-button]');
  if (!probe.load || !document.querySelector('[data-drawn=yes]') || !button) { return; }
  clearInterval(timer);
  probe.first_chart = performance.now() / 1000;
  button.click();
  requestAnimationFrame(() => setTimeout(() => { probe.usable = performance.now() / 1000; }));
}, 10);
"""


def measure(out: Path) -> dict[str, Any]:
    made = evidence()
    held = sum(len(e.scores) for e in made.evals.values())
    start = time.perf_counter()
    view = build(made)
    built = time.perf_counter()
    text = render(view, "html")
    done = time.perf_counter()
    out.write_text(text, encoding="utf-8")
    row = {"arms": len(made.arms), "scores": held, "build_seconds": built - start, "page_seconds": done - built,
           "megabytes": out.stat().st_size / 1e6}  # fmt: skip
    seen = in_browser(out)
    return {**row, **{f"{name}_seconds": value for name, value in (seen or {}).items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=None, help="keep the page here")
    given = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        row = measure(Path(given) if given else Path(folder) / "page.html")
    for name, value in row.items():
        limit = f"   (at most {LIMITS[name]:g})" if name in LIMITS else ""
        print(f"{name:24}{value:>12,.2f}{limit}" if isinstance(value, float) else f"{name:24}{value:>12,}")
    print(json.dumps({"benchmark": "page", **row}))


if __name__ == "__main__":
    main()
