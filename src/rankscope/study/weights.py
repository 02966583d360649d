"""The base under weights that lie in files. In: a Base and a run's stored weights, or an arm that exists already. Out:
the Base with them in effect, for as long as the context lasts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from rankscope.errors import DamagedWeights, ModelError
from rankscope.models import adapter as adapters
from rankscope.models.base import Base, load
from rankscope.models.given import checkpoint, read_given, wearing
from rankscope.models.locate import ADAPTER_FILES, adapter_folder
from rankscope.models.lora import AdapterBank
from rankscope.provenance import public_name
from rankscope.records import Arm, Ledger, RunSpec


@contextmanager
def applied(base: Base, spec: RunSpec, path: Path) -> Iterator[Base]:
    """The base under a run's stored weights. Raises DamagedWeights: they can't be read, don't fit or aren't finite."""
    if spec.arm.kind == "full":
        copy = base.trainable_copy()
        with checked(path):
            adapters.load_full(copy.model, path)
            refuse_unfinite(dict(copy.model.named_parameters()))
        yield copy
        return
    bank = AdapterBank(base)
    try:
        _put_on(bank, spec, path)
        with bank.use("stored"):
            yield base
    finally:
        bank.remove("stored")


def merge(spec: RunSpec, path: Path, folder: Path) -> None:
    """Write a run's base with its stored adapter added to the weights, and the tokenizer."""
    base = load(spec.model)
    bank = AdapterBank(base)
    _put_on(bank, spec, path)
    bank.merge("stored")
    base.model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)


def _put_on(bank: AdapterBank, spec: RunSpec, path: Path) -> None:
    bank.add("stored", spec.arm, spec.seed)
    with checked(path):
        tensors, _ = adapters.read_tensors(path)
        refuse_unfinite(tensors)
        bank.load("stored", tensors)


@contextmanager
def checked(path: Path) -> Iterator[None]:
    """What is wrong with stored weights, as one kind of error that names the file."""
    try:
        yield
    except ModelError as error:
        raise DamagedWeights(error.what, got=error.got, where=str(path), hint="Train the run again") from error


def refuse_unfinite(tensors: Mapping[str, Tensor]) -> None:
    """Raises ModelError, naming the first, if a tensor holds NaN or infinity."""
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ModelError("these weights hold numbers that are not finite", got=name)


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
