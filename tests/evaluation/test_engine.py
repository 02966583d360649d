"""The scoring engine against its plain twin: one text at a time, no padding, no sharing, no cache."""

from __future__ import annotations

import random

import pytest
import torch

from rankscope.evaluation.engine import Request, generate, loglikelihoods
from reference import plain


def _requests(num: int, vocab: int) -> list[Request]:
    rng = random.Random(0)

    def some(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, vocab) for _ in range(rng.randint(low, high)))

    return [Request(some(1, 30), tuple(some(1, 6) for _ in range(rng.randint(1, 5)))) for _ in range(num)]


def test_shared_prompts_equal_one_by_one(base):
    requests = _requests(40, base.model.config.vocab_size)
    found = loglikelihoods(base, requests, batch_tokens=256)
    for request, sums in zip(requests, found, strict=True):
        expected = [plain.loglikelihood(base.model, request.prompt, c) for c in request.continuations]
        assert sums == pytest.approx(expected, abs=2e-4)


def test_choices_do_not_see_each_other(base):
    prompt, one, two = (5, 6, 7, 8), (9, 10, 11), (12, 13)
    together = loglikelihoods(base, [Request(prompt, (one, two))])[0]
    swapped = loglikelihoods(base, [Request(prompt, (two, one))])[0]
    assert together == pytest.approx(swapped[::-1], abs=1e-4)


def test_an_empty_list_is_fine(base):
    assert loglikelihoods(base, []) == [] and generate(base, [], 4) == []


def test_generation_equals_one_by_one_without_a_cache(base):
    prompts = [base.encode(t) for t in ("Question: sort b a c\nAnswer:", "Question: reverse d e\nAnswer:", "Where")]
    found = generate(base, prompts, 12, batch_tokens=200)
    expected = [base.decode(plain.greedy(base.model, p, 12, base.eos)) for p in prompts]
    assert found == expected


def test_generation_equals_transformers(base):
    prompt = base.encode("Question: sort b a c\nAnswer:")
    ids = torch.tensor([prompt])
    out = base.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False,
                              pad_token_id=base.tokenizer.pad_token_id or 0)  # fmt: skip
    assert generate(base, [prompt], 12) == [base.decode(out[0, len(prompt) :].tolist())]


def test_generation_stops_at_a_stop_text(base):
    prompt = base.encode("Question: sort b a c\nAnswer:")
    (whole,) = generate(base, [prompt], 12)
    assert len(whole) > 2
    (cut,) = generate(base, [prompt], 12, stop=(whole[2],))
    assert cut == whole[: whole.index(whole[2])]
