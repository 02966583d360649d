"""Texts behind kept keys and values, and as trees in a row, against each text alone through the model itself."""

from __future__ import annotations

import random

import pytest
import torch
import transformers as hf

from rankscope.errors import DataError
from rankscope.evaluation import engine
from rankscope.evaluation.engine import Request, sharing, weigh
from rankscope.evaluation.prefix import keep, mask
from rankscope.evaluation.tree import Text, pack, plan
from rankscope.models.base import Base
from rankscope.records import ModelRef
from rankscope.testing import tiny_model, tiny_tokenizer
from reference import plain

SIZE = {"vocab_size": 132, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 512}  # fmt: skip
MIXED = {"num_key_value_heads": 2, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]}
MODELS = {
    "llama": tiny_model,
    "gpt2": lambda: made(hf.GPT2Config(vocab_size=132, n_embd=32, n_layer=2, n_head=4, n_positions=512)),
    "gpt_neox": lambda: made(hf.GPTNeoXConfig(**SIZE)),
    "gemma2": lambda: made(hf.Gemma2Config(**SIZE, **MIXED, sliding_window=240)),
    "gemma3": lambda: made(hf.Gemma3TextConfig(**SIZE, **MIXED, sliding_window=240)),
    "falcon, ALiBi": lambda: made(
        hf.FalconConfig(vocab_size=132, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True)
    ),
    "mamba": lambda: made(hf.MambaConfig(vocab_size=132, hidden_size=32, num_hidden_layers=2, state_size=4)),
}
TREES = {"llama", "gpt2", "gpt_neox", "gemma2", "gemma3"}


def made(config):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:  # the usual start is so small that attention would hardly matter
                parameter.mul_(3)
    return model


@pytest.fixture(scope="module", params=MODELS)
def other(request):
    return Base(ModelRef(request.param), MODELS[request.param](), tiny_tokenizer(), torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def llama():
    return Base(ModelRef("llama"), tiny_model(), tiny_tokenizer(), torch.device("cpu"), torch.float32)


def some(rng: random.Random, low: int, high: int) -> tuple[int, ...]:
    return tuple(rng.randrange(3, 132) for _ in range(rng.randint(low, high)))


def requests() -> list[Request]:
    """Behind two headers and none: letters, options, options that begin or equal others, prompts of their own."""
    rng = random.Random(0)
    found = []
    for head in (some(rng, 150, 150), some(rng, 120, 120)):
        for _ in range(10):
            stem, option = head + some(rng, 40, 60), some(rng, 3, 6)
            found.append(Request(stem, ((11,), (12,), (13,), (14,))))
            found.append(Request(stem, (option, option[:2], option, some(rng, 1, 6))))
    own = [some(rng, 1, 30) for _ in range(3)]
    found += [Request(own[0], (some(rng, 4, 4),) * 3, tuple(own)), Request((5,), (some(rng, 9, 9),))]
    return found


def expected(model, request: Request) -> list[float]:
    return [plain.loglikelihood(model, prompt, c) for prompt, c in request.pairs]


def test_scores_behind_kept_headers_are_those_of_each_text_alone(other):
    asked = requests()
    texts = [Text(*pair) for r in asked for pair in r.pairs]
    assert sum(bool(g.header) for g in plan(texts)) == 2
    asked = asked if other.ref.id in TREES else asked[::7]  # one row a text takes its time
    found = weigh(other, asked, batch_tokens=1024)
    assert (bool(other.can_share), bool(other.can_keep)) == (other.ref.id in TREES,) * 2
    for request, weights in zip(asked, found, strict=True):
        assert [value for value, _ in weights] == pytest.approx(expected(other.model, request), abs=5e-5)


def test_one_request_alone_and_requests_in_another_order_are_scored_alike(llama):
    asked = requests()
    whole = weigh(llama, asked)
    assert weigh(llama, asked) == whole  # bit for bit
    for here, there in zip(weigh(llama, asked[::-1])[::-1], whole, strict=True):
        assert [v for v, _ in here] == pytest.approx([v for v, _ in there], abs=5e-5)
    assert [v for v, _ in weigh(llama, asked[3:4])[0]] == pytest.approx([v for v, _ in whole[3]], abs=5e-5)


def test_greedy_answers_are_told_behind_headers(llama):
    rng = random.Random(1)
    head = some(rng, 150, 150)
    asked = []
    for _ in range(10):
        stem = head + some(rng, 40, 60)
        said = tuple(plain.greedy(llama.model, stem, 3, None))
        wrong = (said[0] + 1) % 132
        after = tuple(plain.greedy(llama.model, (*stem, wrong), 2, None))
        asked.append(Request(stem, (said[:1], said, (*said[:2], (said[2] + 1) % 132), (wrong, *after))))
    assert any(g.header for g in plan([Text(*pair) for r in asked for pair in r.pairs]))
    for weights in weigh(llama, asked, greedy=True):
        assert [is_top for _, is_top in weights] == [True, True, False, False]
    assert not any(is_top for weights in weigh(llama, asked) for _, is_top in weights)


@pytest.mark.parametrize("other", ["gemma2", "gemma3"], indirect=True)
def test_texts_longer_than_a_sliding_window_pass_through_the_model_as_it_is(other, monkeypatch):
    rng, alone = random.Random(2), []
    asked = [Request(some(rng, n, n), (some(rng, 3, 3), some(rng, 2, 2))) for n in (235, 280)]
    true = engine.plain_states
    monkeypatch.setattr(engine, "plain_states", lambda base, packs: alone.extend(packs) or true(base, packs))
    for request, weights in zip(asked, weigh(other, asked), strict=True):
        assert [value for value, _ in weights] == pytest.approx(expected(other.model, request), abs=5e-5)
    assert sorted(len(p.tokens) for p in alone)[-2:] == [281, 282]


def test_a_model_that_keeps_nothing_or_shares_nothing_is_scored_all_the_same(llama):
    asked, whole = requests(), weigh(llama, requests())
    for can_share, can_keep in ((True, False), (False, False)):
        other = Base(llama.ref, llama.model, llama.tokenizer, llama.device, llama.dtype)
        other.can_share, other.can_keep = can_share, can_keep
        passed = []
        for here, there in zip(weigh(other, asked, passed=passed.append), whole, strict=True):
            assert [v for v, _ in here] == pytest.approx([v for v, _ in there], abs=5e-5)
        one_by_one = sum(len(Text(*pair).inputs) for r in asked for pair in r.pairs)
        assert sum(passed) < one_by_one / 3 if can_share else sum(passed) == one_by_one


def test_a_mask_or_cache_that_is_not_honoured_is_found_out(llama, monkeypatch):
    true = engine.states
    for what, flags in (("rows", (False, False)), ("header", (True, False))):
        other = Base(llama.ref, llama.model, llama.tokenizer, llama.device, llama.dtype)

        def states(base, packs, kept=None, what=what):
            if what == "rows" or kept is not None:  # as a layer would that sees more than the mask says
                monkeypatch.setattr("rankscope.evaluation.prefix.mask", lambda *args: mask(*args) * 0)
            found = true(base, packs, kept)
            monkeypatch.undo()
            monkeypatch.setattr(engine, "states", states)
            return found

        monkeypatch.setattr(engine, "states", states)
        assert (sharing(other), other.can_keep) == (flags[0], flags[1])
        monkeypatch.undo()


def test_a_kept_header_holds_one_copy_and_nothing_of_what_came_behind_it(llama):
    kept = keep(llama, (5, 6, 7, 8))
    with torch.inference_mode():
        for num in (1, 3):
            llama.hidden(torch.full((num, 5), 9), torch.zeros(num, 1, 5, 9), torch.arange(4, 9).repeat(num, 1), kept)
            assert kept.get_seq_length() == 4 and all(layer.keys.shape[0] == 1 for layer in kept.layers)


def test_the_mask_lets_a_node_see_the_header_its_ancestors_and_itself():
    fork = pack({0: Text((5, 6), (7, 8)), 1: Text((5, 6), (9, 8))})
    found = mask(torch.tensor([fork.ends]), 2, torch.float32)[0, 0] == 0
    assert found.int().tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 1]]


def test_nothing_can_be_weighed_behind_no_token_at_all(llama):
    with pytest.raises(DataError, match="at least one token"):
        weigh(llama, [Request((), ((5,),))])
    assert weigh(llama, [Request((5,), ((), (6,)))], greedy=True)[0][0] == (0.0, True)
