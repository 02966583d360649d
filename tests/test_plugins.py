"""Plug-ins of other packages: found by entry point, known by their code; a broken one is named and hides no other."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

from rankscope import plugins
from rankscope.cli.main import main
from rankscope.errors import PluginError
from rankscope.provenance import content_key
from rankscope.records import TaskRef
from rankscope.study import plan
from rankscope.study.plan import task_key
from rankscope.study.study import Study
from rankscope.tasks.task import get_task, identity, prepare, resolve
from rankscope.testing import check_task

PORTS = """
from rankscope.data.dataset import Rows
from rankscope.tasks.samples import choice_sample
from rankscope.tasks.task import Task


def to_sample(row, form, index):
    return choice_sample(row["question"], ["80", "443"], row["right"], form)


def rows(options, split, data_dir):
    letters = [" ".join("EBFHKLJSTRGQDAMCPNOIAB"[i : i + 3]) for i in range(20)]
    found = tuple({"question": f"{text}: which port?", "right": i % 2} for i, text in enumerate(letters))
    return Rows(found, "k", "made")


PLUGIN = Task(
    name="ports", summary="Which port does a server use?", source=None, to_sample=to_sample,
    forms=("cloze",), default_form="cloze", uniform=0.5, licence="ours", paper="none", rows=rows,
    example={"question": "which port?", "right": 1},
)
"""
SCORER = """
from rankscope.tasks.scoring import pick_choice


def strict(sample, response):
    return pick_choice(sample, response.loglikelihoods)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a package with these modules and entry points on the search path, as an installer would leave it there."""
    known = set(sys.modules)

    def put(name, modules, entry_points, version="1.0"):
        site = tmp_path / f"site-{name}-{version}"
        package, info = site / name, site / f"{name}-{version}.dist-info"
        package.mkdir(parents=True)
        info.mkdir()
        for module, code in {"__init__": "", **modules}.items():
            (package / f"{module}.py").write_text(code, encoding="utf-8")
        lines = [f"{key} = {value}" for key, value in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[rankscope.plugins]", *lines, ""]), encoding="utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(str(site))
        return package

    yield put
    for name in set(sys.modules) - known:
        if name.startswith("portsmith"):
            del sys.modules[name]


def forget(*names):
    """Let the next import read the files again, as a new process would."""
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.startswith(names)]:
        del sys.modules[name]


def test_a_task_of_a_package_is_listed_keeps_the_contract_and_is_scored_in_a_study(install, tmp_path, capsys):
    install("portsmith", {"ports": PORTS}, {"tasks.ports": "portsmith.ports"})
    assert main(["list", "tasks", "--json"]) == 0
    row = next(r for r in json.loads(capsys.readouterr().out)["plugins"] if r["name"] == "ports")
    assert row == {"name": "ports", "from": "portsmith 1.0", "summary": "Which port does a server use?"}
    check_task(get_task("ports"))
    study = Study.load({
        "name": "packaged",
        "models": [{"id": "demo", "dtype": "float32"}],
        "train": ["ports"],
        "arms": ["base", {"lora": {"rank": 1, "lr": 1e-3}}],
        "training": {"max_steps": 2, "batch_tokens": 256, "seeds": [0]},
        "evaluate": {"retention": [{"task": "demo_facts", "limit": 8}]},
    })  # fmt: skip
    result = study.run(tmp_path / "runs")
    assert result.is_complete and not result.failed
    assert result.contrast("lora-r1", "base", task="ports").estimate.num_items == 20


def test_a_task_of_a_package_is_known_by_package_version_and_code(install):
    package = install("portsmith", {"ports": PORTS}, {"tasks.ports": "portsmith.ports"})
    first = identity(resolve(TaskRef("ports")))
    assert first["task"].startswith("portsmith==1.0:ports@") and first == identity(resolve(TaskRef("ports")))
    (package / "ports.py").write_text(PORTS.replace("which port", "what port"), encoding="utf-8")
    forget("portsmith")
    changed = identity(resolve(TaskRef("ports")))
    assert changed["task"].startswith("portsmith==1.0:ports@") and changed != first
    forget("portsmith")
    install("portsmith", {"ports": PORTS}, {"tasks.ports": "portsmith.ports"}, version="1.1")
    newer = identity(resolve(TaskRef("ports")))
    assert newer["task"].startswith("portsmith==1.1:ports@") and newer != first


def test_a_task_that_the_front_module_only_passes_on_is_known_by_where_it_is_written(install):
    package = install("portsmith", {"__init__": "from portsmith.inner import PLUGIN", "inner": PORTS},
                      {"tasks.ports": "portsmith:PLUGIN"})  # fmt: skip
    first = identity(resolve(TaskRef("ports")))
    (package / "inner.py").write_text(PORTS.replace("which port", "what port"), encoding="utf-8")
    forget("portsmith")
    assert identity(resolve(TaskRef("ports"))) != first


def test_a_changed_scorer_of_a_package_or_file_can_not_reuse_old_scores(install, tmp_path):
    named = PORTS.replace('paper="none",', 'paper="none", scorers={"cloze": "strict"},')
    package = install("portsmith", {"ports": named, "judge": SCORER},
                      {"tasks.ports": "portsmith.ports", "scorers.strict": "portsmith.judge:strict"})  # fmt: skip
    ref = resolve(TaskRef("ports"))
    assert prepare(ref).scorer.__name__ == "strict"
    first = task_key(ref)
    (package / "judge.py").write_text(SCORER + "# judged in another way\n", encoding="utf-8")
    forget("portsmith")
    assert task_key(resolve(TaskRef("ports"))) != first

    judge, task = tmp_path / "judge.py", tmp_path / "mine.py"
    judge.write_text(SCORER, encoding="utf-8")
    task.write_text(PORTS.replace('paper="none",', f'paper="none", scorers={{"cloze": "{judge}@strict"}},'))
    ref = resolve(TaskRef(f"{task}@PLUGIN"))
    before = task_key(ref)
    judge.write_text(SCORER + "# judged in another way\n", encoding="utf-8")
    assert task_key(ref) != before


def test_keys_of_the_shelfs_tasks_hold_their_bare_name():
    ref = resolve(TaskRef("demo_facts"))
    assert identity(ref)["task"] == "demo_facts"
    assert task_key(ref) == content_key({"task": identity(ref), "scorer": plan._SCORER})


@pytest.mark.parametrize(
    ("modules", "target", "reason"),
    [
        ({}, "portsmith.gone", "ModuleNotFoundError: No module named 'portsmith.gone'"),
        ({"ports": PORTS}, "portsmith.ports:MISSING", "AttributeError: .*MISSING"),
        ({"ports": "class Own(Exception): pass\nraise Own('no licence file')"}, "portsmith.ports", "Own: no licence"),
        ({"ports": "import sys; sys.exit('bye')"}, "portsmith.ports", "SystemExit: bye"),
        ({"ports": "def broken(:"}, "portsmith.ports", "SyntaxError: "),
    ],
)
def test_a_broken_package_is_named_and_hides_no_other(install, capsys, modules, target, reason):
    install("portsmith", modules, {"tasks.ports": target, "tasks.other": "portsmith_good"})
    good = install("portsmith_good", {"__init__": PORTS}, {"tasks.good": "portsmith_good"})
    assert good.is_dir()
    with pytest.raises(PluginError, match=rf"'ports' can't be loaded: the package portsmith 1\.0 raises {reason}"):
        plugins.get("tasks", "ports")
    assert main(["list", "tasks", "--json"]) == 0
    rows = {r["name"]: r for r in json.loads(capsys.readouterr().out)["plugins"]}
    assert rows["ports"]["from"] == "portsmith 1.0" and rows["ports"]["summary"].startswith("BROKEN: the task 'ports'")
    assert rows["good"]["summary"] == rows["other"]["summary"] == "Which port does a server use?"
    assert "demo_facts" in rows
    assert main(["score", "demo", "ports"]) == 2
    assert "the package portsmith 1.0 raises" in capsys.readouterr().err


def test_two_packages_with_one_name_are_an_error_that_names_both(install, capsys):
    install("portsmith", {"ports": PORTS}, {"tasks.ports": "portsmith.ports"})
    install("portsmith_two", {"ports": PORTS}, {"tasks.ports": "portsmith_two.ports"})
    with pytest.raises(PluginError, match=r"several packages.*portsmith 1\.0, portsmith_two 1\.0.*pip uninstall"):
        plugins.get("tasks", "ports")
    assert main(["list", "tasks"]) == 0
    assert "BROKEN: several packages declare the task 'ports'" in capsys.readouterr().out


def test_a_users_file_that_breaks_is_named(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("1 / 0", encoding="utf-8")
    with pytest.raises(PluginError, match=r"the file .*mine\.py raises ZeroDivisionError: division by zero"):
        plugins.get("tasks", f"{file}@PLUGIN")
    text = tmp_path / "mine.txt"
    text.write_text("no code", encoding="utf-8")
    with pytest.raises(PluginError, match=r"must be Python"):
        plugins.get("tasks", f"{text}@PLUGIN")
