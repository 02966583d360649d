"""Singular values of updates: exact from the factors, on planted spectra; what they say of an update's shape."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rankscope import plugins
from rankscope.analysis import spectra
from rankscope.analysis.subject import Subject
from rankscope.errors import ModelError
from rankscope.models.base import Base
from rankscope.models.delta import DenseDelta, FactoredDelta, Update
from rankscope.records import ModelRef
from rankscope.testing import tiny_model, tiny_tokenizer
from reference import spectra as plain


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def orthonormal(size: int, count: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(size, count, dtype=torch.float64, generator=drawn(seed))).Q


def planted(values: list[float], num_out: int, num_in: int, scale: float = 1.0) -> FactoredDelta:
    """Factors whose product has these singular values, hidden by a random change of basis between the two."""
    mix = torch.randn(len(values), len(values), dtype=torch.float64, generator=drawn(9))
    left, right = orthonormal(num_out, len(values), 1), orthonormal(num_in, len(values), 2)
    b = left * torch.tensor(values, dtype=torch.float64) @ mix / scale
    return FactoredDelta(torch.linalg.solve(mix, right.T), b, scale)


def random(num_out: int, num_in: int, rank: int, dtype: torch.dtype = torch.float32) -> FactoredDelta:
    a, b = torch.randn(rank, num_in, generator=drawn(3)), torch.randn(num_out, rank, generator=drawn(4))
    return FactoredDelta(a.to(dtype), b.to(dtype), 2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "sizes", [(48, 64, 8), (64, 48, 8), (5, 5, 1), (40, 1, 1), (30, 40, 35), (30, 40, 64), (6, 4, 8)]
)
def test_values_from_the_factors_are_those_of_the_product(sizes, dtype):
    delta = random(*sizes, dtype)
    found, true = spectra.singular_values(delta).numpy(), plain.singular_values(delta)
    assert len(found) == min(sizes)
    assert np.abs(found - true[: len(found)]).max() <= 1e-12 * true[0]
    assert np.abs(true[len(found) :]).max(initial=0) <= 1e-12 * true[0]


@pytest.mark.parametrize(
    "values",
    [[5.0, 3.0, 1.0, 0.5], [2.0, 2.0, 2.0], [7.0, 1.0, 1.0, 0.0, 0.0], [1.0, 1e-6, 1e-12], [1e-20, 1e-21], [4.0]],
)
def test_planted_values_come_out(values):
    found = spectra.singular_values(planted(values, 40, 50, scale=0.25)).tolist()
    assert found == pytest.approx(values, abs=1e-12 * values[0])


def test_a_negative_scale_turns_the_update_round_and_changes_no_value():
    delta = planted([3.0, 1.0], 8, 9)
    turned = FactoredDelta(delta.a, delta.b, -1.0)
    assert torch.allclose(spectra.singular_values(turned), spectra.singular_values(delta))
    u, s, vh = spectra.svd(turned)
    assert torch.allclose(u * s @ vh, -(delta.b @ delta.a))


def test_values_of_a_full_update_are_right_to_a_millionth_of_the_largest():
    before = torch.randn(60, 90, generator=drawn()) * 0.1
    for num_out, num_in in ((60, 90), (90, 60)):
        start = before if num_out == 60 else before.T
        change = planted([2.0**-i for i in range(40)], num_out, num_in).dense().float() * 1e-3
        delta = DenseDelta(start, start + change)
        true = np.linalg.svd((delta.after - delta.before).double().numpy(), compute_uv=False)
        assert np.abs(spectra.singular_values(delta).numpy() - true).max() <= 1e-7 * true[0]


def test_no_dense_update_is_made_of_factors(monkeypatch):
    monkeypatch.setattr(FactoredDelta, "dense", lambda self: pytest.fail("written out"))
    delta = random(300, 400, 4)
    spectra.singular_values(delta), spectra.truncated(delta, 2)


def test_a_zero_update_has_norms_of_zero_and_no_ranks():
    zero = FactoredDelta(torch.randn(4, 9, generator=drawn()), torch.zeros(8, 4), 2.0)
    same = torch.ones(8, 9)
    for delta, count in ((zero, 4), (DenseDelta(same, same), 8)):
        values = spectra.singular_values(delta)
        assert values.tolist() == [0.0] * count
        shape = spectra.shape_of(values, 4)
        assert (shape.frobenius, shape.spectral) == (0.0, 0.0)
        assert {shape.stable_rank, shape.effective_rank, shape.energy_rank_90, shape.utilisation} == {None}
        assert spectra.energy_rank(values, 0.9) is None


@pytest.mark.parametrize("values", [[3.0, 1.0, 1.0], [1.0] * 10, [5.0, 0.0], [1e-200, 1e-200], [1e200, 1e199]])
def test_ranks_are_those_written_out_plainly(values):
    shape = spectra.shape_of(torch.tensor(values, dtype=torch.float64), 4)
    scaled = [v / values[0] for v in values]
    assert shape.stable_rank == pytest.approx(plain.stable_rank(scaled))
    assert shape.effective_rank == pytest.approx(plain.effective_rank(scaled))
    assert shape.utilisation == pytest.approx(plain.stable_rank(scaled) / 4)
    assert shape.frobenius == pytest.approx(values[0] * math.sqrt(plain.stable_rank(scaled)))
    assert shape.energy_rank_99 == plain.energy_rank(scaled, 0.99)


def test_the_worked_instance_of_the_shelf_is_right():
    shape = spectra.shape_of(torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64), 4)
    found = [round(x, 2) for x in (shape.stable_rank, shape.effective_rank, shape.utilisation)]
    assert found == [1.22, 2.59, 0.31]
    assert (shape.energy_rank_90, shape.energy_rank_99) == (2, 3)


def test_ten_equal_values_reach_nine_tenths_with_nine():
    for value in (1.0, 0.1, 0.3, 1 / 7):
        values = torch.full((10,), value, dtype=torch.float64)
        assert spectra.energy_rank(values, 0.9) == 9
        assert spectra.energy_rank(values, 1.0) == 10


def test_the_truncated_update_is_the_best_of_its_rank():
    delta = planted([5.0, 3.0, 1.0, 0.5], 30, 20, scale=0.5)
    whole = torch.from_numpy(plain.dense(delta))
    for rank in (1, 2, 3, 4, 9):
        cut = spectra.truncated(delta, rank)
        assert (cut.rank, cut.scale, cut.a.dtype) == (min(rank, 4), 1.0, torch.float32)
        left = [5.0, 3.0, 1.0, 0.5][rank:]
        missed = float((whole - cut.dense().double()).norm())
        assert missed == pytest.approx(math.sqrt(sum(s * s for s in left)), abs=1e-5)


def test_a_full_update_is_truncated_too():
    before = torch.randn(20, 30, generator=drawn())
    delta = DenseDelta(before, before + planted([2.0, 1.0], 20, 30).dense().float())
    assert spectra.singular_values(spectra.truncated(delta, 1)).tolist() == pytest.approx([2.0], rel=1e-5)


def test_a_rank_below_one_is_refused():
    with pytest.raises(ModelError, match="can't be cut to this rank"):
        spectra.truncated(random(5, 5, 2), 0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(bad):
    delta = random(8, 9, 2)
    delta.b[3, 1] = bad
    for measure in (spectra.singular_values, spectra.svd):
        with pytest.raises(ModelError, match="NaN or infinite"):
            measure(delta)
        with pytest.raises(ModelError, match="NaN or infinite"):
            measure(DenseDelta(torch.zeros(8, 9), delta.dense()))


@pytest.mark.parametrize("shape", [(30, 40), (500, 450), (450, 900)])
def test_the_spectral_norm_is_the_largest_singular_value(shape):
    flat = torch.randn(*shape, generator=drawn())
    spiked = flat + planted([90.0, 89.9], *shape).dense().float()
    tied = planted([3.0] * 20, *shape).dense().float()
    for weight in (flat, spiked, tied, flat * 1e-25):
        true = float(torch.linalg.svdvals(weight.double())[0])
        assert spectra.spectral_norm(weight) == pytest.approx(true, rel=1e-6)
    assert spectra.spectral_norm(torch.zeros(500, 450)) == 0.0


def small_base() -> Base:
    model = tiny_model().requires_grad_(False)
    return Base(ModelRef("tiny"), model, tiny_tokenizer(), torch.device("cpu"), torch.float32)


NAME = "model.layers.1.mlp.down_proj"  # (32, 64)


def read(subject: Subject) -> dict[tuple[str, str], tuple]:
    readings = plugins.get("diagnostics", "spectrum").measure(subject, {})
    return {(r.module, r.name): (r.values, r.layer) for r in readings}


def test_the_diagnostic_reads_a_planted_update_against_its_base():
    base = small_base()
    weight = base.model.get_submodule(NAME).weight
    read_ = read(Subject(Update("lora", {NAME: planted([3.0, 1.0, 1.0], 32, 64)}), base))
    assert read_[NAME, "singular_values"] == ((3.0, 1.0, 1.0), 1)
    assert read_[NAME, "utilisation"] == ((round(11 / 27, 7),), 1)
    assert read_[NAME, "relative_frobenius"][0][0] == pytest.approx(math.sqrt(11) / float(weight.norm()), rel=1e-5)
    true = float(torch.linalg.svdvals(weight)[0])
    assert read_[NAME, "relative_spectral"][0][0] == pytest.approx(3 / true, rel=1e-5)
    assert read_["", "total_frobenius"] == ((round(math.sqrt(11), 6),), None)


def test_without_a_base_the_update_s_own_numbers_are_read_and_no_others():
    names = {name for _, name in read(Subject(Update("lora", {NAME: planted([3.0, 1.0], 32, 64)})))}
    assert "stable_rank" in names and not {n for n in names if n.startswith("relative")}


def test_what_a_parameter_outside_the_linear_modules_has_moved_counts_in_the_total():
    base = small_base()
    before = base.model.model.norm.weight.detach()
    linear = base.model.get_submodule(NAME).weight.detach()
    moved = DenseDelta(linear, linear + planted([4.0], 32, 64).dense().float())
    whole = {"model.norm.weight": before + 3.0 / math.sqrt(32)}
    found = read(Subject(Update("full", {NAME: moved}, whole), base))
    assert found["model.norm.weight", "relative_frobenius"][0][0] == pytest.approx(3.0 / math.sqrt(32), rel=1e-5)
    assert found["", "total_frobenius"][0][0] == pytest.approx(5.0, rel=1e-5)
    assert (NAME, "utilisation") not in found
    alone = read(Subject(Update("lora", {NAME: planted([4.0], 32, 64)}, whole)))
    assert alone["", "total_frobenius"][0] == (None,)  # how far the norm moved can't be known without the base


def test_the_diagnostic_names_the_module_whose_weights_are_nan():
    delta = planted([1.0], 32, 64)
    delta.a[0, 0] = float("nan")
    with pytest.raises(ModelError, match=f"{NAME}.*NaN or infinite"):
        read(Subject(Update("lora", {NAME: delta}), small_base()))


@pytest.mark.parametrize(("held", "share", "rank"), [(0.895, 0.9, 2), (0.9, 0.9, 1), (0.985, 0.99, 2), (0.99, 0.99, 1)])
def test_an_energy_rank_reaches_its_share_and_not_nearly(held, share, rank):
    values = torch.tensor([held, 1 - held], dtype=torch.float64).sqrt()
    assert spectra.energy_rank(values, share) == rank
