"""The planted study with questions, answers and subjects: choices on qa-a and trivia, written answers elsewhere."""

from __future__ import annotations

from dataclasses import replace

from rankscope.report.evidence import Evidence
from rankscope.report.flip_rows import ItemText

CHOSEN = ("qa-a", "trivia")


def asked(evidence: Evidence) -> Evidence:
    """Item i of a task is 'Question i of TASK?', its right answer 'right i', every wrong one 'wrong i'."""
    evals, items = {}, {}
    for (key, task), found in evidence.evals.items():
        if found.metric != "accuracy":
            evals[key, task] = found
            continue
        scores = tuple(
            replace(
                s,
                subject=f"field_{i % 7}" if task == "trivia" else "",
                response=f"{'right' if s.value else 'wrong'} {i}",
            )
            for i, s in enumerate(found.scores)
        )
        evals[key, task] = replace(found, scores=scores)
        items[task] = {
            s.item: ItemText(f"Question {i} of {task}?", f" right {i}", (f" wrong {i}", f" right {i}"), 1)
            if task in CHOSEN
            else ItemText(f"Question {i} of {task}?", f" right {i}")
            for i, s in enumerate(scores)
        }
    return replace(evidence, evals=evals, items=items)
