"""What the comparisons of speed rest on: medians, ratios, the search, the products that are counted, which items."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import sidebyside as sbs

HERE = sbs.HERE


def test_a_ratio_is_that_of_the_medians_and_its_spread_that_of_the_pairs():
    assert sbs.ratio([4.0, 6.0, 50.0], [2.0, 1.0, 5.0]) == {"median": 3.0, "low": 2.0, "high": 10.0}
    assert sbs.spread([3.0, 1.0, 8.0]) == {"median": 3.0, "low": 1.0, "high": 8.0, "repeats": 3}


def test_sides_take_turns():
    order = []
    sides = {name: lambda name=name: (order.append(name), 1.0) for name in "AB"}
    found = sbs.alternate(sides, 2)
    assert order == ["A", "B", "A", "B"]
    assert [len(runs) for runs in found.values()] == [2, 2]


def test_the_search_stops_after_two_slow_sizes_in_a_row_and_keeps_the_quickest():
    seconds = {1: 9.0, 2: 5.0, 4: 6.0, 8: 4.0, 16: 4.1, 32: 7.0, 64: 8.0, 128: 1.0}
    found = sbs.quickest(list(seconds), seconds.get)
    assert found["best"] == 8
    assert max(found["seconds"]) == 64


def test_the_products_of_a_step_have_the_flops_that_are_counted_by_hand():
    tokens, rank, o, i = 8, 2, 5, 3
    frozen, factors = 2 * tokens * o * i, 2 * tokens * rank * (o + i)
    assert sbs.flops(sbs.forward_products([(o, i)], tokens)) == frozen
    assert sbs.flops(sbs.lora_products([(o, i)], tokens, rank)) == 2 * frozen + 3 * factors
    assert sbs.flops(sbs.full_products([(o, i), (o, i)], tokens)) == 6 * frozen
    assert sbs.forward_products([(o, i), (o, i)], tokens) == Counter({(tokens, i, o): 2})


def test_a_layer_whose_adapter_is_squared_counts_every_product_of_a_step():
    """Shapes that coincide must add up, not replace each other."""
    assert sum(sbs.lora_products([(4, 4)], 4, 4).values()) == 8


def test_subjects_are_spread_over_the_sorted_names_and_items_are_the_first_of_each_without_repeats():
    assert sbs.every(["d", "a", "c", "b", "a", "f", "e"], 3) == ["a", "c", "e"]
    assert sbs.every(["a"], 3) == ["a"]
    rows = [{"s": s, "q": q} for s, q in (("a", 1), ("b", 2), ("a", 1), ("a", 3), ("c", 4), ("a", 5), ("b", 6))]
    picked = sbs.first_of_each(rows, "s", ["b", "a"], 2, "q")
    assert [row["q"] for row in picked] == [2, 6, 1, 3]


def test_a_job_that_is_in_the_log_is_not_done_again_and_a_line_cut_off_is(tmp_path, monkeypatch):
    side = tmp_path / "side_echo.py"
    side.write_text(f"import sys, time\nsys.path.append({str(HERE)!r})\nfrom sidebyside import serve\n"
                    "serve({'twice': lambda job: {'value': 2 * job['value']}}, time.monotonic())\n")  # fmt: skip
    monkeypatch.setattr(sbs, "HERE", tmp_path)
    log = tmp_path / "log"
    log.mkdir()
    (log / "echo.jsonl").write_text(json.dumps({"name": "a", "value": "kept"}) + "\n" + '{"name": "b", "va')
    found = sbs.child("echo", [{"name": n, "do": "twice", "value": 4} for n in ("a", "b")], log)
    assert found["a"]["value"] == "kept"
    assert found["b"]["value"] == 8
    assert found["b"]["seconds"] >= 0
    with pytest.raises(SystemExit, match="echo failed"):
        sbs.child("echo", [{"name": "c", "do": "nothing"}], log)


def test_a_stopwatch_goes_on_where_a_kill_left_it(tmp_path):
    (tmp_path / "seconds").write_text("40.0")
    with sbs.Stopwatch(tmp_path / "seconds") as watch:
        pass
    assert 40.0 <= watch.seconds < 45.0
    assert float((tmp_path / "seconds").read_text()) >= 40.0


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system doesn't tell a process's peak")
def test_the_peak_of_a_process_is_its_own_and_not_that_of_the_one_that_started_it():
    held = bytearray(200_000_000)
    code = f"import sys; sys.path.append({str(HERE)!r}); import sidebyside; print(sidebyside.peak_bytes())"
    own = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert own < 150_000_000 < sbs.peak_bytes()
    del held


def test_a_warm_up_of_one_step_is_none_for_the_peer():
    assert [sbs.warmup(0.05, steps) for steps in (5, 15, 40, 100)] == [0, 0, 2, 5]


def test_the_table_shows_a_spread_as_median_with_lowest_and_highest():
    shown = sbs.table([{"claim": "x", "ratio": {"median": 2.5, "low": 2.0, "high": 3.0}, "target": None}])
    assert shown.splitlines()[1].split() == ["x", "2.5", "(2-3)", "-"]


@pytest.mark.parametrize("path", sorted(HERE.glob("*.py")), ids=lambda path: path.name)
def test_what_a_script_takes_from_rankscope_is_there(path):
    """Scripts run seldom, and some need peers that tests haven't got."""
    taken = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    for node in (node for node in taken if (node.module or "").split(".")[0] == "rankscope"):
        try:
            module = importlib.import_module(node.module)
        except ModuleNotFoundError as error:
            pytest.skip(f"needs {error.name}")
        for alias in node.names:
            is_there = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
            assert is_there, f"{node.module} has no {alias.name}"
