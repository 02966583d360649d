"""Rows and a task for them, as the harness's task files say it."""

from __future__ import annotations

WORDS = ("sort", "reverse", "harbour", "river", "north", "market", "stone", "garden")
MEAN = {"aggregation": "mean", "higher_is_better": True}
CHOICES = {
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{answer}}",
    "doc_to_choice": "{{choices}}",
    "metric_list": [{"metric": "acc", **MEAN}, {"metric": "acc_norm", **MEAN}],
}


def rows(start: int, num: int) -> list[dict]:
    """Questions with three options of different lengths."""
    found = []
    for i in range(start, start + num):
        options = [" ".join(WORDS[(i + j * k) % len(WORDS)] for k in range(j + 1)) for j in range(3)]
        found.append({"question": f"What is at {WORDS[i % 8]} {i}?", "choices": options, "answer": i % 3})
    return found
