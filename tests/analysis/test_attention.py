"""Change of attention on planted truth (one head changed, rows by hand) and against its plain twin."""

from __future__ import annotations

import math

import pytest
import torch
import transformers as hf

from rankscope import plugins
from rankscope.analysis import attention as module
from rankscope.analysis.attention import HeadChange, attention, eager, js_divergences, read_rows
from rankscope.analysis.capture import batches, forward
from rankscope.data.batching import Example
from rankscope.errors import RunFailed
from rankscope.models.delta import DenseDelta, Update
from reference import drift as plain

NAMES = ("attention_js", "entropy_change", "distance_change", "first_token_change")
HEADS = {"num_key_value_heads": 2}
FAMILIES = {
    "llama": lambda: hf.LlamaConfig(**plain.TOKENS, **plain.SIZE, **HEADS, num_hidden_layers=2),
    "gemma2": lambda: hf.Gemma2Config(**plain.TOKENS, **plain.SIZE, **HEADS, num_hidden_layers=2, head_dim=8,
                                      sliding_window=16),
    "gemma3": lambda: hf.Gemma3TextConfig(**plain.TOKENS, **plain.SIZE, **HEADS, num_hidden_layers=2, head_dim=8,
                                          sliding_window=16),
    "gpt2": lambda: hf.GPT2Config(**plain.TOKENS, n_embd=32, n_layer=2, n_head=4, n_positions=256),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**plain.TOKENS, **plain.SIZE, num_hidden_layers=2),
    "bloom": lambda: hf.BloomConfig(**plain.TOKENS, hidden_size=32, n_layer=2, n_head=4),
}  # fmt: skip


def falcon() -> hf.FalconConfig:
    return hf.FalconConfig(**plain.TOKENS, hidden_size=32, num_hidden_layers=2, num_attention_heads=4)


def table(subject) -> dict:
    """Values over heads, by name and layer."""
    found = {}
    for reading in attention(subject):
        found.setdefault(reading.name, {})[reading.layer] = reading.values
    return found


def softmax(*shape: int, seed: int) -> torch.Tensor:
    scores = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3
    return scores.masked_fill(torch.ones(shape[-2:]).triu(1).bool(), -math.inf).softmax(-1)


def test_the_divergence_of_rows_is_what_is_found_by_hand():
    p = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    q = torch.tensor([[0.5, 0.5, 0], [0, 0.5, 0.5], [0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    by_hand = 0.5 * math.log(1 / 0.75) + 0.25 * math.log(0.5 / 0.75) + 0.25 * math.log(0.5 / 0.25)
    assert js_divergences(p, q).tolist() == pytest.approx([by_hand, math.log(2), 0, 0], abs=1e-6)
    assert js_divergences(p, q)[2:].tolist() == [0.0, 0.0] and by_hand == pytest.approx(0.2158, abs=1e-4)


def test_a_tiny_divergence_is_not_lost_in_rounding():
    """Of p and p (1 + e u), sum p u = 0, the divergence is e^2 sum p u^2 / 8."""
    p = torch.full((1, 64), 1 / 64)
    u = torch.tensor([1.0, -1.0]).repeat(32)[None]
    found = float(js_divergences(p, p * (1 + 2**-13 * u)))
    assert found == pytest.approx(2**-26 / 8, rel=1e-2)


def test_a_head_that_turns_from_the_first_token_to_the_one_before_has_the_planted_changes():
    sink, local = torch.zeros(1, 5, 5), torch.zeros(1, 5, 5)
    sink[:, :, 0] = 1
    local[0, 0, 0] = 1
    local[:, range(1, 5), range(0, 4)] = 1
    change = HeadChange()
    change.add(sink, (sink + local) / 2)
    values = change.values()
    # Query 1 already looked at token 0; queries 2, 3 and 4 move half of their weight to the token before.
    assert values["first_token_change"] == pytest.approx((-0.5 * 3 / 4,))
    assert values["distance_change"] == pytest.approx((-0.5 * (1 + 2 + 3) / 4,))
    assert values["entropy_change"] == pytest.approx((math.log(2) * 3 / 4,))
    assert values["attention_js"] == pytest.approx((0.21576155 * 3 / 4,))


def test_means_are_over_all_rows_of_all_prompts_but_each_first():
    change, rows = HeadChange(), []
    for n in (3, 7, 1):
        p, q = softmax(2, n, n, seed=n), softmax(2, n, n, seed=n + 50)
        change.add(p, q)
        rows.append(js_divergences(p, q)[:, 1:])
    assert change.num == 8
    assert change.values()["attention_js"] == pytest.approx(torch.cat(rows, 1).mean(1).tolist(), rel=1e-5)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_changed_head_shows_in_that_head_and_exactly_nowhere_else_up_to_its_layer(kind):
    base = plain.deep()
    head = slice(16, 24)  # the third of four heads of 8 dimensions
    update = getattr(plain, kind)(base, "model.layers.4.self_attn.q_proj", 0.5, head)
    found = table(plain.subject(base, update, plain.prompts(6)))
    for name in NAMES:
        below = [v for layer in range(4) for v in found[name][layer]]
        assert below == [0.0] * 16, name
        assert [v != 0 for v in found[name][4]] == [False, False, True, False], name
    assert found["attention_js"][4][2] > 1e-3
    assert min(found["attention_js"][5]) > 0


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_an_identity_update_has_exactly_zero_everywhere(kind):
    base = plain.deep(3)
    update = getattr(plain, kind)(base, "model.layers.0.self_attn.q_proj", 0.0)
    found = table(plain.subject(base, update, plain.prompts(6)))
    assert {v for layers in found.values() for values in layers.values() for v in values} == {0.0}
    assert set(found) == set(NAMES) and set(found["attention_js"]) == {0, 1, 2}


@pytest.mark.parametrize("held", [2_000, 30_000, 10_000_000])
def test_it_is_what_whole_prompts_one_by_one_and_textbook_formulas_give(held, monkeypatch):
    monkeypatch.setattr(module, "_HELD", held)  # one layer of one prompt at a time, a few, all at once
    base = plain.deep(3)
    update = plain.lora(base, "model.layers.0.self_attn.k_proj", 0.3)
    rows = plain.prompts(10)
    found = table(plain.subject(base, update, rows))
    expected = plain.attention_changes(base.model, plain.merged(base, update), rows)
    for name in NAMES:
        for layer in range(3):
            assert found[name][layer] == pytest.approx(expected[name][layer], rel=1e-3, abs=2e-6), (name, layer)
    assert min(expected["attention_js"][0]) > 1e-4


def test_the_order_of_prompts_does_not_matter():
    base = plain.deep(3)
    update = plain.lora(base, "model.layers.0.self_attn.k_proj", 0.3)
    rows = plain.prompts(10)
    assert table(plain.subject(base, update, rows)) == table(plain.subject(base, update, rows[::-1]))


def test_memory_does_not_grow_with_the_number_of_prompts(monkeypatch):
    base = plain.deep(3)
    update = plain.lora(base, "model.layers.1.self_attn.q_proj")
    monkeypatch.setattr(module, "_HELD", 4 * 30 * 30 * 2)  # two of three layers of the longest
    made, held, read = [], [], read_rows

    class Watched(HeadChange):
        def __init__(self):
            super().__init__()
            made.append(self)

    def watched(base, batch, wanted, take):
        held.append(len(wanted) * len(batch.rows) * 4 * batch.ids.shape[1] ** 2)
        read(base, batch, wanted, take)

    monkeypatch.setattr(module, "HeadChange", Watched)
    monkeypatch.setattr(module, "read_rows", watched)
    sizes = []
    for num in (10, 100):
        made.clear()
        list(attention(plain.subject(base, update, plain.prompts(num, longest=30))))
        sizes.append(sum(change.sums.numel() for change in made))
    assert sizes == [3 * 4 * 4] * 2
    assert max(held) <= module._HELD


@pytest.mark.parametrize("family", FAMILIES)
def test_the_eager_path_gives_the_fast_paths_logits_and_rows_that_add_up_to_one(family):
    """To 1e-4 of logits whose spread is some units: both are float32 sums in another order."""
    base = plain.made(FAMILIES[family]())
    rows = plain.prompts(5)
    (batch,) = batches(base, rows, 10_000)
    before = base.model.config._attn_implementation
    found = {}
    with torch.inference_mode():
        fast = base.logits(batch.later(forward(base, batch)))
        with eager(base):
            assert base.model.config._attn_implementation == "eager"
            slow = base.logits(batch.later(forward(base, batch)))
    read_rows(base, batch, (0, 1), found.__setitem__)
    torch.testing.assert_close(slow, fast, atol=1e-4, rtol=1e-4)
    assert base.model.config._attn_implementation == before == ("eager" if family in ("bloom", "gemma2") else "sdpa")
    for attended in found.values():
        assert attended.shape[:2] == (5, 4)
        sums = attended.sum(-1).transpose(1, 2)[batch.is_real]
        torch.testing.assert_close(sums, torch.ones_like(sums))
        assert float(attended.triu(1).transpose(1, 2)[batch.is_real].abs().max()) == 0
    assert set(found) == {0, 1}


def test_the_path_is_what_it_was_after_an_error_and_no_hook_stays_behind():
    base = plain.deep(2)
    (batch,) = batches(base, plain.prompts(2), 1000)

    def take(number: int, rows: torch.Tensor) -> None:
        raise RunFailed("planted", stage="diagnose")

    with pytest.raises(RunFailed, match="planted"):
        read_rows(base, batch, (0, 1), take)
    assert base.model.config._attn_implementation == "sdpa"
    assert not any(m._forward_hooks for m in base.model.modules())


def test_parts_of_a_model_that_ran_on_other_paths_get_their_own_back():
    base = plain.made(hf.Gemma3Config(
        text_config=FAMILIES["gemma3"]().to_dict(),
        vision_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    ))  # fmt: skip
    config = base.model.config
    if not hasattr(config, "vision_config"):
        pytest.skip("this transformers reads the text part alone")
    config._attn_implementation = "sdpa"
    config.vision_config._attn_implementation = "eager"
    with eager(base):
        assert config.text_config._attn_implementation == "eager"
    paths = (config._attn_implementation, config.text_config._attn_implementation)
    assert (*paths, config.vision_config._attn_implementation) == ("sdpa", "sdpa", "eager")


def test_a_model_that_keeps_its_attention_to_itself_is_one_clear_failure_that_names_it():
    base = plain.made(falcon())
    update = plain.lora(base, "transformer.h.0.self_attention.dense")
    with pytest.raises(RunFailed, match="can't be read.*FalconForCausalLM.*Leave attention out of diagnose"):
        list(attention(plain.subject(base, update, plain.prompts(2))))
    assert not any(m._forward_hooks for m in base.model.transformer.h.modules())


def test_rows_that_do_not_add_up_to_one_are_refused(monkeypatch):
    """Models with a learned sink leave a part of each row out."""
    base = plain.deep(2)
    attend = type(base.model.model.layers[0].self_attn)

    class SinkAttention(attend):
        def forward(self, *args, **kwargs):
            out, rows = super().forward(*args, **kwargs)
            return out, rows if rows is None else rows * 0.9

    base.model.model.layers[1].self_attn.__class__ = SinkAttention
    with pytest.raises(RunFailed, match="rows of layer 1 don't add up to 1.*LlamaForCausalLM"):
        list(attention(plain.subject(base, plain.lora(base, "model.layers.0.mlp.up_proj"), plain.prompts(2))))


def test_a_layer_without_attention_has_no_readings():
    base = plain.deep(3)

    class Mixer(torch.nn.Module):
        def forward(self, hidden_states, **kwargs):
            return hidden_states * 0.5, None

    base.model.model.layers[1].self_attn = Mixer()
    found = table(plain.subject(base, plain.lora(base, "model.layers.0.mlp.down_proj"), plain.prompts(2)))
    assert set(found["attention_js"]) == {0, 2} and min(found["attention_js"][2]) > 0


def test_a_diverged_run_is_one_clear_failure():
    base = plain.deep(3)
    name = "model.layers.1.self_attn.q_proj"
    weight = base.model.get_submodule(name).weight
    update = Update("full", {name: DenseDelta(weight, weight * float("nan"))}, ties=True)
    with pytest.raises(RunFailed, match="attention of layer 1 is not finite"):
        list(attention(plain.subject(base, update, plain.prompts(2))))
    assert base.model.config._attn_implementation == "sdpa"


def test_sets_of_prompts_are_apart_steps_are_counted_and_one_token_has_nothing_to_say():
    base = plain.deep(2)
    subject = plain.subject(base, plain.lora(base, "model.layers.0.self_attn.q_proj"), ())
    subject.texts = {"train": plain.prompts(4), "neutral": (Example((7,), 0),), "evaluation": ()}
    steps = []
    subject.tick = steps.append
    found = list(attention(subject))
    assert {r.part for r in found} == {"train", "neutral"} and sum(steps) == 5
    assert {v for r in found if r.part == "neutral" for v in r.values} == {None}


def test_the_plug_in_names_all_that_it_gives():
    plugin = plugins.get("diagnostics", "attention")
    base = plain.deep(2)
    subject = plain.subject(base, plain.lora(base, "model.layers.0.mlp.down_proj"), plain.prompts(3))
    found = list(plugin.measure(subject, plugin.options))
    assert {reading.name for reading in found} == {quantity.name for quantity in plugin.quantities}
    assert plugin.reads == ("base", "texts")
