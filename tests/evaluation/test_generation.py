"""Generation behind shared headers against its plain twin: the whole text through the model again for each token."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
import transformers as hf

from rankscope.evaluation import decoding, generation
from rankscope.evaluation.decoding import can_read
from rankscope.evaluation.generation import families, generate
from rankscope.models.base import Base
from rankscope.models.lora import AdapterBank
from rankscope.records import Arm, ModelRef
from rankscope.testing import tiny_model, tiny_tokenizer
from reference import plain

SIZE = {"vocab_size": 132, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2}  # fmt: skip


def loud(model) -> Base:
    """A random model whose logits lie far apart, so that the texts of two ways of computing can be compared."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        if parameter.dim() > 1:
            parameter.normal_(std=0.3, generator=generator)
    return Base(ModelRef("tiny"), model.eval(), tiny_tokenizer(), torch.device("cpu"), torch.float32)


@pytest.fixture
def tiny() -> Base:
    return loud(tiny_model())


def some(rng: random.Random, num: int) -> tuple[int, ...]:
    return tuple(rng.randrange(5, 132) for _ in range(num))


def mixed(seed: int = 0) -> list[tuple[int, ...]]:
    """Two headers, a prompt that is another's beginning, equal prompts, and prompts that share nothing; shuffled."""
    rng = random.Random(seed)
    one, two = some(rng, 40), some(rng, 23)
    prompts = [one + some(rng, rng.randint(1, 12)) for _ in range(7)]
    prompts += [two + some(rng, rng.randint(1, 30)) for _ in range(5)]
    prompts += [some(rng, rng.randint(1, 50)) for _ in range(4)]
    prompts += [prompts[8][:-1], prompts[9], one]
    rng.shuffle(prompts)
    return prompts


def test_texts_are_those_of_the_model_asked_anew_for_each_token(tiny):
    prompts = mixed()
    assert sorted(len(header) for header, _ in families(prompts)) == [0, 23, 39]
    assert can_read(tiny)
    assert generate(tiny, prompts, 9) == [plain.text(tiny, p, 9, ends=tiny.ends) for p in prompts]


def test_the_demo_model_writes_the_same_behind_a_shared_header(base):
    header = "".join(f"Question: sort {a} {b}\nAnswer: {min(a, b)} {max(a, b)}\n\n" for a, b in ("ca", "bd", "ec"))
    prompts = [base.encode(header + f"Question: sort {words}\nAnswer:") for words in ("b a c", "d e", "e a b d")]
    stop = ("\n", " d")
    assert len(families(prompts)) == 1
    assert generate(base, prompts, 12, stop) == [plain.text(base, p, 12, stop, base.ends) for p in prompts]


def test_one_prompt_and_one_token_are_fine(tiny):
    prompt = some(random.Random(3), 30)
    assert generate(tiny, [prompt], 1) == [plain.text(tiny, prompt, 1, ends=tiny.ends)]
    assert generate(tiny, [prompt] * 3, 5) == [plain.text(tiny, prompt, 5, ends=tiny.ends)] * 3
    assert generate(tiny, [prompt], 0) == [""]


def test_rows_that_are_done_leave_and_the_others_write_on(tiny, monkeypatch):
    assert can_read(tiny)
    prompts, sizes, kept = mixed(1), [], decoding.Rows.keep
    whole = [plain.greedy(tiny.model, p, 16, None) for p in prompts]
    common = [token for token, _ in Counter(t for text in whole for t in set(text)).most_common(6)]
    ends = frozenset(common)
    monkeypatch.setattr(decoding.Rows, "keep", lambda self, rows: sizes.append(len(rows)) or kept(self, rows))
    expected = [plain.text(tiny, p, 16, ends=ends) for p in prompts]
    assert len(set(map(len, expected))) > 4
    assert generate(tiny, prompts, 16, ends=ends) == expected
    assert len(sizes) > 1 and sizes == sorted(sizes, reverse=True)


def test_a_stop_text_ends_a_row_and_is_cut_off(tiny):
    prompts = mixed(2)
    whole = [plain.text(tiny, p, 10, ends=tiny.ends) for p in prompts]
    stop = tuple({text[3:5] for text in whole if len(text) > 5})[:4]
    assert stop
    found = generate(tiny, prompts, 10, stop)
    assert found == [plain.text(tiny, p, 10, stop, tiny.ends) for p in prompts] and found != whole


def test_small_batches_and_small_pieces_write_the_same(tiny, monkeypatch):
    prompts = mixed(3)
    expected = generate(tiny, prompts, 6)
    monkeypatch.setattr(decoding, "_SCORES", {"cpu": 300})  # less than one row's scores, so queries are cut too
    assert generate(tiny, prompts, 6, batch_tokens=20) == expected
    monkeypatch.setattr(generation, "_CACHE", {"cpu": 150 * tiny.token_bytes})
    assert len(list(generation._batches(tiny, prompts, list(range(len(prompts))), 6))) > 4
    assert generate(tiny, prompts, 6, batch_tokens=20) == expected


def test_an_adapter_in_use_writes_its_own_texts(tiny):
    prompts, bank = mixed(4), AdapterBank(tiny)
    without = generate(tiny, prompts, 6)
    bank.add("mine", Arm("r4", "lora", (1e-3,), rank=4, alpha=8.0), 0)
    with torch.no_grad():
        for name, parameter in bank.parameters("mine").items():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
    with bank.use("mine"):
        found, expected = generate(tiny, prompts, 6), [plain.text(tiny, p, 6, ends=tiny.ends) for p in prompts]
    assert found == expected and found != without
    bank.remove("mine")
    assert generate(tiny, prompts, 6) == without


def test_the_header_passes_through_the_model_once(tiny):
    rng = random.Random(5)
    header = some(rng, 50)
    prompts, passed, ticks = [header + some(rng, 3 + i) for i in range(4)], [], []
    texts = generate(tiny, prompts, 5, tick=ticks.append, passed=passed.append, ends=())
    assert all(texts) and sum(ticks) == 4
    assert sum(passed) == 50 + sum(3 + i for i in range(4)) + 4 * 4  # the last of five tokens is read by nobody


def test_the_models_own_attention_is_put_back_also_after_an_error(tiny, monkeypatch):
    before = tiny.model.config._attn_implementation
    assert generate(tiny, [(5, 6)], 2) and tiny.model.config._attn_implementation == before
    with pytest.raises(RuntimeError, match="lost"), decoding.reading(tiny):
        raise RuntimeError("lost")
    assert tiny.model.config._attn_implementation == before


OTHERS = {
    "softcaps": lambda: hf.Gemma2Config(**SIZE, num_key_value_heads=2, head_dim=8, sliding_window=16),
    "ALiBi": lambda: hf.BloomConfig(vocab_size=132, hidden_size=32, n_layer=2, n_head=4),
    "a state": lambda: hf.MambaConfig(vocab_size=132, hidden_size=32, num_hidden_layers=2),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_a_model_that_attends_in_another_way_writes_in_its_own(kind):
    other = loud(hf.AutoModelForCausalLM.from_config(OTHERS[kind]()))
    assert not can_read(other)
    prompts = [tuple(range(5, 30)) + (40 + i,) * (1 + i) for i in range(3)]
    assert generate(other, prompts, 4) == [plain.text(other, p, 4, ends=other.ends) for p in prompts]


def test_texts_longer_than_a_sliding_window_are_written_the_plain_way():
    config = hf.MistralConfig(**SIZE, num_key_value_heads=2, sliding_window=30)
    other, passed = loud(hf.AutoModelForCausalLM.from_config(config)), []
    prompts = [tuple(range(5, 25)) + (40 + i,) for i in range(5)] + [tuple(range(5, 60)), tuple(range(6, 50))]
    assert can_read(other)
    assert generate(other, prompts, 4, passed=passed.append) == [plain.text(other, p, 4, ends=other.ends)
                                                                 for p in prompts]  # fmt: skip
    assert passed[0] == 20  # what is short enough still shares its header


def test_a_long_prompt_whose_angles_are_others_changes_nothing_for_short_ones():
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 40,
            "short_factor": [1.0] * 4, "long_factor": [4.0, 8.0, 16.0, 32.0]}  # fmt: skip
    config = hf.Phi3Config(**SIZE, num_key_value_heads=2, rope_parameters=rope,
                           original_max_position_embeddings=40)  # fmt: skip
    other = loud(hf.AutoModelForCausalLM.from_config(config))
    prompts = [tuple(range(5 + i, 5 + i + num)) for i, num in enumerate((8, 20, 30, 60))]
    assert can_read(other)
    assert generate(other, prompts, 6) == [plain.text(other, p, 6, ends=other.ends) for p in prompts]


def test_a_header_is_shared_where_that_saves_most():
    long, short = tuple(range(100)), tuple(range(50))
    prompts = [(*long, 200 + i) for i in range(3)] + [(*short, 300 + i) for i in range(3)] + [(999,), (1000, 1)]
    assert families(prompts) == [(short, [0, 1, 2, 3, 4, 5]), ((), [6, 7])]
    assert families(prompts[:3] + prompts[3:4]) == [(long, [0, 1, 2]), ((), [3])]
    assert families([long, long]) == [(long[:-1], [0, 1])]
    assert families([(1, 2, 3), (1, 2, 4)]) == [((), [0, 1])]  # too little to be worth it
    assert families([]) == []
