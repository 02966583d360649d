"""The bundled study is the one in ``studies/``, and its learning rates are those that the tuning study chose."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_the_bundled_study_is_the_published_one():
    bundled = ROOT / "src" / "rankscope" / "demo" / "study.yaml"
    assert bundled.read_text() == (ROOT / "studies" / "demo.yaml").read_text()


def test_the_tuning_study_differs_in_rates_and_seeds_alone():
    demo, tuning = (yaml.safe_load((ROOT / "studies" / f"{n}.yaml").read_text()) for n in ("demo", "demo_tuning"))
    assert (demo["train"], demo["models"]) == (tuning["train"], tuning["models"])
    assert {k: v for k, v in demo["training"].items() if k != "seeds"} == {
        k: v for k, v in tuning["training"].items() if k != "seeds"
    }


def test_the_preset_rates_are_on_the_tuning_grids():
    demo, tuning = (yaml.safe_load((ROOT / "studies" / f"{n}.yaml").read_text()) for n in ("demo", "demo_tuning"))
    for kind in ("lora", "full"):
        (preset,), (grid,) = ([arm[kind]["lr"] for arm in study["arms"] if kind in arm] for study in (demo, tuning))
        assert preset in grid
