"""Samples turned into responses: what each choice is scored behind."""

from __future__ import annotations

import pytest

from rankscope.evaluation.engine import Request, loglikelihoods
from rankscope.evaluation.suite import evaluate
from rankscope.library.scorers.choice_raw import choice_raw
from rankscope.records import TaskRef
from rankscope.tasks.samples import Sample
from rankscope.tasks.task import Prepared
from reference import plain

PAIR = Sample(
    "pair", "Mia likes the red box", " in the garden.", (" in the garden.",) * 2, 1,
    prompts=("Mia likes the old mug, for once", "Mia likes the red box"),
)  # fmt: skip
USUAL = Sample("usual", "Question: sort b a c\nAnswer:", " a b c", (" a b c", " c b a", " b"), 0)


def prepared(*samples, scorer=choice_raw):
    return Prepared(TaskRef("toy"), "choices", samples, "accuracy", 0.5, scorer, (), 0, "here")


def responses(base, *samples):
    """What the scorer was given for each sample."""
    seen = {}

    def scorer(sample, response):
        seen[sample.id] = response
        return choice_raw(sample, response)

    found = evaluate(base, prepared(*samples, scorer=scorer), "run", "task")
    assert found.status == "done"
    return seen, found


def test_choices_with_prompts_of_their_own_are_scored_as_one_by_one(base):
    seen, found = responses(base, USUAL, PAIR, USUAL)
    for sample in (PAIR, USUAL):
        own = sample.prompts or (sample.prompt,) * len(sample.choices)
        pairs = [base.encode_pair(p, c) for p, c in zip(own, sample.choices, strict=True)]
        assert seen[sample.id].loglikelihoods == pytest.approx([plain.loglikelihood(base.model, *p) for p in pairs],
                                                               abs=2e-4)  # fmt: skip
        assert seen[sample.id].num_tokens == tuple(len(c) for _, c in pairs)
    assert len({round(v, 3) for v in seen["pair"].loglikelihoods}) == 2
    assert [score.item for score in found.scores] == ["usual", "pair", "usual"]


def test_tokens_are_those_that_passed_through_the_model_and_an_item_ticks_once(base):
    ticks = []
    found = evaluate(base, prepared(PAIR, USUAL), "run", "task", ticks.append)
    assert sum(ticks) == 2
    seen = set()  # every beginning of a text that something is read behind
    for sample in (PAIR, USUAL):
        for prompt, choice in zip(sample.prompts or (sample.prompt,) * 3, sample.choices, strict=True):
            whole = sum(base.encode_pair(prompt, choice), ())
            seen |= {whole[:n] for n in range(1, len(whole))}
    assert found.ledger.tokens == len(seen)
    assert found.ledger.flops == 2.0 * base.num_params * len(seen)


def test_a_long_prompt_of_its_own_is_cut_at_its_front_and_the_item_is_counted(base):
    long = "and " * 400 + PAIR.prompts[0]
    sample = Sample("long", PAIR.prompt, PAIR.target, PAIR.choices, 1, prompts=(long, PAIR.prompt))
    whole, continuation = base.encode_pair(long, PAIR.target)
    room = base.max_length - len(continuation)
    assert len(whole) > room
    seen, found = responses(base, sample)
    assert found.message == "1 items were cut to fit the model"
    kept = whole[-room:] if base.bos is None or whole[0] != base.bos else (base.bos, *whole[-(room - 1) :])
    assert seen["long"].loglikelihoods[0] == pytest.approx(
        plain.loglikelihood(base.model, kept, continuation), abs=1e-3
    )


def test_requests_with_and_without_prompts_of_their_own_mix(base):
    one, two = Request((5, 6), ((9,), (9,)), ((5, 6), (7, 8, 5))), Request((7, 8, 5), ((9,), (10, 11)))
    first, second = loglikelihoods(base, [one, two])
    assert first[1] == pytest.approx(second[0], abs=1e-4)
    assert first[0] == pytest.approx(loglikelihoods(base, [Request((5, 6), ((9,),))])[0][0], abs=1e-4)
