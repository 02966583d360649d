"""The public surface is this list. A change here is a change for every user."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rankscope

PUBLIC = [
    "ConfigError",
    "DataError",
    "InputError",
    "ModelError",
    "PluginError",
    "RankscopeError",
    "RunFailed",
    "StoreError",
    "Study",
    "StudyResult",
    "__version__",
    "audit",
    "score",
]


def test_the_public_names_are_these():
    assert rankscope.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(rankscope))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_imported(name):
    assert getattr(rankscope, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Sudy'"):
        rankscope.Sudy  # noqa: B018


def test_the_version_is_the_package_s():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.+)"$', text, re.MULTILINE)[1] == rankscope.__version__
