"""What a study's rows hold and share, measured once. In: a study and an open store or None. Out: counts, or why not.

For every train task its empty, repeated and contradicting rows; for every pair of a train task and a task that its arms
are judged on, how many test items stand in the training rows too (``data.overlap`` says in which senses). Few-shot
examples are left out of both: they come from training rows by design. A study that runs stores the counts by the
content of data and code; without stored ones they are made anew from rows that lie here. No network is asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from rankscope.data.overlap import NGRAM, compare, count_rows, fingerprint
from rankscope.errors import DataError
from rankscope.provenance import canonical_json, content_key, plain, recall, remember
from rankscope.records import Overlap, RowCounts, TaskRef
from rankscope.tasks import task as tasks

_VERSION = 2  # raised whenever the same rows would be counted otherwise
_ROWS = "rows"
_MANY = 2_000  # training rows from which on counts are kept for the next command
EXAMPLES = "its prompts hold worked examples, as its own library sets them, so they can't be compared"
NOT_HERE = "the rows come from the hub and were not here when this was made"


@dataclass
class RowFacts:
    """Counts by the name of the train task, and of (train task, evaluated task); a text is why there are none."""

    counts: dict[str, RowCounts | str] = field(default_factory=dict)
    overlaps: dict[tuple[str, str], Overlap | str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """One sentence for each finding, for a plan; nothing where nothing was found."""
        told = []
        for train, found in self.counts.items():
            if isinstance(found, RowCounts):
                parts = [f"{count:,} {what}" for count, what in (
                    (found.empty, "empty"), (found.duplicates, "repeated"),
                    (found.conflicts, "with a prompt that also has another answer")) if count]  # fmt: skip
                told += [f"{train}: of {found.rows:,} training rows {', '.join(parts)}"] if parts else []
        for (train, test), found in self.overlaps.items():
            if isinstance(found, Overlap):
                parts = [f"{_share(count, found.items)} {what}" for count, what in (
                    (found.ngram, f"share {found.n} words in a row with a training row"),
                    (found.exact, "have the prompt of a training row"),
                    (found.template, "have one but for the numbers in it")) if count]  # fmt: skip
                if parts:
                    told.append(
                        f"trained on {train}, scored on {test}: of {found.items:,} test items {'; '.join(parts)}"
                    )
        return told


def known(study: Any, store: Any | None) -> RowFacts:
    """What is stored or can be counted from rows that lie here; where neither, the reason why not."""
    found = RowFacts()
    for train in _trains(study):
        have = study.row_facts.get(train.key, {}) | _stored(store, train)
        have = _recalled(train) | have
        made = _count(study, train, have, may_ask=False)
        study.row_facts[train.key] = have = have | made
        if any(isinstance(fact, RowCounts | Overlap) for fact in made.values()):
            _remember(train, have)
        found.counts[train.name] = have[_ROWS]
        found.overlaps |= {(train.name, test): have[key] for test, (key, _) in train.tests.items()}
    return found


def measure(study: Any, store: Any) -> None:
    """Count what the store doesn't have yet, and store it. Rows of the hub are read: call it where a run does so too.

    Raises InputError for rows that are missing or make no sense.
    """
    for train in _trains(study):
        have = _stored(store, train)
        if made := _count(study, train, have, may_ask=True):
            counts = (have | made)[_ROWS]
            store.put_rows(train.key, counts, {key: found for key, found in made.items() if key != _ROWS})


@dataclass(frozen=True)
class _Train:
    """A train task without shots: its name in the study, its reference and key, each test's name, key and reference."""

    name: str
    ref: TaskRef
    key: str
    tests: dict[str, tuple[str, TaskRef]]


def _trains(study: Any) -> Iterator[_Train]:
    for raw in study.config.train_refs():
        ref = tasks.resolve(replace(raw, shots=0), study.data_dir, "train")
        tests = {test.name: study.test_task(replace(test, shots=0)) for test, _ in study.config.evaluations(raw)}
        yield _Train(raw.name, ref, _key(ref), {name: (_key(test), test) for name, test in tests.items()})


def _key(ref: TaskRef) -> str:
    return content_key([_VERSION, NGRAM, tasks.identity(ref)])


def _stored(store: Any | None, train: _Train) -> dict[str, Any]:
    """By the key of the test; the counts of the rows themselves under ``_ROWS``."""
    counts, overlaps = store.rows(train.key) if store is not None else (None, {})
    return dict(overlaps) if counts is None else {_ROWS: counts, **overlaps}


def _recalled(train: _Train) -> dict[str, Any]:
    """The same as ``_stored``, from what an earlier command of this user counted: keys hold all that can change it."""
    try:
        kept = json.loads(recall(_ROWS, train.key) or "{}")
        return {name: RowCounts(**fact) if name == _ROWS else Overlap(**fact) for name, fact in kept.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _remember(train: _Train, facts: dict[str, Any]) -> None:
    """Counts of many rows, which take longer than reading a file."""
    known = {name: plain(fact) for name, fact in facts.items() if isinstance(fact, RowCounts | Overlap)}
    if known.get(_ROWS, {"rows": 0})["rows"] >= _MANY:
        remember(_ROWS, train.key, canonical_json(known))


def _count(study: Any, train: _Train, have: dict[str, Any], may_ask: bool) -> dict[str, Any]:
    """What ``have`` lacks, as ``_stored`` gives it; without ``may_ask``, the reason where rows can't be read here."""
    tests = {key: test for key, test in train.tests.values() if key not in have}
    if _ROWS in have and not tests:
        return {}
    texts = _texts(study, train.ref, "train", may_ask)
    if isinstance(texts, str):
        made: dict[str, Any] = dict.fromkeys([_ROWS, *tests], texts)
    else:
        counts, blank = count_rows(texts), _blank(study, train.ref)
        counts = replace(counts, rows=counts.rows + blank, empty=counts.empty + blank)
        prints, made = fingerprint(texts), {_ROWS: counts}
        for key, test in tests.items():
            others = _texts(study, test, None, may_ask)
            made[key] = others if isinstance(others, str) else compare(prints, fingerprint(others))
    return {key: found for key, found in made.items() if key not in have}


def _texts(study: Any, ref: TaskRef, split: str | None, may_ask: bool) -> list[tuple[str, str]] | str:
    """Prompts and targets of the training or test rows; without ``may_ask``, the reason where they can't be read."""
    if not (may_ask or tasks.is_local(ref, study.data_dir, split)):
        return NOT_HERE
    holds_examples = getattr(tasks.get_task(ref.task).foreign, "holds_examples", None)
    if split != "train" and holds_examples is not None and holds_examples():
        return EXAMPLES
    try:
        samples = study.samples(ref) if split == "train" else study.prepared(ref).samples
    except DataError as error:
        if may_ask:
            raise
        return str(error)
    return [(sample.prompt, sample.target) for sample in samples]


def _blank(study: Any, ref: TaskRef) -> int:
    """Rows of the training part that the task left out as blank; with a limit none: it takes rows that aren't blank."""
    if ref.limit is not None:
        return 0
    task = tasks.get_task(ref.task)
    return task.read({"form": ref.form, **dict(ref.options)}, "train", study.data_dir).blank


def _share(count: int, of: int) -> str:
    return f"{count:,} ({100 * count / of:.1f} %)"
