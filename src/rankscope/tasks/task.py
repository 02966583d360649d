"""What a task is, and how a reference to one becomes samples. In: ``TaskRef``. Out: ``Prepared`` or training samples.

A task is dataset + prompt + scorer, declared as data in one file of the shelf. The two uses of a task in a study are
``prepare`` (questions to score) and ``train_samples`` (completions to learn). Tasks and scorers are found by name
through ``plugins``. Knows nothing about models or tokenizers; carving validation rows from the training rows is the
trainer's matter, cutting texts at a number of tokens the engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from rankscope import plugins
from rankscope.data import prompts
from rankscope.data.dataset import Source, fingerprint, locate, read
from rankscope.data.files import Rows, no_file
from rankscope.errors import DataError, PluginError
from rankscope.provenance import content_key, file_key
from rankscope.records import Skill, TaskRef
from rankscope.tasks import judging
from rankscope.tasks.forms import KINDS, NATS, SCORERS, Kind, Metric, chance_of, limited
from rankscope.tasks.origin import code_name
from rankscope.tasks.samples import Sample
from rankscope.tasks.scoring import Scorer

Folder = str | Path | None
_forms: dict[str, str] = {}  # default forms that rows decided, by the content of the rows and the options


@runtime_checkable
class Foreign(Protocol):
    """How a bridge builds a task for evaluation. Both raise InputError for what can't be had."""

    def key(self, ref: TaskRef) -> str:
        """Hash of the data and of all else that the library adds to the score."""

    def prepare(self, ref: TaskRef) -> Prepared:
        """The samples with their scorer. ``ref`` is resolved."""


@dataclass(frozen=True)
class Task:
    """A task as its file on the shelf declares it (``PLUGIN``).

    ``to_sample(row, form, index)`` turns a row into a sample; it may raise DataError, KeyError, TypeError, ValueError
    or IndexError on a row that makes no sense. ``example`` is an invented row in the dataset's format, for the contract
    check. ``uniform`` is the score of a uniform guess (None: text). ``scorers`` overrides the usual scorer of a form.

    ``options`` are the names of the settings a reference may carry, ``files`` those that name files of the user.
    ``scoring`` are those that change how answers are judged and not what is trained; ``scorer`` is one of them where a
    study may name the scorer of generated answers. ``rows(options, split, data_dir)`` replaces the plain reading of
    ``source`` (the options have the reference's ``form``, too), ``source_of(options)`` says which it is;
    ``pick_form(options, rows)`` finds the default form.
    ``header(sample, form)`` is put in front of the prompt. ``shots_same_subject`` takes few-shot examples from the
    item's own subject; ``spread_limit`` makes a limit take its rows from all subjects in turn. ``foreign``: another
    library builds the samples and judges the responses (a bridge); nothing else is asked then. ``skill`` is what the
    task mainly asks for ('': not said); it changes no score and is in no key.
    """

    name: str
    summary: str
    source: Source | None
    to_sample: Callable[[dict[str, Any], str, int], Sample]
    forms: tuple[str, ...]
    default_form: str
    uniform: float | None
    licence: str
    paper: str
    example: Mapping[str, Any]
    metric: Metric = "accuracy"
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 0
    shots_split: str = "train"
    test_split: str = "test"
    is_trainable: bool = True
    scorers: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    scoring: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    rows: Callable[[Mapping[str, Any], str, Folder], Rows] | None = None
    source_of: Callable[[Mapping[str, Any]], Source | None] | None = None
    pick_form: Callable[[Mapping[str, Any], Rows], str] | None = None
    header: Callable[[Sample, str], str] | None = None
    shots_same_subject: bool = False
    spread_limit: bool = False
    foreign: Foreign | None = None
    skill: Skill | Literal[""] = ""

    def origin(self, options: Mapping[str, Any]) -> Source | None:
        """The dataset that a reference with these options reads; None if it reads the user's files."""
        return self.source_of(options) if self.source_of else self.source

    def read(self, options: Mapping[str, Any], split: str, data_dir: Folder = None) -> Rows:
        """The rows of a split. Raises DataError if there are none to be had."""
        if self.rows is not None:
            return self.rows(options, split, data_dir)
        return read(self.source, split, data_dir)


@dataclass(frozen=True)
class Prepared:
    """A task ready to be scored. ``ref`` has its form and data key filled in; ``scorer`` judges one sample.

    ``chance`` is what guessing gets on these very samples: the mean of 1 / number of choices, or the share of the
    commonest answer position where that is larger; 0 for generation, None for text. ``asks_greedy``: the scorer reads
    ``Response.greedy``. ``blank`` rows of the split were left out; with a limit, which takes other rows instead, 0.
    """

    ref: TaskRef
    kind: Kind
    samples: tuple[Sample, ...]
    metric: Metric
    chance: float | None
    scorer: Scorer
    stop: tuple[str, ...]
    max_new_tokens: int
    origin: str
    asks_greedy: bool = False
    blank: int = 0


def get_task(name: str) -> Task:
    """The task of that name. Raises PluginError if there is none or the plug-in isn't a ``Task``."""
    task = plugins.get("tasks", name)
    if not isinstance(task, Task):
        raise PluginError(f"{name!r} is not a task", got=type(task).__name__, hint="See: rankscope list tasks")
    return task


def resolve(ref: TaskRef, data_dir: Folder = None, split: str | None = None, may_ask: bool = True) -> TaskRef:
    """The reference with its form spelled out and ``data_key``, the hash of the data it stands for.

    ``split``: only the data that using this split reads (with the few-shot examples'); None: training and test rows
    together. Reads rows only where the default form depends on them, once a process; without ``may_ask`` it then stays
    'default' (in no key!) where they don't lie here. Raises PluginError for an unknown task, DataError for an unknown
    form or option, or for data that can't be anywhere.
    """
    task = get_task(ref.task)
    if split == "train":
        _check_trainable(task, ref)
    options = _options(task, ref)
    if options.get("scorer"):
        judging.pick(options["scorer"], options)
    form = _form(task, ref, options, data_dir, may_ask)
    key = task.foreign.key(ref) if task.foreign else _data_key(task, ref, options, data_dir, split)
    return replace(ref, form=form, data_key=key)


def is_local(ref: TaskRef, data_dir: Folder = None, split: str | None = None) -> bool:
    """Whether the rows of a split (the test split if None), and its examples, lie in files here.

    No network is asked.
    """
    task = get_task(ref.task)
    source = task.origin(dict(ref.options))
    if source is None or any(dict(ref.options).get(name) for name in task.files):
        return True
    splits = {split or task.test_split, *([task.shots_split] if ref.shots else [])}
    here = {name for name in dict(source.splits) if locate(source, name, data_dir)}
    if task.source_of and here and not dict(ref.options).get("test_split"):
        splits -= {task.test_split}  # another split takes the place of a missing one (``data.dataset.read_part``)
    return splits <= here


def identity(ref: TaskRef, is_training: bool = False) -> dict[str, Any]:
    """What of a resolved reference can change a score (or, ``is_training``, weights), for content keys.

    Left out are the label and the paths of the user's files, whose content is in ``data_key``; a task or scorer from a
    file or a package is known by its code (``tasks.origin``), a bridge's by the bridge, its own name and ``data_key``.
    Training knows no scorer: what is generated and what is weighed is learned alike. Raises PluginError for an unknown
    task.
    """
    task = get_task(ref.task)
    unused = (*task.files, *(task.scoring if is_training else ()))
    return {
        "task": _code_of(task, ref.task),
        "form": "generate" if is_training and ref.form == "completion" else ref.form,
        "shots": ref.shots,
        "limit": ref.limit,
        "options": sorted(
            (name, code_name("scorers", value) if name == "scorer" else value)
            for name, value in ref.options
            if name not in unused and value is not None
        ),
        "data_key": ref.data_key,
    }


def _code_of(task: Task, name: str) -> str:
    parts = plugins.bridge_parts(name)
    return f"{code_name('bridges', parts[0])}:{task.name}" if parts else code_name("tasks", name)


def scorer_identity(ref: TaskRef) -> str | None:
    """What of a resolved reference's scorer can change a score; None for one of the shelf, known by its task.

    Raises PluginError.
    """
    task = get_task(ref.task)
    if task.foreign:  # judged by the other library, whose version and code are in ``data_key``
        return None
    name = _scorer_name(task, ref.form, dict(ref.options))
    found = code_name("scorers", name)
    return None if found == name else found


def prepare(ref: TaskRef, data_dir: Folder = None, split: str | None = None) -> Prepared:
    """The samples to score: the rows of ``split`` (the task's test split if None), in the reference's form and shots.

    ``limit`` keeps the first rows (of all subjects in turn, where the task says so). Raises DataError if the split is
    missing, a row makes no sense (with its place), there are too few examples for the shots, or the data isn't what
    ``ref.data_key`` says; PluginError for an unknown task.
    """
    task = get_task(ref.task)
    split = split or task.test_split
    ref = _checked(task, ref, data_dir, split)
    if task.foreign:
        return task.foreign.prepare(ref)
    options = _options(task, ref)
    rows = task.read(options, split, data_dir)
    whole = _samples(task, rows, ref.form)
    samples = _with_context(task, ref, limited(whole, ref.limit, task.spread_limit), data_dir)
    kind = KINDS[ref.form]
    places = {sample.id: rows.place(i) for i, sample in enumerate(whole)} if options.get("scorer") else {}
    usual = task.scorers.get(ref.form, SCORERS[ref.form])
    return Prepared(
        ref=ref,
        kind=kind,
        samples=samples,
        metric="cross_entropy" if kind in NATS else task.metric,
        chance=chance_of(samples, kind),
        scorer=judging.choose(usual, options, samples, kind == "generate", task.stop, places),
        stop=task.stop,
        max_new_tokens=options.get("max_new_tokens", task.max_new_tokens),
        origin=rows.origin,
        blank=0 if ref.limit else rows.blank,
    )


def train_samples(ref: TaskRef, data_dir: Folder = None) -> tuple[Sample, ...]:
    """The samples to train on: the ``train`` split, ``limit`` as in ``prepare``.

    With shots the prompts carry the same kind of examples as when scored, so that the format trained is the format
    asked. Raises as ``prepare``, and DataError if the task is for evaluation only.
    """
    task = get_task(ref.task)
    _check_trainable(task, ref)
    ref = _checked(task, ref, data_dir, "train")
    rows = task.read(_options(task, ref), "train", data_dir)
    return _with_context(task, ref, limited(_samples(task, rows, ref.form), ref.limit, task.spread_limit), data_dir)


def _check_trainable(task: Task, ref: TaskRef) -> None:
    if not task.is_trainable:
        raise DataError(f"{ref.name} is for evaluation only: it has no training rows",
                        hint="List it under evaluate, or train on another task: rankscope list tasks")  # fmt: skip


def _scorer_name(task: Task, form: str, options: Mapping[str, Any]) -> str:
    return options.get("scorer") or task.scorers.get(form, SCORERS[form])


def _options(task: Task, ref: TaskRef) -> dict[str, Any]:
    known = (*task.options, *task.scoring, *task.files)
    for name, _ in ref.options:
        if name not in known:
            hint = f"It takes: {', '.join(known)}" if known else "It takes no options"
            raise DataError(f"{task.name} has no option {name!r}{plugins.did_you_mean(name, known)}", hint=hint)
    options = {"form": ref.form, **dict(ref.options)}
    for name, value in options.items():
        try:
            content_key(value)
        except (ValueError, TypeError) as error:  # such as half a surrogate pair, or an infinite number
            raise DataError(f"{name}: must be a plain text or number, or a list of them") from error
    if not isinstance(options.get("scorer", ""), str | None):
        raise DataError("scorer: must be the name of one scorer", got=options["scorer"],
                        hint="See: rankscope list scorers")  # fmt: skip
    tokens = options.get("max_new_tokens", 1)
    if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
        raise DataError(f"{task.name}: max_new_tokens must be a whole number from 1", got=tokens)
    return options


def _form(task: Task, ref: TaskRef, options: Mapping[str, Any], data_dir: Folder, may_ask: bool) -> str:
    if ref.form == "default":
        if task.pick_form is None:
            return task.default_form
        data_key = _data_key(task, replace(ref, shots=0), options, data_dir, task.test_split)
        key = content_key([ref.task, sorted((k, v) for k, v in options.items() if k not in task.files), data_key])
        if key not in _forms:
            if not may_ask and not is_local(replace(ref, shots=0), data_dir):
                return ref.form
            _forms[key] = task.pick_form(options, task.read(options, task.test_split, data_dir))
        return _forms[key]
    if ref.form not in task.forms:
        raise DataError(f"{task.name} has no form {ref.form!r}{plugins.did_you_mean(ref.form, task.forms)}",
                        hint=f"It has: {', '.join(task.forms)}")  # fmt: skip
    return ref.form


def _data_key(task: Task, ref: TaskRef, options: Mapping[str, Any], data_dir: Folder, split: str | None) -> str:
    named = {name: listed(options[name]) for name in task.files if options.get(name)}
    if split in named and not ref.shots:
        named = {split: named[split]}  # the other files hold no row of this split
    source = task.origin(options)
    if named or source is None:
        return content_key([[name, [_user_file_key(path) for path in paths]] for name, paths in named.items()])
    if task.source_of:  # which split takes the place of a missing one is found out by reading
        return content_key([[name, fingerprint(source, name, data_dir)] for name in sorted(dict(source.splits))])
    splits = {split} if split else {task.test_split, *(["train"] if task.is_trainable else [])}
    if ref.shots:
        splits.add(task.shots_split)
    return content_key([[name, fingerprint(source, name, data_dir)] for name in sorted(splits)])


def _user_file_key(path: Any) -> str:
    file = Path(str(path)).expanduser()
    if not file.is_file():
        raise no_file(path)
    return file_key(file)


def listed(value: Any) -> tuple[Any, ...]:
    """An option that may be one value or several, as a tuple."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _checked(task: Task, ref: TaskRef, data_dir: Folder, split: str) -> TaskRef:
    """The resolved reference; a key it already has must be that of the data at hand."""
    part = resolve(ref, data_dir, split)
    if split not in (task.test_split, "train"):
        return part  # A pilot's rows: not those that the reference stands for elsewhere, so never under the same key.
    whole = resolve(ref, data_dir)
    if ref.data_key and ref.data_key not in (whole.data_key, part.data_key):
        raise DataError(f"the data of {ref.name} is not the data the study was planned with",
                        hint="Plan the study again: rankscope plan STUDY")  # fmt: skip
    return replace(whole, data_key=ref.data_key or whole.data_key)


def _samples(task: Task, rows: Rows, form: str) -> tuple[Sample, ...]:
    """One sample a row. An id that comes again gets its count, so ids are unique and don't depend on any limit."""
    found, seen, taken = [], {}, set()
    for index, row in enumerate(rows.rows):
        sample = _sample(task, row, form, index, rows)
        seen[sample.id] = count = seen.get(sample.id, 0) + 1
        name = sample.id if count == 1 else f"{sample.id}#{count}"
        while name in taken:  # a row may be called like what another one was given
            count += 1
            name = f"{sample.id}#{count}"
        taken.add(name)
        found.append(sample if name == sample.id else replace(sample, id=name))
    return tuple(found)


def _sample(task: Task, row: dict[str, Any], form: str, index: int, rows: Rows) -> Sample:
    try:
        return task.to_sample(row, form, index)
    except DataError as error:
        raise DataError(error.what, got=error.got, where=error.where or rows.place(index), hint=error.hint) from error
    except KeyError as error:
        raise DataError(f"a row of {task.name} has no field {error.args[0]!r}", where=rows.place(index),
                        hint=f"Its fields: {', '.join(row)}") from error  # fmt: skip
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"a row makes no sense for {task.name}: {error}", where=rows.place(index)) from error


def _with_context(task: Task, ref: TaskRef, samples: tuple[Sample, ...], data_dir: Folder) -> tuple[Sample, ...]:
    """The samples with the task's header and ``ref.shots`` worked examples in front of their prompts."""
    if ref.shots and KINDS[ref.form] == "text":
        raise DataError(f"{task.name} scores plain text: it takes no shots", got=ref.shots)
    if not ref.shots and task.header is None:
        return samples
    if ref.shots and any(sample.turns for sample in samples):
        raise DataError("conversations take no shots", got=ref.shots)
    pools = _shot_pools(task, ref, data_dir) if ref.shots else {}
    found = []
    for sample in samples:
        pool = pools.get(sample.subject if task.shots_same_subject else "", [])
        examples = prompts.pick(pool, sample.prompt, ref.shots)
        if len(examples) < ref.shots:
            raise DataError(f"{task.name} has only {len(examples)} examples for item {sample.id}", got=ref.shots,
                            hint=f"Ask for at most {len(examples)} shots")  # fmt: skip
        header = task.header(sample, ref.form) if task.header else ""
        own = tuple(prompts.few_shot(prompt, examples, header) for prompt in (sample.prompt, *sample.prompts))
        found.append(replace(sample, prompt=own[0], prompts=own[1:]))
    return tuple(found)


def _shot_pools(task: Task, ref: TaskRef, data_dir: Folder) -> dict[str, list[tuple[str, str]]]:
    """Examples (prompt, target) from the shots split: by subject where the task says so, else all under ''."""
    pools: dict[str, list[tuple[str, str]]] = {}
    for sample in _samples(task, task.read(_options(task, ref), task.shots_split, data_dir), ref.form):
        pools.setdefault(sample.subject if task.shots_same_subject else "", []).append((sample.prompt, sample.target))
    return pools
