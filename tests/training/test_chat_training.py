"""Conversations in training and scoring: the loss is on every answer and on nothing else, and what is long is cut."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from rankscope.data.batching import Example, join_chat
from rankscope.errors import DataError
from rankscope.evaluation.suite import evaluate
from rankscope.models.base import Base
from rankscope.records import ModelRef, Recipe, TaskRef
from rankscope.tasks.samples import Sample, chat_sample
from rankscope.tasks.scoring import scored
from rankscope.tasks.task import Prepared
from rankscope.testing import tiny_model, tiny_tokenizer
from rankscope.training.cohort import encode_train_set
from rankscope.training.loop import row_nll

TEMPLATE = (
    "{% for m in messages %}{{ '<' + m.role[0] + '>' + m.content + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
SYSTEM = ("system", "Be brief.")
TURNS = (("user", "Hi"), ("assistant", "Hello"), ("user", "2+2?"), ("assistant", "4"))
RECIPE = Recipe(max_steps=1, validation=0.5)


@pytest.fixture(scope="module")
def chatty() -> Base:
    """A random model of one token a character, with a chat template."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return Base(ModelRef("tiny"), tiny_model(), tokenizer, torch.device("cpu"), torch.float32)


def labelled(base: Base, example: Example) -> list[str]:
    """The stretches of text that the loss is on."""
    runs, last = [], None
    for t in example.labels:
        runs += [[]] if last is None or t != last + 1 else []
        runs[-1].append(example.ids[t])
        last = t
    return [base.tokenizer.decode(ids) for ids in runs]


def encoded(base: Base, turns, max_length: int = 512):
    """One conversation in training, as its example and how many were dropped and cut."""
    samples = tuple(chat_sample(turns, id=str(i)) for i in range(2))
    others = tuple(chat_sample((("user", str(i)), ("assistant", "x"))) for i in range(2))
    data = encode_train_set(base, (*samples, *others), replace(RECIPE, max_length=max_length))
    found = [e for e in (*data.train, *data.validation) if len(e.ids) > 12]
    return found[0] if found else None, data.dropped // 2, data.cut // 2


def test_the_loss_is_on_every_answer_with_its_end_and_on_nothing_else(chatty):
    example, dropped, cut = encoded(chatty, (SYSTEM, *TURNS))
    assert labelled(chatty, example) == ["Hello<eos>", "4<eos>"]
    assert (example.num_labels, dropped, cut) == (8, 0, 0)


def test_the_loss_of_a_batch_of_conversations_and_plain_rows_is_that_of_each_token_by_itself(chatty):
    chats = [join_chat(*chatty.encode_chat(turns), 512) for turns in (TURNS, (SYSTEM, *TURNS), TURNS[:2])]
    rows = [*chats, Example(tuple(range(10, 30)), 12)]
    nll, counts = row_nll(chatty, rows)
    for row, sum_, count in zip(rows, nll.tolist(), counts.tolist(), strict=True):
        mask = row.mask or [t >= row.start for t in range(len(row.ids))]
        with torch.no_grad():
            logp = chatty.model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        expected = [float(-logp[t - 1, token]) for t, token in enumerate(row.ids) if mask[t]]
        assert count == len(expected) == row.num_labels
        assert sum_ == pytest.approx(sum(expected), rel=1e-5)


def test_a_tokens_gradient_comes_from_answers_alone(chatty):
    model = copy.deepcopy(chatty.model).requires_grad_(True)
    base = Base(chatty.ref, model, chatty.tokenizer, chatty.device, chatty.dtype)
    example = join_chat(*base.encode_chat(TURNS), 512)
    row_nll(base, [example])[0].sum().backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    labels = torch.tensor([[t if m else -100 for t, m in zip(example.ids, example.mask, strict=True)]])
    logits = model(torch.tensor([example.ids])).logits
    F.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum").backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-4)


def test_a_long_conversation_loses_its_oldest_exchanges_and_keeps_the_system_turn(chatty):
    whole = encoded(chatty, (SYSTEM, *TURNS))[0]
    for room, expected in (
        (len(whole.ids), "<s>Be brief.<eos>\n<u>Hi<eos>\n<a>Hello<eos>\n<u>2+2?<eos>\n<a>4<eos>\n"),
        (len(whole.ids) - 1, "<s>Be brief.<eos>\n<u>2+2?<eos>\n<a>4<eos>\n"),
        (30, "<s>Be brief.<eos>\n<u>2+2?<eos>\n<a>4<eos>\n"),
    ):
        example, _, cut = encoded(chatty, (SYSTEM, *TURNS), room)
        assert chatty.tokenizer.decode(example.ids) == expected
        assert cut == (room < len(whole.ids))
        assert labelled(chatty, example)[-1] == "4<eos>"


def test_of_many_exchanges_as_many_stay_as_fit(chatty):
    turns = tuple(turn for i in range(20) for turn in (("user", f"{i:02}"), ("assistant", f"{i:02}")))
    each = len(chatty.encode_chat(turns[:2])[0])
    for kept in (1, 2, 7, 19):
        example, _, cut = encoded(chatty, turns, each * kept + each - 1)
        assert len(example.ids) == each * kept and cut == 1
        assert labelled(chatty, example) == [f"{i:02}<eos>" for i in range(20 - kept, 20)]


def test_one_exchange_that_is_too_long_is_cut_as_text(chatty):
    turns = (("user", "a" * 50), ("assistant", "b" * 20))
    example, _, cut = encoded(chatty, turns, 40)
    assert chatty.tokenizer.decode(example.ids) == "a" * 13 + "<eos>\n<a>" + "b" * 20 + "<eos>\n"
    assert cut == 1
    example, _, cut = encoded(chatty, (("user", "a"), ("assistant", "b" * 100)), 40)
    assert chatty.tokenizer.decode(example.ids) == ">" + "b" * 39 and cut == 1


def test_an_example_without_a_label_is_none():
    assert join_chat((1, 2, 3), (False, False, False), 8) is None
    assert join_chat((1, 2, 3), (False, True, False), 8) == Example((1, 2, 3), 1, (False, True, False))
    assert Example((1, 2, 3), 1, (False, True, False)).num_labels == 1


def test_a_chat_is_scored_on_its_last_answer_after_the_templates_prompt(chatty):
    seen = []

    def note(sample, response):
        seen.append(response)
        return scored(sample, 1.0)

    ref = TaskRef("t", form="generate")
    sample = chat_sample((SYSTEM, *TURNS))
    task = Prepared(ref, "text", (sample,), "cross_entropy", None, note, (), 0, "")
    evaluate(chatty, task, "r", "t")
    prompt = tuple(chatty.tokenizer("<s>Be brief.<eos>\n<u>Hi<eos>\n<a>Hello<eos>\n<u>2+2?<eos>\n<a>")["input_ids"])
    with torch.no_grad():
        logp = chatty.model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    assert seen[0].num_tokens == (1,)
    assert seen[0].loglikelihoods[0] == pytest.approx(float(logp[chatty.encode("4")[0]]), rel=1e-4)

    evaluate(chatty, replace(task, kind="generate", max_new_tokens=3, stop=("\n\n",)), "r", "t")
    ids = list(prompt)
    for _ in range(3):
        with torch.no_grad():
            ids.append(int(chatty.model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert seen[1].text == chatty.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)


def test_more_new_tokens_than_the_model_takes_is_an_error(chatty):
    task = Prepared(
        TaskRef("t"), "generate", (chat_sample(TURNS),), "accuracy", 0.0, lambda s, r: scored(s, 1.0), (), 512, ""
    )
    with pytest.raises(DataError, match="t: max_new_tokens leaves no room.*This model takes 512 tokens"):
        evaluate(chatty, task, "r", "t")


def test_a_template_that_never_closes_an_answer_is_said_so(chatty):
    rows = tuple(chat_sample((("user", f"Hi {i}"), ("assistant", "Hello"))) for i in range(4))
    assert encode_train_set(chatty, rows, RECIPE).notes == ()
    endless = copy.copy(chatty)
    endless.tokenizer = copy.deepcopy(chatty.tokenizer)
    endless.tokenizer.chat_template = TEMPLATE.replace("+ eos_token ", "")
    (note,) = encode_train_set(endless, rows, RECIPE).notes
    assert "nothing teaches the model to stop" in note


def test_rows_that_all_give_the_same_tokens_are_told_as_that(base):
    samples = tuple(Sample(str(i), "Ж" * 3, " " + "Ж" * 2) for i in range(25))
    with pytest.raises(DataError, match="all rows give the same tokens: is this the model's language"):
        encode_train_set(base, samples, Recipe())
