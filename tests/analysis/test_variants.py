"""Variants of an update are asked the same questions, and the shortcuts change no bit of any answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rankscope.analysis import variants
from rankscope.analysis.replay import layers_of
from rankscope.analysis.variants import CHUNK, agreement, at_home, blocks, kinds, names_of, outcomes
from rankscope.evaluation.engine import sharing
from rankscope.models.delta import Update
from rankscope.records import TaskRef
from rankscope.tasks.task import prepare, resolve
from reference.planted import as_full, made_base, made_rows, made_tasks, noise, subject_of
from reference.variants import asked, merged


@pytest.fixture(scope="module")
def made():
    return made_base()


@pytest.fixture(scope="module")
def subject(made):
    return subject_of(Update("lora", noise((0, 1, 2, 3))), made, made_tasks(CHUNK + 8), made_rows(CHUNK + 4))


def all_variants(subject) -> dict[str, Update]:
    update = subject.update
    found = {"": update, "none": update.only(lambda name: False)}
    for part in (*blocks(update, 4, 4), *kinds(subject.base, update)):
        found[f"without {part.name}"] = update.only(lambda name, part=part: name not in part.names)
        found[f"only {part.name}"] = update.only(lambda name, part=part: name in part.names)
    return found


@pytest.fixture(scope="module")
def counted(subject):
    """Outcomes with replay; how often each layer ran for them, and how often each runs for one whole pass."""
    assert sharing(subject.base) and subject.base.is_causal()  # found out once a model, by passes of their own
    counts, hooks = [0] * 4, []
    for i, layer in enumerate(layers_of(subject.base)):

        def count(*_, i=i):
            counts[i] += 1

        hooks.append(layer.mlp.act_fn.register_forward_hook(count))
    outcomes(subject, {"": subject.update}, CHUNK + 4)
    (one,) = set(counts)
    counts[:] = [0] * 4
    found = outcomes(subject, all_variants(subject), CHUNK + 4, (0, 1, 2, 3))
    for hook in hooks:
        hook.remove()
    return found, counts, one


def test_replayed_outcomes_equal_those_of_whole_passes_bit_for_bit(subject, counted):
    found = counted[0]
    for name, update in all_variants(subject).items():
        scores, losses = asked(subject, update, CHUNK + 4, CHUNK)
        assert found[name].scores == scores, name
        assert found[name].losses == losses, name
        assert len(losses) == CHUNK + 4 and len(scores["facts"]) == CHUNK + 4


def test_outcomes_are_those_of_weights_added_up_by_hand(subject, counted):
    found = counted[0]
    for name, update in all_variants(subject).items():
        twin = merged(subject, names_of(update))
        scores, losses = asked(twin, twin.update, CHUNK + 4, CHUNK)
        assert found[name].losses == pytest.approx(losses, abs=1e-4), name
        assert found[name].scores["facts"] == pytest.approx(scores["facts"], abs=1e-3), name


def test_the_layers_below_a_switched_block_are_not_computed_again(counted):
    _, counts, one = counted
    # Of 16 variants base and whole run every layer, and so do 6 of kinds. Of 4 blocks, off and on, block i > 0 starts
    # at layer i; block 0 starts at layer 1: off it agrees with the base there, on with the whole.
    passes = [8, 8 + 4, 8 + 6, 8 + 8]
    trial = [1, 2, 3, 4]  # one pass finds out whether the model can replay, and one from every later layer
    assert counts == [one * num + more for num, more in zip(passes, trial, strict=True)]


def test_every_variant_differs_from_every_other(counted):
    found = counted[0]
    assert len({tuple(outcome.losses) for outcome in found.values()}) == len(found)


def test_without_starts_all_is_computed_whole(subject, counted, monkeypatch):
    monkeypatch.setattr(variants, "recording", None)
    few = {name: update for name, update in all_variants(subject).items() if name in ("", "none", "only layers 3-3")}
    found = outcomes(subject, few, CHUNK + 4)
    assert all(found[name] == counted[0][name] for name in few)


def test_a_model_that_can_not_replay_is_asked_in_whole_passes(subject, counted, monkeypatch):
    monkeypatch.setattr(variants, "recording", None)
    monkeypatch.setattr(variants, "can_replay", lambda base, starts: False)
    few = {name: update for name, update in all_variants(subject).items() if name in ("", "none", "only layers 3-3")}
    assert outcomes(subject, few, CHUNK + 4, (1, 2, 3)) == {name: counted[0][name] for name in few}


def test_generated_answers_are_never_replayed(subject):
    task = replace(prepare(resolve(TaskRef("demo_skills", form="generate", limit=6))), max_new_tokens=4)
    asks = replace(subject, tasks=(replace(subject.tasks[0], name="made", task=task),), validation=())
    seen = []
    asks.score = lambda model, part: seen.append(part) or subject.score(model, part)
    few = {name: update for name, update in all_variants(asks).items() if "kind" not in name}
    found = outcomes(asks, few, 100, (1, 2, 3))
    assert len(seen) == len(few)
    for name in ("without layers 2-2", "only layers 3-3"):
        assert found[name].scores == asked(asks, few[name], 100, CHUNK)[0]


def test_an_update_in_one_block_is_that_block_and_nothing_else(made):
    update = Update("lora", noise((2,)))
    calls = []
    subject = subject_of(update, made, (), made_rows(6))
    plain = subject.losses
    subject.losses = lambda model, rows: calls.append(rows) or plain(model, rows)
    found = outcomes(subject, all_variants(subject), None, (1, 2, 3))
    whole, base = found[""].losses, found["none"].losses
    assert whole != base
    assert base == list(plain(made, subject.validation))
    for layer in range(4):
        off, on = found[f"without layers {layer}-{layer}"].losses, found[f"only layers {layer}-{layer}"].losses
        assert (off, on) == ((base, whole) if layer == 2 else (whole, base))
    assert len(calls) == 2 + 6  # the same set of parts is asked once


def test_full_updates_are_replayed_too_and_their_embeddings_are_a_part(made):
    full = as_full(made, Update("lora", noise((0, 1, 2, 3))))
    full.whole["model.embed_tokens.weight"].mul_(1.5)
    full.whole["model.layers.2.input_layernorm.weight"].mul_(1.5)
    subject = subject_of(full, made, (), made_rows(6))
    named = all_variants(subject)
    assert {"without embeddings", "only embeddings", "only norms", "only o_proj"} <= set(named)
    found = outcomes(subject, named, None, (1, 2, 3))
    for name, update in named.items():
        assert found[name].losses == asked(subject, update, 1, CHUNK)[1], name
    twin = merged(subject, {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"})
    assert found["only embeddings"].losses == pytest.approx(asked(twin, twin.update, 1, CHUNK)[1], abs=1e-5)
    assert found["only embeddings"].losses != found["none"].losses
    assert found["only norms"].losses not in (found["none"].losses, found[""].losses)


def test_a_full_update_of_a_base_in_half_precision_is_at_home_in_float32(made):
    full = subject_of(as_full(made, Update("lora", noise((1,)))), made)
    assert at_home(full) is full
    half = made_base()
    half.dtype = torch.float16
    half.model.half()
    home = at_home(replace(full, base=half))
    assert (home.base.dtype, home.base.autocast) == (torch.float32, torch.float16)
    lora = subject_of(Update("lora", noise((1,))), half)
    assert at_home(lora) is lora


def test_blocks_are_contiguous_equal_and_never_more_than_there_are_layers():
    update = Update("lora", noise((0, 1, 2, 3)))
    assert [part.layers for part in blocks(update, 30, 4)] == [
        tuple(range(7)), tuple(range(7, 15)), tuple(range(15, 22)), tuple(range(22, 30))]  # fmt: skip
    assert [part.name for part in blocks(update, 4, 9)] == [f"layers {i}-{i}" for i in range(4)]
    assert [len(part.names) for part in blocks(update, 4, 3)] == [3, 3, 6]
    assert sum(len(part.names) for part in blocks(update, 4, 2)) == len(names_of(update))
    outside = Update("lora", update.deltas, {"lm_head.weight": torch.zeros(1)})
    assert blocks(outside, 4, 2)[-1].names == {"lm_head.weight"}


def test_kinds_stand_in_the_order_of_a_layer_with_its_norms_together(made):
    full = as_full(made, Update("lora", {}))
    found = kinds(made, full)
    assert [part.name for part in found] == [
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "norms"]  # fmt: skip
    assert len(found[-1].names) == 8
    assert "model.norm.weight" not in found[-1].names


def test_updates_agree_below_the_first_layer_that_differs():
    whole = Update("lora", noise((0, 1, 2, 3)))
    assert agreement(whole, whole, 4) == 4
    assert agreement(whole, whole.only(lambda name: ".2." not in name), 4) == 2
    assert agreement(whole.only(lambda name: ".3." in name), Update("lora", {}), 4) == 3
    assert agreement(whole, Update("lora", noise((0, 1, 2, 3), seed=2)), 4) == 0
    outside = Update("lora", whole.deltas, {"model.norm.weight": torch.zeros(1)})
    assert agreement(whole, outside, 4) == 0


def test_a_number_that_is_not_finite_is_missing(made):
    subject = subject_of(Update("lora", noise((1,))), made, (), made_rows(3))
    subject.losses = lambda model, rows: (1.0, float("nan"), float("inf"))
    (reading,) = outcomes(subject, {"": subject.update})[""].readings("")
    assert reading.values == (1.0, None, None)
    assert (reading.name, reading.part, reading.variant) == ("loss", "validation", "")
