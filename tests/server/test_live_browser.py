"""The live page in a real browser: it grows under the reader's hands, without a reload, and runs nothing but itself."""

from __future__ import annotations

import shutil
import threading
import time

import pytest
import uvicorn

from made_stores import MadeStore
from rankscope.server import keeping
from rankscope.server.access import Pass
from rankscope.server.app import listen, make_app
from rankscope.storage.watching import Now, clear_now, write_now
from rankscope.study.study import Study

selenium = pytest.importorskip("selenium", reason="selenium is not installed")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=1200,900")

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not in PATH")


@pytest.fixture
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Running:
    """A server in a thread, on a free port, over a store."""

    def __init__(self, folder):
        self.socket = listen(0)
        self.access = Pass(self.socket.getsockname()[1])
        app = make_app(folder, Study.stored, self.access)
        self.server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning", ws="none"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self.thread.start()

    def stop(self):
        self.server.should_exit = True
        self.thread.join(30)


@pytest.fixture
def served(made, at_once):
    running = Running(made.folder)
    yield running
    running.stop()


@pytest.fixture
def at_once(monkeypatch):
    """Pages are made again without a rest."""
    monkeypatch.setattr(keeping, "_LEAST", 0.0)
    monkeypatch.setattr(keeping, "REST", 0.0)


@pytest.fixture
def young(tmp_path, at_once):
    """A store with the base and full SFT alone, and its server: there is no recommendation yet, so no slider."""
    store = MadeStore(tmp_path / "young")
    store.add_base()
    store.add(2, 0)
    running = Running(store.folder)
    yield store, running
    running.stop()


def until(browser, script, seconds=90):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, seconds, poll_frequency=0.1).until(lambda d: d.execute_script(script))


READER = """
document.querySelectorAll('#runs details, #comparisons details').forEach(d => { d.open = !d.matches('.how'); });
window.scrollTo(0, document.querySelector('#runs').getBoundingClientRect().top + scrollY - 70);
document.querySelector('#comparisons details.how').open = true;
const box = document.querySelector('#runs .scroll'); box.style.maxHeight = '5rem'; box.scrollTop = 9;
document.querySelector('#runs details.how summary').focus();
window.mine = document.querySelector('#runs').getBoundingClientRect().top;
"""
SEEN = """
return {top: document.querySelector('#runs').getBoundingClientRect().top - window.mine,
        isOpen: document.querySelector('#comparisons details.how').open,
        closed: [...document.querySelectorAll('main details.how')].filter(d => d.open).length,
        focus: document.activeElement.textContent,
        runs: document.querySelectorAll('#runs table')[0].tBodies[0].rows.length,
        drawn: [...document.querySelectorAll('.canvas')].every(c => c.querySelector('svg.marks'))};
"""


def test_the_page_grows_under_the_readers_hands(browser, served, made):
    browser.get(served.access.url)
    assert "token" not in browser.current_url
    until(browser, "return document.querySelector('#studies a')").click()
    until(browser, "return document.documentElement.getAttribute('data-charts') === 'done'")
    assert "alert(1)" in browser.find_element("css selector", "h1").text
    shown = browser.execute_script("return JSON.parse(document.getElementById('live').textContent).version")
    browser.execute_script(READER)
    before = browser.execute_script(SEEN)
    assert before["drawn"] and before["isOpen"] and before["closed"] == 1

    made.add(0, 1)
    at = time.time()
    write_now(made.folder / "cache", Now(made.key, "demo_people, seed 1: full", "steps", 3, 12, 0, at - 9, at, (),
                                         ((1, 3.0), (3, 2.5))))  # fmt: skip
    until(browser, f"return (document.documentElement.dataset.version || '{shown}') !== '{shown}'")
    until(browser, "return [...document.querySelectorAll('.canvas')].every(c => c.dataset.drawn === 'yes')")
    after = until(browser, SEEN.replace("return {", "const seen = {").rstrip().rstrip(";")
                  + "; return Math.abs(seen.top) < 4 ? seen : null;")  # fmt: skip
    assert after["runs"] == before["runs"] + 1 and after["drawn"]
    assert (after["isOpen"], after["closed"], after["focus"]) == (True, 1, before["focus"])

    said = "return document.querySelector('#live-bar[data-state=running]').textContent"
    bar = until(browser, f"{said}.includes('running: 4 of 6 runs done') && {said.removeprefix('return ')}")
    assert "demo_people, seed 1: full: 3 of 12 steps" in bar
    assert "training loss so far 2.500: unfinished, in no estimate" in bar
    browser.execute_script("window.link = document.querySelector('#live-bar a'); window.link.focus();")
    clear_now(made.folder / "cache")
    until(browser, "return document.querySelector('#live-bar[data-state=still]')")
    assert browser.execute_script("return document.activeElement === window.link")
    assert [e for e in browser.get_log("browser") if "Infinite extent" not in e["message"]] == []

    planted = """const s = document.createElement('script'); s.textContent = 'window.evil = 1';
        document.body.append(s); return window.evil || 'nothing ran'"""
    assert browser.execute_script(planted) == "nothing ran"
    assert "Content Security Policy" in browser.get_log("browser")[-1]["message"]

    served.stop()
    said = until(browser, "return document.querySelector('#live-bar[data-state=lost]')").text
    assert said.startswith("The server has ended")


FIELDS = """
const value = (selector) => (document.querySelector(selector) || {}).value;
return {price: value('.roi [name=gpu_price]'), currency: value('.roi [name=currency]'), text: value('.roi textarea'),
        arm: document.querySelectorAll('.roi-bar select')[1].value, scenario: value('.roi-scenarios input:checked'),
        examples: document.querySelectorAll('.roi-is-example').length,
        slider: value('#retain-0 input[type=range]'), prefer: value('#retain-0 input:checked'),
        flips: ['arm', 'way', 'seeds'].map(name => value('#flips-browser-' + name)),
        shown: document.querySelector('[data-kind=flips] .count').textContent,
        focus: [document.activeElement.tagName, document.activeElement.textContent]};
"""
CHOOSE = """
const choose = (field, value) => { field.value = value; field.dispatchEvent(new Event('change', {bubbles: true})); };
for (const [name, value] of [['arm', 'full'], ['way', '0'], ['seeds', 'all']])
    choose(document.querySelector('#flips-browser-' + name), value);
choose(document.querySelectorAll('.roi-bar select')[1], 'full');
"""
RADIO = "document.querySelector(`[type=radio][value={}]`).click();"
BUTTON = "[...document.querySelectorAll('.roi button')].find(b => b.textContent === '{}')"


def test_what_was_typed_and_chosen_survives_runs_that_finish(browser, young):
    from selenium.webdriver.common.keys import Keys

    made, server = young
    browser.get(server.access.url)
    until(browser, "return document.querySelector('#studies a')").click()
    until(browser, "return document.querySelector('.roi [name=gpu_price]')")
    browser.execute_script(BUTTON.format("Fill in example values") + ".click();" + RADIO.format("low"))
    browser.find_element("css selector", ".roi [name=gpu_price]").send_keys(Keys.BACKSPACE * 5, "7.25")
    before = browser.execute_script(FIELDS)
    assert (before["price"], before["slider"]) == ("7.25", None) and before["examples"] > 10

    # The first LoRA arm brings a slider, and with it a script: the page is loaded anew.
    made.add(0, 0)
    until(browser, "return document.querySelector('#retain-0[data-made] input[type=range]')")
    after = until(browser, FIELDS.replace("return {", "const seen = {").rstrip().rstrip(";")
                  + "; return seen.price === '7.25' ? seen : null;")  # fmt: skip
    for name in ("currency", "text", "scenario", "examples"):
        assert after[name] == before[name], name

    browser.execute_script(CHOOSE + RADIO.format("retention"))
    slider = browser.find_element("css selector", "#retain-0 input[type=range]")
    slider.send_keys(Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    browser.execute_script("document.querySelectorAll('.widget').forEach(box => { box.isOld = true; });"
                           + BUTTON.format("Save as YAML") + ".focus();")  # fmt: skip
    before = browser.execute_script(FIELDS)
    assert (before["slider"], before["prefer"], before["flips"]) == ("3", "retention", ["full", "0", "all"])

    # Another arm takes the place that the chosen one had in every list.
    made.add(1, 0)
    until(
        browser,
        """const boxes = [...document.querySelectorAll('.widget[data-made]')];
        return boxes.length === 3 && boxes.every(box => !box.isOld)""",
    )
    after = browser.execute_script(FIELDS)
    arms = "return [...document.querySelectorAll('.roi-bar select')[1].options].map(o => o.value)"
    assert browser.execute_script(arms) == ["lora-r1", "lora-r4", "full"]
    assert after.pop("shown") != before.pop("shown")
    assert after == before and before["focus"] == ["BUTTON", "Save as YAML"]
