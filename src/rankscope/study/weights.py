"""The base under weights that lie in files. In: a Base and a run's stored weights, or an arm that exists already. Out:
the Base with them in effect, for as long as the context lasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rankscope.models import adapter as adapters
from rankscope.models.base import Base, load
from rankscope.models.given import checkpoint, read_given, wearing
from rankscope.models.locate import ADAPTER_FILES, adapter_folder
from rankscope.models.lora import AdapterBank
from rankscope.records import Arm, Ledger, RunSpec
from rankscope.report.tables import public_name


@contextmanager
def applied(base: Base, spec: RunSpec, path: Path) -> Iterator[Base]:
    """The base under a run's stored weights. Raises ModelError if the file is damaged or doesn't fit."""
    if spec.arm.kind == "full":
        copy = base.trainable_copy()
        adapters.load_full(copy.model, path)
        yield copy
        return
    bank = AdapterBank(base)
    bank.add("stored", spec.arm, spec.seed)
    try:
        bank.load("stored", adapters.read_tensors(path)[0])
        with bank.use("stored"):
            yield base
    finally:
        bank.remove("stored")


def merge(spec: RunSpec, path: Path, folder: Path) -> None:
    """Write a run's base with its stored adapter added to the weights, and the tokenizer."""
    base = load(spec.model)
    bank = AdapterBank(base)
    bank.add("stored", spec.arm, spec.seed)
    bank.load("stored", adapters.read_tensors(path)[0])
    bank.merge("stored")
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)


@contextmanager
def as_given(base: Base, arm: Arm) -> Iterator[Base]:
    """The base as an adapter or checkpoint that exists already makes it. Raises ModelError if it doesn't fit."""
    if arm.kind == "checkpoint":
        yield checkpoint(base, arm)
        return
    with wearing(base, read_given(adapter_folder(arm.path))) as worn:
        yield worn


def given_facts(arm: Arm) -> tuple[Ledger, tuple[str, ...]]:
    """An adapter's size, and what its own config says of its base; whether that is this one only the user knows."""
    if arm.kind == "checkpoint":
        return Ledger(), ()
    folder = adapter_folder(arm.path)
    given = read_given(folder)
    size = sum((folder / name).stat().st_size for name in ADAPTER_FILES)
    base = public_name(given.made_for) if given.made_for else "a model that its config does not name"
    whole = f", {len(given.whole)} tensors saved whole" if given.whole else ""
    ledger = Ledger(trainable=given.num_params, blob_bytes=size)
    return ledger, (f"made for {base}, {len(given.pieces)} modules{whole}",)
