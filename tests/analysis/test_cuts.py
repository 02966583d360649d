"""Updates cut to lower ranks: which ranks are asked for, what each keeps, and what stays as it is."""

from __future__ import annotations

import pytest
import torch

from rankscope.analysis.cuts import MOST, compressed, cut, powers, shared_rank, spent
from rankscope.models.delta import DenseDelta, FactoredDelta, Update


def with_values(values: list[float], rank: int, seed: int = 0, outputs: int = 12, inputs: int = 20) -> FactoredDelta:
    """A delta with these singular values, in an adapter of a rank at least as large."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.linalg.qr(torch.randn(outputs, len(values), generator=generator)).Q
    v = torch.linalg.qr(torch.randn(inputs, len(values), generator=generator)).Q
    b, a = torch.zeros(outputs, rank), torch.zeros(rank, inputs)
    b[:, : len(values)], a[: len(values)] = u * torch.tensor(values) / 2, v.T
    return FactoredDelta(a, b, 2.0)


def as_dense(delta: FactoredDelta) -> DenseDelta:
    before = torch.ones(delta.shape)
    return DenseDelta(before, before + delta.dense())


def test_powers_of_two_end_below_the_rank():
    known = {0: (), 1: (), 2: (1,), 3: (1, 2), 8: (1, 2, 4), 9: (1, 2, 4, 8)}
    assert {below: powers(below) for below in known} == known


def test_the_shared_rank_is_the_power_of_two_that_holds_the_energy_of_all_deltas_together():
    assert shared_rank([with_values([3, 1], 8)], 0.9) == 1  # 9 of 10
    assert shared_rank([with_values([3, 1], 8)], 0.91) == 2
    assert shared_rank([with_values([1, 1, 1], 8)], 0.99) == 4
    assert shared_rank([with_values([1] * 5, 6)], 0.99) == 6  # 8 would be more than was spent
    loud, quiet = with_values([100], 8), with_values([1, 1, 1, 1], 8, seed=1)
    assert shared_rank([loud, quiet], 0.99) == 1  # together: the quiet one holds next to nothing
    assert shared_rank([quiet], 0.99) == 4
    assert shared_rank([with_values([0], 8)], 0.9) == 0


def test_a_dense_delta_has_the_shared_rank_of_the_same_factored_one():
    delta = with_values([4, 2, 1, 0.5], 8)
    for share in (0.5, 0.9, 0.99):
        assert shared_rank([as_dense(delta)], share) == shared_rank([delta], share)
    assert spent(as_dense(delta)) == 12 and spent(delta) == 8
    assert spent(DenseDelta(torch.zeros(100, 200), torch.zeros(100, 200))) == MOST


def test_cutting_keeps_the_largest_values_and_leaves_smaller_deltas_as_they_are():
    three, one = with_values([3, 2, 1], 8), with_values([5], 1, seed=1)
    update = Update("lora", {"three": three, "one": one, "gone": with_values([1], 1)}, {"norm.weight": torch.ones(3)})
    found = cut(update, {"three": 2, "one": 4, "gone": 0})
    assert set(found.deltas) == {"three", "one"}
    assert found.deltas["one"] is one
    assert torch.linalg.svdvals(found.deltas["three"].dense())[:3] == pytest.approx([3, 2, 0], abs=1e-5)
    assert torch.linalg.matrix_norm(found.deltas["three"].dense() - three.dense(), 2) == pytest.approx(1, abs=1e-5)
    assert found.whole is update.whole


def test_compressing_touches_dense_deltas_alone_and_further_cuts_are_those_of_the_delta_itself():
    factored = with_values([3, 2, 1], 8)
    update = Update("full", {"dense": as_dense(factored), "factored": factored}, ties=True)
    small = compressed(update)
    assert small.deltas["factored"] is factored
    assert small.deltas["dense"].dense() == pytest.approx(factored.dense(), abs=1e-5)
    twice = cut(small, {"dense": 2, "factored": 2})
    assert twice.deltas["dense"].dense() == pytest.approx(twice.deltas["factored"].dense(), abs=1e-5)
    assert (small.kind, small.ties) == ("full", True)
