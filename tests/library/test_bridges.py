"""Bridges to other libraries' tasks: found by name, never imported unasked, and missing with the command to run."""

from __future__ import annotations

import subprocess
import sys
from importlib import util

import pytest

from rankscope import plugins
from rankscope.config import from_dict
from rankscope.errors import ConfigError, PluginError
from rankscope.records import TaskRef
from rankscope.tasks.task import get_task

STUDY = {"models": ["demo"], "train": ["demo_people"], "arms": ["base", {"lora": {"rank": 8}}]}


def retention(*tasks, **more):
    return from_dict({**STUDY, "evaluate": {"retention": list(tasks)}, **more})


def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch):
    real = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "lm_eval" else real(name, *rest))
    with pytest.raises(PluginError, match="needs the package lm_eval.*pip install 'lm_eval>="):
        get_task("lm_eval:arc_easy")


def test_an_unknown_bridge_gets_the_nearest():
    with pytest.raises(PluginError, match="no bridge named 'lmeval'. Did you mean 'lm_eval'"):
        get_task("lmeval:arc_easy")
    with pytest.raises(
        ConfigError, match="no bridge named 'lmeval'. Did you mean 'lm_eval'. See: rankscope list bridges"
    ):
        retention("lmeval:arc_easy")


def test_a_bridge_of_a_package_is_asked_for_the_rest_of_the_name(monkeypatch):
    task = get_task("arc_easy")
    asked = []
    real = plugins.get
    monkeypatch.setattr(
        plugins,
        "get",
        lambda kind, name: (lambda rest: asked.append(rest) or task) if kind == "bridges" else real(kind, name),
    )
    assert get_task("shop:my:task") is task and asked == ["my:task"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("lm_eval:arc_easy", ("lm_eval", "arc_easy")),
        ("lm_eval:a/b.yaml", ("lm_eval", "a/b.yaml")),
        ("arc_easy", None),
        ("C:\\mine.py@TASK", None),
        ("my/tasks.py@TASK", None),
        ("./a:b.py@TASK", None),
    ],
)
def test_a_name_belongs_to_a_bridge_by_its_prefix(name, parts):
    assert plugins.bridge_parts(name) == parts


def test_a_study_lets_a_bridged_task_through_and_finds_its_file_beside_itself(tmp_path):
    assert retention("lm_eval:arc_easy").evaluate.retention[0].record().name == "lm_eval:arc_easy"
    (tmp_path / "mine.yaml").write_text("task: mine\n")
    (tmp_path / "study.yaml").write_text(
        "models: [demo]\ntrain: [demo_people]\narms: [base, {lora: {rank: 8}}]\n"
        "evaluate:\n  retention:\n    - {task: 'lm_eval:mine.yaml', metric: acc_norm, shots: 5}\n"
    )
    from rankscope.config import load

    (entry,) = load(tmp_path / "study.yaml").evaluate.retention
    expected = TaskRef(f"lm_eval:{tmp_path / 'mine.yaml'}", shots=5, options=(("metric", "acc_norm"),), label="mine")
    assert entry.record() == expected and entry.record().name == "mine@5shot"
    text = (tmp_path / "study.yaml").read_text().replace("mine.yaml", "other.yaml")
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"study.yaml:6: .*no such task file 'other.yaml'"):
        load(tmp_path / "study.yaml")


def test_nothing_imports_the_library_unasked():
    code = (
        "import sys; from rankscope import plugins; import rankscope.cli.main, rankscope.study.study\n"
        "[plugins.get(kind, name) for kind in plugins.KINDS for name in plugins.names(kind)]\n"
        "from rankscope.config import from_dict\n"
        f"from_dict({ {**STUDY, 'evaluate': {'retention': ['lm_eval:arc_easy']}}!r})\n"
        "sys.exit('lm_eval' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
