"""The page for every reader: themes, screen readers (axe-core), paper, links into folded tables; in a real browser."""

# ruff: noqa: F811 - a fixture that is imported is named again by who asks for it
from __future__ import annotations

import base64
import io
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from rankscope.report import render
from rankscope.report.audit_page import page as audit_page
from rankscope.report.page import parts
from rankscope.report.view import build
from report.test_audit_page import found, module
from report.test_report_browser import browser, pytestmark  # noqa: F401 - the fixture and its condition

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
axe = pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed")

EVIL = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
SERIOUS = """const [done] = arguments;
    const options = {resultTypes: ['violations'], elementRef: false};
    axe.run({exclude: [['svg']]}, options).then(
        r => done(r.violations.filter(v => ['serious', 'critical'].includes(v.impact))
                   .map(v => [v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 200))])),
        e => done([String(e)]))"""


@pytest.fixture(scope="module")
def study(evidence):
    """A small page: one train task, a title and a note that try to break out of the markup."""
    runs = tuple(r for r in evidence.runs if r[0].train is None or (r[0].train.name == "qa-a" and r[3] == "final"))
    pairs = {"qa-a": evidence.evaluations["qa-a"][:3]}
    return build(replace(evidence, title=EVIL, notes=(EVIL,), runs=runs, train=("qa-a",), evaluations=pairs))


@pytest.fixture(scope="module")
def files(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    about = found(module(0, "q_proj", (1.0, 0.5)), module(1, "q_proj", (2.0, 0.1)))
    (folder / "study.html").write_text(render(study, "html"), encoding="utf-8")
    (folder / "audit.html").write_text(audit_page(about), encoding="utf-8")
    return folder


def look(browser, file):
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(file.as_uri())
    done = "return document.documentElement.getAttribute('data-charts') === 'done'"
    WebDriverWait(browser, 60).until(lambda d: d.execute_script(done))


def choose(browser, theme):
    for _ in range(3):
        if browser.execute_script("return document.querySelector('[data-theme-button]').dataset.choice") == theme:
            return
        browser.execute_script("document.querySelector('[data-theme-button]').click()")
    raise AssertionError(theme)


@pytest.mark.parametrize("name", ["study", "audit"])
def test_axe_finds_nothing_serious_in_light_and_dark(browser, files, name):
    look(browser, files / f"{name}.html")
    browser.execute_script((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    browser.execute_script("document.querySelectorAll('main details.fold').forEach(d => { d.open = true; })")
    for theme in ("light", "dark"):
        choose(browser, theme)
        assert browser.execute_async_script(SERIOUS) == []


def test_the_theme_button_changes_the_page_and_is_remembered(browser, files):
    look(browser, files / "study.html")
    ground = "return getComputedStyle(document.body).backgroundColor"
    seen = {}
    for theme in ("light", "dark"):
        choose(browser, theme)
        seen[theme] = browser.execute_script(ground)
    assert seen["light"] != seen["dark"]
    look(browser, files / "study.html")
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    assert browser.execute_script(ground) == seen["dark"]
    ink = """const text = document.querySelector('.canvas svg.marks text');
        return [getComputedStyle(text).fill, getComputedStyle(document.body).color]"""
    fill, color = browser.execute_script(ink)
    assert fill == color
    choose(browser, "auto")


def test_nothing_from_data_becomes_markup_and_no_script_of_ours_is_refused(browser, files, study):
    look(browser, files / "study.html")
    assert browser.title == f"{EVIL} · rankscope"
    assert browser.execute_script("return document.querySelectorAll('main img, main script:not([type])').length") == 0
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    policy = browser.execute_script("return document.querySelector('meta[http-equiv]').content")
    assert "unsafe-eval" not in policy and "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]


def test_the_link_at_a_chart_opens_its_folded_table(browser, files):
    look(browser, files / "study.html")
    state = "return document.getElementById('scores-0').closest('details').open"
    assert browser.execute_script(state) is False
    browser.find_element("css selector", "#ranks a.to-table").click()
    assert browser.execute_script(state) is True


def test_the_page_prints_to_a_pdf_with_every_part_and_without_navigation(browser, files, study):
    look(browser, files / "study.html")
    printed = browser.execute_cdp_cmd(
        "Page.printToPDF", {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.7}
    )
    pages = pypdf.PdfReader(io.BytesIO(base64.b64decode(printed["data"]))).pages
    text = unicodedata.normalize("NFKC", " ".join(page.extract_text() for page in pages))  # fonts join letters
    text = " ".join(text.split())
    for part in parts(study):
        assert part.title in text and " ".join(part.opening.split())[:60] in text
    assert "Theme:" not in text and "Copy as" not in text and "Skip to" not in text
    assert "Ledger" in text and 3 <= len(pages) <= 40
