"""docs/config.md holds every key of the study file with its default, and no other."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from rankscope.config.arms import FULL_GRID, LORA_GRID, BaseArm
from rankscope.config.study import StudyConfig, TaskEntry

PAGE = Path(__file__).parents[2] / "docs" / "config.md"
ROW = re.compile(r"^\| `([a-z_.\[\]]+)` \| (.+?) \| ", re.MULTILINE)


def keys_of(model, place=""):
    """``(dotted key, default as YAML)`` of every key; a list's entries are ``models[]``."""
    for name, field in model.model_fields.items():
        key = place + (field.alias or name)
        inner = [part for part in models_in(field.annotation) if part is not BaseArm]
        is_list = "tuple" in repr(field.annotation)
        if inner and not (place and inner == [TaskEntry]):
            yield key, None
            yield from keys_of(inner[0], key + ("[]." if is_list else "."))
        else:
            yield key, "required" if field.is_required() else as_yaml(field.default)


def models_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_in(part)


def as_yaml(default):
    if isinstance(default, tuple) and len(default) == 1:
        default = default[0]
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    return default if isinstance(default, str) else json.dumps(default)


@pytest.fixture(scope="module")
def documented():
    return dict(ROW.findall(PAGE.read_text(encoding="utf-8")))


def test_every_key_is_documented_and_no_other(documented):
    groups = {"arms[].lora", "arms[].full", "arms[].adapter", "arms[].checkpoint"}
    assert set(documented) == {key for key, _ in keys_of(StudyConfig)} - groups


def test_every_written_default_is_the_real_one(documented):
    for key, default in keys_of(StudyConfig):
        written = documented.get(key, "")
        if key == "arms[].base":
            continue
        if written.startswith("`"):
            assert (key, written.strip("`")) == (key, default)
        elif default == "null":
            assert written in ("none", "all", "the task's", "the id's last part"), key
        elif default == "required":
            assert written in ("required", "the file's name"), key


def test_the_automatic_learning_rates_are_the_ones_written():
    text = PAGE.read_text(encoding="utf-8")
    assert LORA_GRID == (1e-4, 3e-4, 1e-3) and "tries 1e-4, 3e-4 and 1e-3" in text
    assert FULL_GRID == (1e-5, 3e-5, 1e-4) and "tries 1e-5, 3e-5 and 1e-4" in text
