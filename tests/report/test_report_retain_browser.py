"""The slider in a real browser: wherever it stands, and whatever is preferred, the page says what Python says."""

from __future__ import annotations

import math

import pytest

from rankscope.report import render
from rankscope.report.retain import head, places, said
from report.retain_planted import moving
from report.test_report_browser import browser, pytestmark  # noqa: F401 - the fixture and its condition

ONE = "[data-kind=frontier]"


@pytest.fixture(scope="module")
def moved(browser, view, tmp_path_factory):  # noqa: F811
    from selenium.webdriver.support.ui import WebDriverWait

    planted, chooser = moving(view)
    file = tmp_path_factory.mktemp("retain") / "report.html"
    file.write_text(render(planted, "html"), encoding="utf-8")
    browser.get(file.as_uri())
    made = f"return !!document.querySelector('{ONE}[data-made=yes] svg .arm')"
    WebDriverWait(browser, 30).until(lambda d: d.execute_script(made))
    return browser, planted, chooser


def _shown(driver):
    """Head, reason and every arm's place, as the page has them."""
    return driver.execute_script(
        f"""const box = document.querySelector('{ONE}'), text = s => box.querySelector(s).textContent;
        const rows = [...box.querySelectorAll('tbody tr')].map(r => [r.children[0], r.children[3], r.children[4]]);
        return [text('output'), text('.head'), text('.why-so'), rows.map(r => r.map(c => c.textContent)),
            [...box.querySelectorAll('.arm.out title')].map(t => t.textContent.split(':')[0]),
            box.querySelector('.arm.recommended title').textContent.split(':')[0]]"""
    )


def _expected(chooser, percent, prefer):
    words = {"recommended": "recommended", "possible": "can be the best", "beaten": "beaten", "out": "left out"}
    choice = chooser.under(percent / 100 or None, prefer)
    found = {arm: (words[state], why) for arm, (state, why) in places(choice).items()}
    rows = [[a, *found[a]] for a in ("lora-r1", "lora-r4", "lora-r16")] + [["full", "for comparison", ""]]
    out = {arm for arm, (state, _) in found.items() if state == "left out"}
    return [f"{percent} %" if percent else "not asked", head(choice), said(choice), rows, out, choice.arm]


def test_around_every_mark_and_under_every_preference_the_page_says_what_recommend_says(moved):
    driver, view, chooser = moved
    ends = sorted({100 * p.upto for p in view.advice[0].pieces if p.upto is not None})
    stops = sorted({min(max(n, 0), 100) for e in ends for n in (math.floor(e) - 1, math.floor(e), math.ceil(e))} | {0})
    move = f"""const s = document.querySelector('{ONE} input[type=range]'); s.value = arguments[0];
        s.dispatchEvent(new Event('input', {{bubbles: true}}))"""
    for prefer in ("gain", "retention", "cost"):
        driver.find_element("css selector", f"{ONE} input[value={prefer}]").click()
        for percent in stops:
            driver.execute_script(move, percent)
            *told, out, arm = _shown(driver)
            assert [*told, set(out), arm] == _expected(chooser, percent, prefer)


def test_the_slider_is_moved_with_the_keyboard_and_tells_where_it_stands(moved):
    from selenium.webdriver.common.keys import Keys

    driver, _, _ = moved
    driver.find_element("css selector", f"{ONE} input[value=gain]").click()
    slider = driver.find_element("css selector", f"{ONE} input[type=range]")
    names = f"return [...document.querySelectorAll('{ONE} [name=retain-0-prefer]')].map(radio => radio.value)"
    assert slider.get_attribute("id") == "retain-0-share"
    assert sorted(driver.execute_script(names)) == ["cost", "gain", "retention"]
    slider.send_keys(Keys.HOME)
    assert slider.get_attribute("aria-valuetext") == "not asked"
    slider.send_keys(Keys.END, Keys.ARROW_LEFT)
    assert slider.get_attribute("aria-valuetext") == "99 %"
    drawing = driver.find_element("css selector", f"{ONE} svg").get_attribute("aria-label")
    assert "99 %. Recommended: lora-r1" in drawing and "lora-r16 left out" in drawing
    assert driver.find_element("css selector", f"{ONE} .answer").get_attribute("role") == "status"
    assert driver.execute_script(f"return document.querySelector('{ONE} svg line.asked').getAttribute('x1') > 0")
    hue = f"return getComputedStyle(document.querySelector('{ONE} .arm.recommended')).color"
    assert driver.execute_script(hue) == "rgb(95, 183, 232)"
    ticks = (
        f"return [...document.querySelector('{ONE}').querySelectorAll('.ticks i')].map(i => parseFloat(i.style.left))"
    )
    assert driver.execute_script(ticks) == pytest.approx([88.3, 92.9, 97.3, 99.7])


def test_it_fits_a_narrow_window_and_logs_nothing(moved):
    driver, _, _ = moved
    driver.set_window_size(500, 1000)
    try:
        fits = f"const s = document.querySelector('{ONE} svg').getBoundingClientRect(); return s.right <= innerWidth"
        assert driver.execute_script(fits)
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        driver.set_window_size(1360, 1000)
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
