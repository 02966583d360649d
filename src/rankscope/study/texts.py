"""The texts of a study's test items, for a report. In: a study. Out: what each item asks, or why it can't be read.

A finished study needs none of this to answer, so rows are read only when a report is written. No network is asked: rows
that don't lie here, and those of another library, which may fetch them, are left out with the reason.
"""

from __future__ import annotations

from typing import Any

from rankscope.errors import RankscopeError
from rankscope.records import TaskRef
from rankscope.report.flip_rows import ItemText
from rankscope.tasks import task as tasks
from rankscope.tasks.samples import Sample

NOT_HERE = "the rows come from the hub and were not here when this was made"
FOREIGN = "its rows belong to another library and are read only while a study runs"


def item_texts(study: Any) -> dict[str, dict[str, ItemText] | str]:
    """By the name of each task that arms are judged on; a text is the reason why there are none."""
    found: dict[str, dict[str, ItemText] | str] = {}
    for raw, _ in study.config.judged():
        ref = study.test_task(raw)
        if ref.name not in found and tasks.KINDS.get(ref.form) != "text":
            found[ref.name] = _texts(study, ref)
    return found


def _texts(study: Any, ref: TaskRef) -> dict[str, ItemText] | str:
    if not study.has_prepared(ref):
        if tasks.get_task(ref.task).foreign:
            return FOREIGN
        if not tasks.is_local(ref, study.data_dir):
            return NOT_HERE
    try:
        samples = study.prepared(ref).samples
    except RankscopeError as error:  # the scores are there all the same: the report goes on without the questions
        return error.what
    return {sample.id: item_text(sample) for sample in samples}


def item_text(sample: Sample) -> ItemText:
    """A sample as people read it. Where choices differ in the context, each is shown with its own last line of it."""
    if not sample.prompts:
        return ItemText(sample.prompt, sample.target, sample.choices, sample.answer)
    before = sample.prompt.rpartition("\n")[0]
    names = tuple(prompt.rpartition("\n")[2] for prompt in sample.prompts)
    choices = tuple(f"{name}{choice}" for name, choice in zip(names, sample.choices, strict=True))
    return ItemText(before, sample.target, choices, sample.answer, names)
