"""The flips browser in a real browser: every filter, the counts it says, paging by keyboard, and planted markup."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rankscope.report.cells import Part
from rankscope.report.evidence import Index
from rankscope.report.flip_choice import flipped
from rankscope.report.flip_rows import ItemText
from rankscope.report.flipped import browser as section
from rankscope.report.html import Frame, written
from rankscope.report.view import build
from report.flips_planted import asked
from report.test_report_browser import CHROMIUM, DRIVER, FLAGS
from report.test_report_flipped import small, with_given

pytest.importorskip("selenium", reason="selenium is not installed")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not in PATH")

EVIL = "</script><img src=x onerror=window.hit=1>"
LABELS = ("Trained on", "Arm", "Task", "Subject", "Direction", "Seeds", "Text")


@pytest.fixture(scope="module")
def found(evidence, view):
    """The planted study with texts; the first question, the letters task's answers and a subject hold markup."""
    told = asked(evidence)
    items = {task: dict(texts) for task, texts in told.items.items()}
    items["trivia"] = {
        item: ItemText(text.prompt + EVIL, text.target, tuple(c + EVIL for c in text.choices), text.answer,
                       tuple(c.strip() for c in text.choices))
        for item, text in items["trivia"].items()
    }  # fmt: skip
    evals = {
        own: replace(e, scores=tuple(replace(s, subject=EVIL + s.subject if s.subject == "field_0" else s.subject)
                                     for s in e.scores))
        for own, e in told.evals.items()
    }  # fmt: skip
    return replace(view, flipped=flipped(Index(replace(told, items=items, evals=evals)), view.advice))


@pytest.fixture(scope="module")
def page(found, tmp_path_factory):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    file = tmp_path_factory.mktemp("flips") / "page.html"
    parts = (Part("forgetting", "Flips", "", (section(found),)),)
    file.write_text(written(Frame("Flips", (), (), parts, ())), encoding="utf-8")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.get(file.as_uri())
    yield driver
    driver.quit()


CHOOSE = """const [label, words] = arguments;
    const input = [...document.querySelectorAll('.filters label')].find(l => l.textContent === label).control;
    if (input.tagName === 'SELECT') {
        const option = [...input.options].find(o => o.textContent === words);
        if (!option) { return [...input.options].map(o => o.textContent); }
        input.value = option.value;
    } else { input.value = words; }
    input.dispatchEvent(new Event(input.tagName === 'SELECT' ? 'change' : 'input'));"""


def choose(page, label, words):
    assert (left := page.execute_script(CHOOSE, label, words)) is None, left


def clear(page):
    page.execute_script(
        "[...document.querySelectorAll('.filters button')].find(b => /Clear/.test(b.textContent)).click()"
    )


def said(page):
    return page.execute_script("return document.querySelector('[data-kind=flips] .count').textContent")


def expected(found, fits):
    """The sentence about the flips that fit, counted here."""
    own = [f for f in found.flipped.flips if fits(f, found.flipped.cells[f.cell], found.flipped.items[f.item])]
    lost, every = sum(f.is_lost for f in own), sum(all(f.under) for f in own)
    assert own
    return (
        f"{len(own):,} of {len(found.flipped.flips):,} changed answers: {lost:,} right → wrong, {len(own) - lost:,} "
        f"wrong → right; {every:,} under every seed."
    )


def test_it_opens_on_what_the_recommended_arm_lost(page, found):
    best = {(a.model, a.train): a.choice.arm for a in found.advice}[found.blocks[0]]
    train = found.blocks[0][1]
    assert said(page) == expected(found, lambda f, c, i: (c.train, c.arm) == (train, best) and f.is_lost)


def test_every_filter_counts_as_python_does(page, found):
    best = {(a.model, a.train): a.choice.arm for a in found.advice}["tiny-model", "qa-b"]
    cases = {
        ("Trained on", "qa-b"): lambda f, c, i: c.train == "qa-b",
        ("Arm", "full"): lambda f, c, i: c.arm == "full",
        ("Task", "trivia"): lambda f, c, i: c.task == "trivia",
        ("Subject", "field 3"): lambda f, c, i: i.subject == "field_3",
        ("Subject", (EVIL + "field_0").replace("_", " ")): lambda f, c, i: i.subject == EVIL + "field_0",
        ("Direction", "Right → wrong"): lambda f, c, i: f.is_lost,
        ("Direction", "Wrong → right"): lambda f, c, i: not f.is_lost,
        ("Seeds", "Under every seed"): lambda f, c, i: all(f.under),
        ("Text", "QUESTION 3 OF"): lambda f, c, i: i.item.endswith("-3"),
        ("Text", EVIL): lambda f, c, i: c.task == "trivia",
    }
    for (label, words), fits in cases.items():
        clear(page)
        assert said(page) == expected(found, lambda f, c, i: True)
        choose(page, label, words)
        assert said(page) == expected(found, fits), (label, words)
    clear(page)
    several = {"Trained on": "qa-b", "Arm": f"{best} (recommended)", "Task": "qa-b", "Direction": "Wrong → right",
               "Seeds": "Under every seed", "Text": "wrong 1"}  # fmt: skip
    for label, words in several.items():
        choose(page, label, words)
    assert said(page) == expected(
        found, lambda f, c, i: (c.train, c.arm, c.task) == ("qa-b", best, "qa-b") and not f.is_lost and all(f.under)
        and "wrong 1" in "\n".join(map(str, (*f.answers, *i.before.values()))),
    )  # fmt: skip
    choose(page, "Text", "nowhere at all")
    assert said(page).startswith("0 of ") and "Nothing here fits" in page.find_element("css selector", ".turner").text


def test_pages_are_turned_by_keyboard_and_end_at_the_ends(page, found):
    from selenium.webdriver.common.keys import Keys

    clear(page)
    choose(page, "Task", "trivia")
    total = sum(found.flipped.cells[f.cell].task == "trivia" for f in found.flipped.flips)
    previous, next = page.find_elements("css selector", ".turner button")
    place = page.find_element("css selector", ".turner span")
    pages = -(-total // 50)
    assert place.text == f"Page 1 of {pages}: 1 to 50" and previous.get_attribute("aria-disabled") == "true"
    previous.send_keys(Keys.ENTER)
    next.send_keys(Keys.ENTER)
    assert place.text == f"Page 2 of {pages}: 51 to 100" and page.switch_to.active_element == next
    for _ in range(pages):
        next.send_keys(Keys.ENTER)
    assert place.text == f"Page {pages} of {pages}: {50 * (pages - 1) + 1} to {total}"
    assert next.get_attribute("aria-disabled") == "true"
    assert len(page.find_elements("css selector", ".found > li")) == total - 50 * (pages - 1)


def test_an_item_opens_by_keyboard_with_question_choices_and_all_answers(page, found):
    from selenium.webdriver.common.keys import Keys

    clear(page)
    for label, words in (("Trained on", "qa-a"), ("Arm", "full"), ("Task", "trivia"), ("Direction", "Right → wrong")):
        choose(page, label, words)
    whole = found.flipped
    cells = {n for n, c in enumerate(whole.cells) if (c.train, c.arm, c.task) == ("qa-a", "full", "trivia")}
    flip = next(f for f in whole.flips if f.is_lost and f.cell in cells)
    item = whole.items[flip.item]
    number = item.item.rpartition("-")[2]
    page.find_element("css selector", ".found li:first-child summary").send_keys(Keys.ENTER)
    box = page.find_element("css selector", ".found li:first-child details[open]")
    assert box.find_element("css selector", "pre").text == f"Question {number} of trivia?{EVIL}"
    lines = [line.text for line in box.find_elements("css selector", ".choices li")]
    assert lines == [f"wrong {number}{EVIL}", f"right {number}{EVIL} (right)"]
    rows = [[c.text for c in row.find_elements("css selector", "th, td")]
            for row in box.find_elements("css selector", "tr")]  # fmt: skip
    assert rows[:2] == [["Right answer", "", f"right {number}{EVIL}"], ["Base", "right", f"right {number}{EVIL}"]]
    assert rows[2:] == [
        [f"full, seed {s}", "wrong" if moved else "right", f"{'wrong' if moved else 'right'} {number}{EVIL}"]
        for s, moved in enumerate(flip.under)
    ]


def test_nothing_from_data_became_markup_and_fields_have_labels(page):
    assert page.execute_script("return window.hit") is None
    assert page.find_elements("css selector", "[data-kind=flips] img, [data-kind=flips] script") == []
    assert [entry for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    labelled = """return [...document.querySelectorAll('.filters select, .filters input')]
        .map(i => [...i.labels].map(l => l.textContent).join())"""
    assert tuple(page.execute_script(labelled)) == LABELS
    assert page.execute_script("return document.querySelector('.count').getAttribute('aria-live')") == "polite"
    for width in (1360, 500):
        page.set_window_size(width, 1000)
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


ENTRIES = """return Object.fromEntries([...document.querySelectorAll('.found details')].map(flip => [
    flip.querySelector('.id').textContent, [flip.querySelector('.share').textContent,
        [...flip.querySelectorAll('tr')].map(row => [...row.children].map(cell => cell.textContent))]]))"""


def test_many_seeds_an_arm_without_one_and_questions_that_were_not_read(page, tmp_path):
    picks = tuple([1, seed % 2, 0] for seed in range(40))
    evidence = with_given(small([0, 0, 0], {"lora-r4": picks}, texts=False), [0, 0, 1])
    view = build(replace(evidence, seeds=tuple(range(40))))
    file = tmp_path / "page.html"
    parts = (Part("forgetting", "Flips", "", (section(view),)),)
    file.write_text(written(Frame("Flips", (), (), parts, ())), encoding="utf-8")
    page.get(file.as_uri())
    clear(page)
    assert said(page) == "3 of 3 changed answers: 3 right → wrong, 0 wrong → right; 2 under every seed."
    found = page.execute_script(ENTRIES)
    unread = ["Right answer", "", "–"], ["Base", "right", "red"]
    assert found["Item q2"] == ["", [*unread, ["mine", "wrong", "green"]]]
    assert found["Item q0"][0] == "40 of 40 seeds"
    share, rows = found["Item q1"]
    assert share == "20 of 40 seeds" and rows[:2] == [*unread] and len(rows) == 42
    assert rows[-2:] == [["lora-r4, seed 38", "right", "red"], ["lora-r4, seed 39", "wrong", "green"]]
    choose(page, "Seeds", "Under every seed")
    assert sorted(page.execute_script(ENTRIES)) == ["Item q0", "Item q2"]
    arms = "return [...document.getElementById('flips-browser-arm').options].map(option => option.value)"
    assert page.execute_script(arms) == ["", "mine", "lora-r4"]
