"""Which tokens an assistant has to write, by hand for templates shaped like the well-known ones.

An expected text is the whole conversation as the template writes it, with the assistant's tokens between « and ».
"""

from __future__ import annotations

import os

import pytest

from rankscope.errors import ModelError
from rankscope.models import chat
from rankscope.testing import tiny_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
LLAMA2 = (
    "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0].content %}"
    "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{% for m in rest %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token }}[INST] "
    "{% if loop.first and system %}<<SYS>>\n{{ system }}\n<</SYS>>\n\n{% endif %}{{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}\n{% if m.role == 'user' %}\n{{ '<|user|>\n' + m.content + eos_token }}\n"
    "{% elif m.role == 'system' %}\n{{ '<|system|>\n' + m.content + eos_token }}\n"
    "{% else %}\n{{ '<|assistant|>\n' + m.content + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DATED = "Today: {{ strftime_now('%d %b %Y') }}\n" + CHATML
# Like Qwen3's: a thinking block stands in the last answer only, so an answer is written anew once more turns follow.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Like Phi-3's and gpt-oss's: the last answer is closed by another token.
ENDING = CHATML.replace(
    "<|im_end|>\n{% endfor %}",
    "{% if m.role == 'assistant' and loop.last %}{{ eos_token }}{% else %}<|im_end|>\n{% endif %}{% endfor %}",
)
# Earlier answers are cut, or closed by nothing that could be told from the next header.
FORGETTING = THINKING.replace(
    "{{ m.content }}", "{% if loop.last or m.role == 'user' %}{{ m.content }}{% else %}...{% endif %}"
)
UNCLOSED = ENDING.replace("<|im_end|>\n{% endif %}", "{% if m.role == 'user' %}<|im_end|>{% endif %}\n{% endif %}")
# Like Mistral's later ones: the system text moves to the last user turn.
MOVING = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{% if m == (messages | selectattr('role', 'equalto', 'user') | list)[-1] and messages[0].role == 'system' %}"
    "{{ messages[0].content }}\n{% endif %}{{ m.content }}[/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>",
           "<end_of_turn>"]  # fmt: skip
SYSTEM = ("system", "Be brief.")
TWO = (("user", "Hi"), ("assistant", "Hello"), ("user", "2+2?"), ("assistant", "It is\n4."))
EXPECTED = {
    "chatml": (
        CHATML,
        (SYSTEM, *TWO),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n«Hello<|im_end|>»\n<|im_start|>user\n2+2?<|im_end|>\n"
        "<|im_start|>assistant\n«It is\n4.<|im_end|>»\n",
    ),
    "llama 3": (
        LLAMA3,
        (SYSTEM, *TWO),
        "<bos><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«Hello<|eot_id|>»"
        "<|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n«It is\n4.<|eot_id|>»",
    ),
    "llama 2": (
        LLAMA2,
        (SYSTEM, *TWO),
        "<bos>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]« Hello <eos>»"
        "<bos>[INST] 2+2? [/INST]« It is\n4. <eos>»",
    ),
    "gemma": (
        GEMMA,
        TWO,
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n«Hello<end_of_turn>»\n"
        "<start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n«It is\n4.<end_of_turn>»\n",
    ),
    "mistral": (MISTRAL, TWO, "<bos>[INST] Hi[/INST]« Hello<eos>»[INST] 2+2?[/INST]« It is\n4.<eos>»"),
    "zephyr": (
        ZEPHYR,
        (SYSTEM, *TWO),
        "<|system|>\nBe brief.<eos>\n<|user|>\nHi<eos>\n<|assistant|>\n«Hello<eos>»\n"
        "<|user|>\n2+2?<eos>\n<|assistant|>\n«It is\n4.<eos>»\n",
    ),
    "generation marks": (
        MARKED,
        TWO,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello<|im_end|>»\n"
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«It is\n4.<|im_end|>»\n",
    ),
    "a date": (
        DATED,
        TWO[:2],
        "Today: 26 Jul 2024\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello<|im_end|>»\n",
    ),
    "thinking, one answer": (
        THINKING,
        TWO[:2],
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«<think>\n\n</think>\n\nHello<|im_end|>»\n",
    ),
    "thinking, two answers": (
        THINKING,
        TWO,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello<|im_end|>»\n<|im_start|>user\n2+2?<|im_end|>\n"
        "<|im_start|>assistant\n«<think>\n\n</think>\n\nIt is\n4.<|im_end|>»\n",
    ),
    "another end for the last answer": (
        ENDING,
        TWO,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello<|im_end|>»\n<|im_start|>user\n2+2?<|im_end|>\n"
        "<|im_start|>assistant\n«It is\n4.<eos>»",
    ),
    "two user turns in a row and a trailing space": (
        CHATML,
        (("user", "a"), ("user", "b"), ("assistant", "c ")),
        "<|im_start|>user\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n«c <|im_end|>»\n",
    ),
}


@pytest.fixture
def tokenizer():
    made = tiny_tokenizer()
    made.add_special_tokens({"extra_special_tokens": SPECIAL})
    return made


def marked(tokenizer, turns) -> str:
    """The conversation as decoded from its tokens, with the assistant's between « and »."""
    ids, mask = chat.encode(tokenizer, turns)
    text, inside = "", False
    for token, is_label in zip(ids, mask, strict=True):
        text += ("«" if is_label else "»") * (is_label != inside) + tokenizer.decode([token])
        inside = is_label
    return text + "»" * inside


@pytest.mark.parametrize("name", EXPECTED)
def test_an_answer_is_its_text_and_the_token_that_closes_it_and_not_its_header(name, tokenizer):
    tokenizer.chat_template, turns, expected = EXPECTED[name]
    assert marked(tokenizer, turns) == expected


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "generation marks"])
def test_tokens_are_those_of_the_template_itself(name, tokenizer):
    tokenizer.chat_template, turns, _ = EXPECTED[name]
    tokenizer.chat_template = tokenizer.chat_template.replace("strftime_now('%d %b %Y')", "'26 Jul 2024'")
    messages = [{"role": role, "content": content} for role, content in turns]
    assert chat.encode(tokenizer, turns)[0] == tuple(tokenizer.apply_chat_template(messages)["input_ids"])


def test_marks_and_the_prefix_rule_agree_where_both_apply(tokenizer):
    found = []
    for template in (CHATML, MARKED):
        tokenizer.chat_template = template
        found.append((chat.encode(tokenizer, TWO), chat.encode_answer(tokenizer, TWO), chat.ends(tokenizer)))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("template", "turns", "message"),
    [
        (FORGETTING, TWO, "doesn't show which tokens are the assistant's: it writes an earlier turn in another way"),
        (UNCLOSED, TWO, "doesn't show which .*: it writes an earlier turn in another way, and nothing closes it"),
        (MOVING, (SYSTEM, *TWO), "doesn't show .* it writes an earlier turn in another way"),
        (CHATML.replace("assistant\n", "bot\n"), TWO, "the text before an answer isn't how the text with the answer"),
        (GEMMA, (SYSTEM, *TWO), r"refuses this conversation: System role not supported \(got 'system, user, assistant"),
        (LLAMA2, (*TWO, ("assistant", "x")), "refuses this conversation: roles must alternate"),
        (CHATML, (("assistant", "Hello"), *TWO), "can't begin with an answer"),
        ("{% for m in messages %}{{ m.nothing.more }}{% endfor %}", TWO, "refuses this conversation: .*'nothing'"),
        ("{% for m in messages %}", TWO, "refuses this conversation"),
        (MARKED.replace("'assistant'", "'bot'"), TWO, "marks hold no token of this conversation"),
        (None, TWO, "has no chat template.*prompt and completion without chat: true"),
        ({"tool_use": CHATML}, TWO, "has no chat template"),
    ],
)
def test_a_template_that_cant_be_masked_rightly_is_refused_and_its_problem_named(template, turns, message, tokenizer):
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match=message):
        chat.encode(tokenizer, turns)


def test_an_answer_is_asked_for_with_the_generation_prompt_and_weighed_without_the_closing_token(tokenizer):
    for template, prompt, answer in (
        (CHATML, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "Hello"),
        (LLAMA2, "<bos>[INST] Hi [/INST]", " Hello "),
        (ZEPHYR, "<|user|>\nHi<eos>\n<|assistant|>\n", "Hello"),
        (THINKING, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<think>\n\n</think>\n\nHello"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
         "{% if add_generation_prompt %}assistant: {% endif %}", "user: Hi\nassistant: ", "Hello\n"),
    ):  # fmt: skip
        tokenizer.chat_template = template
        found = chat.encode_answer(tokenizer, TWO[:2])
        assert tuple(map(tokenizer.decode, found)) == (prompt, answer)


def test_the_tokens_that_end_an_answer_are_those_of_the_template(tokenizer):
    for template, end in ((CHATML, "<|im_end|>"), (GEMMA, "<end_of_turn>"), (LLAMA3, "<|eot_id|>"), (LLAMA2, "<eos>")):
        tokenizer.chat_template = template
        assert chat.ends(tokenizer) == {tokenizer.convert_tokens_to_ids(end)}
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    assert chat.ends(tokenizer) == frozenset()


def test_a_slow_tokenizer_is_refused(tokenizer, monkeypatch):
    tokenizer.chat_template = CHATML

    def slow(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr(type(tokenizer), "__call__", slow)
    with pytest.raises(ModelError, match="can't say which characters"):
        chat.encode(tokenizer, TWO)


@pytest.fixture
def byte_level():
    """A byte-level BPE tokenizer as GPT-2's, whose merges cross the border between a header and an answer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "a"), ("o", "n"), ("Ċ", "Ċ"), ("Ã", "©")]
    vocabulary = {token: i for i, token in enumerate([*letters, *("".join(pair) for pair in merges)])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>")


def test_a_byte_level_tokenizer_masks_every_byte_of_a_letter(byte_level):
    byte_level.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    turns = (("user", "naïve 日本?"), ("assistant", "déjà 語."))
    ids, mask = chat.encode(byte_level, turns)
    labels = [token for token, is_label in zip(ids, mask, strict=True) if is_label]
    assert byte_level.decode(labels) == "déjà 語.<eos>"
    assert sum(mask) == len("déjà 語.".encode()) - 1 + 1  # é is one token of two bytes; one closing token
    assert byte_level.decode(ids) == "user: naïve 日本?<eos>assistant: déjà 語.<eos>"


def test_a_token_that_joins_a_header_and_an_answer_is_the_answers_in_training_and_apart_when_asked(byte_level):
    byte_level.chat_template = (
        "{% for m in messages %}{{ m.role + ':\n' + m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:\n' }}{% endif %}"
    )
    turns = (("user", "on"), ("assistant", "\n\non"))
    ids, mask = chat.encode(byte_level, turns)
    labels = [byte_level.decode([token]) for token, is_label in zip(ids, mask, strict=True) if is_label]
    assert labels == ["\n\n", "\n", "on", "<eos>"]  # the first has the header's line break in it
    prompt, answer = chat.encode_answer(byte_level, turns)
    assert byte_level.decode(prompt).endswith("assistant:\n") and byte_level.decode(answer) == "\n\non"


@pytest.mark.real
def test_smollm2s_own_template_is_masked_as_by_hand():
    folder = os.environ.get("RANKSCOPE_SMOLLM2")
    if not folder:
        pytest.skip("RANKSCOPE_SMOLLM2 names no folder with SmolLM2-135M-Instruct")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert marked(tokenizer, TWO) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n«Hello<|im_end|>»\n"
        "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n«It is\n4.<|im_end|>»\n"
    )
    assert chat.ends(tokenizer) == {tokenizer.convert_tokens_to_ids("<|im_end|>")}
