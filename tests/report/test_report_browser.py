"""The page in a real browser: it draws every chart, copies its tables, logs no error and asks no network."""

from __future__ import annotations

import json
import shutil

import pytest

from rankscope.report import render
from rankscope.report.charts import charts
from rankscope.report.cite import to_bibtex
from rankscope.report.export import to_csv, to_latex
from rankscope.report.page import sections
from rankscope.report.view import build
from report.inside_planted import with_inside

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
    driver.set_script_timeout(120)  # axe reads the whole page
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


def press(browser, selector):
    """The button reached and pressed with the keyboard; a folded table that it stands in is opened first."""
    from selenium.webdriver.common.keys import Keys

    button = browser.find_element("css selector", selector)
    browser.execute_script("const box = arguments[0].closest('details.fold'); if (box) { box.open = true; }", button)
    button.send_keys(Keys.ENTER)
    return button


def status(browser, selector, words):
    from selenium.webdriver.support.ui import WebDriverWait

    said = "return document.querySelector(arguments[0]).closest('.copy').querySelector('[role=status]').textContent"
    WebDriverWait(browser, 10).until(lambda d: words in d.execute_script(said, selector))


def table_of(view, id):
    return next(table for section in sections(view) for table in section.tables if table.id == id)


def test_a_pressed_button_copies_the_table_or_the_citation(opened, view):
    opened.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite",
                                                                      "clipboardSanitizedWrite"]})  # fmt: skip
    wanted = {
        "[data-copy=headline-0][data-as=latex]": to_latex(table_of(view, "headline-0")),
        "[data-copy=comparisons-1][data-as=csv]": to_csv(table_of(view, "comparisons-1")),
        "[data-copy=cite]": to_bibtex(view),
    }
    for selector, text in wanted.items():
        press(opened, selector)
        status(opened, selector, "Copied")
        read = "const done = arguments[0]; navigator.clipboard.readText().then(done, e => done('' + e))"
        assert opened.execute_async_script(read).replace("\r\n", "\n") == text.replace("\r\n", "\n")
        assert opened.execute_script("return document.querySelectorAll('.copy textarea').length") == 0


@pytest.mark.parametrize("blocked", ["undefined", "{ writeText: () => Promise.reject(new Error('no')) }"])
def test_without_the_clipboards_leave_the_text_is_selected_in_a_field(opened, view, blocked):
    opened.execute_script(f"Object.defineProperty(navigator, 'clipboard', {{value: {blocked}, configurable: true}})")
    try:
        selector = "[data-copy=flips][data-as=csv]"
        press(opened, selector)
        status(opened, selector, "Selected")
        chosen = """const f = document.activeElement;
            return [f.tagName, f.value.substring(f.selectionStart, f.selectionEnd)]"""
        assert opened.execute_script(chosen) == ["TEXTAREA", to_csv(table_of(view, "flips")).replace("\r\n", "\n")]
    finally:
        opened.execute_script("delete navigator.clipboard")


def test_notes_are_reached_and_opened_with_the_keyboard(opened):
    press(opened, "#headline-0 thead th:nth-child(3) a.mark")
    note = "const li = document.querySelector('#headline-0-how-2'), box = li.getBoundingClientRect();"
    shown = """const seen = box.height > 0 && box.top >= 0 && box.bottom <= innerHeight;
        return [li.closest('details').open, location.hash, seen]"""
    assert opened.execute_script(note + shown) == [True, "#headline-0-how-2", True]
    assert opened.execute_script(note + "return li.textContent").startswith("Gain, points: Mean over items")
    press(opened, "#comparisons details.how summary")
    assert opened.execute_script("return document.querySelector('#comparisons details.how').open") is True


def test_notes_are_printed_also_where_they_are_closed(opened):
    closed = "return [...document.querySelectorAll('details.how')].filter(d => !d.open).length"
    before = opened.execute_script(closed)
    opened.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert before > 0 and opened.execute_script(closed) == 0
    opened.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert opened.execute_script(closed) == before


def test_notes_stay_readable_in_the_dark(opened):
    colours = """const style = getComputedStyle(document.querySelector('.how li'));
        const page = getComputedStyle(document.body);
        return [style.color, page.backgroundColor].map(c => c.match(/[\\d.]+/g).slice(0, 3).map(Number))"""
    for scheme in ("dark", "light"):
        opened.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        text, paper = (sum(c) / 3 for c in opened.execute_script(colours))
        assert abs(text - paper) > 100 and (text > paper) == (scheme == "dark")


def test_heat_maps_of_the_inside_are_drawn_and_wide_ones_scroll_in_their_box(browser, evidence, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    looked = build(with_inside(evidence))
    file = tmp_path / "inside.html"
    file.write_text(render(looked, "html"), encoding="utf-8")
    browser.get(file.as_uri())
    done = "return document.documentElement.getAttribute('data-charts') === 'done'"
    WebDriverWait(browser, 60).until(lambda d: d.execute_script(done))
    assert browser.execute_script("return document.querySelectorAll('[data-drawn=yes]').length") == len(charts(looked))
    assert browser.execute_script("return document.querySelectorAll('#chart-depth-0 svg.marks path').length") > 150
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    for width in (1360, 500):
        browser.set_window_size(width, 1000)
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
