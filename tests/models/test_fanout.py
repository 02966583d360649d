"""Lower layers computed once for all runs: losses and gradients are the plain path's, or the plain path stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers as hf

from rankscope.data.batching import join
from rankscope.models import fanout
from rankscope.models.base import Base
from rankscope.models.fanout import fan_out
from rankscope.models.lora import AdapterBank
from rankscope.records import Arm, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.testing import tiny_tokenizer
from rankscope.training import loop
from rankscope.training.cohort import TrainSet, recruit
from rankscope.training.loop import Loop

TOKENS = {"vocab_size": 132, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZE = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
FAMILIES = {
    "llama": lambda: hf.LlamaConfig(**TOKENS, **SIZE, num_key_value_heads=2, intermediate_size=64),
    "gpt2": lambda: hf.GPT2Config(**TOKENS, n_embd=32, n_layer=4, n_head=4, n_positions=64),
    "gemma2": lambda: hf.Gemma2Config(
        **TOKENS, **SIZE, num_key_value_heads=2, head_dim=8, intermediate_size=64, sliding_window=8
    ),
    "bloom": lambda: hf.BloomConfig(**TOKENS, hidden_size=32, n_layer=4, n_head=4),
}
BLIND = ("bloom",)  # ALiBi's biases are handed to the layers with B x heads rows: the plain path stays
MPT = hf.MptConfig(**TOKENS, d_model=32, n_heads=4, n_layers=4, max_seq_len=64)  # biases of heads rows, whatever B


@pytest.fixture(scope="module", params=FAMILIES)
def base(request) -> Base:
    return _tiny(request.param, FAMILIES[request.param]())


def _tiny(name: str, config) -> Base:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False).mul_(4 if parameter.dim() > 1 else 1)
    return Base(ModelRef(name), model, tiny_tokenizer(), torch.device("cpu"), torch.float32)


@pytest.fixture
def bank(base):
    bank = AdapterBank(base)
    yield bank
    for name in list(bank.arms):
        bank.remove(name)


def _data(same_length: bool = False) -> TrainSet:
    rows = [join(tuple(range(3 + i, 9 + i * (not same_length) + i)), (40 + i, 50, 60), 2, 64) for i in range(8)]
    return TrainSet(tuple(rows), ())


def _recruits(base, bank, data, layers=(2, 3), recipe=None, rows=4, dropout=0.2):
    """Three runs of one seed and different ranks, their B factors filled so that each run's loss is its own."""
    recipe = recipe or Recipe(max_steps=3, batch_tokens=128, warmup=0.0)
    found = []
    for i, rank in enumerate((1, 3, 8)):
        arm = Arm(f"r{rank}", "lora", rank=rank, alpha=16.0, layers=layers, dropout=dropout)
        found.append(recruit(base, bank, f"k{i}", RunSpec(base.ref, arm, 1e-2, TaskRef("t"), recipe, 0), data))
        found[-1].steps = [[list(range(rows))]] * 3
        generator = torch.Generator().manual_seed(i)
        for name, parameter in found[-1].tensors().items():
            if "lora_B" in name:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return found


def _gradients(base, bank, live, fan: bool, monkeypatch):
    """Losses and gradients of one step, and how many rows each decoder layer saw."""
    seen, hooks = {}, []
    layers = next(m for m in base.model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 4)
    for number, layer in enumerate(layers):

        def note(_module, _given, out, number=number):
            seen[number] = len(out[0] if isinstance(out, tuple) else out)

        hooks.append(layer.register_forward_hook(note))
    with monkeypatch.context() as patch:
        if not fan:
            patch.setattr(loop, "fan_out", lambda *_: None)
        losses = Loop(base, bank)._gradients(live, 0)
    gradients = [p.grad.clone() for t in live for p in t.parameters]
    for t in live:
        t.optim.zero_grad(set_to_none=True)
    for hook in hooks:
        hook.remove()
    return losses, gradients, seen


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("rows", "same_length"), [(4, False), (4, True), (1, False)])
def test_losses_and_gradients_are_those_of_the_plain_path(base, bank, monkeypatch, rows, same_length, checkpointing):
    recipe = Recipe(max_steps=3, batch_tokens=128, warmup=0.0, gradient_checkpointing=checkpointing)
    live = _recruits(base, bank, _data(same_length), recipe=recipe, rows=rows)
    plain, expected, before = _gradients(base, bank, live, False, monkeypatch)
    fast, found, after = _gradients(base, bank, live, True, monkeypatch)
    assert len(set(plain)) == 3
    assert fast == pytest.approx(plain, rel=1e-5)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)
    assert set(before.values()) == {3 * rows}
    blind = base.ref.id in BLIND
    assert [after[n] for n in range(4)] == [3 * rows if blind else rows] * 2 + [3 * rows] * 2


def test_the_lowest_layer_of_any_run_counts(base, bank, monkeypatch):
    data = _data()
    live = _recruits(base, bank, data)
    arm = replace(live[0].spec.arm, layers=(1,))
    low = recruit(base, bank, "low", replace(live[0].spec, arm=arm), data)
    low.steps = live[0].steps
    _, _, after = _gradients(base, bank, [*live, low], True, monkeypatch)
    assert [after[n] for n in range(4)] == ([16] * 4 if base.ref.id in BLIND else [4, 16, 16, 16])


def test_nothing_is_fanned_where_nothing_is_saved(base, bank):
    live = _recruits(base, bank, _data(), layers=(0, 3))
    names = [name for t in live for name in t.names]
    assert fan_out(base, names) is None
    assert fan_out(base, ["lm_head"]) is None and fan_out(base, [*names, "project.weight"]) is None


def test_runs_with_other_rows_take_the_plain_path(base, bank, monkeypatch):
    live = _recruits(base, bank, _data())
    live[1].steps = [[[0, 1, 2, 5]]] * 3
    _, _, after = _gradients(base, bank, live, True, monkeypatch)
    assert set(after.values()) == {12}


def test_a_wrong_repetition_is_noticed_and_not_used(base, bank, monkeypatch):
    live = _recruits(base, bank, _data())
    plain, _, _ = _gradients(base, bank, live, False, monkeypatch)

    def interleaved(self, tensor):
        return tensor.repeat_interleave(self.times, 0) if tensor.dim() > 1 and len(tensor) == self.rows else tensor

    monkeypatch.setattr(fanout._Spread, "_repeated", interleaved)
    found, _, after = _gradients(base, bank, live, True, monkeypatch)
    assert found == pytest.approx(plain, rel=1e-6) and set(after.values()) == {12}


def test_as_many_tokens_as_rows_takes_the_plain_path(base, bank, monkeypatch):
    rows = [join(tuple(range(3 + i, 8 + i)), (40 + i, 50), 2, 64) for i in range(8)]
    live = _recruits(base, bank, TrainSet(tuple(rows), ()), rows=8)
    plain, _, _ = _gradients(base, bank, live, False, monkeypatch)
    found, _, after = _gradients(base, bank, live, True, monkeypatch)
    assert found == pytest.approx(plain, rel=1e-6) and set(after.values()) == {24}


@pytest.mark.parametrize(("name", "known"), [("bloom", {(2, False): False, (4, False): False}),
                                             ("mpt", {(2, False): True, (4, False): False})])  # fmt: skip
def test_what_is_known_of_one_batch_says_nothing_about_another(name, known):
    base = _tiny(name, MPT if name == "mpt" else FAMILIES[name]())
    rows = [join(tuple(range(3 + i, 8 + i)), (40 + i, 50), 2, 64) for i in range(8)]
    bank = AdapterBank(base)
    live, together = _recruits(base, bank, TrainSet(tuple(rows), ()), dropout=0.0), Loop(base, bank)
    for num in (8, 3, 4):  # as many rows as tokens, which tells nothing; neither; as many as heads
        for t in live:
            t.steps = [[list(range(num))]] * 3
        losses = together._gradients(live, 0)
        for t, loss in zip(live, losses, strict=True):
            assert Loop(base, bank)._gradients([t], 0) == pytest.approx([loss], rel=1e-5)
    (fan,) = together._fans.values()
    assert fan.known == known


def test_a_whole_training_gives_what_runs_one_by_one_give(base, bank):
    together = _recruits(base, bank, _data())
    Loop(base, bank).train(together)
    losses = [[p.loss for p in t.curve] for t in together]
    for name in list(bank.arms):
        bank.remove(name)
    for trainee, expected in zip(_recruits(base, bank, _data()), losses, strict=True):
        Loop(base, bank).train([trainee])
        assert [p.loss for p in trainee.curve] == pytest.approx(expected, rel=1e-4)
