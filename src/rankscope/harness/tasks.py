"""A task of lm-evaluation-harness made ready for rankscope's engine. In: a TaskRef. Out: its key, or ``Prepared``.

The harness builds prompts, few-shot examples and targets, filters a response and judges it; nothing of that is done
anew here. Knows nothing about models. Checked against lm_eval 0.4.13 and 0.4.12.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from inspect import getsourcefile
from pathlib import Path
from typing import Any

import numpy as np

from rankscope.errors import DataError, RunFailed
from rankscope.harness.names import YAML, config_of, explained, manager
from rankscope.plugins import did_you_mean
from rankscope.provenance import content_key, file_key
from rankscope.records import Score, TaskRef
from rankscope.tasks.samples import Sample, item_id
from rankscope.tasks.scoring import Response, Scorer, require_finite, scored
from rankscope.tasks.task import Prepared

RANDOM_SEED, FEWSHOT_SEED = 0, 1234  # the harness's own defaults
_CHOSEN = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")  # metrics that a guess among the choices can win


@dataclass(frozen=True)
class Harness:
    """How rankscope asks for this task's data and samples (see ``rankscope.tasks.task.Foreign``)."""

    rest: str

    def key(self, ref: TaskRef) -> str:
        return _key(self.rest, _stamp(self.rest), ref.shots)

    def holds_examples(self) -> bool:
        """Whether its prompts hold worked examples where no number of shots is asked for."""
        return _num_shots(_task(self.rest, _stamp(self.rest)), 0) > 0

    def prepare(self, ref: TaskRef) -> Prepared:
        task = _task(self.rest, _stamp(self.rest))
        documents = _documents(task, ref)
        metric, chosen = _metric(task, dict(ref.options)), _filter(task, dict(ref.options))
        samples = _samples(documents)
        judge = _judge(task, metric, chosen, dict(zip((s.id for s in samples), documents, strict=True)))
        is_generated = documents[0][0].request_type == "generate_until"
        stop, most = _generation(task, documents, ref) if is_generated else ((), 0)
        _probe(judge, samples[0], metric, task)
        return Prepared(
            ref=ref,
            kind="generate" if is_generated else "choices",
            samples=samples,
            metric="accuracy",
            chance=_chance(task, metric, documents),
            scorer=judge,
            stop=stop,
            max_new_tokens=most,
            origin=f"lm_eval {metadata.version('lm_eval')}",
            asks_greedy=not is_generated,
        )


def _stamp(rest: str) -> str:
    """Changes when a task's own YAML or its local files of rows do, so that nothing stale is kept in a process."""
    if not rest.endswith(YAML):
        return ""
    config = config_of(Path(rest).expanduser())
    named = (config.get("dataset_kwargs") or {}).get("data_files") or ()
    files = [Path(text) for text in _flat(list(named.values()) if isinstance(named, dict) else named)]
    return content_key([_as_text(config), *(file_key(file) for file in files if file.is_file())])


def _flat(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [text for part in value for text in _flat(part)]


@lru_cache(maxsize=64)
def _task(rest: str, stamp: str) -> Any:
    """The harness's task with its rows. Raises DataError if it can't be built or is of a kind that isn't scored."""
    from lm_eval.tasks import TaskManager

    with explained(f"lm_eval:{rest}"), _seeded():
        known = TaskManager(include_defaults=False) if rest.endswith(YAML) else manager()
        task = next(iter(known.load([rest])["tasks"].values()))
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        raise DataError(f"lm_eval:{rest} measures perplexity over whole documents, which has no score per item",
                        hint="Use neutral_text with path:, or the harness itself with --model rankscope")  # fmt: skip
    for attribute, why in (("MULTIMODAL", "needs images or sound"), ("UNSAFE_CODE", "runs code that a model wrote")):
        if getattr(task, attribute, False):
            raise DataError(f"lm_eval:{rest} {why}", hint="Use the harness itself")
    if getattr(task.config, "repeats", 1) != 1:
        raise DataError(f"lm_eval:{rest} asks each question several times", got=task.config.repeats,
                        hint="Scores here come from one greedy answer; write a YAML with repeats: 1")  # fmt: skip
    return task


@lru_cache(maxsize=256)
def _key(rest: str, stamp: str, shots: int) -> str:
    """Hash of the library's version, the task's declaration, its test rows and the rows that examples come from."""
    task = _task(rest, stamp)
    declared = {k: v for k, v in vars(task.config).items() if k not in ("metadata", "dataset_kwargs")}
    with explained(f"lm_eval:{rest}"), _seeded():
        pool = list(task.sampler.fewshot_docs()) if _num_shots(task, shots) else []
        parts = [metadata.version("lm_eval"), shots, *map(_as_text, (type(task), declared, list(task.eval_docs), pool))]
    return content_key(parts)


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """The harness's own seeds for tasks that draw at random while they are built; the caller's draws go on after."""
    plain, arrays = random.getstate(), np.random.get_state()
    random.seed(RANDOM_SEED)
    np.random.seed(FEWSHOT_SEED)
    try:
        yield
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """A function is known by its name and its file's content, an object by its fields; never by an address."""
    if isinstance(value, Callable):
        try:
            file = getsourcefile(value)
        except TypeError:
            file = None
        return [getattr(value, "__qualname__", type(value).__name__), file_key(Path(file)) if file else ""]
    return vars(value) if hasattr(value, "__dict__") else str(value)


def _num_shots(task: Any, shots: int) -> int:
    """How many examples: those asked for, else the task's own number. Raises DataError where the task forbids any."""
    own = task.config.num_fewshot
    if shots and own == 0:
        raise DataError(f"{task.config.task} of lm_eval takes no shots: it sets num_fewshot: 0", got=shots)
    return shots or own or 0


def _documents(task: Any, ref: TaskRef) -> list[list[Any]]:
    """The harness's requests of the first ``limit`` rows, one list a row. Raises DataError on mixed kinds."""
    number = _num_shots(task, ref.shots)
    own = task.config.num_fewshot
    grouped: dict[int, list[Any]] = {}
    try:
        task.set_config(key="num_fewshot", value=number)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        with explained(ref.name), _seeded():
            task.build_all_requests(limit=ref.limit)
    finally:
        task.set_config(key="num_fewshot", value=own)
    for instance in task.instances:
        grouped.setdefault(instance.doc_id, []).append(instance)
    found = [sorted(group, key=lambda instance: instance.idx) for _, group in sorted(grouped.items())]
    kinds = {tuple(sorted({instance.request_type for instance in group})) for group in found}
    if kinds == {("generate_until",)} and all(len(group) == 1 for group in found):
        return found
    if kinds != {("loglikelihood",)}:
        raise DataError(f"{ref.name} asks for several kinds of response", got=sorted(map("+".join, kinds)))
    return found


def _samples(documents: list[list[Any]]) -> tuple[Sample, ...]:
    """One sample a row. An id is made of the row, so it is the same whatever the shots; copies are counted."""
    found, seen = [], {}
    for group in documents:
        id = item_id(_as_text(dict(group[0].doc)))
        seen[id] = count = seen.get(id, 0) + 1
        id = id if count == 1 else f"{id}#{count}"
        if group[0].request_type == "generate_until":
            found.append(Sample(id, group[0].args[0], ""))
            continue
        pairs = [_moved(*instance.args) for instance in group]
        contexts, choices = tuple(c for c, _ in pairs), tuple(c for _, c in pairs)
        own = contexts if len(set(contexts)) > 1 else ()  # WinoGrande's, or the empty ones of mutual information
        found.append(Sample(id, contexts[0], "", choices, prompts=own))
    return tuple(found)


def _moved(context: str, continuation: str) -> tuple[str, str]:
    """Spaces at the context's end belong to the continuation, as in the harness."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation


def _right(task: Any, group: list[Any]) -> list[int]:
    """Positions of the right choices of a multiple-choice row; empty where the task doesn't say them plainly."""
    doc = group[0].doc
    with explained(task.config.task):
        gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
        choices = task.doc_to_choice(doc)
    found = [choices.index(g) if g in choices else g for g in (gold if isinstance(gold, list) else [gold])]
    return [g for g in found if isinstance(g, int) and 0 <= g < len(choices)]


def _chance(task: Any, metric: str, documents: list[list[Any]]) -> float:
    """What guessing among the choices gets, or always picking the commonest right position; 0 for other metrics."""
    if getattr(task, "OUTPUT_TYPE", "") != "multiple_choice" or metric not in _CHOSEN:
        return 0.0
    right = [_right(task, group) for group in documents]
    with explained(task.config.task):
        many = [len(task.doc_to_choice(group[0].doc)) for group in documents]
    uniform = sum(max(1, len(places)) / num for places, num in zip(right, many, strict=True)) / len(right)
    commonest = Counter(place for places in right for place in places)
    return max(uniform, max(commonest.values(), default=0) / len(right))


def _metric(task: Any, options: dict[str, Any]) -> str:
    known = list(task.aggregation())
    metric = options.get("metric", known[0])
    if metric not in known:
        raise DataError(f"{task.config.task} of lm_eval has no metric {metric!r}{did_you_mean(str(metric), known)}",
                        hint=f"It has: {', '.join(known)}")  # fmt: skip
    if not task.higher_is_better().get(metric, True):
        raise DataError(f"the metric {metric!r} of {task.config.task} is better when lower; scores here are shares",
                        hint=f"It has: {', '.join(known)}")  # fmt: skip
    return metric


def _filter(task: Any, options: dict[str, Any]) -> str:
    known = [found.name for found in task._filters]
    name = options.get("filter", known[0])
    if name not in known:
        raise DataError(f"{task.config.task} of lm_eval has no filter {name!r}{did_you_mean(str(name), known)}",
                        hint=f"It has: {', '.join(known)}")  # fmt: skip
    return name


def _generation(task: Any, documents: list[list[Any]], ref: TaskRef) -> tuple[tuple[str, ...], int]:
    """Stop texts and number of tokens. Raises DataError for sampling, and where rows differ."""
    from lm_eval.models.utils import normalize_gen_kwargs

    asked = [normalize_gen_kwargs(group[0].args[1]) for group in documents]
    if any(one != asked[0] for one in asked):
        raise DataError(f"{ref.name} generates in another way for each row")
    if asked[0]["do_sample"]:
        raise DataError(f"{ref.name} samples its answers; scores here come from one greedy answer",
                        hint="Write a YAML with generation_kwargs: {do_sample: false}")  # fmt: skip
    return tuple(stop for stop in asked[0]["until"] if stop), asked[0]["max_gen_toks"]


def _judge(task: Any, metric: str, chosen: str, requests: dict[str, list[Any]]) -> Scorer:
    """A scorer that hands a response to the harness's filters and ``process_results``."""
    (applied,) = [found for found in task._filters if found.name == chosen]

    def judge(sample: Sample, response: Response) -> Score:
        require_finite(sample, response.loglikelihoods)
        given: list[Any] = [response.text]
        if response.loglikelihoods:
            given = list(zip(response.loglikelihoods, response.greedy, strict=True))
        instances = [copy.copy(instance) for instance in requests[sample.id]]
        for instance, answer in zip(instances, given, strict=True):
            instance.resps, instance.filtered_resps = [answer], {}
        with explained(f"the score of item {sample.id}", partial(RunFailed, stage="evaluate")):
            applied.apply(instances)
            found = task.process_results(instances[0].doc, [one.filtered_resps[chosen] for one in instances])
        value = found.get(metric)
        value = value.item() if hasattr(value, "item") else value
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise RunFailed(f"the metric {metric!r} gave item {sample.id} no score from 0 to 1: {value!r}",
                            stage="evaluate", hint=f"It gave: {', '.join(found)}")  # fmt: skip
        return scored(sample, float(value), _said(sample, response))

    return judge


def _said(sample: Sample, response: Response) -> str:
    if not response.loglikelihoods:
        return response.text
    weights = response.loglikelihoods
    return sample.choices[max(range(len(weights)), key=weights.__getitem__)].strip() if len(weights) > 1 else ""


def _probe(judge: Scorer, sample: Sample, metric: str, task: Any) -> None:
    """A made response is judged before any work: a metric over the whole set is refused here, not after hours."""
    many = len(sample.choices)
    made = Response(tuple(-1.0 - i for i in range(many)), (1,) * many, "0", (False,) * many)
    try:
        judge(sample, made)
    except RunFailed as error:
        if error.__cause__ is not None:
            return  # The task's own code can't read the made response; real ones are judged when they are there.
        raise DataError(f"the metric {metric!r} of {task.config.task} has no score from 0 to 1 for each item",
                        hint=f"Choose another with metric: {', '.join(task.aggregation())}") from error  # fmt: skip
