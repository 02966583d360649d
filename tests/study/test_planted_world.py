"""The world of benchmarks/planted.py needs the rank that it says it needs, and rankscope's own loop finds that out."""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import planted
import reproduce


@pytest.fixture(scope="module")
def world():
    return planted.World()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return planted.build(tmp_path_factory.mktemp("planted"))


def _answers(world, delta, rows):
    """Share of rows on which the model with ``delta`` added prefers the right choice."""
    model, tokenizer = world.model(), world.tokenizer()
    model.model.layers[0].mlp.down_proj.weight.data += delta
    ids = torch.tensor([tokenizer(row["prompt"])["input_ids"] for row in rows])
    with torch.no_grad():
        logits = model(ids).logits[:, -1]
    picked = torch.tensor([tokenizer.convert_tokens_to_ids(row["choices"]) for row in rows])
    best = logits.gather(1, picked).argmax(1).tolist()
    return np.mean([row["choices"][i] == row["answer"] for row, i in zip(rows, best, strict=True)])


def test_the_update_that_answers_everything_has_the_planted_rank_and_equal_singular_values(world):
    values = torch.linalg.svdvals(world.update())
    assert torch.allclose(values[: planted.RANK], torch.ones(planted.RANK)) and values[planted.RANK :].max() < 1e-5
    assert _answers(world, world.update(), world.rows("test") + world.rows("known")) == 1.0


def test_the_untouched_model_guesses_the_new_scales_and_knows_the_others(world):
    nothing = torch.zeros(planted.HIDDEN, planted.INPUTS)
    assert abs(_answers(world, nothing, world.rows("test")) - 0.5) < 0.1
    assert _answers(world, nothing, world.rows("known")) == 1.0


def test_no_question_is_asked_twice(world):
    rows = [row for split in planted.SIZES for row in world.rows(split)]
    assert len({row["prompt"] for row in rows}) == len(rows) == sum(planted.SIZES.values())


@pytest.mark.parametrize("rank", planted.RANKS)
def test_no_way_of_spending_a_rank_beats_the_ceiling_and_one_comes_near(rank):
    # Some scales answered perfectly, others with one common squared cosine, the rest by guessing.
    size = planted.RANK
    spent = [
        (whole + shared * (0.5 + np.arcsin(np.sqrt((rank - whole) / shared)) / np.pi) + 0.5 * (size - whole - shared))
        / size
        for whole, shared in product(range(min(rank, size - 1) + 1), range(1, size + 1))
        if whole + shared <= size and rank - whole <= shared
    ]
    assert max(spent, default=1.0) <= planted.ceiling(rank) + 1e-12 < max(spent, default=1.0) + 0.01


@pytest.mark.parametrize("rank", [4, 8, 16])
def test_read_outs_fitted_without_rankscope_stay_below_the_ceiling_until_the_rank_is_enough(world, rank):
    rows = world.rows("train")
    place = {name: i for i, name in enumerate(world.names)}
    means = np.stack([sum(world.words[place[w]] for w in row["prompt"].split()[:-1]) for row in rows])
    x, scale = torch.tensor(means).float(), torch.tensor([int(row["subject"][2:]) for row in rows])
    sign = torch.tensor([1.0 if row["answer"].startswith("hi") else -1.0 for row in rows])
    torch.manual_seed(0)
    left = torch.randn(planted.RANK, rank, requires_grad=True)
    right = torch.randn(rank, planted.CONTENT, requires_grad=True)
    optimiser = torch.optim.Adam([left, right], lr=0.05)
    for _ in range(200):
        score = ((left @ right)[scale] * x).sum(1) * sign
        optimiser.zero_grad()
        torch.nn.functional.softplus(-score).mean().backward()
        optimiser.step()
    right_share = (score > 0).float().mean().item()
    ceiling = planted.ceiling(rank)
    # 200 free numbers fitted to 9,600 rows, judged on these rows: a point or two above what new rows would give.
    assert ceiling - 0.08 < right_share < ceiling + 0.02
    assert (right_share > 0.97) == (rank >= planted.RANK)


def test_rankscopes_loop_learns_it_with_rank_16_and_not_with_rank_4(tmp_path, monkeypatch):
    for split, size in (("train", 1500), ("test", 300), ("known", 60)):
        monkeypatch.setitem(planted.SIZES, split, size)
    study = planted.build(tmp_path / "world")
    study["arms"][1]["lora"]["rank"] = [planted.TOO_SMALL, planted.ENOUGH]
    study["training"] |= {"max_steps": 50, "batch_tokens": 512}
    result = reproduce.run(study, str(tmp_path / "runs"), 0, seeds=1)
    gains = {h.arm: h.gain.contrast.estimate.value for h in result.view().headlines}
    assert result.is_complete and gains["lora-r4"] < planted.ceiling(4) - 0.5 + 0.08
    assert gains["lora-r16"] - gains["lora-r4"] >= 0.10


def test_ranges_that_share_a_rank_are_counted():
    ranks = [1, 2, 4, 8, 16]
    assert reproduce.overlap([[4, 16], [8, 8], [1, 2], None], ranks) == 2
    assert reproduce.overlap([None, None], ranks) == 0


def test_the_truth_is_found_if_every_rank_too_small_is_left_out_and_rank_16_is_in():
    found = [reproduce.finds_the_truth(r) for r in ([16, 32], [8, 16], [4, 16], [8, 8], [32, 32], None)]
    assert found == [True, True, False, False, False, False]


def test_the_world_is_the_same_for_the_same_seed_and_another_for_another(study, tmp_path):
    again = planted.build(tmp_path / "again")
    other = planted.build(tmp_path / "other", seed=1)
    files = [Path(s["train"][0]["test"]) for s in (study, again, other)]
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    weights = [Path(s["models"][0]["id"]) / "model.safetensors" for s in (study, again, other)]
    assert weights[0].read_bytes() == weights[1].read_bytes() != weights[2].read_bytes()
    assert json.loads(files[0].read_text().splitlines()[0])["id"] == "test-0000"
