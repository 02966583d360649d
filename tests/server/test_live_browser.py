"""The live page in a real browser: it grows under the reader's hands, without a reload, and runs nothing but itself."""

from __future__ import annotations

import shutil
import threading
import time

import pytest
import uvicorn

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
def served(made, monkeypatch):
    monkeypatch.setattr(keeping, "_LEAST", 0.0)
    monkeypatch.setattr(keeping, "REST", 0.0)
    running = Running(made.folder)
    yield running
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
    clear_now(made.folder / "cache")
    until(browser, "return document.querySelector('#live-bar[data-state=still]')")
    assert [e for e in browser.get_log("browser") if "Infinite extent" not in e["message"]] == []

    planted = """const s = document.createElement('script'); s.textContent = 'window.evil = 1';
        document.body.append(s); return window.evil || 'nothing ran'"""
    assert browser.execute_script(planted) == "nothing ran"
    assert "Content Security Policy" in browser.get_log("browser")[-1]["message"]

    served.stop()
    said = until(browser, "return document.querySelector('#live-bar[data-state=lost]')").text
    assert said.startswith("The server has ended")
