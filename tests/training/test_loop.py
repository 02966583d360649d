"""The training loop: packing changes nothing, cutting changes nothing, a kill changes nothing, divergence is a row."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace

import pytest
import torch
import transformers
from transformers import get_scheduler

from rankscope.errors import RunFailed
from rankscope.models.base import Base, load
from rankscope.models.lora import AdapterBank
from rankscope.records import Arm, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.study.trainer import Trainer
from rankscope.training import checkpoint, loop
from rankscope.training.cohort import Trainee, recruit
from rankscope.training.loop import Loop
from rankscope.training.optim import learning_rate
from rankscope.worker import Trained, train

RECIPE = Recipe(max_steps=12, batch_tokens=256)


def _spec(rank: int = 4, lr: float = 3e-3, recipe: Recipe = RECIPE, seed: int = 0, **arm) -> RunSpec:
    kind = "full" if rank == 0 else "lora"
    treatment = Arm(f"r{rank}", kind, rank=rank or None, alpha=32.0, **arm)
    return RunSpec(ModelRef("demo"), treatment, lr, TaskRef("t"), recipe, seed)


def _train(base, data, specs, folder=None, **more):
    trained = train(base, [(f"k{i}", s) for i, s in enumerate(specs)], data, folder, **more)
    found = [{k: v.detach().clone() for k, v in t.tensors().items()} for t in trained.trainees]
    trained.close()
    return trained, found


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_side_by_side_equals_one_by_one(base, people, dropout):
    specs = [_spec(1, dropout=dropout), _spec(4, dropout=dropout), _spec(16, lr=1e-3, dropout=dropout)]
    _, together = _train(base, people, specs)
    for spec, packed in zip(specs, together, strict=True):
        _, (alone,) = _train(base, people, [spec])
        for name, tensor in alone.items():
            torch.testing.assert_close(packed[name], tensor, atol=1e-4, rtol=1e-3)


def test_dropout_changes_what_is_learned_and_only_while_training(base, people):
    _, (with_it,) = _train(base, people, [_spec(4, dropout=0.3)])
    _, (without,) = _train(base, people, [_spec(4)])
    assert max(float((with_it[k] - without[k]).abs().max()) for k in without) > 1e-3
    trained = train(base, [("x", _spec(4, dropout=0.3))], people)
    with trained.using("x"):
        first, second = (base.hidden(torch.tensor([people.train[0].ids])) for _ in range(2))
    trained.close()
    assert torch.equal(first, second)


def test_a_dropout_mask_drops_its_share_and_keeps_the_mean(base, bank):
    bank.add("x", _spec(4).arm, 0)
    layer = next(iter(bank.layers.values()))
    with bank.route((), draw=(0, 1, 2, 3)):
        mask = layer._mask(torch.ones(50, 40, 10), 0.3)
        assert torch.equal(mask, layer._mask(torch.ones(50, 40, 10), 0.3))
    assert float((mask == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.02)


def test_all_runs_of_a_seed_see_the_same_batches(base, people):
    bank = AdapterBank(base)
    one, two = recruit(base, bank, "a", _spec(1), people), recruit(base, bank, "b", _spec(16), people)
    other = recruit(base, bank, "c", _spec(1, seed=1), people)
    bank.remove("a"), bank.remove("b"), bank.remove("c")
    assert one.steps == two.steps != other.steps


def test_a_full_run_leaves_the_base_alone(base, people):
    before = {k: v.clone() for k, v in base.model.state_dict().items()}
    trained, _ = _train(base, people, [_spec(0, lr=1e-3)])
    assert all(torch.equal(v, before[k]) for k, v in base.model.state_dict().items())
    moved = trained.base.model.state_dict()
    assert any(not torch.equal(v, before[k]) for k, v in moved.items())
    curve = trained.trainees[0].curve
    assert curve[-1].loss < curve[0].loss


def test_no_step_changes_nothing(base, people):
    recipe = replace(RECIPE, max_steps=None, epochs=1e-9)
    trained, (found,) = _train(base, people, [_spec(4, recipe=recipe)])
    assert not trained.trainees[0].curve
    assert all(not bool(v.any()) for k, v in found.items() if "lora_B" in k)


def test_out_of_memory_halves_the_batch_and_changes_nothing_else(base, people, monkeypatch):
    _, (whole,) = _train(base, people, [_spec(4)])
    real, limit = Loop._nll, 4

    def tight(self, live, rows):
        if sum(map(len, rows)) > limit:
            raise torch.OutOfMemoryError("planted")
        return real(self, live, rows)

    monkeypatch.setattr(Loop, "_nll", tight)
    trained, (cut,) = _train(base, people, [_spec(4)])
    assert trained.notes and "cut into" in trained.notes[-1]
    for name, tensor in whole.items():
        torch.testing.assert_close(cut[name], tensor, atol=2e-4, rtol=1e-3)


def test_out_of_memory_with_one_row_fails_the_run(base, people, monkeypatch):
    def never(self, live, rows):
        raise torch.OutOfMemoryError("planted")

    monkeypatch.setattr(Loop, "_nll", never)
    trained, _ = _train(base, people, [_spec(4)])
    result = trained.result(trained.trainees[0])
    assert result.status == "failed" and "out of memory at step" in result.message
    with pytest.raises(RunFailed):
        Loop(base, None).train([recruit(base.trainable_copy(), None, "x", _spec(0), people)])


@pytest.mark.parametrize("rank", [0, 4])
def test_out_of_memory_before_the_first_step_fails_the_runs_and_not_the_command(base, people, monkeypatch, rank):
    def full(*_):
        raise torch.OutOfMemoryError("planted")

    monkeypatch.setattr(Base, "trainable_copy", full)
    monkeypatch.setattr(AdapterBank, "add", full)
    trained, _ = _train(base, people, [_spec(rank)])
    result = trained.result(trained.trainees[0])
    assert (result.status, result.message) == ("failed", "out of memory before the first step")
    assert not result.curve and result.ledger.tokens == 0 and trained.trainees[0].steps


def test_one_diverged_run_keeps_no_cohort_from_being_halved(base, people):
    noted, dropped = [], []
    trainer = Trainer(None, types.SimpleNamespace(drop_checkpoint=dropped.append), ModelRef("demo"),
                      types.SimpleNamespace(note=noted.append), lambda: base, lambda: True)  # fmt: skip

    def trained(*reasons: str | None) -> Trained:
        return Trained(base, None, [Trainee("k", _spec(4), [], [], [], people, failed=r) for r in reasons])

    assert trainer.is_too_large(trained("diverged at step 2", "out of memory at step 9"), "name")
    assert dropped == ["name"] and "half as many" in noted[0]
    assert not trainer.is_too_large(trained("diverged at step 2", None), "name")
    assert not trainer.is_too_large(trained("out of memory at step 9"), "name")


def test_checkpointing_leaves_the_model_s_own_dropout_off():
    """OPT's layers call dropout by their own flag, which checkpointing has to set."""
    config = transformers.OPTConfig(vocab_size=64, hidden_size=16, ffn_dim=32, num_hidden_layers=2, dropout=0.5,
                                    num_attention_heads=2, word_embed_proj_dim=16, layerdrop=0.5)  # fmt: skip
    model = transformers.OPTForCausalLM(config).eval()
    ids = torch.arange(4, 20)[None]
    plain = model(ids).logits
    base = Base(ModelRef("opt"), model, None, torch.device("cpu"), torch.float32)
    with loop._Checkpointing(base, Recipe(gradient_checkpointing=True)):
        assert any(m.training for m in model.modules())
        torch.testing.assert_close(model(ids).logits, plain)
    layer = model.model.decoder.layers[0]
    assert (layer.dropout, model.model.decoder.layerdrop) == (0.5, 0.5) and not any(m.training for m in model.modules())


def test_out_of_memory_in_the_optimiser_fails_the_runs_and_steps_no_one_twice(base, people, monkeypatch):
    real, calls = torch.optim.AdamW.step, []

    def step(self, *rest):
        calls.append(self)
        if len(calls) == 4:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")
        return real(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    trained, _ = _train(base, people, [_spec(1), _spec(4)])
    assert len(calls) == 4
    assert all(t.failed.startswith("out of memory at step 2, in the optimiser") for t in trained.trainees)


def test_a_full_run_on_a_half_precision_base_moves_every_weight(people):
    half = load(ModelRef("demo", dtype="bfloat16"))
    trained = train(half, [("x", _spec(0, lr=1e-5, recipe=replace(RECIPE, max_steps=2)))], people)
    before, after = half.model.state_dict(), trained.base.model.state_dict()
    assert {t.dtype for t in after.values()} == {torch.float32} and half.dtype == torch.bfloat16
    name = "model.layers.0.mlp.up_proj.weight"
    assert float((after[name] != before[name].float()).float().mean()) > 0.95


def test_the_cost_of_a_run_does_not_depend_on_its_neighbours(base, people):
    ledgers = []
    for specs in ([_spec(1)], [_spec(1), _spec(16)]):
        trained = train(base, [(f"k{i}", s) for i, s in enumerate(specs)], people)
        ledgers.append(trained.result(trained.trainees[0]).ledger)
        trained.close()
    assert ledgers[0].flops == ledgers[1].flops > 0
    assert all(100e6 < x.peak_bytes < 8e9 for x in ledgers)


@pytest.fixture
def bank(base):
    """Adapters on the shared base, taken off again whatever happens."""
    bank = AdapterBank(base)
    yield bank
    for name in list(bank.arms):
        bank.remove(name)


def test_accumulation_is_one_bigger_batch(base, bank, people):
    spec = _spec(4, recipe=replace(RECIPE, max_steps=4, accumulate=3))
    trainee, joined = (recruit(base, bank, name, spec, people) for name in "ab")
    joined.steps = [[[i for micro in step for i in micro]] for step in joined.steps]
    Loop(base, bank).train([trainee])
    Loop(base, bank).train([joined])
    assert [p.loss for p in trainee.curve] == pytest.approx([p.loss for p in joined.curve], abs=1e-5)
    # Adam divides by the gradient's size, so where it is nearly 0 rounding shows: hence the wider tolerance.
    for one, two in zip(trainee.tensors().values(), joined.tensors().values(), strict=True):
        torch.testing.assert_close(one, two, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("rank", [4, 0])
def test_passes_of_few_tokens_are_one_batch(base, people, monkeypatch, rank):
    spec = _spec(rank, lr=3e-3 if rank else 1e-3, recipe=replace(RECIPE, max_steps=4, batch_tokens=512))
    whole, (one,) = _train(base, people, [spec])
    passes, counted = [], Loop._passes
    monkeypatch.setattr(loop, "_PASS", 100)
    monkeypatch.setattr(Loop, "_passes", lambda *given: passes.append(counted(*given)) or passes[-1])
    pieces, (many,) = _train(base, people, [spec])
    assert len(passes) == 4 and all(2 <= n <= 6 for n in passes) and max(passes) > 3
    losses, others = ([p.loss for p in t.trainees[0].curve] for t in (whole, pieces))
    assert losses == pytest.approx(others, abs=1e-5)
    for name, tensor in one.items():
        torch.testing.assert_close(many[name], tensor, atol=2e-4, rtol=1e-3)


def test_with_dropout_a_batch_is_one_pass(base, people, monkeypatch):
    monkeypatch.setattr(loop, "_PASS", 100)
    trained, _ = _train(base, people, [_spec(4, dropout=0.3, recipe=replace(RECIPE, max_steps=1))])
    assert Loop(base, None)._passes(trained.trainees, [list(people.train[:8])]) == 1


def test_gradient_checkpointing_changes_nothing(base, people):
    _, (plain,) = _train(base, people, [_spec(4)])
    _, (saved,) = _train(base, people, [_spec(4, recipe=replace(RECIPE, gradient_checkpointing=True))])
    for name, tensor in plain.items():
        torch.testing.assert_close(saved[name], tensor, atol=2e-5, rtol=1e-4)
    assert not base.model.training


def test_divergence_ends_one_run_and_not_its_neighbours(base, people):
    trained, (bad, good) = _train(base, people, [_spec(4, lr=1e30), _spec(4)])
    first, second = trained.trainees
    assert first.failed and first.failed.startswith("diverged at step ")
    assert second.failed is None and len(second.curve) == 12
    _, (alone,) = _train(base, people, [_spec(4)])
    for name, tensor in alone.items():
        torch.testing.assert_close(good[name], tensor, atol=2e-5, rtol=1e-4)


def test_a_diverged_run_is_a_failed_result_without_a_loss(base, people):
    trained = train(base, [("x", _spec(4, lr=1e30))], people)
    result = trained.result(trained.trainees[0])
    trained.close()
    assert (result.status, result.validation_loss) == ("failed", None) and "diverged at step" in result.message


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_schedules(schedule):
    recipe = replace(RECIPE, schedule=schedule, warmup=0.2)
    rates = [learning_rate(1.0, s, 10, recipe) for s in range(10)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    rest = rates[2:]
    if schedule == "constant":
        assert rest == [1.0] * 8
    elif schedule == "linear":
        assert rest == pytest.approx([1 - i / 8 for i in range(8)])
    else:
        assert rest == pytest.approx([0.5 * (1 + math.cos(math.pi * i / 8)) for i in range(8)])


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_rates_are_those_of_transformers_with_the_warm_up_one_step_ahead(schedule, warmup):
    name = "constant_with_warmup" if schedule == "constant" else schedule
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    warm = round(10 * warmup)
    field = get_scheduler(name, optimiser, num_warmup_steps=warm, num_training_steps=10).lr_lambdas[0]
    recipe = replace(RECIPE, schedule=schedule, warmup=warmup)
    rates = [learning_rate(1.0, s, 10, recipe) for s in range(10)]
    assert rates == pytest.approx([field(s + 1 if s < warm else s) for s in range(10)])


class _Stop(Exception):
    pass


@pytest.mark.parametrize("ranks", [(2, 8), (0,)])
def test_resuming_a_checkpoint_is_bit_identical(base, people, tmp_path, ranks):
    specs = [_spec(r, lr=1e-3) for r in ranks]
    straight, expected = _train(base, people, specs)

    def stop(step, total, loss):
        if step == 7:
            raise _Stop

    with pytest.raises(_Stop):
        train(base, [(f"k{i}", s) for i, s in enumerate(specs)], people, tmp_path, stop, every=0.0)
    assert checkpoint.read(tmp_path)[1]["step"] == 6
    resumed, found = _train(base, people, specs, tmp_path)
    for a, b in zip(found, expected, strict=True):
        assert all(torch.equal(a[k], b[k]) for k in b)
    for a, b in zip(resumed.trainees, straight.trainees, strict=True):
        assert [(p.step, p.loss, p.tokens) for p in a.curve] == [(p.step, p.loss, p.tokens) for p in b.curve]


def test_survivors_go_on_from_the_checkpoint_that_their_cohort_left_at_a_look(base, people, tmp_path):
    specs = [_spec(r, lr=1e-3, dropout=0.2) for r in (2, 8)]
    _, (_, expected) = _train(base, people, specs)
    first, at_look = _train(base, people, specs, tmp_path, until=5)
    assert [len(t.curve) for t in first.trainees] == [5, 5] and checkpoint.read(tmp_path)[1]["step"] == 5
    again, same = _train(base, people, specs, tmp_path, until=5)  # nothing is left to do
    assert all(torch.equal(a[k], b[k]) for a, b in zip(same, at_look, strict=True) for k in b)
    ticks = []
    trained = train(base, [("k1", specs[1])], people, tmp_path, lambda step, *_: ticks.append(step))
    trained.close()
    (survivor,) = trained.trainees
    assert len(survivor.curve) == 12 and ticks[0] == 6 and survivor.curve[:5] == first.trainees[1].curve
    for name, tensor in expected.items():
        torch.testing.assert_close(survivor.tensors()[name], tensor, atol=1e-4, rtol=1e-3)


def test_a_checkpoint_past_the_look_is_not_used(base, people, tmp_path):
    _train(base, people, [_spec(2)], tmp_path, until=9)
    trained, found = _train(base, people, [_spec(2)], tmp_path, until=4)
    _, expected = _train(base, people, [_spec(2)], tmp_path / "other", until=4)
    assert len(trained.trainees[0].curve) == 4 and checkpoint.read(tmp_path)[1]["step"] == 4
    assert all(torch.equal(found[0][k], expected[0][k]) for k in expected[0])


def test_a_checkpoint_of_other_runs_is_not_used(base, people, tmp_path):
    checkpoint.write(tmp_path, {"x": torch.zeros(1)}, {"step": 5, "parts": 1, "runs": {"other": {}}})
    trained, _ = _train(base, people, [_spec(4)], tmp_path)
    assert len(trained.trainees[0].curve) == 12


def test_a_broken_checkpoint_is_no_checkpoint(tmp_path):
    assert checkpoint.read(tmp_path) is None
    checkpoint.write(tmp_path, {"x": torch.zeros(3)}, {"step": 5})
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    assert checkpoint.read(tmp_path) is None


_CHILD = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from rankscope.training import checkpoint, loop
folder = Path(sys.argv[1])
for step in range(10**6):
    checkpoint.write(folder, {"x": torch.full((200_000,), float(step))}, {"step": step})
    print(step, flush=True)
"""


def test_killed_while_writing_the_last_checkpoint_is_whole(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    for _ in range(3):
        child.stdout.readline()
    time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    tensors, state = checkpoint.read(tmp_path)
    assert state["step"] >= 2 and bool((tensors["x"] == state["step"]).all())
