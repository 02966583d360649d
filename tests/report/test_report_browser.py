"""The page in a real browser: it draws every chart, logs no error and asks the network for nothing."""

from __future__ import annotations

import json
import shutil

import pytest

from rankscope.report import render
from rankscope.report.charts import charts

selenium = pytest.importorskip("selenium", reason="selenium is not installed")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--window-size=1360,1000",
)

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not in PATH")


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def opened(browser, view, tmp_path_factory):
    from selenium.webdriver.support.ui import WebDriverWait

    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(render(view, "html"), encoding="utf-8")
    browser.get(file.as_uri())
    done = "return document.documentElement.getAttribute('data-charts') === 'done'"
    WebDriverWait(browser, 30).until(lambda d: d.execute_script(done))
    return browser


def test_every_chart_is_drawn_without_errors_or_network(opened, view):
    shapes = "return [...document.querySelectorAll('.canvas')].map(c => c.querySelectorAll('svg.marks path').length)"
    drawn = opened.execute_script(shapes)
    assert len(drawn) == len(charts(view))
    assert min(drawn) > 3
    assert opened.execute_script("return document.querySelectorAll('[data-drawn=yes]').length") == len(drawn)
    assert [entry for entry in opened.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    events = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert [url.split(":")[0] for url in asked] == ["file"]


def test_page_is_never_wider_than_the_window(opened):
    for width in (1360, 500):
        opened.set_window_size(width, 1000)
        assert opened.execute_script("return document.documentElement.scrollWidth <= innerWidth")
