"""Imports point down, plug-ins know nothing of each other, plans need no torch; and the contracts that say so bite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.api import read_configuration

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "rankscope"
CONTRACTS = read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
LAYERS = "imports point down and siblings never import each other"
PLUGINS = "plug-ins never import each other"
LIBRARY = "the engine reaches the library only through plugins"
LIGHT = "plans, stores and reports load no torch"
SQL = "only storage speaks SQL"
MOST_LINES = 400


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """A finished command with its output as text."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})


def broken_contracts(folder: Path, source: Path) -> tuple[set[str], str]:
    """Names of the contracts in ``folder`` that the package under ``source`` breaks, and the whole output."""
    script = "from importlinter.cli import lint_imports_command as main; main()"
    done = run([sys.executable, "-c", script, "--no-cache"], folder, PYTHONPATH=str(source), COLUMNS="200")
    verdicts = {c["name"]: f"{c['name']} KEPT" in done.stdout for c in CONTRACTS}
    broken = {name for name in verdicts if f"{name} BROKEN" in done.stdout}
    assert broken == {name for name, is_kept in verdicts.items() if not is_kept}, done.stdout + done.stderr
    return broken, done.stdout


@pytest.fixture
def copy(tmp_path):
    """The package's modules and contracts in a folder of their own, to plant violations in."""
    only_modules = shutil.ignore_patterns("__pycache__", "data.*", "*.jsonl", "*.safetensors", "*.json", "assets")
    shutil.copytree(PACKAGE, tmp_path / "rankscope", ignore=only_modules)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_there_are_five_contracts_and_none_has_an_exception():
    assert {c["name"] for c in CONTRACTS} == {LAYERS, PLUGINS, LIBRARY, LIGHT, SQL}
    assert not [c["name"] for c in CONTRACTS if c.get("ignore_imports")]


def test_the_code_keeps_every_contract():
    broken, output = broken_contracts(ROOT, PACKAGE.parent)
    assert not broken, output


@pytest.mark.parametrize(
    ("contract", "module", "line"),
    [
        (LAYERS, "errors.py", "import rankscope.records"),
        (LAYERS, "report/view.py", "import rankscope.data.dataset"),
        (LAYERS, "training/optim.py", "import rankscope.evaluation.suite"),
        (LAYERS, "plugins.py", "import rankscope.provenance"),
        (LAYERS, "utils.py", "import json"),
        (PLUGINS, "library/tasks/mmlu.py", "import rankscope.library.tasks.gsm8k"),
        (PLUGINS, "library/scorers/choice.py", "import rankscope.library.tasks.gsm8k"),
        (LIBRARY, "study/plan.py", "import rankscope.library.tasks.gsm8k"),
        (LIGHT, "tasks/samples.py", "import torch"),
        (LIGHT, "stats/cost.py", "def late():\n    import transformers"),
        (SQL, "study/study.py", "import sqlalchemy"),
    ],
)
def test_a_planted_violation_breaks_its_contract_and_no_other(copy, contract, module, line):
    file = copy / "rankscope" / module
    file.write_text((file.read_text(encoding="utf-8") if file.exists() else "") + f"\n\n{line}\n", encoding="utf-8")
    broken, output = broken_contracts(copy, copy)
    assert broken == {contract}, output


def test_a_wrong_order_of_layers_is_broken(tmp_path):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    right, wrong = '  "report",\n  "stats | storage",\n', '  "stats | storage",\n  "report",\n'
    assert text.count(right) == 1
    (tmp_path / "pyproject.toml").write_text(text.replace(right, wrong), encoding="utf-8")
    assert broken_contracts(tmp_path, PACKAGE.parent)[0] == {LAYERS}


def test_what_must_be_light_loads_no_torch():
    (light,) = (c for c in CONTRACTS if c["name"] == LIGHT)
    roots = tuple(light["source_modules"])
    names = [".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in PACKAGE.rglob("*.py")]
    modules = [n.removesuffix(".__init__") for n in names if any(f"{n}.".startswith(f"{root}.") for root in roots)]
    assert len(modules) > len(roots)
    script = f"import sys; import {', '.join(modules)}; print(*sys.modules)"
    done = run([sys.executable, "-c", script], ROOT, PYTHONPATH=str(PACKAGE.parent))
    assert done.returncode == 0, done.stderr
    assert not set(light["forbidden_modules"]) & set(done.stdout.split())


def test_no_module_is_too_long():
    long = {str(p.relative_to(PACKAGE)): n for p in PACKAGE.rglob("*.py") if (n := _lines(p)) > MOST_LINES}
    assert not long


def test_ruff_finds_nothing():
    if not (ruff := shutil.which("ruff", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")):
        pytest.skip("ruff isn't installed")
    done = run([ruff, "check", "--no-cache", "--output-format=concise", "src", "tests", "docs", "examples"], ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_annotations_and_shapes_are_checked_while_the_tests_run(pytestconfig, base):
    if not pytestconfig.getoption("jaxtyping_packages"):
        pytest.skip("started without --jaxtyping-packages")
    import torch
    from jaxtyping import TypeCheckError

    from rankscope.records import Arm

    with pytest.raises(TypeCheckError, match="rank"):
        Arm("lora-r4", "lora", rank="4")
    with pytest.raises(TypeCheckError, match="ids"):
        base.hidden(torch.zeros(3, dtype=torch.long))  # (T,) where (B, T) is meant


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())
