"""What the documents show runs as shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rankscope import plugins
from rankscope.cli.main import app
from rankscope.config.load import from_dict
from rankscope.tasks.judging import perfect, pick
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Response
from rankscope.tasks.task import get_task, prepare, resolve
from rankscope.testing import check_diagnostic, check_task

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_plug_ins_of_the_extending_page_keep_the_contract():
    task, diagnostic = _blocks(ROOT / "docs" / "extending.md", "python")
    names: dict = {}
    exec(task, names)  # the page's own words
    check_task(names["PORTS"])
    exec(diagnostic, names)
    check_diagnostic(names["ASYMMETRY"])


def test_every_quantity_of_every_diagnostic_stands_in_the_page_about_them():
    page = (ROOT / "docs" / "inside.md").read_text(encoding="utf-8")
    for name in plugins.names("diagnostics"):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert [q.name for q in plugins.get("diagnostics", name).quantities if f"`{q.name}`" not in row] == []


def test_the_tables_of_the_roi_page_are_those_of_the_code_and_its_prices_are_valid(tmp_path):
    import importlib.util

    from rankscope.config.prices import load
    from rankscope.stats.gpus import GPUS

    spec = importlib.util.spec_from_file_location("generate_roi", ROOT / "docs" / "generate_roi.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = ROOT / "docs" / "roi.md"
    assert page.read_text(encoding="utf-8") == module.generate(), "run: python docs/generate_roi.py"
    (shown,) = _blocks(page, "yaml")
    (tmp_path / "prices.yaml").write_text(shown)
    assert load(tmp_path / "prices.yaml", [g.name for g in GPUS]).numbers["gpu_price"] == (1.5, 2.5, 4.0)


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


OWN = ROOT / "docs" / "own-data.md"


@pytest.mark.parametrize("block", _blocks(OWN, "yaml"))
def test_the_tasks_of_the_own_data_page_are_valid_and_their_options_known(block, tmp_path):
    import yaml

    columns = (
        "product",
        "question",
        "reply",
        "stem",
        "opa",
        "opb",
        "opc",
        "opd",
        "key",
        "field",
        "prompt",
        "completion",
    )
    rows = [{c: f"the answer is {i}" for c in columns} | {"key": i % 4} for i in range(40)]
    document = yaml.safe_load(block) | {"models": ["demo"], "arms": [{"lora": {"rank": 4}}]}
    for file in ("questions.csv", "faq.csv", "exam.csv", "pairs.jsonl", "faq.jsonl", "sums.jsonl"):
        _write(tmp_path / file, rows)
    for name in ("train", "test"):
        _write(tmp_path / f"{name}.parquet", rows)
    for ref in from_dict(document, folder=tmp_path).train_refs():
        given = dict(ref.options)
        if "hub" in given:
            assert set(given) <= set(get_task("data").options)
            continue
        found = prepare(resolve(ref))
        assert found.samples and found.scorer(found.samples[0], perfect(found.samples[0])).value in (0.0, 1.0)


def test_the_scorer_of_the_own_data_page_judges(tmp_path):
    (code,) = _blocks(OWN, "python")
    (tmp_path / "my.py").write_text(code)
    judge = pick(f"{tmp_path}/my.py@judge", {})
    sample = Sample("i", "p", " Yes")
    assert [judge(sample, Response(text=text)).value for text in (" yes, it is", "no")] == [1.0, 0.0]


def _write(path, rows) -> None:
    if path.suffix == ".csv":
        import csv

        with open(path, "w", newline="") as file:
            made = csv.DictWriter(file, list(rows[0]))
            made.writeheader()
            made.writerows(rows)
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


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
