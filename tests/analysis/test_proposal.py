"""Proposals from losses that are known: here an update gains exactly the energy it holds."""

from __future__ import annotations

import pytest
import torch

from rankscope.analysis.proposal import Kept, bound, eliminate, propose
from rankscope.analysis.variants import Part
from rankscope.models.delta import DenseDelta, FactoredDelta, Update


def delta(*values: float, rank: int = 4) -> FactoredDelta:
    b, a = torch.zeros(8, rank), torch.zeros(rank, 8)
    for i, value in enumerate(values):
        b[i, i], a[i, i] = value, 1.0
    return FactoredDelta(a, b, 1.0)


def energy(update: Update) -> list[float]:
    return [200.0 - sum(float(d.dense().square().sum()) for d in update.deltas.values())] * 3


def proposed(update: Update, parts: list[list[str]]):
    whole, base = Kept(update, energy(update)), Kept(Update("lora", {}), energy(Update("lora", {})))
    most = bound(base, whole)
    costs = []
    for names in parts:
        without = update.only(lambda name, names=names: name not in names)
        costs.append((Part(" ".join(names), frozenset(names)), Kept(without, energy(without)).mean))
    path = eliminate(whole, costs, energy, most)
    return path, propose(whole, path, energy, most)


def test_the_lower_rank_is_taken_only_if_what_it_keeps_was_measured():
    for values, rank in (((3, 1), 2), ((9, 1), 1), ((2, 2, 2), 4)):  # rank 1 holds 90 %, 98.8 %, 33 %
        _, found = proposed(Update("lora", {"layers.0.q": delta(*values)}), [])
        assert found.ranks == {"q": rank}


def test_parts_go_by_what_their_absence_costs_and_come_back_if_too_much_is_lost():
    update = Update("lora", {f"layers.{i}.q": delta(value) for i, value in enumerate((10.0, 1.0, 5.0, 0.5))})
    path, found = proposed(update, [[name] for name in update.deltas])
    assert [kept.layers for kept in path] == [(0, 1, 2), (0, 2)]  # 25 of 126 are more than 5 %
    assert found.kept.layers == (0, 2)
    assert found.ranks == {"q": 1}


def test_of_two_parts_that_stand_in_for_each_other_one_stays_and_the_next_part_is_tried():
    update = Update("lora", {f"layers.{i}.{kind}": delta(1.0) for i, kind in enumerate("abc")})

    def losses(part: Update) -> list[float]:
        names = "".join(sorted(name[-1] for name in part.deltas))
        return [{"abc": 1.0, "bc": 1.0, "ac": 1.0, "ab": 1.02, "b": 1.03}.get(names, 2.0)]

    parts = [(Part(name, frozenset({name})), losses(update.only(lambda n, name=name: n != name))[0])
             for name in update.deltas]  # fmt: skip
    path = eliminate(Kept(update, losses(update)), parts, losses, 1.05)
    assert [kept.layers for kept in path] == [(1, 2), (1,)]


def test_what_no_lora_arm_adapts_goes_first():
    deltas = {"layers.0.q": delta(10.0), "layers.1.v": delta(0.1), "lm_head": delta(0.5)}
    path, found = proposed(Update("lora", deltas, {"norm.weight": torch.ones(2)}), [["layers.1.v"], ["lm_head"]])
    assert [sorted(kept.update.deltas) for kept in path] == [["layers.0.q", "layers.1.v"], ["layers.0.q"]]
    assert not path[0].update.whole
    assert found.ranks == {"q": 1, "v": 0}
    assert proposed(Update("lora", deltas | {"lm_head": delta(5.0)}), [])[1] is None


def test_a_full_update_whose_energy_needs_more_than_rank_64_is_proposed_at_64_and_says_what_that_keeps():
    before = torch.zeros(100, 100)
    update = Update("full", {"layers.0.q": DenseDelta(before, torch.eye(100))}, ties=True)
    _, found = proposed(update, [])
    assert found.ranks == {"q": 64}
    assert found.kept.mean == pytest.approx(200 - 64, abs=1e-3)


def test_a_loss_that_is_not_finite_keeps_nothing():
    whole = Kept(Update("lora", {}), [1.0, 2.0])
    assert Kept(whole.update, [1.0, float("nan")]).mean == float("inf")
    assert bound(Kept(whole.update, [float("nan")]), whole) is None
    assert bound(Kept(whole.update, [1.5]), whole) is None
    assert bound(Kept(whole.update, [3.5]), whole) == pytest.approx(3.5 - 0.95 * 2)
