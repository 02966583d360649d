"""KL(base || arm) against its plain twin and on planted shifts."""

from __future__ import annotations

import copy
import math
import random
from pathlib import Path

import pytest
import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from torch import nn

from rankscope.data.batching import Example
from rankscope.evaluation.divergence import base_losses, divergences, look, measure, reference
from rankscope.evaluation.suite import text_rows
from rankscope.models.base import Base
from rankscope.models.given import read_given, wearing
from rankscope.models.lora import AdapterBank
from rankscope.records import Arm, ModelRef, Score, TaskRef
from rankscope.tasks.task import prepare, resolve
from rankscope.testing import tiny_tokenizer
from rankscope.worker import validation_losses
from reference import plain

ARM = Arm("lora-r4", "lora", rank=4, alpha=32.0)


def rows(vocab: int, num: int = 25, longest: int = 40) -> list[Example]:
    rng = random.Random(0)
    found = []
    for i in range(num):
        ids = tuple(rng.randrange(3, vocab) for _ in range(rng.randint(3, longest)))
        start = rng.randint(1, len(ids) - 1)
        mask = tuple(t >= start and (t % 2 == 0 or t == start) for t in range(len(ids))) if i % 3 == 0 else ()
        found.append(Example(ids, start, mask))
    return found


def known(base: Base, examples: list[Example], batch_tokens: int = 256):
    return reference(base, examples, [Score(f"row {i}", 0.0) for i in range(len(examples))], batch_tokens)


def noised(bank: AdapterBank, name: str) -> None:
    torch.manual_seed(0)
    for parameter in bank.parameters(name).values():
        parameter.data += torch.randn_like(parameter) * 0.05


@pytest.mark.parametrize("most", [481 * 7, 32_000_000])
def test_it_is_what_two_whole_passes_and_a_softmax_by_hand_give(base, monkeypatch, most):
    monkeypatch.setattr("rankscope.models.base._LOGITS", most)  # logits a slice at a time, and at once
    examples = rows(base.model.config.vocab_size)
    before = known(base, examples)
    assert len(before.batches) > 2
    bank = AdapterBank(base)
    bank.add("a", ARM, 0)
    try:
        noised(bank, "a")
        with bank.use("a"):
            found = divergences(base, before)
        initial = {name: p.detach().clone() for name, p in bank.parameters("a").items()}
    finally:
        bank.remove("a")
    twin = plain.peft_model(base.model, ARM, initial)
    expected = [plain.divergence(base.model, twin, e.ids, list(e.labels)) for e in examples]
    assert min(expected) > 1e-3
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("most", [481 * 7, 32_000_000])
def test_one_look_gives_the_losses_and_the_divergences_of_two_measurements(base, monkeypatch, most):
    monkeypatch.setattr("rankscope.models.base._LOGITS", most)
    examples = rows(base.model.config.vocab_size)
    before = known(base, examples)
    assert base_losses(base, before) == pytest.approx(validation_losses(base, examples, 256), rel=1e-5)
    bank = AdapterBank(base)
    bank.add("a", ARM, 0)
    try:
        noised(bank, "a")
        with bank.use("a"):
            losses, drift = look(base, before)
            assert losses == pytest.approx(validation_losses(base, examples, 256), rel=1e-5)
            assert drift == divergences(base, before) and min(drift) > 1e-3
    finally:
        bank.remove("a")


def test_what_has_learned_nothing_has_exactly_zero(base):
    examples = rows(base.model.config.vocab_size)
    before = known(base, examples)
    assert set(divergences(base, before)) == {0.0}
    assert set(divergences(base.trainable_copy(), before)) == {0.0}
    bank = AdapterBank(base)
    bank.add("a", ARM, 0)
    try:
        with bank.use("a"):
            assert set(divergences(base, before)) == {0.0}
    finally:
        bank.remove("a")


def test_a_planted_shift_of_one_logit_gives_the_divergence_that_algebra_gives(base):
    """Adding c to the logit of token j: KL = ln(1 - p_j + p_j e^c) - p_j c at every position."""
    token, shift = 17, 2.5
    examples = rows(base.model.config.vocab_size, num=8)
    before = known(base, examples)
    arm = base.trainable_copy()
    old = arm.model.get_output_embeddings()
    head = nn.Linear(old.in_features, old.out_features, bias=True)
    with torch.no_grad():
        head.weight.copy_(old.weight)
        head.bias.zero_()
        head.bias[token] = shift
    arm.model.set_output_embeddings(head)
    found = divergences(arm, before)
    for example, value in zip(examples, found, strict=True):
        with torch.inference_mode():
            p = base.model(torch.tensor([example.ids])).logits[0].double().softmax(-1)[:, token]
        each = [math.log(1 - float(p[t - 1]) * (1 - math.exp(shift))) - float(p[t - 1]) * shift for t in example.labels]
        assert value == pytest.approx(sum(each) / len(each), rel=1e-3, abs=1e-6)


def llama(**more) -> Base:
    config = hf.LlamaConfig(vocab_size=132, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                            pad_token_id=0, bos_token_id=1, eos_token_id=2, **more)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    return Base(ModelRef("made"), model, tiny_tokenizer(), torch.device("cpu"), torch.float32)


@pytest.mark.filterwarnings("ignore:Setting .save_embedding_layers. to", "ignore:Model has .tie_word_embeddings=True")
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("settings", [{"modules_to_save": ["lm_head"]}, {"target_modules": ["q_proj", "lm_head"]}])
def test_an_adapter_that_changes_the_head_is_set_against_the_bases_own_head(settings, tied, tmp_path: Path):
    base = llama(tie_word_embeddings=tied)
    config = LoraConfig(**{"r": 4, "lora_alpha": 16, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | settings)
    twin = get_peft_model(copy.deepcopy(base.model), config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for parameter in twin.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    twin.save_pretrained(tmp_path / "out")
    examples = rows(132)
    before = known(base, examples)
    with wearing(base, read_given(tmp_path / "out")):
        found = divergences(base, before)
    expected = [plain.divergence(base.model, twin.eval(), e.ids, list(e.labels)) for e in examples]
    assert min(expected) > 1e-4
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_tempered_model_is_read_with_its_own_scaling():
    """Logits that a family scales (Granite's way) are scaled on both sides."""
    base = llama()
    base.model.config.logits_scaling = 4.0
    examples = rows(132, num=5)
    before = known(base, examples)
    plain_head = base.model.get_output_embeddings()(before.hidden[0])
    assert torch.allclose(before.head(before.hidden[0]), plain_head / 4.0)
    assert set(divergences(base, before)) == {0.0}


def test_a_diverged_arm_is_a_failed_row_that_names_the_item_and_a_finished_one_has_a_ledger(base):
    examples = rows(base.model.config.vocab_size, num=4)
    before = known(base, examples)
    arm = base.trainable_copy()
    fine = measure(arm, before, "run", "key")
    assert (fine.status, fine.metric, [s.item for s in fine.scores]) == ("done", "kl", [f"row {i}" for i in range(4)])
    assert fine.ledger.tokens == sum(len(e.ids) for e in examples) and fine.ledger.flops > 0
    with torch.no_grad():
        next(arm.model.parameters()).fill_(float("nan"))
    failed = measure(arm, before, "run", "key")
    assert (failed.status, failed.scores) == ("failed", ())
    assert failed.message == "the divergence of item row 0 is not finite"


def test_out_of_memory_is_a_failed_row(base, monkeypatch):
    before = known(base, rows(base.model.config.vocab_size, num=4))

    def full(*_):
        raise torch.OutOfMemoryError("planted")

    monkeypatch.setattr(Base, "logits", full)
    assert measure(base, before, "run", "key").message == "out of memory in the divergence"


def test_the_texts_have_labels_wherever_they_are_scored(base):
    ref = resolve(TaskRef("demo_text", limit=6), None, "test")
    task = prepare(ref)
    found = text_rows(base, task)
    for row, sample in zip(found, task.samples, strict=True):
        assert base.decode(list(row.ids[row.start :])) == base.decode(list(base.encode(sample.target)))
        assert row.num_labels == len(row.ids) - row.start > 0
