"""Attribution and truncation find what was planted: the layer that carries the gain, and the rank it has."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
import torch

from rankscope import plugins
from rankscope.models.delta import Update
from reference.planted import GOOD, as_full, gainful, made_base, made_rows, made_tasks, noise, subject_of

ATTRIBUTION, TRUNCATION = plugins.get("diagnostics", "attribution"), plugins.get("diagnostics", "truncation")


@pytest.fixture(scope="module")
def base():
    return made_base()


@pytest.fixture(scope="module")
def rows():
    return made_rows(12)


@pytest.fixture(scope="module")
def planted(base, rows):
    """A rank-2 delta in an adapter of rank 8 that lowers the loss, and whispers in all other modules."""
    whispers = noise((0, 1, 2, 3), rank=8, size=1e-4)
    return Update("lora", whispers | {GOOD: gainful(base, rows)})


def read(diagnostic, subject, **options):
    return list(diagnostic.measure(subject, dict(diagnostic.options) | options))


def values(readings, name, variant, part="validation"):
    (found,) = [r for r in readings if (r.name, r.variant, r.part) == (name, variant, part)]
    return found.values


def loss(readings, variant):
    return statistics.fmean(values(readings, "loss", variant))


def kept(readings):
    """Layers and ranks of the proposal."""
    ranks = {r.module: r.values[0] for r in readings if r.name == "kept_rank" and r.variant == "proposal"}
    return values(readings, "kept_layers", "proposal", ""), ranks


@pytest.fixture(scope="module")
def attributed(planted, base, rows):
    return read(ATTRIBUTION, subject_of(planted, base, made_tasks(5), rows))


def test_the_planted_layer_and_module_carry_the_gain(attributed):
    gain = loss(attributed, "none") - loss(attributed, "")
    assert gain > 0.1
    for part in ("layers 0-0", "layers 1-1", "layers 2-2", "q_proj", "v_proj"):
        assert loss(attributed, f"without {part}") - loss(attributed, "") < 0.02 * gain
        assert loss(attributed, "none") - loss(attributed, f"only {part}") < 0.02 * gain
    for part in ("layers 3-3", "down_proj"):
        assert loss(attributed, f"without {part}") - loss(attributed, "") > 0.98 * gain
        assert loss(attributed, "none") - loss(attributed, f"only {part}") > 0.98 * gain


def test_every_task_has_a_score_of_every_item_under_every_variant(attributed):
    parts = [f"layers {i}-{i}" for i in range(4)] + ["q_proj", "v_proj", "down_proj"]
    variants = {"", "none", *(f"without {p}" for p in parts), *(f"only {p}" for p in parts)}
    for task in ("facts", "text"):
        found = {r.variant: r.values for r in attributed if r.name == "score" and r.part == task}
        assert set(found) == variants
        assert all(len(v) == 5 for v in found.values())
    assert {r.variant for r in attributed if r.name == "loss"} >= variants


def test_the_proposal_keeps_the_planted_layer_and_rank_alone(attributed):
    assert kept(attributed) == ((3.0,), {"q_proj": 0.0, "v_proj": 0.0, "down_proj": 2.0})
    gain = loss(attributed, "none") - loss(attributed, "")
    assert loss(attributed, "none") - loss(attributed, "proposal") >= 0.95 * gain


def test_the_path_leaves_out_one_part_after_another_while_the_rest_keeps_the_gain(attributed):
    path = {r.variant: r.values for r in attributed if r.name == "kept_layers" and r.variant != "proposal"}
    assert list(path) == [f"kept {n}" for n in range(1, len(path) + 1)]
    assert len(path) == 5  # three layers and two kinds; without any of the others nothing is left
    layers = list(path.values())
    assert all(set(after) <= set(before) for before, after in zip(layers, layers[1:], strict=False))
    gain = loss(attributed, "none") - loss(attributed, "")
    assert all(loss(attributed, "none") - loss(attributed, variant) >= 0.95 * gain for variant in path)


def test_items_of_verdicts_have_no_say_in_the_proposal(attributed, planted, base, rows):
    subject = subject_of(planted, base, (), rows)
    assert kept(read(ATTRIBUTION, subject)) == kept(attributed)
    swapped = subject_of(planted, base, made_tasks(4), rows)
    plain = swapped.score
    swapped.score = lambda model, task: tuple(replace(s, value=-s.value) for s in plain(model, task))
    assert kept(read(ATTRIBUTION, swapped)) == kept(attributed)


def test_layers_that_carry_the_gain_together_are_kept_together(base, rows):
    below = "model.layers.2.mlp.down_proj"
    good = {GOOD: gainful(base, rows), below: gainful(base, rows, module=below)}
    found = read(ATTRIBUTION, subject_of(Update("lora", noise((0, 1), size=1e-4) | good), base, (), rows))
    needed = loss(found, "none") - 0.95 * (loss(found, "none") - loss(found, ""))
    path = [r.variant for r in found if r.name == "kept_layers" and r.variant != "proposal"]
    assert all(loss(found, variant) <= needed for variant in (*path, "proposal"))
    assert all(loss(found, f"without layers {i}-{i}") > needed for i in (2, 3))
    assert kept(found)[0] == values(found, "kept_layers", path[-1], "") == (2.0, 3.0)


def test_an_update_that_gained_nothing_gets_no_proposal(base, rows):
    harmful = Update("lora", {GOOD: gainful(base, rows, size=-1.0)})
    for update in (harmful, Update("lora", {}), Update("lora", noise((1,), size=0.0))):
        found = read(ATTRIBUTION, subject_of(update, base, (), rows))
        assert not [r for r in found if r.variant == "proposal" or r.variant.startswith("kept")]
        assert {"", "none"} <= {r.variant for r in found}


def test_full_fine_tuning_is_proposed_as_lora_of_the_planted_rank(planted, base, rows):
    alone = Update("lora", {GOOD: planted.deltas[GOOD]})
    found = read(ATTRIBUTION, subject_of(as_full(base, alone), base, (), rows))
    layers, ranks = kept(found)
    assert layers == (3.0,)
    assert {kind: rank for kind, rank in ranks.items() if rank} == {"down_proj": 2.0}
    assert set(ranks) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {"without embeddings", "only norms"} <= {r.variant for r in found}


def test_a_gain_that_no_lora_arm_could_have_gets_no_proposal(base, rows):
    """The whole gain sits in the head, which is no layer."""
    head = base.model.lm_head.weight.requires_grad_(True)
    try:
        ids = [torch.tensor([row.ids]) for row in rows]
        total = torch.stack([base.token_nll(base.hidden(x)[0, :-1], x[0, 1:]).mean() for x in ids]).mean()
        (slope,) = torch.autograd.grad(total, head)
    finally:
        head.requires_grad_(False)
    full = as_full(base, Update("lora", {}, {"lm_head.weight": (head - slope).detach()}))
    found = read(ATTRIBUTION, subject_of(full, base, (), rows))
    assert loss(found, "only embeddings") == loss(found, "") < loss(found, "none")
    assert not [r for r in found if r.variant == "proposal" or r.variant.startswith("kept")]


def test_without_kinds_and_with_fewer_blocks_there_are_fewer_variants(planted, base, rows):
    found = read(ATTRIBUTION, subject_of(planted, base, (), rows), blocks=2, kinds=False)
    single = {r.variant for r in found if r.name == "loss" and r.variant.startswith(("without", "only"))}
    assert single == {f"{how} layers {span}" for how in ("without", "only") for span in ("0-1", "2-3")}
    assert kept(found)[0] == (2.0, 3.0)


def test_truncation_at_the_planted_rank_is_the_whole_score_and_below_it_is_not(base, rows):
    update = Update("lora", {GOOD: gainful(base, rows)})
    found = read(TRUNCATION, subject_of(update, base, made_tasks(5), rows))
    assert [r.variant for r in found if r.name == "loss"] == ["rank 1", "rank 2", "rank 4", ""]
    for variant in ("rank 2", "rank 4"):
        assert values(found, "loss", variant) == pytest.approx(values(found, "loss", ""), abs=1e-5)
        assert values(found, "score", variant, "facts") == pytest.approx(values(found, "score", "", "facts"), abs=1e-4)
    assert loss(found, "rank 1") - loss(found, "") > 0.05
    assert values(found, "score", "rank 1", "facts") != pytest.approx(values(found, "score", "", "facts"), abs=1e-3)


def test_truncation_of_full_fine_tuning_is_that_of_the_same_adapter(base, rows):
    lora = Update("lora", {GOOD: gainful(base, rows)} | noise((1,), rank=8))
    factored = read(TRUNCATION, subject_of(lora, base, (), rows))
    dense = read(TRUNCATION, subject_of(as_full(base, lora), base, (), rows))
    assert [r.variant for r in dense] == [f"rank {1 << i}" for i in range(6)] + [""]  # no matrix here has more than 32
    for variant in ("rank 2", "rank 4", ""):  # of two equal singular values either may be the one of rank 1
        assert values(dense, "loss", variant) == pytest.approx(values(factored, "loss", variant), abs=1e-5)
    assert values(dense, "loss", "rank 8") == pytest.approx(values(dense, "loss", ""), abs=1e-5)


def test_truncation_takes_the_ranks_it_is_given_below_the_one_trained(planted, base, rows):
    found = read(TRUNCATION, subject_of(planted, base, (), rows), ranks=[3, 1, 8, 100])
    assert [r.variant for r in found] == ["rank 1", "rank 3", ""]


def test_an_update_without_deltas_has_its_whole_score_alone(base, rows):
    found = read(TRUNCATION, subject_of(Update("lora", {}), base, (), rows))
    assert [r.variant for r in found] == [""]


@pytest.mark.parametrize(("diagnostic", "options", "phrase"), [
    (ATTRIBUTION, {"blocks": 0}, "blocks must be a whole number from 1"),
    (ATTRIBUTION, {"items": True}, "items must be a whole number from 1"),
    (ATTRIBUTION, {"kinds": "yes"}, "kinds must be true or false"),
    (TRUNCATION, {"items": 1.5}, "items must be a whole number from 1"),
    (TRUNCATION, {"ranks": []}, "ranks must be a list of whole numbers from 1"),
    (TRUNCATION, {"ranks": [4, 0]}, "ranks must be a list of whole numbers from 1"),
    (TRUNCATION, {"ranks": 4}, "ranks must be a list of whole numbers from 1"),
])  # fmt: skip
def test_options_that_make_no_sense_are_named(diagnostic, options, phrase):
    assert diagnostic.check(dict(diagnostic.options)) == []
    assert diagnostic.check(dict(diagnostic.options) | options) == [phrase]
