"""Intruder dimensions: planted ones are found, and the search's answers are those of the definition written out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from rankscope import plugins
from rankscope.analysis import base_spectra, intruders
from rankscope.analysis.base_spectra import decomposed, kept
from rankscope.analysis.subject import Subject
from rankscope.analysis.tuned import DenseTuned, FactoredTuned
from rankscope.errors import ModelError
from rankscope.models.base import Base
from rankscope.models.delta import DenseDelta, FactoredDelta, Update
from rankscope.records import ModelRef
from rankscope.testing import tiny_model, tiny_tokenizer
from reference import spectra as plain

SHAPES = [(96, 96), (90, 150), (160, 90)]


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def matrix(num_out: int, num_in: int, seed: int = 0) -> torch.Tensor:
    """A weight whose singular values fall as a trained one's do, without ties."""
    size = min(num_out, num_in)
    left = torch.linalg.qr(torch.randn(num_out, size, generator=drawn(seed))).Q
    right = torch.linalg.qr(torch.randn(num_in, size, generator=drawn(seed + 1))).Q
    return left * (10 * (1 + torch.arange(size)) ** -0.5) @ right.T


def unit(size: int, seed: int) -> torch.Tensor:
    vector = torch.randn(size, generator=drawn(seed))
    return vector / vector.norm()


def rank_one(left: torch.Tensor, right: torch.Tensor, scale: float) -> FactoredDelta:
    return FactoredDelta(right[None], left[:, None], scale)


def random(num_out: int, num_in: int, rank: int, scale: float, seed: int) -> FactoredDelta:
    a, b = torch.randn(rank, num_in, generator=drawn(seed)), torch.randn(num_out, rank, generator=drawn(seed + 1))
    return FactoredDelta(a / num_in**0.5, b / num_out**0.5, scale)


def full(weight: torch.Tensor, delta: FactoredDelta) -> DenseDelta:
    return DenseDelta(weight, weight + delta.dense())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_large_update_along_a_mixture_of_all_directions_is_one_intruder(shape):
    weight = matrix(*shape)
    delta = rank_one(unit(shape[0], 5), unit(shape[1], 6), 12.0)
    found = intruders.find(weight, delta, decomposed(weight))
    assert (found.count, found.near_ties, found.was_dense) == (1, 0, False)
    assert float(found.cosines[0]) < 0.4 < 0.9 < float(found.cosines[2:].min())


@pytest.mark.parametrize("shape", SHAPES)
def test_an_intruder_that_no_top_vector_leads_to_is_not_missed(shape):
    weight = matrix(*shape)
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    mixed = unit(40, 3)
    delta = rank_one(u[:, 50:90] @ mixed, mixed @ vh[50:90], 12.0)  # on both sides away from all large directions
    for update in (delta, full(weight, delta)):
        assert intruders.find(weight, update, decomposed(weight)).count == 1


def test_an_update_outside_all_left_vectors_of_a_tall_weight_is_an_intruder_with_cosine_near_zero():
    weight = matrix(160, 90)
    base = decomposed(weight)
    left = unit(160, 5)
    left = left - base.left @ (base.left.T @ left)
    found = intruders.find(weight, rank_one(left / left.norm(), unit(90, 6), 40.0), base)
    assert (found.count, found.was_dense) == (1, False)
    assert float(found.cosines[0]) < 0.05


@pytest.mark.parametrize("shape", SHAPES)
def test_three_planted_intruders_are_counted(shape):
    weight = matrix(*shape)
    left = torch.linalg.qr(torch.randn(shape[0], 3, generator=drawn(7))).Q
    right = torch.linalg.qr(torch.randn(shape[1], 3, generator=drawn(8))).Q
    found = intruders.find(
        weight, FactoredDelta(right.T, left * torch.tensor([30.0, 25.0, 20.0]), 1.0), decomposed(weight)
    )
    assert (found.count, found.was_dense) == (3, False)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_update_along_the_base_s_own_top_vectors_makes_no_intruder(shape):
    weight = matrix(*shape)
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    delta = FactoredDelta(vh[:4], u[:, :4] * s[:4], 0.5)
    for update in (delta, full(weight, FactoredDelta(vh[:4], u[:, :4] * s[:4], 0.02))):
        found = intruders.find(weight, update, decomposed(weight))
        assert (found.count, found.was_dense) == (0, False)
        assert float(found.cosines.min()) > 0.999


def test_no_update_is_no_intruder():
    weight = matrix(96, 96)
    zero = rank_one(torch.zeros(96), unit(96, 1), 1.0)
    for delta in (zero, DenseDelta(weight, weight)):
        assert intruders.find(weight, delta, decomposed(weight)).count == 0
        assert intruders.interference(weight, delta, decomposed(weight)) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_counts_and_cosines_are_those_of_the_definition_on_many_updates(shape):
    searched = 0
    for seed in range(12):
        weight = matrix(*shape, seed=100 + seed)
        delta = random(*shape, rank=(1, 2, 8, 16)[seed % 4], scale=(1.0, 6.0, 20.0)[seed % 3], seed=seed)
        found, true = intruders.find(weight, delta, decomposed(weight)), plain.intruder_cosines(weight, delta)
        assert found.count == sum(c < 0.5 for c in true), seed
        assert found.cosines.tolist() == pytest.approx(true, abs=3e-3), seed
        searched += not found.was_dense
    assert searched >= 9


@pytest.mark.parametrize("shape", [(160, 160), (150, 200), (220, 150)])
def test_full_updates_are_searched_as_well(shape):
    searched = 0
    for seed in range(6):
        weight = matrix(*shape, seed=200 + seed)
        delta = full(weight, random(*shape, rank=100, scale=0.02, seed=seed))
        found, true = intruders.find(weight, delta, decomposed(weight)), plain.intruder_cosines(weight, delta)
        assert found.count == sum(c < 0.5 for c in true)
        assert found.cosines.tolist() == pytest.approx(true, abs=3e-3)
        searched += not found.was_dense
    assert searched == 6


def test_cosines_just_beside_the_threshold_are_told_apart_and_named_as_near_ties():
    weight = matrix(96, 96)
    base = decomposed(weight)
    left, right = unit(96, 5), unit(96, 6)

    def scale_at(wanted: float) -> float:
        """Where the first vector, turning from the base's own to the planted one, has this cosine."""
        low, high = 1.0, 40.0
        for _ in range(50):
            middle = (low + high) / 2
            found = intruders.find(weight, rank_one(left, right, middle), base, steps=0).cosines[0].item()
            low, high = (middle, high) if found > wanted else (low, middle)
        return low

    for wanted in (0.5008, 0.4992, 0.502, 0.498, 0.500001, 0.499999):
        delta = rank_one(left, right, scale_at(wanted))
        found, true = intruders.find(weight, delta, base), plain.intruder_cosines(weight, delta)
        assert true[0] == pytest.approx(wanted, abs=1e-5)
        assert found.near_ties == sum(abs(c - 0.5) < intruders.NEAR for c in true) == (abs(wanted - 0.5) < 1e-3)
        is_decidable = abs(wanted - 0.5) > 1e-5
        assert found.was_dense is not is_decidable  # too near for the bound: the definition decides
        if is_decidable:
            assert found.count == sum(c < 0.5 for c in true)


def test_a_bound_that_does_not_hold_sends_the_search_to_the_definition(monkeypatch):
    weight = matrix(96, 96)
    delta = random(96, 96, 2, 6.0, 0)
    base = decomposed(weight)
    true = intruders.find(weight, delta, base, steps=0)
    assert true.was_dense and not intruders.find(weight, delta, base).was_dense
    for kind, update in ((FactoredTuned, delta), (DenseTuned, full(weight, delta))):
        with monkeypatch.context() as patch:
            patch.setattr(kind, "ceiling", lambda self, first, last, k: float(last.values[0]))
            found = intruders.find(weight, update, base)
            assert found.was_dense and found.count == true.count
    assert intruders.find(weight, delta, base, steps=1).was_dense  # too few steps


@pytest.mark.parametrize("shape", SHAPES)
def test_the_ceiling_lies_above_the_next_eigenvalue_and_is_none_where_a_vector_was_missed(shape):
    weight = matrix(*shape)
    delta = random(*shape, rank=3, scale=15.0, seed=3)
    base = decomposed(weight)
    tuned = FactoredTuned(weight, delta, base, 10)
    whole = torch.diag(tuned.diagonal) + tuned.outer @ tuned.across.T
    values, vectors = torch.linalg.eigh((whole + whole.T) / 2)
    values, vectors = values.flip(0), vectors.flip(1)
    pairs = intruders.Ritz(values, vectors, torch.zeros_like(vectors))
    true = torch.linalg.svdvals(weight + delta.dense()).double()
    assert values[:11].tolist() == pytest.approx(((true / base.values[0]) ** 2)[:11].tolist(), rel=1e-4)
    assert float(values[10]) < tuned.ceiling(pairs, pairs, 10) < float(values[9])
    missed = torch.cat([values[:4], values[5:]])  # the fifth was not seen
    assert tuned.ceiling(pairs, intruders.Ritz(missed, vectors[:, 1:], vectors[:, 1:]), 10) is None


def test_a_small_weight_and_more_vectors_than_it_has_are_decomposed():
    weight = matrix(6, 8)
    found = intruders.find(weight, random(6, 8, 2, 3.0, 0), decomposed(weight))
    assert found.was_dense and len(found.cosines) == 6


def test_interference_is_the_share_inside_both_subspaces():
    weight = matrix(90, 150)
    base = decomposed(weight)
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    inside, outside = rank_one(u[:, 3], vh[5], 2.0), rank_one(u[:, 3], vh[40], 2.0)
    both = FactoredDelta(torch.stack([vh[5], vh[40]]), torch.stack([u[:, 3], 2 * u[:, 50]], 1), 1.0)
    assert intruders.interference(weight, inside, base) == pytest.approx(1.0, abs=1e-5)
    assert intruders.interference(weight, outside, base) == pytest.approx(0.0, abs=1e-5)
    assert intruders.interference(weight, both, base) == pytest.approx(0.2, abs=1e-5)
    for shape in SHAPES:
        weight, delta = matrix(*shape), random(*shape, rank=4, scale=2.0, seed=1)
        for update in (delta, full(weight, delta)):
            found = intruders.interference(weight, update, decomposed(weight))
            assert found == pytest.approx(plain.interference(weight, update), rel=1e-4)


def test_weights_that_do_not_fit_or_are_not_finite_are_refused():
    weight = matrix(96, 96)
    with pytest.raises(ModelError, match="doesn't fit"):
        intruders.find(weight, random(90, 96, 2, 1.0, 0), decomposed(weight))
    delta = random(96, 96, 2, 1.0, 0)
    delta.b[0, 0] = float("nan")
    with pytest.raises(ModelError, match="NaN or infinite"):
        intruders.find(weight, delta, decomposed(weight))
    with pytest.raises(ModelError, match="NaN or infinite"):
        decomposed(weight * float("nan"))


def test_a_base_s_spectrum_is_worked_out_once_and_read_back(tmp_path, monkeypatch):
    weight = matrix(30, 20)
    first = kept(weight, tmp_path / "cache", "abc", "layer")
    (path,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr(base_spectra, "decomposed", lambda weight: pytest.fail("worked out again"))
    again = kept(weight, tmp_path / "cache", "abc", "layer")
    assert torch.equal(first.left, again.left) and torch.equal(first.values, again.values)
    assert path.suffix == ".safetensors"
    for other in (("abd", "layer"), ("abc", "layer2")):
        with pytest.raises(pytest.fail.Exception, match="again"):
            kept(weight, tmp_path / "cache", *other)
    with pytest.raises(pytest.fail.Exception, match="again"):
        kept(weight, tmp_path / "cache", "", "layer")  # a base that has no key


@pytest.mark.parametrize("harm", ["cut", "noise", "shape", "names"])
def test_a_damaged_file_is_worked_out_again(tmp_path, harm):
    weight = matrix(30, 20)
    first = kept(weight, tmp_path, "abc", "layer")
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if harm == "shape":
        base_spectra._write(path, decomposed(matrix(20, 20)))
    else:
        path.write_bytes({"cut": whole[:-9], "noise": b"noise", "names": whole.replace(b'"left"', b'"lift"')}[harm])
    again = kept(weight, tmp_path, "abc", "layer")
    assert torch.equal(first.left, again.left)
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


NAME = "model.layers.1.mlp.gate_proj"  # (64, 32)


def test_the_diagnostic_finds_an_intruder_planted_in_one_layer(tmp_path):
    model = tiny_model().requires_grad_(False)
    base = Base(ModelRef("tiny", key="abc"), model, tiny_tokenizer(), torch.device("cpu"), torch.float32)
    weight = model.get_submodule(NAME).weight
    outside = unit(64, 3) - (q := torch.linalg.qr(weight).Q) @ (q.T @ unit(64, 3))
    deltas = {
        NAME: rank_one(outside, unit(32, 4), 50.0),
        "model.layers.0.self_attn.q_proj": rank_one(torch.zeros(32), unit(32, 1), 1.0),
    }
    plugin = plugins.get("diagnostics", "intruders")
    subject = Subject(Update("lora", deltas), base, cache=tmp_path)
    readings = {(r.module, r.name): r for r in plugin.measure(subject, {"k": 5, "threshold": 0.5})}
    assert (readings[NAME, "intruders"].values, readings[NAME, "intruders"].layer) == ((1.0,), 1)
    assert len(readings[NAME, "intruder_cosines"].values) == 5
    assert readings["model.layers.0.self_attn.q_proj", "intruders"].values == (0.0,)
    assert readings["model.layers.0.self_attn.q_proj", "interference"].values == (None,)
    assert len(list(tmp_path.iterdir())) == 2
    deltas[NAME].a[0, 0] = float("inf")
    with pytest.raises(ModelError, match=f"{NAME}.*NaN or infinite"):
        list(plugin.measure(subject, {"k": 5, "threshold": 0.5}))


@pytest.mark.parametrize(("options", "wrong"), [
    ({"k": 0, "threshold": 0.5}, "k must"), ({"k": True, "threshold": 0.5}, "k must"),
    ({"k": 10, "threshold": 1}, None),
    ({"k": 10, "threshold": "x"}, "thr"), ({"k": 10, "threshold": 0}, "thr"),
])  # fmt: skip
def test_options_are_checked(options, wrong):
    problems = plugins.get("diagnostics", "intruders").check(options)
    assert [wrong in p for p in problems] == [True] if wrong else problems == []


def real_weights() -> dict[str, torch.Tensor]:
    folder = os.environ.get("RANKSCOPE_SMOLLM2")
    if not folder:
        pytest.skip("RANKSCOPE_SMOLLM2 names no folder with SmolLM2-135M-Instruct")
    with safe_open(Path(folder) / "model.safetensors", framework="pt") as file:
        names = [name for name in file.keys() if name.endswith("_proj.weight")]  # noqa: SIM118
        return {name.removesuffix(".weight"): file.get_tensor(name).float() for name in names}


def same_counts(weights: dict[str, torch.Tensor], deltas) -> tuple[int, int, int]:
    """Intruders, near-ties and decompositions; every count held against the definition with one base spectrum."""
    count = ties = whole = 0
    for name, weight in weights.items():
        base, delta = decomposed(weight), deltas(name, weight)
        found, true = intruders.find(weight, delta, base), intruders.find(weight, delta, base, steps=0)
        assert found.count == true.count, name
        assert float((found.cosines - true.cosines).abs().max()) < 3e-3, name
        count, ties, whole = count + found.count, ties + found.near_ties, whole + found.was_dense
    return count, ties, whole


@pytest.mark.real
def test_all_matrices_of_smollm2_have_the_same_counts_with_planted_updates():
    weights = real_weights()
    assert len(weights) == 210

    def planted(name: str, weight: torch.Tensor) -> FactoredDelta:
        seed = sorted(weights).index(name)
        return random(
            *weight.shape,
            rank=4,
            scale=float(torch.linalg.matrix_norm(weight, 2)) * (0.2, 0.6, 1.2)[seed % 3],
            seed=seed,
        )

    count, ties, whole = same_counts(weights, planted)
    print(f"{count} intruders, {ties} near-ties, {whole} decomposed")
    assert count > 100 and whole < 11


@pytest.mark.real
def test_trained_adapters_of_smollm2_have_the_same_counts():
    weights = real_weights()
    folder = os.environ.get("RANKSCOPE_SMOLLM2_ADAPTERS")
    if not folder:
        pytest.skip("RANKSCOPE_SMOLLM2_ADAPTERS names no folder with adapters of SmolLM2-135M-Instruct")
    for path in sorted(Path(folder).rglob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            config = json.loads((file.metadata() or {}).get("adapter_config", "null"))
            tensors = {key.removeprefix("base_model.model."): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if config is None and f"{next(iter(weights))}.weight" not in tensors:
            continue

        def trained(name: str, weight: torch.Tensor, tensors=tensors, config=config):
            if config is None:
                return DenseDelta(weight, tensors[f"{name}.weight"].float())
            scale = config["lora_alpha"] / config["r"] ** (0.5 if config["use_rslora"] else 1)
            return FactoredDelta(tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"], scale)

        rank = "full" if config is None else f"rank {config['r']}"
        print(path.name, rank, "intruders, near-ties, decomposed:", same_counts(weights, trained))
