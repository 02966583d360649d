"""A small case worked by hand, and what may not happen: a zero for something unknown, a loss that looks like a gain."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rankscope.config.reality import BY_NAME, INPUTS
from rankscope.stats.cost import adapter_params, model_params
from rankscope.stats.formulas import names, parse
from rankscope.stats.gpus import gpu
from rankscope.stats.roi import FULL, NO_FULL, Arm, Case, Quantity, headlines, inputs, money, of_kind, roi, surprises
from rankscope.stats.roi_formulas import FORMULAS, GROUPS, HEADLINES, MEASURED


def arm(name: str, kind: str, rank: int | None, **numbers) -> Arm:
    measured = {"seconds": 3600.0, "tokens": 1e6, "flops": 4.06e15, "peak_bytes": 1e10, "trainable": 1e7,
                "blob_bytes": 2e7, "gain": (10.0, 5.0, 20.0), "forgotten": (1.0, 0.0, 2.0),
                "gain_over_full": (-1.0, -3.0, 1.0)} | numbers  # fmt: skip
    found = {k: Quantity(*v) if isinstance(v, tuple) else v if isinstance(v, Quantity) else Quantity(v)
             for k, v in measured.items()}  # fmt: skip
    return Arm(name, kind, rank, found, kind == "lora")


LORA = arm("lora-r4", "lora", 4)
SFT = arm("full", "full", None, seconds=7200.0, flops=6e15, trainable=1e9, blob_bytes=4e9, gain=(11.0, 6.0, 16.0),
          forgotten=(5.0, 3.0, 7.0), gain_over_full=0.0)  # fmt: skip
CASE = Case("m", "t", (LORA, SFT), {"params": Quantity(1e9), "study_seconds": Quantity(36_000.0)})
TYPED = {"gpu_price": 2, "tasks": 10, "retrainings": 5, "engineer_rate": 100, "engineer_hours_lora": 1,
         "engineer_hours_full": 3, "redeploy_hours_lora": 0.5, "redeploy_hours_full": 2, "hours_per_repair": 8,
         "repair_chance": 0.1, "storage_price": 0.5, "requests": 1e6, "request_tokens": 2629.8, "peak_factor": 2,
         "replica_rate": 1010, "gpus_per_replica": 1, "hours_up": 1000, "point_value": 50}  # fmt: skip


def typed(**changes) -> dict[str, tuple[float, float, float]]:
    given = {k: v for k, v in (TYPED | changes).items() if v is not None}
    return {k: v if isinstance(v, tuple) else (float(v),) * 3 for k, v in given.items()}


def values(case: Case = CASE, name: str = "lora-r4", scenario: str = "base", **changes) -> dict[str, float | None]:
    found = roi(case, typed(**changes), scenario=scenario)
    return {line.name: line.value for line in next(a for a in found.arms if a.arm == name).lines}


def test_a_case_worked_by_hand():
    # 10 tasks x 5 trainings = 50 a year, an hour each (LoRA) or two (full), at 2 an hour.
    lora, full = values(), values(name="full")
    assert (lora["training_hours"], full["training_hours"]) == (pytest.approx(50), pytest.approx(100))
    assert (lora["training_cost"], full["training_cost"]) == (pytest.approx(100), pytest.approx(200))
    assert (lora["retraining_cost"], full["retraining_cost"]) == (5000, 15_000)
    assert (lora["redeploying_cost"], full["redeploying_cost"]) == (2500, 10_000)
    # 1 point x 0.1 x 8 hours x 50 trainings x 100; full SFT forgot five times as much.
    assert (lora["repair_cost"], full["repair_cost"]) == (pytest.approx(4000), pytest.approx(20_000))
    # Ten adapters of 20 MB and a base of 2 GB; ten full models of 2 GB; 0.5 a GB and month.
    assert (lora["storage_cost"], full["storage_cost"]) == (pytest.approx(2.2 * 6), pytest.approx(20 * 6))
    # 2000 tokens a second at the peak over 1010 / 1.01: two replicas; ten for ten full models. 1000 hours at 2.
    assert (lora["replicas"], full["replicas"]) == (2, 10)
    assert (lora["serving_cost"], full["serving_cost"]) == (4000, 20_000)
    assert lora["cost"] == pytest.approx(100 + 5000 + 2500 + 4000 + 13.2 + 4000)
    assert lora["savings"] == pytest.approx(full["cost"] - lora["cost"])
    assert lora["engineer_hours_reclaimed"] == pytest.approx(100 + 75 + 160)
    assert lora["gpu_hours_reclaimed"] == pytest.approx(50 + 8000)
    assert lora["cost_per_point"] == pytest.approx(lora["cost"] / 10 / 10)
    assert lora["gain_worth"] == 10 * 50 * -1
    assert (lora["study_cost"], lora["break_even_months"]) == (20, pytest.approx(20 / (lora["savings"] / 12)))
    assert lora["break_even_retrainings"] == pytest.approx(20 / lora["savings"] * 50)


def test_the_interval_of_a_line_is_that_of_what_was_measured():
    chosen = roi(CASE, typed()).chosen
    assert [round(x, 6) for x in (chosen.line("repair_cost").low, chosen.line("repair_cost").high)] == [0, 8000]
    assert (chosen.line("retraining_cost").low, chosen.line("retraining_cost").high) == (5000, 5000)
    cost, per_point = chosen.line("cost"), chosen.line("cost_per_point")
    assert per_point.low == pytest.approx(cost.low / 10 / 20) and per_point.high == pytest.approx(cost.high / 10 / 5)


def test_a_gain_whose_interval_includes_zero_leaves_the_cost_of_a_point_unbounded():
    case = replace(CASE, arms=(arm("lora-r4", "lora", 4, gain=(2.0, -1.0, 5.0)), SFT))
    line = roi(case, typed()).chosen.line("cost_per_point")
    assert line.value > 0 and math.isinf(line.high) and line.low > 0
    case = replace(CASE, arms=(arm("lora-r4", "lora", 4, gain=(-2.0, -3.0, -1.0)), SFT))
    assert roi(case, typed()).chosen.line("cost_per_point").reason == "gain is not above zero"


def test_negative_savings_are_shown_and_never_pay():
    found = values(engineer_hours_lora=90, requests=1e8)
    assert found["savings"] < 0 and found["retraining_saved"] < 0
    assert found["break_even_months"] is None
    line = roi(CASE, typed(engineer_hours_lora=90)).chosen.line("break_even_tasks")
    assert line.reason == "savings is not above zero"


def test_without_a_price_the_line_is_missing_with_its_reason_and_left_out_by_name():
    found = roi(CASE, typed(storage_price=None, gpu_price=None)).chosen
    storage, cost = found.line("storage_cost"), found.line("cost")
    assert (storage.value, storage.reason) == (None, "not typed: storage_price")
    assert cost.value == pytest.approx(5000 + 2500 + 4000)
    assert cost.left_out == ("training_cost", "storage_cost", "serving_cost")
    assert found.line("savings").left_out == ("training_saved", "storage_saved", "serving_saved")
    assert found.line("training_hours").value == pytest.approx(50)


def test_without_anything_typed_there_is_no_money_but_hours_and_bytes():
    found = roi(CASE, {})
    assert [x.name for a in found.arms for x in a.lines if x.unit.startswith("money") and x.value is not None] == []
    assert found.chosen.line("run_hours").value == pytest.approx(1.0)
    assert (found.chosen.line("peak_here").value, found.chosen.line("stored_here").value) == (1e10, 2e7)
    assert (found.chosen.line("run_hours").tag, found.chosen.line("study_hours").value) == ("measured", 10.0)


def test_without_full_sft_nothing_is_compared_with_it():
    alone = arm("lora-r4", "lora", 4, gain_over_full=Quantity(None, reason=NO_FULL))
    found = roi(replace(CASE, arms=(alone,)), typed()).chosen
    assert found.line("cost").value is not None
    against = [line for line in found.lines if line.group == "against"]
    assert {line.value for line in against} == {None}
    assert all(NO_FULL in line.reason for line in against)
    assert NO_FULL in found.line("break_even_months").reason


def test_forgetting_that_was_not_measured_costs_nothing_known():
    case = replace(CASE, arms=(arm("lora-r4", "lora", 4, forgotten=Quantity(None, reason="no retention task")), SFT))
    found = roi(case, typed()).chosen
    assert (found.line("repair_cost").value, found.line("repair_cost").reason) == (None, "no retention task")
    assert "repair_saved" in found.line("savings").left_out


def test_an_arm_that_gained_on_retention_needs_no_repair():
    case = replace(CASE, arms=(arm("lora-r4", "lora", 4, forgotten=(-2.0, -3.0, -1.0)), SFT))
    assert values(case)["repair_cost"] == 0


def test_one_run_has_no_interval_and_says_so():
    case = replace(CASE, arms=(arm("lora-r4", "lora", 4, seconds=Quantity(3600.0, reason="one run")), SFT))
    assert roi(case, typed()).chosen.line("training_cost").no_interval == ("seconds (one run)",)


def test_another_gpu_and_another_size_are_models_and_tagged_so():
    named = roi(CASE, typed(model_params=8e9), gpu("A100 80GB")).chosen
    # (4.06e15 / 1e6 - 6e7) x 8 + 6 x 1e7 x 8^(2/3), times a million tokens
    flops = (4.06e9 - 6e7) * 8e6 + 6 * 4e7 * 1e6
    assert named.line("run_flops").value == pytest.approx(flops)
    assert named.line("run_hours").value == pytest.approx(flops / (312e12 * 0.35) / 3600)
    assert {named.line(n).tag for n in ("run_flops", "run_hours", "training_cost", "savings")} == {"modelled"}
    assert named.line("train_gpus").value == 1
    full = roi(CASE, typed(model_params=8e9), gpu("A100 80GB")).arms[1]
    assert (full.line("train_memory").value, full.line("train_gpus").value) == (16 * 8e9, 2)
    assert roi(CASE, typed()).chosen.line("training_cost").tag == "typed"


def test_adapters_grow_as_the_formula_says_and_less_when_counted():
    small = {"vocab": 49_152, "hidden": 576, "inner": 1536, "q": 576, "kv": 192, "layers": 30}  # SmolLM2-135M
    large = {"vocab": 2 * 128_256, "hidden": 4096, "inner": 14_336, "q": 4096, "kv": 1024, "layers": 32}  # Llama-3.1-8B
    counted = adapter_params(4, large) / adapter_params(4, small)
    growth = model_params(large) / model_params(small)
    case = replace(CASE, shared=CASE.shared | {"params": Quantity(float(model_params(small)))})
    modelled = roi(case, {"model_params": (float(model_params(large)),) * 3}).chosen.line("adapter_size").value / 1e7
    assert modelled == pytest.approx(growth ** (2 / 3))
    assert (round(counted), round(modelled)) == (9, 15)


def test_a_typed_penalty_wins_over_the_lower_bound():
    assert values()["extra_work"] == pytest.approx(0.01)
    assert values(serving_penalty=3)["replicas"] == 8
    assert values(name="full", serving_penalty=3)["replicas"] == 10


def test_scenarios_take_the_first_second_and_third_value():
    found = [values(scenario=s, tasks=(2.0, 10.0, 20.0))["training_hours"] for s in ("low", "base", "high")]
    assert found == [pytest.approx(10), pytest.approx(50), pytest.approx(100)]
    rising = [roi(CASE, typed(tasks=(2.0, 10.0, 20.0)), scenario=s) for s in ("low", "base", "high")]
    assert surprises(rising) == ()
    (text,) = surprises(rising[::-1])
    assert text.startswith("lora-r4: savings do not rise")


def test_unknown_names_and_scenarios_are_refused():
    with pytest.raises(ValueError, match="gpu_prize"):
        roi(CASE, {"gpu_prize": (1.0, 1.0, 1.0)})
    with pytest.raises(ValueError, match="worst"):
        roi(CASE, {}, scenario="worst")


def test_every_formula_uses_only_what_is_known_before_it():
    for kind in ("lora", "full"):
        scope = {*BY_NAME, *MEASURED}
        for formula in of_kind(kind):
            own = {name for name in names(parse(formula.expression)) if not name.startswith(FULL)}
            assert own <= scope, formula.name
            scope.add(formula.name)
    full = {f.name for f in of_kind("full")} | set(MEASURED)
    against = {n.removeprefix(FULL) for f in FORMULAS for n in names(parse(f.expression)) if n.startswith(FULL)}
    assert against <= full
    assert {f.group for f in FORMULAS} == set(GROUPS) and set(HEADLINES) <= {f.name for f in FORMULAS}
    assert not set(BY_NAME) & {*MEASURED, *(f.name for f in FORMULAS)}


def test_no_price_has_a_default():
    assert [entry.name for entry in INPUTS if entry.group == "price" and entry.assumed] == []
    assert [name for name, found in inputs({}, None, 1).items() if found.tag == "typed"] == []


def test_the_headlines_come_first_and_full_sft_has_fewer():
    lora, full = (headlines(a) for a in roi(CASE, typed()).arms)
    assert [line.name for line in full] == ["cost_per_point"]
    assert {line.name for line in lora} == set(HEADLINES)


@pytest.mark.parametrize(("value", "text"), [(0.0, "0.00"), (-0.001, "0.00"), (0.125, "0.13"), (-0.125, "-0.13"),
                                             (1234567.891, "1,234,567.89"), (-999.999, "-1,000.00"),
                                             (2.5e13, "2.500e+13")])  # fmt: skip
def test_money_is_rounded_half_away_from_zero_to_the_cent(value, text):
    assert money(value) == text
