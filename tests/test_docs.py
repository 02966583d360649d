"""What the documents show runs as shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rankscope.cli.main import app
from rankscope.config.load import from_dict
from rankscope.testing import check_task

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_task_of_the_extending_page_keeps_the_contract():
    (code,) = _blocks(ROOT / "docs" / "extending.md", "python")
    names: dict = {}
    exec(code, names)  # the page's own words
    check_task(names["PORTS"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_in_a_document_exists(page):
    import typer

    known = set(typer.main.get_command(app).commands)
    said = re.findall(r"^(?:\.venv/bin/)?rankscope (\w+)", "\n".join(_blocks(page, "")), flags=re.MULTILINE)
    assert set(said) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("file", sorted(ROOT.glob("studies/*.yaml")), ids=lambda p: p.name)
def test_every_ready_study_is_valid(file):
    import yaml

    config = from_dict(yaml.safe_load(file.read_text()) | {"data_dir": None})
    assert config.name == file.stem and len(config.arms()) > 2


def test_the_python_quickstart_runs_and_runs_again_at_once(tmp_path):
    script = ROOT / "examples" / "01_quickstart.py"
    first, again = (
        subprocess.run([sys.executable, str(script), "q"], cwd=tmp_path, capture_output=True, text=True, timeout=900)
        for _ in range(2)
    )
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert "rank 8 learned" in first.stdout and "nothing left to do" in again.stdout
    assert json.loads((tmp_path / "q" / "adapter" / "adapter_config.json").read_text())["r"] == 8
    assert (tmp_path / "q" / "quickstart.html").stat().st_size > 50_000
