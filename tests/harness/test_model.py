"""The engine as lm-evaluation-harness's model: the same answers as its own ``hf`` model on the same weights."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest

from rankscope.errors import InputError, ModelError

pytest.importorskip("lm_eval", reason="lm_eval isn't installed: pip install 'rankscope[lm-eval]'")

TEXTS = ("Question: sort b a c\nAnswer:", "Where is the harbour? ", "north", "Question: reverse d e f\nAnswer:")
ENDS = (" a b c", " b", "east of the river", " f e d\nand more")


@pytest.fixture(scope="module")
def lm():
    from rankscope.harness.model import RankscopeLM

    return RankscopeLM("demo", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def hf(lm):
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=lm.base.model, tokenizer=lm.tokenizer, batch_size=3)


def instances(kind: str, arguments: list[tuple]) -> list:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, one, i, metadata=("made", i, 1)) for i, one in enumerate(arguments)]


def same_weights(found, expected):
    assert [value for value, _ in found] == pytest.approx([value for value, _ in expected], abs=1e-3)
    assert [is_greedy for _, is_greedy in found] == [is_greedy for _, is_greedy in expected]


def test_likelihoods_are_those_of_the_harness_own_model(lm, hf):
    said = lm.generate_until(instances("generate_until", [(TEXTS[0], {"until": [], "max_gen_toks": 3})]))[0]
    pairs = [(text, end) for text in TEXTS for end in ENDS] + [("", ENDS[0]), (TEXTS[0], said)]
    found = lm.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True)
    same_weights(found, hf.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True))
    assert found[-1][1] and not found[0][1]


def test_a_too_long_context_loses_its_start(lm, hf):
    pairs = [("north " * lm.max_length, end) for end in ENDS]
    same_weights(lm.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True),
                 hf.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True))  # fmt: skip


@pytest.mark.parametrize("words", [1, 40, 3000])
def test_whole_texts_are_scored_in_the_harness_s_windows(lm, hf, words):
    text = " ".join(("north", "river", "stone", "b a c")[i % 4] for i in range(words))
    assert words < 3000 or len(lm.tok_encode(text)) > 2 * lm.max_length
    requests = instances("loglikelihood_rolling", [(text,), ("short",)])
    found = lm.loglikelihood_rolling(requests)
    assert found == pytest.approx(hf.loglikelihood_rolling(requests, disable_tqdm=True), rel=1e-5, abs=1e-3)


def test_generated_texts_are_those_of_the_harness_own_model(lm, hf):
    settings = [{"until": ["\n"], "max_gen_toks": 8, "do_sample": False}, {"until": " ", "max_new_tokens": 4}]
    requests = instances("generate_until", [(text, options) for text in TEXTS for options in settings])
    found = lm.generate_until(requests)
    assert found == hf.generate_until(copy.deepcopy(requests), disable_tqdm=True) and any(found)


def test_what_isn_t_greedy_or_has_no_room_is_refused(lm):
    for options, message in (({"do_sample": True, "temperature": 0.7}, "doesn't sample"),
                             ({"until": [], "num_beams": 4}, "isn't known here"),
                             ({"until": [], "max_gen_toks": 10**6}, "no room for a prompt")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            lm.generate_until(instances("generate_until", [("north", options)]))


def test_an_adapter_is_worn(lm, tmp_path):
    import torch
    from lm_eval.models.huggingface import HFLM
    from peft import LoraConfig, get_peft_model

    from rankscope.harness.model import RankscopeLM

    wrapped = get_peft_model(copy.deepcopy(lm.base.model), LoraConfig(r=2, target_modules="all-linear"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in wrapped.named_parameters():
            if "lora_" in name:
                tensor.copy_(0.05 * torch.randn(tensor.shape, generator=generator))
    wrapped.save_pretrained(tmp_path / "adapter")
    pairs = [(text, end) for text in TEXTS for end in ENDS]
    mine = RankscopeLM("demo", adapter=str(tmp_path / "adapter"), dtype="float32", device="cpu")
    found = mine.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True)
    peft = HFLM(pretrained=wrapped.merge_and_unload(), tokenizer=lm.tokenizer, batch_size=4)
    same_weights(found, peft.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True))
    assert found != lm.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True)
    with pytest.raises(ModelError, match="no adapter_config.json"):
        RankscopeLM("demo", adapter=str(tmp_path), dtype="float32", device="cpu")


def test_chat_templates_are_the_tokenizers_own_and_bring_one_begin_of_text_token(lm, monkeypatch):
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    monkeypatch.setattr(lm.tokenizer, "chat_template", template)
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "north"}]
    text = lm.apply_chat_template(asked)
    assert text.endswith("<user>north\n<assistant>") and "brief" not in text
    assert lm.chat_template(True) == template and lm.tokenizer_name == "demo"
    if lm.base.bos is not None:
        assert lm.tok_encode(text).count(lm.base.bos) == 1


def test_the_harness_s_command_line_runs_with_the_model(write, harness, lm, tmp_path):
    path = write()
    command = [sys.executable, "-m", "rankscope.harness", "run", "--model", "rankscope", "--tasks", str(path),
               "--model_args", "pretrained=demo,dtype=float32", "--output_path", str(tmp_path / "out")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "out").rglob("results_*.json")
    result = json.loads(written.read_text())
    expected = [sample["acc"] for sample in harness(path)]
    assert result["results"]["made"]["acc,none"] == pytest.approx(sum(expected) / len(expected))
    assert result["config"]["model_sha"] == lm.base.ref.key
    command[command.index("pretrained=demo,dtype=float32")] = "pretrained=./nowhere"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "error: no such model folder" in done.stderr
    assert "Traceback" not in done.stderr
