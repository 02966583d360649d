"""Drift on planted truth (rotations, independent states, updates of one layer) and against its plain twin."""

from __future__ import annotations

import math

import pytest
import torch
import transformers as hf
from torch import nn

from rankscope import plugins
from rankscope.analysis import drift as module
from rankscope.analysis.drift import LayerDrift, bucket_of, centred_gram, cosine_distances, drift, spectrum
from rankscope.data.batching import Example
from rankscope.errors import RunFailed
from rankscope.models.delta import DenseDelta, Update
from reference import drift as plain

DISTANCES = ("cka_distance", "cosine_distance", "sink_cosine_distance")


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer_of(x: torch.Tensor, y: torch.Tensor, size: int = 1024, step: int = 100) -> dict:
    """One layer's quantities of planted states, handed over in batches."""
    layer = LayerDrift(len(x), size)
    for first in range(0, len(x), step):
        layer.add(x[first : first + step], y[first : first + step])
    return layer.values()


def table(subject) -> dict:
    """Readings by name and place: the layer's number, 'embedding', or '' for the whole model."""
    found = {}
    for reading in drift(subject):
        place = reading.layer if reading.layer is not None else reading.module
        found.setdefault(reading.name, {})[place] = reading.values
    return found


def test_a_rotation_of_hidden_states_has_cka_distance_zero_and_a_large_cosine_distance():
    x = gaussian(1500, 48) * torch.linspace(0.1, 5, 48) + gaussian(48, seed=1)
    rotation = torch.linalg.qr(gaussian(48, 48, seed=2))[0]
    found = layer_of(x, x @ rotation * 3)
    assert found["cka_distance"][0] == pytest.approx(0, abs=1e-5)
    assert found["cosine_distance"][0] > 0.5
    assert found["effective_rank_tuned"][0] == pytest.approx(found["effective_rank_base"][0], rel=1e-4)


def test_independent_states_have_cka_near_zero_where_the_biased_estimate_is_near_one():
    draws = [(gaussian(64, 256, seed=2 * i), gaussian(64, 256, seed=2 * i + 1)) for i in range(40)]
    mean = sum(1 - layer_of(x, y)["cka_distance"][0] for x, y in draws) / len(draws)
    biased = sum(plain.biased_cka(x, y) for x, y in draws) / len(draws)
    assert abs(mean) < 0.02 and biased > 0.7


def test_states_that_share_half_of_their_dimensions_have_the_cka_that_algebra_gives():
    """x of 20 equal dimensions and y the first half of them: |Cxy|^2 / (|Cxx| |Cyy|) = 10 / sqrt(20 x 10)."""
    x = gaussian(4096, 20)
    found = layer_of(x, torch.cat([x[:, :10], torch.zeros(4096, 10)], 1), size=512)
    assert 1 - found["cka_distance"][0] == pytest.approx(math.sqrt(0.5), abs=0.01)


def test_unequal_minibatches_are_counted_by_their_tokens_and_too_few_tokens_are_left_out():
    x, y = gaussian(250, 16), gaussian(250, 16, seed=1) + gaussian(250, 16)
    parts = [(0, 100), (100, 200), (200, 250)]
    sums = [sum((b - a) * plain.hsic(u[a:b].double(), v[a:b].double()) for a, b in parts)
            for u, v in ((x, y), (x, x), (y, y))]  # fmt: skip
    found = layer_of(x, y, size=100, step=33)["cka_distance"][0]
    assert found == pytest.approx(1 - sums[0] / math.sqrt(sums[1] * sums[2]), abs=1e-6)
    longer = torch.cat([x, gaussian(53, 16, seed=5)])[:303], torch.cat([y, gaussian(53, 16, seed=6)])[:303]
    full = layer_of(*longer, size=100)["cka_distance"]
    assert full == layer_of(longer[0][:300], longer[1][:300], size=100)["cka_distance"]
    assert layer_of(x[:3], y[:3])["cka_distance"] == (None,)


def test_the_centred_matrix_is_the_textbook_estimator():
    x, y = gaussian(30, 7) + 100, gaussian(30, 5, seed=1) @ gaussian(5, 5, seed=2)
    k, other = centred_gram(x), centred_gram(y)
    assert float((k * other).sum()) / (30 * 27) == pytest.approx(plain.hsic(x.double(), y.double()), rel=1e-4)
    assert float(k.sum(0).abs().max()) < 1e-9 * float(k.abs().max()) * 30


def test_five_equal_directions_have_effective_rank_five_and_equal_shares():
    states = gaussian(200, 5) - gaussian(200, 5).mean(0)
    states = torch.linalg.qr(states)[0] @ torch.linalg.qr(gaussian(40, 5, seed=1))[0].T + 3
    for each in (states, states[:, :40].repeat(1, 10)):  # more tokens than dimensions, and fewer
        rank, shares = spectrum(each)
        assert rank == pytest.approx(5, rel=1e-4)
        assert shares[:5] == pytest.approx([0.2] * 5, rel=1e-4) and sum(shares[5:]) < 1e-6
        assert len(shares) == 32


def test_states_that_do_not_vary_have_no_rank_and_no_cka():
    found = layer_of(torch.ones(50, 8), gaussian(50, 8))
    assert found["cka_distance"] == found["effective_rank_base"] == (None,)
    assert found["hidden_spectrum_base"] == (None,) and found["effective_rank_tuned"][0] > 1


def test_a_state_of_zeros_has_no_direction():
    x, y = torch.eye(3), torch.tensor([[0.0, 2, 0], [0, 0, 0], [0, 0, 5.0]])
    assert cosine_distances(x, y).tolist() == [1.0, 0.0]


def test_the_sample_is_spread_evenly_over_all_tokens():
    layer = LayerDrift(1000, 50)
    x = torch.arange(1000.0)[:, None].repeat(1, 2)
    for first in range(0, 1000, 130):
        layer.add(x[first : first + 130], x[first : first + 130])
    assert layer.sample[0][:, 0].tolist() == [19.0 + 20 * i for i in range(50)] and layer.kept == 50


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("leaf", ["mlp.down_proj", "self_attn.k_proj"])
def test_a_delta_in_layer_5_shows_from_layer_5_on_and_is_exactly_zero_before(kind, leaf):
    base = plain.deep()
    update = getattr(plain, kind)(base, f"model.layers.5.{leaf}", 0.2)
    found = table(plain.subject(base, update, plain.prompts(12)))
    names = DISTANCES if leaf == "mlp.down_proj" else DISTANCES[:2]  # the first token has no other key to turn to
    for name in names:
        below = [found[name][place][0] for place in ("embedding", 0, 1, 2, 3, 4)]
        assert below == [0.0] * 6, name
        assert min(found[name][place][0] for place in (5, 6, 7)) > 1e-6, name
    for place in ("embedding", 0, 1, 2, 3, 4):
        assert found["hidden_spectrum_base"][place] == found["hidden_spectrum_tuned"][place]
    assert min(found["kl_by_position"][""]) > 0


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_an_identity_update_has_exactly_zero_everywhere(kind):
    base = plain.deep()
    update = getattr(plain, kind)(base, "model.layers.0.mlp.down_proj", 0.0)
    found = table(plain.subject(base, update, plain.prompts(12)))
    for name in DISTANCES:
        assert [v for values in found[name].values() for v in values] == [0.0] * 9
    assert set(found["kl_by_position"][""]) == {0.0}


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_it_is_what_all_states_in_memory_and_textbook_formulas_give(kind, monkeypatch):
    monkeypatch.setattr(module, "_BATCH_TOKENS", 100)
    base = plain.deep(4)
    update = getattr(plain, kind)(base, "model.layers.1.self_attn.v_proj", 0.3)
    rows = plain.prompts(20)
    found = table(plain.subject(base, update, rows))
    tuned = plain.merged(base, update)
    both = [[plain.hidden_states(m, row.ids) for row in rows] for m in (base.model, tuned)]
    for index, place in enumerate(("embedding", 0, 1, 2, 3)):
        x, y = (torch.cat([states[index][1:] for states in side]) for side in both)
        for name, value in plain.layer_quantities(x, y).items():
            value = value if isinstance(value, list) else [value]
            assert found[name][place] == pytest.approx(value, rel=1e-4, abs=1e-6), (name, place)
        sinks = [torch.stack([states[index][0] for states in side]) for side in both]
        assert found["sink_cosine_distance"][place] == pytest.approx([plain.cosine_distance(*sinks)], abs=1e-6)
    assert found["cka_distance"][3][0] > 1e-3
    expected = plain.kl_by_position(base.model, tuned, rows)
    assert found["kl_by_position"][""] == pytest.approx(expected, rel=1e-3, abs=1e-6) and len(expected) == 7


def test_order_of_prompts_and_size_of_batches_do_not_matter(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 64)
    base = plain.deep(4)
    update = plain.lora(base, "model.layers.1.mlp.up_proj", 0.3)
    rows = plain.prompts(30)
    first = table(plain.subject(base, update, rows))
    assert table(plain.subject(base, update, rows[::-1])) == first
    monkeypatch.setattr(module, "_BATCH_TOKENS", 50)
    again = table(plain.subject(base, update, rows))
    for name, places in first.items():
        for place, values in places.items():
            assert again[name][place] == pytest.approx(values, rel=1e-3, abs=1e-5), (name, place)


def test_memory_does_not_grow_with_the_number_of_prompts(monkeypatch):
    base = plain.deep(3)
    update = plain.lora(base, "model.layers.1.mlp.up_proj")
    monkeypatch.setattr(module, "SAMPLE", 64)
    monkeypatch.setattr(module, "_BATCH_TOKENS", 128)
    made, largest = [], []

    class Watched(LayerDrift):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

        def add(self, base, tuned):
            largest.append(len(base))
            super().add(base, tuned)

    def held(num: int) -> int:
        made.clear()
        list(drift(plain.subject(base, update, plain.prompts(num, longest=30))))
        tensors = [t for layer in made for v in vars(layer).values() for t in (v if isinstance(v, tuple) else (v,))]
        return sum(t.numel() for t in tensors if isinstance(t, torch.Tensor))

    monkeypatch.setattr(module, "LayerDrift", Watched)
    few = held(10)
    assert few == held(100) == 4 * (3 + 4 * 64 * 32)
    assert max(largest) <= 128


def test_positions_fall_in_doubling_buckets():
    assert [bucket_of(p) for p in range(1, 10)] == [0, 1, 2, 2, 3, 3, 3, 3, 4]


def test_a_planted_shift_of_one_logit_gives_the_divergence_that_algebra_gives_at_every_position():
    """Adding c to the logit of token j: KL = ln(1 - p_j + p_j e^c) - p_j c."""
    base = plain.deep(2)
    old = base.model.get_output_embeddings()
    head = nn.Linear(old.in_features, old.out_features)
    head.weight, head.bias = old.weight, nn.Parameter(torch.zeros(132), requires_grad=False)
    base.model.set_output_embeddings(head)
    bias = torch.zeros(132)
    bias[17] = 2.5
    row = Example(tuple(range(20, 29)), 1)
    found = table(plain.subject(base, Update("full", {}, {"lm_head.bias": bias}, ties=True), [row]))
    with torch.inference_mode():
        p = base.model(torch.tensor([row.ids])).logits[0].double().softmax(-1)[:, 17]
    each = (1 - p + p * math.exp(2.5)).log() - p * 2.5
    expected = [float(each[a:b].mean()) for a, b in ((1, 2), (2, 3), (3, 5), (5, 9))]
    assert found["kl_by_position"][""] == pytest.approx(expected, rel=1e-4)
    assert found["cosine_distance"][1] == (0.0,)


def test_every_set_of_prompts_is_measured_apart_and_steps_are_counted():
    base = plain.deep(2)
    subject = plain.subject(base, plain.lora(base, "model.layers.1.mlp.up_proj"), plain.prompts(4))
    subject.texts = {"train": plain.prompts(4), "neutral": plain.prompts(3, seed=1), "evaluation": (Example((), 0),)}
    steps = []
    subject.tick = steps.append
    found = list(drift(subject))
    assert {r.part for r in found} == {"train", "neutral"}
    assert sum(steps) == 7
    one = [r.values for r in found if r.part == "neutral"]
    subject.texts = {"neutral": plain.prompts(3, seed=1)}
    assert [r.values for r in drift(subject)] == one


def test_a_prompt_of_one_token_gives_the_sink_alone():
    base = plain.deep(2)
    subject = plain.subject(base, plain.lora(base, "model.layers.0.mlp.down_proj"), [Example((7,), 0)])
    found = table(subject)
    assert found["sink_cosine_distance"][0][0] > 0 and found["cosine_distance"][0] == (None,)
    assert found["hidden_spectrum_base"][0] == (None,) and "kl_by_position" not in found


def test_a_diverged_run_is_one_clear_failure_that_names_the_layer():
    base = plain.deep(3)
    weight = base.model.get_submodule("model.layers.1.mlp.up_proj").weight
    update = Update("full", {"model.layers.1.mlp.up_proj": DenseDelta(weight, weight * float("nan"))}, ties=True)
    with pytest.raises(RunFailed, match="after layer 1 are not finite"):
        list(drift(plain.subject(base, update, plain.prompts(2))))
    assert torch.equal(base.model.get_submodule("model.layers.1.mlp.up_proj").weight, weight)


def test_a_model_with_sliding_windows_and_scaled_embeddings_is_read(monkeypatch):
    base = plain.made(hf.Gemma3TextConfig(**plain.TOKENS, **plain.SIZE, num_hidden_layers=3, num_key_value_heads=2,
                                          head_dim=8, sliding_window=16))  # fmt: skip
    found = table(plain.subject(base, plain.lora(base, "model.layers.1.mlp.down_proj"), plain.prompts(5)))
    assert [found["cosine_distance"][p][0] > 0 for p in ("embedding", 0, 1, 2)] == [False, False, True, True]


def test_the_plug_in_names_all_that_it_gives():
    plugin = plugins.get("diagnostics", "drift")
    base = plain.deep(2)
    subject = plain.subject(base, plain.lora(base, "model.layers.0.mlp.down_proj"), plain.prompts(3))
    found = list(plugin.measure(subject, plugin.options))
    assert {reading.name for reading in found} == {quantity.name for quantity in plugin.quantities}
    assert plugin.reads == ("base", "texts")
