"""Replayed passes give what whole passes give, on decoders of several kinds, and skip what they say they skip."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from torch import nn

from rankscope.analysis.replay import can_replay, layers_of, recording, replaying
from rankscope.errors import ModelError
from rankscope.models.base import Base
from rankscope.records import ModelRef
from rankscope.testing import tiny_tokenizer

SIZES = {"vocab_size": 132, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
         "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
FAMILIES = {
    "llama": hf.LlamaConfig(**SIZES),
    "gpt2": hf.GPT2Config(vocab_size=132, n_embd=32, n_layer=4, n_head=4, n_positions=64, bos_token_id=1,
                          eos_token_id=2),
    "gpt_neox": hf.GPTNeoXConfig(**{k: v for k, v in SIZES.items() if k != "num_key_value_heads"}),
    "gemma3, windows": hf.Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=4,
                                           layer_types=["sliding_attention", "full_attention"] * 2),
    "mixture of experts": hf.MixtralConfig(**SIZES, num_local_experts=4),
}  # fmt: skip


def made(config: hf.PretrainedConfig) -> Base:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    return Base(ModelRef("made"), model, tiny_tokenizer(), torch.device("cpu"), torch.float32)


def inputs() -> list[tuple]:
    ids = torch.arange(3, 43).reshape(2, 20)
    mask = torch.ones_like(ids)
    mask[1, 15:] = 0
    return [(ids, None), (ids, mask), (ids[:, :7], mask[:, :7])]


def count_calls(base: Base) -> list[int]:
    """How often each layer's attention or mixer has really run, kept up to date from now on."""
    counts = [0] * len(layers_of(base))
    for i, layer in enumerate(layers_of(base)):

        def count(*_, i=i):
            counts[i] += 1

        next(iter(layer.children())).register_forward_hook(count)
    return counts


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_replayed_pass_gives_the_same_hidden_states_and_skips_the_layers_below(family):
    base = made(FAMILIES[family])
    assert can_replay(base, (1, 2, 3))
    counts = count_calls(base)
    with recording(base, (1, 3)) as tape:
        expected = [base.hidden(*call) for call in inputs()]
    assert counts == [3, 3, 3, 3]
    for start in (1, 3):
        before = list(counts)
        with replaying(base, tape, start):
            found = [base.hidden(*call) for call in reversed(inputs())]
        assert [a - b for a, b in zip(counts, before, strict=True)] == [0] * start + [3] * (4 - start)
        assert all(torch.equal(a, b) for a, b in zip(reversed(found), expected, strict=True))
    with replaying(base, tape, 0):
        assert torch.equal(base.hidden(*inputs()[0]), expected[0])


@torch.inference_mode()
def test_layers_above_the_start_are_those_of_now_and_layers_below_those_of_the_recording():
    base, other = made(FAMILIES["llama"]), made(FAMILIES["llama"])
    for layer in list(layers_of(base))[:2]:
        layer.mlp.down_proj.weight.mul_(3)  # below the start: what is there now must not matter
    for model in (base, other):
        layers_of(model)[2].mlp.down_proj.weight.mul_(2)
    plain = made(FAMILIES["llama"])
    with recording(plain, (2,)) as tape:
        plain.hidden(*inputs()[0])
    with replaying(base, tape, 2):
        assert torch.equal(base.hidden(*inputs()[0]), other.hidden(*inputs()[0]))
    assert not torch.equal(base.hidden(*inputs()[0]), other.hidden(*inputs()[0]))  # and nothing stays swapped


@torch.inference_mode()
def test_a_call_that_is_not_on_the_tape_is_computed_whole():
    base = made(FAMILIES["llama"])
    ids, mask = inputs()[1]
    with recording(base, (3,)) as tape:
        base.hidden(ids, mask)
    counts = count_calls(base)
    others = (ids, None), (ids.flip(1), mask), (ids, mask, torch.arange(0, 40, 2).expand(2, -1))
    expected = [base.hidden(*call) for call in others]
    with replaying(base, tape, 3):
        found = [base.hidden(*call) for call in others]
    assert counts == [6, 6, 6, 6]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@torch.inference_mode()
def test_a_call_that_fills_a_cache_is_never_replayed():
    base = made(FAMILIES["llama"])
    ids = inputs()[0][0]
    with recording(base, (3,)) as tape:
        base.hidden(ids)
        base.hidden(ids, cache=hf.DynamicCache(config=base.model.config))
    assert len(tape.calls) == 1
    cache = hf.DynamicCache(config=base.model.config)
    with replaying(base, tape, 3):
        base.hidden(ids, cache=cache)
    assert all(cache.layers[i].keys.shape[2] == 20 for i in range(4))


@torch.inference_mode()
def test_a_layer_that_adds_to_its_input_in_place_spoils_no_recording():
    base = made(FAMILIES["llama"])

    def spoil(layer, args):
        args[0].add_(1.0)

    layers_of(base)[2].register_forward_pre_hook(spoil)
    ids = inputs()[0][0]
    with recording(base, (2,)) as tape:
        expected = base.hidden(ids)
    for _ in range(2):
        with replaying(base, tape, 2):
            assert torch.equal(base.hidden(ids), expected)


class Handing(nn.Module):
    """A layer that adds something which only the layer below it computed, handed on beside the hidden states."""

    def __init__(self, inner: nn.Module, shelf: dict):
        super().__init__()
        self.inner, self.shelf = inner, shelf

    def forward(self, hidden, **more):
        out = self.inner(hidden, **more) + self.shelf.pop("beside", 0.0)
        self.shelf["beside"] = out.mean()
        return out


def test_a_model_whose_layers_hand_on_more_than_hidden_states_is_found_out():
    base, shelf = made(FAMILIES["llama"]), {}
    layers = layers_of(base)
    for i in range(4):
        layers[i] = Handing(layers[i], shelf)
    base.model.base_model.norm.register_forward_hook(lambda *_: shelf.clear())
    assert not can_replay(base, (1, 2, 3))


@torch.inference_mode()
def test_an_error_inside_leaves_the_layers_as_they_were():
    base = made(FAMILIES["llama"])
    ids = inputs()[0][0]
    own = lambda hidden, **more: hidden  # noqa: E731  a forward that another library put on the layer
    layers_of(base)[0].forward = own
    with recording(base, (3,)) as tape:
        expected = base.hidden(ids)
    with pytest.raises(KeyError), replaying(base, tape, 3):
        raise KeyError("inside")
    assert layers_of(base)[0].forward is own
    assert "forward" not in layers_of(base)[1].__dict__
    assert not base.model.base_model._forward_pre_hooks
    assert torch.equal(base.hidden(ids), expected)


def test_a_start_that_was_not_kept_is_refused():
    base = made(FAMILIES["llama"])
    with recording(base, (3,)) as tape:
        pass
    with pytest.raises(ValueError, match="before layer 2"), replaying(base, tape, 2):
        pass


def test_the_layers_are_the_outermost_list_and_a_model_without_any_is_refused():
    base = made(FAMILIES["mixture of experts"])
    assert layers_of(base) is base.model.model.layers
    assert layers_of(made(FAMILIES["gpt2"])) is not None
    base.model.model.layers = nn.Sequential()
    with pytest.raises(ModelError, match="in no list"):
        layers_of(base)
