"""Keys of runs that were made long ago: whoever changes one makes every store forget its work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rankscope.records import Arm, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.study.plan import run_key

LORA = Arm("a", "lora", (1e-3,), rank=16, alpha=32.0)
NAMED = Arm("b", "lora", (1e-3,), rank=4, alpha=8.0, targets=("q_proj", "v_proj"), scaling="rslora", dropout=0.1)
FULL = Arm("full", "full", (1e-4,))


def key(arm: Arm) -> str:
    model, train = ModelRef("demo", key="m" * 8), TaskRef("demo_people", data_key="d")
    return run_key(RunSpec(model, arm, 1e-3, train, Recipe(max_steps=7), 1))


@pytest.mark.parametrize(
    ("arm", "recorded"),
    [(LORA, "c4e86db6516351342566"), (NAMED, "1bf4f0dba5987b3343e4"), (FULL, "b2a0a735a11560250b46")],
)
def test_the_keys_of_arms_that_adapt_every_layer_alike_stay_as_recorded(arm, recorded):
    assert key(arm) == recorded


def test_layers_and_patterns_make_another_run_and_so_does_the_order_of_patterns():
    pair = (("q_proj", 4), ("layers.0.self_attn.q_proj", 2))
    arms = [
        LORA,
        replace(LORA, layers=(0,)),
        replace(LORA, layers=(0, 1)),
        replace(LORA, rank_pattern=pair),
        replace(LORA, rank_pattern=pair[::-1]),
        replace(LORA, alpha_pattern=(("q_proj", 4.0),)),
    ]
    assert len({key(arm) for arm in arms}) == len(arms)
