"""Tasks of lm-evaluation-harness: ``lm_eval:NAME`` or ``lm_eval:path/to/task.yaml``, for evaluation only.

Paper: Biderman et al., "Lessons from the Trenches on Reproducible Evaluation of Language Models" (2405.14782).
The harness builds prompts, few-shot examples, filters and targets, and judges; rankscope's engine scores. The score of
an item is what the harness's own ``process_results`` gives it for the task's first metric (option ``metric``) behind
its first filter (option ``filter``). ``shots: 0`` keeps the task's own number of examples; ``limit`` takes the first
rows. Scored are multiple choice, log-likelihood and greedy generation. Refused are metrics without a score from 0 to 1
per item, rolling perplexity, sampling, several answers per question, images, code to be run, and groups.
"""

from __future__ import annotations

import logging
from importlib import util

from rankscope.errors import PluginError
from rankscope.tasks.samples import Sample
from rankscope.tasks.task import Task


def lm_eval(rest: str) -> Task:
    """Tasks of lm-evaluation-harness, by name or YAML file: lm_eval:arc_easy

    Raises PluginError if lm_eval isn't installed, for a group (with its members) and for an unknown name (with the
    nearest one). Rows are read later.
    """
    if util.find_spec("lm_eval") is None:
        raise PluginError(f"lm_eval:{rest} needs the package lm_eval, which isn't installed",
                          hint="Next: pip install 'lm_eval>=0.4.12'")  # fmt: skip
    from rankscope.harness.names import find
    from rankscope.harness.tasks import Harness

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    name = find(rest)
    return Task(
        name=name,
        summary=f"{name} of lm-evaluation-harness",
        source=None,
        to_sample=lambda row, form, index: Sample("", "", ""),
        forms=("harness",),
        default_form="harness",
        uniform=None,
        licence="the dataset's own",
        paper="2405.14782",
        example={},
        is_trainable=False,
        options=("metric", "filter"),
        foreign=Harness(rest),
    )


PLUGIN = lm_eval
