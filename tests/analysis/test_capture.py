"""Hidden states are handed on whole, in order and without padding, whatever the architecture."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from torch import nn

from rankscope.analysis.capture import batches, layers_of, read, tuned_side
from rankscope.errors import ModelError, RunFailed
from rankscope.models.base import Base
from reference import drift as plain

GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
FAMILIES = {
    "llama": lambda: hf.LlamaConfig(**plain.TOKENS, **plain.SIZE, num_hidden_layers=3),
    "gpt2": lambda: hf.GPT2Config(**plain.TOKENS, **GPT2),
    "opt": lambda: hf.OPTConfig(
        **plain.TOKENS, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, ffn_dim=64, word_embed_proj_dim=16
    ),
    "bloom": lambda: hf.BloomConfig(**plain.TOKENS, hidden_size=32, n_layer=3, n_head=4),
    "mixtral": lambda: hf.MixtralConfig(
        **plain.TOKENS,
        **plain.SIZE,
        num_hidden_layers=3,
        num_key_value_heads=2,
        num_experts_per_tok=2,
        num_local_experts=3,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_states_are_those_that_transformers_gives_and_padding_is_left_out(family):
    base = plain.made(FAMILIES[family]())
    rows = plain.prompts(5)
    (batch,) = batches(base, rows, 10_000)
    assert not bool(batch.is_real.all())
    found = {}
    last = read(base, batch, lambda number, states: found.setdefault(number, batch.later(states)))
    assert list(found) == [None, 0, 1, 2]
    with torch.inference_mode():
        each = [base.model.base_model(torch.tensor([row.ids]), output_hidden_states=True) for row in batch.rows]
    for number in (None, 0, 1):  # transformers gives the last layer's states after the norm
        expected = torch.cat([out.hidden_states[0 if number is None else number + 1][0, 1:] for out in each])
        torch.testing.assert_close(found[number], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        batch.later(last), torch.cat([out.last_hidden_state[0, 1:] for out in each]), atol=1e-4, rtol=1e-4
    )


def test_no_hook_stays_behind_when_what_takes_the_states_fails():
    base = plain.deep(3)
    (batch,) = batches(base, plain.prompts(2), 10_000)

    def take(number: int | None, states: torch.Tensor) -> None:
        if number == 1:
            raise RunFailed("planted", stage="diagnose")

    with pytest.raises(RunFailed, match="planted"):
        read(base, batch, take)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in layers_of(base))


def test_batches_hold_every_row_once_within_the_budget_in_an_order_that_forgets_the_given_one():
    base = plain.deep(1)
    rows = plain.prompts(50)
    found = [list(batch.rows) for batch in batches(base, rows, 128)]
    assert sorted(row.ids for batch in found for row in batch) == sorted(row.ids for row in rows)
    assert max(len(batch) * max(len(row.ids) for row in batch) for batch in found) <= 128
    assert [list(batch.rows) for batch in batches(base, rows[::-1], 128)] == found
    lengths = [len(row.ids) for batch in found for row in batch]
    assert lengths != sorted(lengths)  # rows of one length would not stand for all


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_tuned_side_opens_again_and_again_and_leaves_the_base_untouched_in_between(kind):
    base = plain.deep(2)
    subject = plain.subject(base, getattr(plain, kind)(base, "model.layers.1.mlp.up_proj"), plain.prompts(2))
    (batch,) = batches(base, plain.prompts(2), 1000)

    def last(side: Base) -> torch.Tensor:
        return read(side, batch, lambda number, states: None)

    before = last(base)
    with tuned_side(subject) as opened:
        with opened() as tuned:
            first = last(tuned)
        assert torch.equal(last(base), before)
        with opened() as tuned:
            assert torch.equal(last(tuned), first) and not torch.equal(first, before)
    assert torch.equal(last(base), before)


def test_a_base_that_is_not_float32_is_copied_once_for_a_full_update_and_what_is_measured_is_not_rounded(monkeypatch):
    base = plain.deep(2)
    base.model.half()
    half = Base(base.ref, base.model, base.tokenizer, base.device, torch.float16)
    copies, copy = [], Base.trainable_copy
    monkeypatch.setattr(Base, "trainable_copy", lambda self: copies.append(copy(self)) or copies[-1])
    subject = plain.subject(half, plain.full(half, "model.layers.1.mlp.up_proj"), plain.prompts(2))
    (batch,) = batches(half, plain.prompts(2), 1000)
    products = []

    def take(number: int | None, states: torch.Tensor) -> None:
        products.append((states[0].float() @ states[0].float().T).dtype)

    with tuned_side(subject) as opened:
        for _ in range(3):
            with opened() as tuned:
                read(tuned, batch, take)
    assert len(copies) == 1
    assert set(products) == {torch.float32}


def test_a_model_without_a_list_of_layers_is_refused_by_name():
    base = plain.deep(2)
    base.model.model.layers = nn.ModuleDict({"one": base.model.model.layers[0], "two": base.model.model.layers[1]})
    with pytest.raises(ModelError, match="can't be told apart.*LlamaForCausalLM.*Leave it out"):
        layers_of(base)
