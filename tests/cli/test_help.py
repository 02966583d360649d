"""Help is quick, complete and true; errors are one line and an exit code."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from rankscope.cli.main import app, main
from rankscope.cli.options import parse_duration

VERBS = [
    "init",
    "schema",
    "demo",
    "check",
    "plan",
    "run",
    "compare",
    "report",
    "list",
    "gc",
    "score",
    "recommend",
    "propose",
    "doctor",
    "new",
    "audit",
    "roi",
    "view",
    "status",
    "adapter",
]
OF_ADAPTER = ["truncate"]
ALL = [verb for verb in VERBS if verb != "adapter"] + [f"adapter {verb}" for verb in OF_ADAPTER]
DOCS = Path(__file__).parents[2] / "docs"
HEAVY = {"torch", "transformers", "numpy", "scipy", "pandas", "pydantic", "sqlalchemy", "yaml", "rich", "datasets"}


def test_the_verbs_are_these():
    commands = typer.main.get_command(app).commands
    assert list(commands) == VERBS
    assert list(commands["adapter"].commands) == OF_ADAPTER


@pytest.mark.parametrize("verb", ALL)
def test_every_verb_shows_one_real_example_and_takes_json(verb, capsys):
    assert main([*verb.split(), "-h"]) == 0
    text = capsys.readouterr().out
    assert text.count(f"Example: rankscope {verb}") == 1
    assert "--json" in text


@pytest.mark.parametrize("verb", ["check", "plan", "run", "status", "compare", "report", "roi"])
def test_every_verb_on_a_study_takes_overrides_and_a_data_folder(verb, capsys):
    main([verb, "-h"])
    text = capsys.readouterr().out
    assert "--set KEY=VALUE" in text and "--data-dir DIR" in text


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['rankscope', '--help'];"
        "from rankscope.cli.main import main; assert main() == 0;"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": source}
    seconds = []
    for _ in range(3):  # processor time, and the least of three: a busy machine is not the command's fault
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert not HEAVY & set(done.stderr.split())
    assert min(seconds) < 0.5


@pytest.mark.parametrize("page", ["cli", "methods"])
def test_a_generated_page_is_up_to_date(page):
    spec = importlib.util.spec_from_file_location(f"generate_{page}", DOCS / f"generate_{page}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert written == module.generate(), f"run: python docs/generate_{page}.py"


def test_the_version_is_shown(capsys):
    import rankscope

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rankscope {rankscope.__version__}\n"


def test_a_wrong_command_line_exits_with_2(capsys):
    assert main(["rnu"]) == 2
    assert main(["run"]) == 2
    assert main(["run", "study.yaml", "--budget", "soon"]) == 2
    assert capsys.readouterr().out == ""


def test_with_json_an_error_is_one_object_on_stdout(capsys):
    assert main(["list", "taks", "--json"]) == 2
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert (error["kind"], error["exit_code"]) == ("PluginError", 2)
    assert captured.err == f"error: {error['message']}\n"
    assert "Did you mean 'tasks'?" in error["message"]

    assert main(["score", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "UsageError"


def test_init_writes_a_study_once(tmp_path, capsys):
    assert main(["init", str(tmp_path / "new"), "--json"]) == 0
    path = Path(json.loads(capsys.readouterr().out)["path"])
    assert path.read_text().startswith("# A rankscope study")
    assert main(["init", str(tmp_path / "new")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "there is a study here already. Next: rankscope check" in captured.err
    assert "Traceback" not in captured.err


def test_what_libraries_print_stays_out_of_json(capsys, monkeypatch):
    from rankscope import plugins

    monkeypatch.setattr(plugins, "names", lambda kind: print("chatter") or [])
    assert main(["list", "tasks", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"kind": "tasks", "plugins": []}
    assert captured.err == "chatter\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_stopping_says_how_to_go_on(as_json, capsys, monkeypatch):
    from rankscope import plugins

    def stop(kind):
        raise KeyboardInterrupt

    monkeypatch.setattr(plugins, "names", stop)
    arguments = ["list", "tasks", *(["--json"] if as_json else [])]
    assert main(arguments) == 130
    captured = capsys.readouterr()
    assert captured.err.strip() == f"stopped; what is done is kept. Next: rankscope {' '.join(arguments)}"
    assert not as_json or json.loads(captured.out)["error"]["exit_code"] == 130


def test_a_traceback_is_shown_only_on_request(capsys, monkeypatch):
    assert main(["list", "nothing"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("RANKSCOPE_TRACEBACK", "1")
    assert main(["list", "nothing"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_missing_file_is_one_line(capsys, monkeypatch):
    from rankscope import plugins

    def missing(kind):
        raise FileNotFoundError(2, "No such file or directory", "lost.txt")

    monkeypatch.setattr(plugins, "names", missing)
    assert main(["list", "tasks"]) == 1
    assert capsys.readouterr().err == "error: lost.txt: No such file or directory\n"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("45m", 2700), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("60", 60)]
)
def test_a_budget_is_read_with_its_unit(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1h", "2 hours", "1h30", "h", "5x"])
def test_a_budget_that_is_no_time_is_refused(text):
    with pytest.raises(typer.BadParameter):
        parse_duration(text)
