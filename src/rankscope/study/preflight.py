"""Wrong input, found before anything is trained or written. In: a Study. Out: nothing, or InputError that says where.

``resolve`` finds models and tasks by name, ``check`` goes on to their rows and modules. Reads no weights; imports torch
only to look up module names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rankscope.config.load import place
from rankscope.errors import DataError, HubUnreachable, InputError, ModelError
from rankscope.models import locate
from rankscope.records import GIVEN, Arm, ModelRef, TaskRef
from rankscope.tasks import task as tasks

_FIRST = 8  # conversations of a task that are tried on a model's template before the work; the rest follows with it


@contextmanager
def at(study: Any, *loc: str | int) -> Iterator[None]:
    """An error inside names this part of the study file, unless it already names a place."""
    try:
        yield
    except InputError as error:
        if error.where is not None:
            raise
        where = place(study.source, loc, study.overrides)
        raise type(error)(error.what, got=error.got, where=where, hint=error.hint) from error


def resolve(
    study: Any, may_ask: bool = True, unseen: list[ModelRef] | None = None
) -> tuple[list[ModelRef], list[tuple[TaskRef, TaskRef]]]:
    """Models with their keys, and train tasks as declared and with their keys. Raises for any that is missing.

    Without ``may_ask`` a form that only rows on the hub decide stays 'default'. ``unseen`` takes hub models that are
    not here while the hub can't be asked; without it they are an error.
    """
    config, models, pairs = study.config, [], []
    for index, model in enumerate(config.models()):
        with at(study, "models", index):
            try:
                models.append(locate.resolve(model))
            except HubUnreachable:
                if unseen is None:
                    raise
                unseen.append(model)
    for index, ref in enumerate(config.train_refs()):
        with at(study, "train", index):
            pairs.append((ref, tasks.resolve(ref, study.data_dir, "train", may_ask)))
    for ref, _ in config.evaluations(None):
        with at(study, *_declared(config, ref)):
            tasks.resolve(ref, study.data_dir, tasks.get_task(ref.task).test_split, may_ask)
    return models, pairs


def given(study: Any) -> list[Arm]:
    """The arms that exist already, with their keys. Raises for any that is missing."""
    found = []
    for index, arm in _given_entries(study.config):
        with at(study, "arms", index, arm.kind, "path"):
            found.append(locate.resolve_given(arm))
            if twin := next((a for a in found[:-1] if (a.kind, a.key) == (arm.kind, found[-1].key)), None):
                raise ModelError(f"this is the same {arm.kind} as {twin.name!r}", got=arm.name, hint="List it once")
    return found


def check(study: Any, is_offline: bool = False) -> list[str]:
    """All rows make sense, no train task is too small, every target names a module of every model, and every model's
    chat template takes the first conversations.

    ``is_offline`` reads only what lies here: no rows from the hub, a model's config only where an arm names targets.
    Returns what could not be checked, in sentences. Raises InputError.
    """
    unseen: list[ModelRef] = []
    models, pairs = resolve(study, may_ask=False, unseen=unseen) if is_offline else study.resolve()
    chats: list[Any] = []
    for index, model in enumerate(study.config.models()):
        if model.dtype == "float16":
            with at(study, "models", index, "dtype"):
                raise ModelError("float16 is for scoring: its gradients underflow in training", got="float16",
                                 hint="Use bfloat16 or float32")  # fmt: skip
        if model.quantization and (full := [arm.name for arm in study.config.arms() if arm.kind == "full"]):
            with at(study, "models", index, "quantization"):
                raise ModelError("full SFT can't train 4-bit weights", got=full[0],
                                 hint="Leave the arm out, or quantization")  # fmt: skip
    for index, (_, ref) in enumerate(pairs):
        if is_offline and not tasks.is_local(ref, study.data_dir, "train"):
            continue
        with at(study, "train", index):
            rows = study.samples(ref)
        chats += [sample.turns for sample in rows[:_FIRST] if sample.turns]
        if len(rows) < 2:
            with at(study, "train", index, "limit"):
                raise DataError("one training row can't be split into rows to train on and rows to validate on",
                                got=len(rows), hint="Raise the limit, or give more rows")  # fmt: skip
    for ref, _ in study.config.evaluations(None):
        if not (is_offline and not tasks.is_local(ref, study.data_dir)):
            with at(study, *_declared(study.config, ref)):
                found = study.prepared(study.test_task(ref))
            if found.kind == "generate":
                with at(study, *_declared(study.config, ref), "max_new_tokens"):
                    _check_room(models, ref, found.max_new_tokens)
            chats += [sample.turns for sample in found.samples[:_FIRST] if sample.turns]
    named = [(index, arm) for index, entry in enumerate(study.config.arm_entries) for arm in entry.arms()
             if arm.kind == "lora" and _names_parts(arm)]  # fmt: skip
    places = {model.name: index for index, model in enumerate(study.config.models())}
    for model in models:
        index = places[model.name]
        if chats and (not is_offline or locate.place(model).is_local):
            _check_chats(study, index, model, chats)
        if named or study.given() or not is_offline:
            _check_modules(study, index, model, named)
    return [f"{model.id} is not in the local cache and the hub can't be reached: the model itself is not checked"
            for model in unseen]  # fmt: skip


def _check_room(models: list[ModelRef], ref: TaskRef, new: int) -> None:
    for model in models:
        most = locate.max_positions(model)
        if most is not None and new >= most:
            raise DataError(f"{ref.name}: max_new_tokens leaves no room for the question", got=new,
                            hint=f"{model.name} takes {most} tokens in all")  # fmt: skip


def _check_chats(study: Any, index: int, model: ModelRef, chats: list[Any]) -> None:
    from rankscope.models.base import check_chat

    with at(study, "models", index):
        check_chat(model, chats)


def _names_parts(arm: Arm) -> bool:
    """Whether an arm names parts of a model, which may not be there."""
    return arm.targets != ("all-linear",) or bool(arm.layers or arm.rank_pattern or arm.alpha_pattern)


def _check_parts(study: Any, entry: int, arm: Arm, modules: Any) -> None:
    """What ``lora.adapted_modules`` checks, each part under its own key of the study file."""
    from rankscope.models import lora

    with at(study, "arms", entry, "lora", "targets"):
        found = lora.find_targets(modules, arm.targets)
    with at(study, "arms", entry, "lora", "layers"):
        found = lora.in_layers(found, arm.layers)
    for key in ("alpha_pattern", "rank_pattern"):
        with at(study, "arms", entry, "lora", key):
            lora.check_patterns([pattern for pattern, _ in getattr(arm, key)], found)
    with at(study, "arms", entry, "lora", "rank_pattern"):
        lora.check_ranks(modules, arm, found)


def _check_modules(study: Any, index: int, model: ModelRef, named: list[tuple[int, Arm]]) -> None:
    from rankscope.models.base import outline
    from rankscope.models.given import check_fit, check_same_shape, read_given

    with at(study, "models", index):
        modules = outline(model)
    for entry, arm in named:
        _check_parts(study, entry, arm, modules)
    for entry, arm in _given_entries(study.config):
        with at(study, "arms", entry, arm.kind, "path"):
            try:
                if arm.kind == "adapter":
                    check_fit(modules, read_given(locate.adapter_folder(arm.path)))
                else:
                    check_same_shape(modules, outline(ModelRef(arm.path)), arm)
            except ModelError as error:
                if len(study.config.models()) > 1:  # an arm goes with every model: say which it doesn't fit
                    error = ModelError(f"{model.name}: {error.what}", got=error.got, where=error.where, hint=error.hint)
                raise error from None


def _given_entries(config: Any) -> list[tuple[int, Arm]]:
    return [(i, arm) for i, entry in enumerate(config.arm_entries) for arm in entry.arms() if arm.kind in GIVEN]


def _declared(config: Any, ref: TaskRef) -> tuple[str | int, ...]:
    """Where the study file names an evaluated task."""
    for key in ("in_domain", "cross_domain", "retention"):
        for index, entry in enumerate(config.evaluate.listed(key)):
            if entry.record().name == ref.name:
                return "evaluate", key, index
    for index, train in enumerate(config.train_refs()):
        if train.name == ref.name:
            return "train", index
    return "evaluate", "base_shots"
