"""An update looked at without training: any PEFT adapter or fine-tuned checkpoint. In: a path or hub id. Out: an
``Audit``.

The diagnostics `spectrum` and, with the base, `intruders` are asked through ``plugins``; what they can't see is named.
Loads torch only when called.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankscope import plugins
from rankscope.errors import InputError, ModelError
from rankscope.records import Arm, ModelRef, Reading
from rankscope.report.audit import Audit
from rankscope.report.audit_rows import Place, Whole, modules_from

if TYPE_CHECKING:
    from rankscope.analysis.subject import Subject
    from rankscope.models.given import Given
    from rankscope.models.update import Update

_SCORES = (
    "What the update does to hidden states, attention and scores: that takes texts and tasks. A study measures it "
    "(diagnose: [drift, attention, attribution])"
)


def audit(adapter: str, base: str | None = None, *, progress: Any = None, trust_remote_code: bool = False) -> Audit:
    """What an adapter (a PEFT folder or hub id) or a fully fine-tuned checkpoint (a folder) changed.

    Without ``base``, the model that it was made from, an adapter shows what its factors alone hold; a checkpoint needs
    it. Raises ModelError on files that are damaged, not understood, or not ones of this base.
    """
    ref = None if base is None else ModelRef(base, dtype="float32", trust_remote_code=trust_remote_code)
    if _is_checkpoint(adapter):
        return _of_checkpoint(adapter, ref, progress)
    return _of_adapter(adapter, ref, progress)


def _of_adapter(adapter: str, ref: ModelRef | None, progress: Any) -> Audit:
    from rankscope.analysis.subject import Subject
    from rankscope.models.base import load
    from rankscope.models.given import check_fit, read_given
    from rankscope.models.locate import adapter_folder, check_safetensors
    from rankscope.models.update import given_update

    given = read_given(adapter_folder(adapter))
    loaded = None if ref is None else load(ref, "cpu")
    if loaded is not None:
        check_fit(loaded.model, given)
    subject = Subject(given_update(given), loaded)
    readings = _read(subject, progress)
    left_out = [] if loaded else [_without_base(adapter, given.made_for)]
    name = _name(adapter)
    whole = _whole(subject.update, readings)
    return Audit(
        adapter=name,
        source=adapter,
        kind="lora",
        base=None if ref is None else ref.id,
        made_for=given.made_for,
        modules=modules_from(_places(subject.update, given), readings, ref is not None),
        total_frobenius=_total(readings),
        whole=whole,
        left_out=(*left_out, *_unmeasured(whole), _SCORES),
        num_bytes=_bytes_each(check_safetensors(given.folder / "adapter_model.safetensors")),
    )


def _of_checkpoint(path: str, ref: ModelRef | None, progress: Any) -> Audit:
    if ref is None:
        raise InputError("a fully fine-tuned checkpoint can only be compared with the model that it was made from",
                         where=path, hint=f"Next: rankscope audit {shlex.quote(path)} --base MODEL")  # fmt: skip
    from rankscope.analysis.subject import Subject
    from rankscope.models.base import load
    from rankscope.models.update import checkpoint_update

    loaded = load(ref, "cpu")
    subject = Subject(checkpoint_update(loaded, Arm(_name(path), "checkpoint", path=path)), loaded)
    readings = _read(subject, progress)
    whole = _whole(subject.update, readings)
    return Audit(
        adapter=_name(path),
        source=path,
        kind="full",
        base=ref.id,
        made_for="",
        modules=modules_from(_places(subject.update, None), readings, True),
        total_frobenius=_total(readings),
        whole=whole,
        left_out=(*_unmeasured(whole), _SCORES),
    )


def _read(subject: Subject, progress: Any) -> list[Reading]:
    """What the diagnostics say, those that need the base only if there is one."""
    readings = []
    for name in ("spectrum", "intruders") if subject.base is not None else ("spectrum",):
        diagnostic = plugins.get("diagnostics", name)
        if progress is not None:
            progress.start(name, len(subject.update.deltas), "modules")
            subject.tick = lambda steps, name=name: progress.advance(name, steps)
        readings += diagnostic.measure(subject, dict(diagnostic.options))
        if progress is not None:
            progress.finish(name)
    return readings


def _places(update: Update, given: Given | None) -> list[Place]:
    """The modules in the order of the network: by layer, what lies outside the layers last."""
    from rankscope.models.names import kind_of, layer_of

    places = []
    for name, delta in update.deltas.items():
        rank, alpha, scale = (None, None, None) if given is None else _settings(given, name)
        places.append(Place(name, layer_of(name), kind_of(name), rank, alpha, scale, delta.shape))
    return sorted(places, key=lambda p: (p.layer is None, p.layer or 0))


def _settings(given: Given, module: str) -> tuple[int, float, float]:
    """Rank, alpha and scale of a module; alpha as the config means it."""
    piece = given.pieces[module]
    times = piece.rank**0.5 if given.arm.scaling == "rslora" else piece.rank
    return piece.rank, float(f"{piece.scale * times:.12g}"), piece.scale


def _total(readings: list[Reading]) -> float | None:
    return next(r.values[0] for r in readings if r.name == "total_frobenius")


def _whole(update: Update, readings: list[Reading]) -> tuple[Whole, ...]:
    known = {r.module: r.values[0] for r in readings if r.name == "relative_frobenius"}
    return tuple(Whole(name, known.get(name)) for name in sorted(update.whole))


def _unmeasured(whole: tuple[Whole, ...]) -> list[str]:
    names = [w.name for w in whole if w.relative_frobenius is None]
    if not names:
        return []
    return [f"{len(names)} tensors that are saved whole, which replace the base's own: {', '.join(names)}. They are no "
            "low-rank updates of a linear module"]  # fmt: skip


def _without_base(adapter: str, made_for: str) -> str:
    command = shlex.join(["rankscope", "audit", adapter, "--base", made_for or "MODEL"])
    return f"Relative change, intruder dimensions and interference: they need the base's weights. Next: {command}"


def _is_checkpoint(path: str) -> bool:
    """Whether a path is a model's and no adapter's. Raises ModelError for a folder that is neither."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return folder.suffix == ".gguf"
    if (folder / "adapter_config.json").is_file():
        return False
    if not (folder / "config.json").is_file():
        raise ModelError("this folder holds neither an adapter (adapter_config.json) nor a model (config.json)",
                         got=path, hint="Give the folder that PEFT or save_pretrained wrote")  # fmt: skip
    return True


def _name(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path


def _bytes_each(header: dict) -> float:
    """Bytes of one number, on average over the factors in a safetensors header."""
    spans = [v["data_offsets"] for k, v in header.items() if "lora_" in k]
    shapes = [v["shape"] for k, v in header.items() if "lora_" in k]
    numbers = sum(rows * columns for rows, columns in shapes)
    return sum(end - start for start, end in spans) / numbers
