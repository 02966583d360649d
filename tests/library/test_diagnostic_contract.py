"""The contract of diagnostics, run over every one on the shelf, a new one included unasked."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from rankscope import plugins, testing
from rankscope.analysis.diagnostic import Diagnostic, Quantity
from rankscope.errors import PluginError
from rankscope.records import Reading

DIAGNOSTICS = plugins.names("diagnostics")


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_every_diagnostic_keeps_the_contract(name):
    testing.check_diagnostic(plugins.get("diagnostics", name))


@pytest.mark.parametrize("name", DIAGNOSTICS)
def test_its_file_opens_with_the_evidence_and_its_name_is_the_file_s(name):
    module = importlib.import_module(f"rankscope.library.diagnostics.{name}")
    assert module.PLUGIN.name == name and len(module.__doc__) > 200


def test_listing_diagnostics_loads_no_torch():
    code = (
        "import sys; from rankscope import plugins; plugins.listing('diagnostics'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def made(measure, **more):
    quantity = Quantity("x", "none", "a number", "nobody 2000")
    return Diagnostic("made", "made up", (quantity,), measure, **more)


def growing():
    seen = []
    return lambda subject, options: seen.append(1) or iter([Reading("x", (float(len(seen)),))])


def spoiling(subject, options):
    subject.base.model.get_input_embeddings().weight.mul_(1.01)
    yield Reading("x", (1.0,))


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda subject, options: iter([]), "no readings"),
        (lambda subject, options: iter([Reading("y", (1.0,))]), "y is not declared"),
        (lambda subject, options: iter([Reading("x", (float("nan"),), 2)]), "x of 2 is not finite"),
        (lambda subject, options: iter([Reading("x", (1.0,), 99)]), "there is no such layer"),
        (growing(), "gives other readings"),
        (spoiling, "the base is not what it was"),
    ],
)
def test_the_contract_finds_what_is_wrong(measure, message):
    with pytest.raises(PluginError, match=message):
        testing.check_diagnostic(made(measure))


def test_a_diagnostic_that_declares_too_little_is_told_so():
    with pytest.raises(PluginError, match="lacks unit"):
        testing.check_diagnostic(Diagnostic("made", "m", (Quantity("x", "", "m", "s"),), lambda s, o: iter([])))
    with pytest.raises(PluginError, match="must be a Diagnostic"):
        testing.check_diagnostic(3)
