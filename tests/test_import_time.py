"""``import rankscope`` is quick and loads nothing heavy; reading a study loads pydantic, and still no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HEAVY = {"torch", "transformers", "peft", "datasets", "numpy", "scipy", "pandas", "sqlalchemy", "altair", "rich"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running ``code``."""
    script = f"import sys; {code}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not (HEAVY | {"pydantic", "typer", "yaml"}) & modules_after("import rankscope")


def test_the_errors_are_there_without_anything_heavy():
    assert not (HEAVY | {"pydantic"}) & modules_after("from rankscope import ConfigError, RankscopeError")


def test_reading_a_study_loads_no_torch():
    assert not HEAVY & modules_after("import rankscope.config")
