"""The scoring engine against its plain twin: one text at a time, no padding, no sharing, no cache."""

from __future__ import annotations

import random

import pytest
import torch

from rankscope.errors import ModelError
from rankscope.evaluation.engine import Request, loglikelihoods, weigh
from rankscope.evaluation.generation import generate
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


def test_a_continuation_is_greedy_if_the_model_would_write_it(base, monkeypatch):
    prompt = base.encode("Question: sort b a c\nAnswer:")
    said = tuple(plain.greedy(base.model, prompt, 4, None))
    other = (*said[:2], said[2] + 1, said[3])
    requests = [Request(prompt, (said, other, said[:2])), Request(prompt, (said,)), Request(prompt, (other,))]
    for most in (481 * 3, 32_000_000):  # logits a slice at a time, and at once
        monkeypatch.setattr("rankscope.models.base._LOGITS", most)
        found = weigh(base, requests, greedy=True)
        assert [[is_greedy for _, is_greedy in weights] for weights in found] == [[True, False, True], [True], [False]]
        values = [[value for value, _ in weights] for weights in found]
        for here, there in zip(values, loglikelihoods(base, requests), strict=True):
            assert here == pytest.approx(there, abs=1e-5)


def test_a_text_may_fill_the_model_s_length_and_one_token_more(base):
    import transformers as tf

    from rankscope.models.base import Base
    from rankscope.records import ModelRef

    torch.manual_seed(0)
    model = tf.GPT2LMHeadModel(tf.GPT2Config(n_positions=16, n_embd=16, n_layer=1, n_head=2, vocab_size=481)).eval()
    other = Base(ModelRef("gpt2"), model, base.tokenizer, torch.device("cpu"), torch.float32)
    other.can_share = True
    tokens = tuple(range(5, 22))
    assert len(tokens) == 17  # the last one is read nowhere, so the model never sees it
    ((found,),) = loglikelihoods(other, [Request(tokens[:1], (tokens[1:],))])
    with torch.no_grad():
        logp = model(torch.tensor([tokens[:-1]])).logits[0].log_softmax(-1)
    assert found == pytest.approx(float(sum(logp[i, t] for i, t in enumerate(tokens[1:]))), abs=1e-4)


def test_generation_ends_at_every_token_that_the_models_own_settings_call_an_end(base, monkeypatch):
    prompt = base.encode("Question: sort b a c\nAnswer:")
    (whole,) = generate(base, [prompt], 6)
    (first,) = plain.greedy(base.model, prompt, 1, None)
    monkeypatch.setattr(base.model.generation_config, "eos_token_id", [base.eos, first])
    assert whole and generate(base, [prompt], 6) == [""]


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


def _model(kind: str):
    """A tiny random model of another family behind a Base, with the demo's tokenizer."""
    import transformers as tf

    from rankscope.models.base import Base
    from rankscope.records import ModelRef

    sizes = {
        "vocab_size": 481,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 256,
    }
    mixed = ["sliding_attention", "full_attention"]
    torch.manual_seed(0)
    configs = {
        "mistral": lambda: tf.MistralConfig(**sizes, sliding_window=12),
        "qwen2": lambda: tf.Qwen2Config(**{k: v for k, v in sizes.items() if k != "head_dim"}),
        "qwen3": lambda: tf.Qwen3Config(**sizes),
        "gemma3": lambda: tf.Gemma3TextConfig(**sizes, sliding_window=12, layer_types=mixed),
        "granite": lambda: tf.GraniteConfig(**{k: v for k, v in sizes.items() if k != "head_dim"}, logits_scaling=8.0),
    }  # fmt: skip
    model = tf.AutoModelForCausalLM.from_config(configs[kind]()).eval()
    return lambda tokenizer: Base(ModelRef(kind), model, tokenizer, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "qwen3", "gemma3"])
def test_other_families_are_scored_as_they_score_themselves(base, kind):
    other = _model(kind)(base.tokenizer)
    requests = _requests(20, 481)
    assert max(len(r.prompt) for r in requests) > 12  # longer than the sliding window
    for request, sums in zip(requests, loglikelihoods(other, requests, batch_tokens=128), strict=True):
        expected = [plain.loglikelihood(other.model, request.prompt, c) for c in request.continuations]
        assert sums == pytest.approx(expected, abs=2e-4)


def test_a_model_with_logits_of_its_own_is_refused_and_not_scored_wrong(base, monkeypatch):
    model = _model("granite")(base.tokenizer)
    monkeypatch.setattr(type(model), "logits", lambda self, hidden: self.model.get_output_embeddings()(hidden))
    with pytest.raises(ModelError, match="turns hidden states into logits"):
        loglikelihoods(model, _requests(2, 481))


def test_logits_a_slice_at_a_time_are_the_same_with_their_gradient(base, monkeypatch):
    hidden = torch.randn(50, 128, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.arange(50)
    whole = base.token_nll(hidden, targets)
    (expected,) = torch.autograd.grad(whole.sum(), hidden)
    monkeypatch.setattr("rankscope.models.base._LOGITS", 481 * 7)
    parts = base.token_nll(hidden, targets)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts.sum(), hidden)[0], expected)
