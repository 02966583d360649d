"""The public testing helpers: what the contract check finds, and the tiny pair."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rankscope import plugins, testing
from rankscope.errors import PluginError
from rankscope.tasks.samples import Sample


def own(prompt, prompts):
    """A sample whose choices have prompts of their own, the first being right."""
    return Sample("i", prompt, " t", (" t", " t"), 0, prompts=prompts)


@pytest.fixture
def task():
    return plugins.get("tasks", "arc_easy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Arc Easy"}, "lower-case word"),
        ({"licence": " "}, "licence is empty"),
        ({"forms": ("quiz",), "default_form": "quiz"}, "forms must be some of"),
        ({"default_form": "generate"}, "default_form is none of its forms"),
        ({"metric": "cross_entropy"}, "go with the metric"),
        ({"uniform": 25.0}, "uniform must lie between"),
        ({"source": None}, "neither a source nor"),
        ({"example": {}}, "to_sample failed: KeyError: 'question'"),
        ({"scorers": {"cloze": "no_such"}}, "the scorer 'no_such' failed"),
        ({"scorers": {"cloze": "exact_match"}}, "gives a perfect response 0.0 instead of 1.0"),
        ({"to_sample": lambda row, form, index: Sample(form, "p ", "t", ("t", " u"), 0)}, "ends in white space"),
        ({"to_sample": lambda row, form, index: Sample(form, "p", "t", ("t", " u"), 0)}, "doesn't start with a space"),
        ({"to_sample": lambda row, form, index: Sample(form, "p", " t", (" t", " u"), 0)}, "an item has several ids"),
        ({"to_sample": lambda row, form, index: Sample("i", "p", " t", (" t", " u"), 2)}, "points at no choice"),
        ({"to_sample": lambda row, form, index: Sample("i", "p", " t", (" t", " u"), 1)}, "isn't the right choice"),
        ({"to_sample": lambda row, form, index: own("p", ("p",))}, "not one prompt a choice"),
        ({"to_sample": lambda row, form, index: own("p", ("q", "r"))}, "isn't that of the right choice"),
        ({"to_sample": lambda row, form, index: own("p", ("p", "r "))}, "one of the prompts is empty or ends in white"),
        ({"to_sample": lambda row, form, index: own("p", ("p", "p"))}, "the same prompt and the same text"),
        ({"to_sample": lambda row, form, index: replace(own("p", ()), accepted=(" u",))}, "none of the choices"),
        ({"to_sample": lambda row, form, index: replace(own("p", ()), accepted=(" ",))}, "accepted answer is empty"),
    ],
)
def test_a_breach_of_the_contract_is_found_and_named(task, change, message):
    with pytest.raises(PluginError, match=message):
        testing.check_task(replace(task, **change))


def test_something_else_than_a_task_breaks_the_contract():
    with pytest.raises(PluginError, match="must be a rankscope.tasks.task.Task"):
        testing.check_task("arc_easy")


def test_a_bad_row_among_further_rows_is_found(task):
    with pytest.raises(PluginError, match="KeyError"):
        testing.check_task(task, [task.example, {"question": "Why?"}])


def test_the_tiny_tokenizer_gives_back_any_ascii_text():
    tokenizer = testing.tiny_tokenizer()
    text = "".join(map(chr, range(128))) + " Question: 3 + 4 = ?\n\nAnswer: <<7>>"
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text) and max(ids) < len(tokenizer) == 132
    assert tokenizer.decode(ids) == text
    assert tokenizer("é")["input_ids"] == [tokenizer.unk_token_id]


def test_the_tiny_model_is_the_same_for_the_same_seed_and_leaves_torchs_random_state_alone():
    torch = pytest.importorskip("torch")
    state = torch.random.get_rng_state()
    one, same, other = testing.tiny_model(), testing.tiny_model(0), testing.tiny_model(1)
    assert torch.equal(torch.random.get_rng_state(), state)
    ids = torch.tensor([testing.tiny_tokenizer()("Hello")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(one(ids).logits, same(ids).logits)
        assert not torch.equal(one(ids).logits, other(ids).logits)
    assert one(ids).logits.shape == (1, 5, 132) and not one.training
