"""Our adapters against PEFT's: same weights, same training, same files."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel

from rankscope.errors import ModelError
from rankscope.models import adapter
from rankscope.models.given import read_given, wearing
from rankscope.models.lora import AdapterBank, find_targets, scale
from rankscope.records import Arm, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.training.cohort import recruit
from rankscope.training.loop import Loop
from rankscope.training.optim import learning_rate
from reference import plain


def _arm(rank: int, **more) -> Arm:
    return Arm(f"r{rank}", "lora", (3e-3,), rank=rank, alpha=32.0, **more)


def _spec(arm: Arm, steps: int, seed: int = 0, lr: float = 3e-3) -> RunSpec:
    return RunSpec(ModelRef("demo"), arm, lr, TaskRef("demo_people"), Recipe(max_steps=steps, batch_tokens=256), seed)


@pytest.fixture
def bank(base):
    bank = AdapterBank(base)
    yield bank
    for name in list(bank.arms):
        bank.remove(name)


def _ids():
    return torch.arange(3, 33).reshape(2, 15)


def _logits(base):
    with torch.inference_mode():
        return base.logits(base.hidden(_ids()))


def test_scale():
    assert scale(_arm(4), "q_proj") == 8.0
    assert scale(_arm(4, scaling="rslora"), "q_proj") == 16.0


def test_an_untrained_adapter_changes_nothing_at_all(base, bank):
    before = _logits(base)
    bank.add("a", _arm(4), 0)
    with bank.use("a"):
        assert torch.equal(_logits(base), before)
    assert torch.equal(_logits(base), before)


def test_a_trained_adapter_moves_the_logits_and_only_while_in_use(base, bank, people):
    before = _logits(base)
    trainee = recruit(base, bank, "a", _spec(_arm(4), 3), people)
    Loop(base, bank).train([trainee])
    with bank.use("a"):
        assert not torch.allclose(_logits(base), before, atol=1e-3)
    assert torch.equal(_logits(base), before)


@pytest.mark.parametrize("scaling", ["standard", "rslora"])
def test_twenty_steps_equal_peft(base, bank, people, scaling):
    spec = _spec(_arm(4, scaling=scaling), 20, lr=1e-3)
    trainee = recruit(base, bank, "a", spec, people)
    initial = {k: v.detach().clone() for k, v in trainee.tensors().items()}
    Loop(base, bank).train([trainee])
    ours = {k: v.detach().clone() for k, v in trainee.tensors().items()}
    bank.remove("a")

    twin = plain.peft_model(base.model, spec.arm, initial)
    rates = [learning_rate(spec.lr, s, 20, spec.recipe) for s in range(20)]
    losses = plain.train(twin, people.train, trainee.steps, rates)
    named = dict(twin.named_parameters())
    for name, tensor in ours.items():
        theirs = named["base_model.model." + name.replace(".weight", ".default.weight")]
        # Adam divides a gradient near zero by its own size: there the rounding of another CPU counts in full, once.
        torch.testing.assert_close(tensor, theirs, atol=1e-4, rtol=1e-5)
        assert ((tensor - theirs).abs() < 1e-5).float().mean() > 0.99
    assert [p.loss for p in trainee.curve] == pytest.approx(losses, abs=1e-5)
    assert losses[-1] < losses[0]


def test_our_file_is_a_peft_adapter(base, bank, people, tmp_path):
    arm = _arm(3)
    trainee = recruit(base, bank, "a", _spec(arm, 5), people)
    Loop(base, bank).train([trainee])
    with bank.use("a"):
        ours = _logits(base)
    blob = tmp_path / "blob.safetensors"
    adapter.write_adapter(blob, trainee.tensors(), arm, base.model, "demo")
    bank.remove("a")
    adapter.export_adapter(blob, tmp_path / "out")

    import copy

    loaded = PeftModel.from_pretrained(copy.deepcopy(base.model), tmp_path / "out")
    with torch.inference_mode():
        theirs = loaded(input_ids=_ids(), use_cache=False).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)

    with wearing(base, read_given(tmp_path / "out")):
        assert torch.equal(_logits(base), ours)


def test_packing_and_order_do_not_change_where_an_adapter_starts(base, bank):
    bank.add("one", _arm(2), 5)
    bank.add("two", _arm(8), 5)
    alone = {k: v.detach().clone() for k, v in bank.parameters("two").items()}
    bank.remove("one"), bank.remove("two")
    bank.add("two", _arm(8), 5)
    assert all(torch.equal(v, alone[k]) for k, v in bank.parameters("two").items())


def test_the_last_adapter_takes_the_wrapping_layers_with_it(base, bank):
    names = [n for n, _ in base.model.named_modules()]
    bank.add("a", _arm(2), 0)
    bank.remove("a")
    assert [n for n, _ in base.model.named_modules()] == names


def test_targets(base):
    every = find_targets(base.model, ("all-linear",))
    assert len(every) == 7 * base.model.config.num_hidden_layers and not any("lm_head" in m for m in every)
    assert all(m.endswith("q_proj") for m in find_targets(base.model, ("q_proj",)))
    with pytest.raises(ModelError, match="Did you mean 'q_proj'"):
        find_targets(base.model, ("q_prj",))


def test_a_foreign_adapter_is_refused(base, bank):
    bank.add("a", _arm(2), 0)
    own = dict(bank.parameters("a"))
    name = next(iter(own))
    with pytest.raises(ModelError, match="another shape"):
        bank.load("a", {**own, name: torch.zeros(1, 1)})
    with pytest.raises(ModelError, match="1 tensors differ"):
        bank.load("a", {k: v for k, v in own.items() if k != name})


def test_full_weights_round_trip(base, tmp_path):
    mine, other = base.trainable_copy(), base.trainable_copy()
    with torch.no_grad():
        for p in mine.model.parameters():
            p.add_(0.01)
    adapter.write_full(tmp_path / "w.safetensors", mine.model)
    adapter.load_full(other.model, tmp_path / "w.safetensors")
    assert torch.equal(_logits(mine), _logits(other)) and not torch.equal(_logits(mine), _logits(base))


def test_a_cut_file_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ModelError, match="w.safetensors"):
        adapter.read_tensors(path)
