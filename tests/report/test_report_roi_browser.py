"""The calculator in a real browser: it computes what Python computes, to the cent and to the last bit, and its prices
file goes back and forth."""

from __future__ import annotations

import json
import random
from importlib import resources
from pathlib import Path

import pytest

from rankscope.config import prices as files
from rankscope.config.reality import INPUTS, SCENARIOS
from rankscope.errors import ConfigError
from rankscope.report.roi import payload, script
from rankscope.stats.gpus import GPUS, gpu
from rankscope.stats.roi import money, roi
from report.test_report_browser import browser, pytestmark  # noqa: F401

ASSETS = resources.files("rankscope.report") / "assets"
LOADER = """
window.rankscope = {};
rankscope.widget = function (name, draw) {
  draw(document.getElementById(name), JSON.parse(document.getElementById(name + "-data").textContent));
};
"""
FILL = """
const [doc, scenario, place] = arguments, form = document.querySelector('.roi-form');
for (const field of form.querySelectorAll('input, select')) field.value = doc[field.name] ?? '';
const [where, which] = document.querySelectorAll('.roi-bar select');
if (where.selectedIndex !== +place) {
  where.selectedIndex = +place;
  where.dispatchEvent(new Event('change', {bubbles: true}));
}
document.querySelector(`.roi-scenarios input[value=${scenario}]`).checked = true;
form.dispatchEvent(new Event('input', {bubbles: true}));
const read = (node) => [node.dataset.value ?? null, node.querySelector('.text')?.textContent ?? null];
const own = {}, ends = {}, rows = {};
for (const cell of document.querySelectorAll('[data-own]')) {
  own[cell.dataset.own] = read(cell);
  ends[cell.dataset.own] = [cell.dataset.low ?? null, cell.dataset.high ?? null];
}
for (const cell of document.querySelectorAll('[data-arm]'))
  rows[cell.dataset.arm + ' ' + cell.dataset.line] = read(cell);
return {own, ends, rows, arm: which.selectedIndex, yaml: document.querySelector('.roi textarea').value,
        wrong: document.querySelectorAll('[aria-invalid]').length};
"""
PROBLEMS = "return [...document.querySelectorAll('.roi-problem')].map(p => p.textContent).filter(Boolean)"
PRESS = "[...document.querySelectorAll('.roi button')].find(b => b.textContent === '{}').click();"
EXAMPLES = PRESS.format("Fill in example values")
READ = f"""document.querySelector('.roi textarea').value = arguments[0]; {PRESS.format("Read this text")}
return document.querySelector('.roi-status').textContent"""


@pytest.fixture(scope="module")
def page(browser, view, tmp_path_factory):  # noqa: F811
    data = json.dumps(payload(view.name, view.cases)).replace("<", "\\u003c")
    style = "".join((ASSETS / name).read_text(encoding="utf-8") for name in ("style.css", "roi.css"))
    rules = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    html = (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>t</title>'
            f'<meta http-equiv="Content-Security-Policy" content="{rules}"><link rel="icon" href="data:,">'
            f'<style>{style}</style><main><div id="roi"></div></main>'
            f'<script type="application/json" id="roi-data">{data}</script>'
            f"<script>{LOADER}</script><script>{script()}</script></html>")  # fmt: skip
    file = tmp_path_factory.mktemp("roi") / "roi.html"
    file.write_text(html, encoding="utf-8")
    browser.get_log("browser")
    browser.get(file.as_uri())
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def drawn(seed: int) -> dict[str, str]:
    """A prices file at random: some keys left out, some triples, sizes over many powers of ten."""
    dice = random.Random(seed)
    document = {"currency": dice.choice(["EUR", "US$", "円"])}
    if dice.random() < 0.7:
        document["gpu"] = dice.choice(GPUS).name
    for entry in INPUTS:
        if dice.random() < 0.15:
            continue

        def number(entry=entry) -> float:
            value = entry.example * 10 ** dice.uniform(-1.5, 1.5)
            value = round(value, 2) if dice.random() < 0.5 else value
            return min(max(value, 0.01), entry.most or value + 1)

        many = 3 if dice.random() < 0.3 else 1
        document[entry.name] = ", ".join(repr(number()) for _ in range(many))
    return document


def as_file(document: dict[str, str], folder: Path) -> Path:
    lines = [f"{k}: {json.dumps(v) if k in ('currency', 'gpu') else '[' + v + ']' if ',' in v else v}"
             for k, v in document.items()]  # fmt: skip
    (folder / "p.yaml").write_text("\n".join(lines), encoding="utf-8")
    return folder / "p.yaml"


def test_fifty_random_inputs_give_the_same_lines_in_python_and_on_the_page(page, view, tmp_path):
    found, num_known, num_negative = view.cases, 0, 0
    for seed in range(50):
        document, scenario, place = drawn(seed), SCENARIOS[seed % 3], seed // 25 % len(found)
        given = files.load(as_file(document, tmp_path))
        wanted = roi(found[place], given.numbers, gpu(given.gpu) if given.gpu else None, scenario)
        got = page.execute_script(FILL, document, scenario, str(place))
        assert got["wrong"] == 0
        for line in wanted.arms[got["arm"]].lines:
            value, text = got["own"][line.name]
            assert (value is None) == (line.value is None), (seed, line)
            if line.value is None:
                continue
            num_known += 1
            assert float(value) == line.value, (seed, line)
            ends = [float(end.replace("Infinity", "inf")) for end in got["ends"][line.name]]
            assert ends == [line.low, line.high], (seed, line)
            if line.unit.startswith("money"):
                assert text == money(line.value)
        for arm in wanted.arms:
            for name in ("cost", "savings"):
                known = {line.name: line.value for line in arm.lines}.get(name)
                assert got["rows"][f"{arm.arm} {name}"][1] == ("–" if known is None else money(known))
                num_negative += known is not None and known < 0
        assert got["yaml"] == files.dump(given)
    assert num_known > 1500 and num_negative > 0


def test_without_prices_there_is_no_money_and_the_reason_is_said(page):
    got = page.execute_script(FILL, {}, "base", "0")
    assert {text for key, (_, text) in got["rows"].items() if key.endswith((" cost", " savings"))} == {"–"}
    assert got["own"]["run_hours"][0] is not None
    tile = page.execute_script("return document.querySelector('[data-tile=savings]').textContent")
    assert "not known" in tile and "type Tasks or tenants, Retrainings, Training hour and" in tile


def test_examples_are_marked_until_they_are_typed_over(page):
    from selenium.webdriver.common.keys import Keys

    page.execute_script(FILL, {}, "base", "0")
    page.find_element("xpath", "//button[text()='Fill in example values']").send_keys(Keys.ENTER)
    marked = "return document.querySelectorAll('.roi-is-example').length"
    before = page.execute_script(marked)
    field = page.find_element("css selector", "input[name=gpu_price]")
    field.send_keys(Keys.BACKSPACE * 5 + "7")
    assert before > 10 and page.execute_script(marked) == before - 1
    assert page.find_element("css selector", ".roi-example").is_displayed()
    assert "EUR" in page.execute_script("return document.querySelector('[data-tile=savings]').textContent")


def test_a_prices_file_is_read_and_a_wrong_one_says_its_line(page, tmp_path):
    box = page.find_element("css selector", ".roi [type=file]")
    good = 'currency: "CHF"  # ours\ngpu: L4\ntasks: [3, 4.5, 1e3]\n# no\nrequests:\n'
    for name, text in (("good", good), ("bad", "currency: CHF\ntasks: 3\ntaskz: 4\n")):
        (tmp_path / f"{name}.yaml").write_text(text)
    read = "return ['currency', 'gpu', 'tasks'].map(n => document.querySelector(`.roi-form [name=${n}]`).value)"
    status = "return document.querySelector('.roi-status').textContent"
    for name, words in (("good", "Read."), ("bad", "line 3: unknown key taskz")):
        box.send_keys(str(tmp_path / f"{name}.yaml"))
        wait_for(page, status, words)
        assert page.execute_script(read) == ["CHF", "L4", "[3, 4.5, 1e3]"]
    assert files.load(tmp_path / "good.yaml").numbers == {"tasks": (3.0, 4.5, 1000.0)}


def test_a_field_that_makes_no_sense_says_so_and_counts_as_not_typed(page):
    got = page.execute_script(FILL, {"tasks": "0", "retrainings": "1, 2", "gpu_price": "-3"}, "base", "0")
    assert got["wrong"] == 3 and got["own"]["training_hours"][0] is None
    wrong = ["must be at least 0", "must be greater than 0", "one number, or three: low, base, high"]
    assert page.execute_script(PROBLEMS) == wrong
    told = """return [...document.querySelectorAll('[aria-invalid]')].map(field =>
        field.getAttribute('aria-describedby').split(' ').map(id => document.getElementById(id).textContent))"""
    helps = {entry.name: entry.help for entry in INPUTS}
    assert page.execute_script(told) == [
        [helps[name], problem] for name, problem in zip(("gpu_price", "tasks", "retrainings"), wrong, strict=True)
    ]


def test_thousands_separators_are_refused_and_brackets_hold_three_values(page, tmp_path):
    refused = "no thousands separators; three values in brackets: [low, base, high]"
    for text in ("2,000,000", "2,000", "1,234,567.8", "100,200,300"):
        assert page.execute_script(FILL, {"training_tokens": text}, "base", "0")["wrong"] == 1
        assert page.execute_script(PROBLEMS) == [refused]
    for text, base in (("[100,200,300]", 200), ("100, 200, 300", 200), ("1,2,3", 2), ("2000000", 2e6)):
        got = page.execute_script(FILL, {"training_tokens": text}, "base", "0")
        assert got["wrong"] == 0 and float(got["own"]["train_tokens"][0]) == base
    file = tmp_path / "p.yaml"
    for text, said in (("2,000,000", f"Not read: line 2: training_tokens: {refused}"), ("[100,200,300]", "Read.")):
        file.write_text(f"currency: EUR\ntraining_tokens: {text}\n")
        assert page.execute_script(READ, file.read_text()) == said
    assert files.load(file).numbers == {"training_tokens": (100.0, 200.0, 300.0)}
    file.write_text("currency: EUR\ntraining_tokens: 2,000,000\n")
    with pytest.raises(ConfigError, match="must be a number, or three"):
        files.load(file)


def test_who_listens_hears_one_line_once_typing_pauses(page):
    page.execute_script(FILL, {}, "base", "0")
    heard = "return document.querySelector('.roi-heard[role=status]').textContent"
    wait_for(page, heard, "scenario base: savings a year: not known: ")
    before = page.execute_script(heard)
    assert page.execute_script(EXAMPLES + heard) == before
    wait_for(page, heard, " EUR")
    told = "return document.querySelector('.roi-tiles').closest('[aria-live], [role=status]')"
    assert page.execute_script(told) is None


def test_cases_and_arms_are_chosen_by_name_and_ids_come_from_the_boxs_own(page, view):
    page.execute_script(FILL, {}, "base", "0")
    chosen = "return [...document.querySelectorAll('.roi-bar select')].map(s => [...s.options].map(o => o.value))"
    assert page.execute_script(chosen) == [
        [f"{case.model}, trained on {case.train}" for case in view.cases], [arm.name for arm in view.cases[0].arms]
    ]  # fmt: skip
    ids = page.execute_script("return [...document.querySelectorAll('.roi [id]')].map(node => node.id)")
    assert len(set(ids)) == len(ids) > 2 * len(INPUTS) and all(id.startswith("roi-") for id in ids)


def wait_for(page, expression: str, words: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page, 10).until(lambda d: words in d.execute_script(expression))
