"""Plain twins of variants of an update: every pass computed whole, and weights added up by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from transformers.pytorch_utils import Conv1D


def asked(subject, update, items: int, chunk: int) -> tuple[dict[str, list[float]], list[float]]:
    """Scores by task and validation losses, chunk by chunk, nothing kept from one pass to another."""
    scores, losses = {}, []
    with subject.worn(update) as base:
        for task in subject.tasks:
            samples = task.task.samples[:items]
            parts = [samples[i : i + chunk] for i in range(0, len(samples), chunk)]
            found = [subject.score(base, replace(task.task, samples=part)) for part in parts]
            scores[task.name] = [score.value for part in found for score in part]
        for i in range(0, len(subject.validation), chunk):
            losses += subject.losses(base, subject.validation[i : i + chunk])
    return scores, losses


@torch.no_grad()
def merged(subject, names):
    """A subject whose base has the update's part ``names`` added to copies of its weights, and no update left."""
    base = copy.deepcopy(subject.base)
    parameters = dict(base.model.named_parameters())
    for name in names:
        if name in subject.update.whole:
            parameters[name].copy_(subject.update.whole[name])
            continue
        delta = subject.update.deltas[name].dense()
        is_turned = isinstance(base.model.get_submodule(name), Conv1D)
        parameters[f"{name}.weight"] += delta.T if is_turned else delta
    return replace(subject, base=base, update=subject.update.only(lambda name: False))
