"""What ``rankscope new`` writes passes as it stands, on the shelf and beside it; bad or taken names write nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rankscope import plugins
from rankscope.cli.main import main
from rankscope.study import scaffold

ROOT = Path(__file__).parents[2]


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """A pytest process of its own, with the package found first in ``folder``/src where there is one."""
    source = folder / "src" if (folder / "src").is_dir() else ROOT / "src"
    unset = {"RANKSCOPE_DATA", "PYTEST_ADDOPTS"}
    environment = {k: v for k, v in os.environ.items() if k not in unset} | {"PYTHONPATH": str(source)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def checkout(tmp_path):
    """A copy of this repository's package and of the tests of its shelf."""
    ignored = shutil.ignore_patterns("__pycache__", "model.safetensors", "assets")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=ignored)
    shutil.copytree(ROOT / "tests" / "library", tmp_path / "tests" / "library", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_in_a_checkout_a_task_goes_on_the_shelf_and_the_contract_suite_picks_it_up_unasked(checkout, capsys):
    assert main(["new", "task", "staging_ports", "--dir", str(checkout), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    code, test = (Path(p).relative_to(checkout) for p in made["files"])
    assert str(code) == "src/rankscope/library/tasks/staging_ports.py"
    assert str(test) == "tests/library/test_staging_ports.py"
    done = pytest_in(checkout, str(test), "tests/library/test_task_contract.py", "-k", "staging_ports", "-rA")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("keeps_the_contract_on_its_example[staging_ports]", "file_opens_with_its_evidence[staging_ports]"):
        assert f"{name}\n" in done.stdout and "PASSED" in done.stdout
    text = (checkout / code).read_text(encoding="utf-8")
    assert text.count("TODO") >= 8 and all(f"{word}: TODO" in text for word in ("Paper", "Data", "Licence"))


@pytest.mark.parametrize("kind", ["task", "scorer"])
def test_what_is_put_on_the_shelf_is_formatted_and_checked_like_the_rest(checkout, kind):
    if not (ruff := shutil.which("ruff", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")):
        pytest.skip("ruff isn't installed")
    made = scaffold.write(kind, "staging_ports", checkout)
    for check in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run([ruff, *check, *map(str, made.files)], cwd=checkout, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_scorer_goes_on_the_shelf_too_and_passes(checkout):
    made = scaffold.write("scorers", "near_match", checkout)
    done = pytest_in(checkout, str(made.files[1]))
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(("kind", "count"), [("task", 3), ("tasks", 3), ("scorer", 3)])
def test_elsewhere_two_files_lie_side_by_side_and_pass(tmp_path, monkeypatch, capsys, kind, count):
    monkeypatch.chdir(tmp_path)
    assert main(["new", kind, "staging_ports"]) == 0
    said = capsys.readouterr().out
    plural = kind.rstrip("s") + "s"
    assert "staging_ports.py@PLUGIN" in said
    assert f'[project.entry-points."rankscope.plugins"]\n"{plural}.staging_ports" = "YOUR_PACKAGE.staging_p' in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["staging_ports.py", "test_staging_ports.py"]
    done = pytest_in(tmp_path, "test_staging_ports.py")
    assert done.returncode == 0 and f"{count} passed" in done.stdout, done.stdout + done.stderr


def test_the_file_form_is_scored_end_to_end_on_made_rows(tmp_path, capsys):
    made = scaffold.write("task", "staging_ports", tmp_path / "mine")
    (tmp_path / "rows" / "staging_ports").mkdir(parents=True)
    rows = [{"question": f"Where was {name} born?", "options": ["Kesmere", "Dunstow"], "right": i % 2}
            for i, name in enumerate(("Ida Grant", "Nora Hale", "Elsa Marsh"))]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows)
    for split in ("train", "test"):
        (tmp_path / "rows" / "staging_ports" / f"{split}.jsonl").write_text(text, encoding="utf-8")
    task = f"{made.files[0]}@PLUGIN"
    assert main(["score", "demo", task, "--data-dir", str(tmp_path / "rows"), "--json", "-q"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["scores"]
    assert (found["task"], found["n"], found["metric"]) == (task, 3, "accuracy")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("task", "Ports", "a Python name in lower case"),
        ("task", "2ports", "a Python name in lower case"),
        ("task", "class", "a Python name in lower case"),
        ("task", "my-ports", "a Python name in lower case"),
        ("task", "../ports", "a Python name in lower case"),
        ("task", "p" * 41, "a Python name in lower case"),
        ("task", "gsm8k", "a task of that name already, from rankscope"),
        ("scorer", "choice", "a scorer of that name already, from rankscope"),
        ("task", "json", "a module 'json' can be imported here already"),
        ("diagnostics", "ports", "nothing to start from for diagnostics. Kinds: task, scorer"),
        ("taks", "ports", "no kind of plug-in named 'taks'. Did you mean 'tasks'?"),
    ],
)
def test_a_bad_or_taken_name_exits_with_2_and_writes_nothing(tmp_path, capsys, kind, name, message):
    assert main(["new", kind, name, "--dir", str(tmp_path / "new")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_name_that_a_package_has_is_taken(tmp_path, monkeypatch, capsys):
    point = plugins.metadata.EntryPoint("tasks.ports", "no_such_module", plugins.GROUP)
    monkeypatch.setattr(plugins, "_installed", lambda path: (point,))
    assert main(["new", "task", "ports", "--dir", str(tmp_path)]) == 2
    assert "a task of that name already, from a package that can't be loaded" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["staging_ports.py", "test_staging_ports.py"])
def test_a_file_that_is_there_is_never_overwritten(tmp_path, capsys, there):
    (tmp_path / there).write_text("mine", encoding="utf-8")
    assert main(["new", "task", "staging_ports", "--dir", str(tmp_path)]) == 2
    assert f"{there}: this file is there already" in capsys.readouterr().err
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]


def test_if_the_test_can_not_be_written_the_code_is_not_left_behind(tmp_path, monkeypatch):
    real = open

    def full(file, *rest, **options):
        if Path(file).name.startswith("test_"):
            raise OSError(28, "No space left on device")
        return real(file, *rest, **options)

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(scaffold.InputError, match="No space left on device"):
        scaffold.write("task", "staging_ports", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["conftest", "test_ports"])
def test_a_name_that_pytest_reads_is_refused(tmp_path, capsys, name):
    assert main(["new", "task", name, "--dir", str(tmp_path)]) == 2
    assert f"my_{name}" in capsys.readouterr().err and not list(tmp_path.iterdir())
