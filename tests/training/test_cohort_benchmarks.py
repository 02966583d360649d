"""The benchmarks of cohorts run from end to end at a tiny size, and both sides give the same losses there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import cohort_cpu
import cohort_gpu


def _told(capsys, module, *options) -> dict:
    import torch

    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        module.main(["--tiny", *options])
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_side_by_side_and_one_by_one_on_a_cpu(capsys):
    told = _told(capsys, cohort_cpu, "--threads", "1")
    assert [row["runs"] for row in told["cohorts"]] == [1, 2]
    (upper,) = told["upper"]
    assert upper["lowest_layer"] == 1 and upper["ratio"] > 0 and upper["loss_difference"] < 1e-4


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_cohort_against_peft_in_a_plain_loop(capsys):
    told = _told(capsys, cohort_gpu, "--profile")
    assert [row["rows"] for row in told["rows_measured"]] == [2]
    for row in told["rows_measured"]:
        assert row["loss_difference"]["float32"] < 1e-4 and row["ratio"] > 0
        assert len({first for first, _ in row["first_and_last_loss"]}) == 2
        assert row["kernels"]["rankscope"]["kernels"] > 100
