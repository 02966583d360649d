"""Every family of models with a tiny random config: where adapters go, what they do, and what PEFT reads back."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers as hf
from peft import LoraConfig, PeftModel, get_peft_model

from rankscope.data.batching import join
from rankscope.evaluation.engine import Request, loglikelihoods, sharing
from rankscope.evaluation.generation import generate
from rankscope.models.adapter import export_adapter, write_adapter
from rankscope.models.base import Base
from rankscope.models.lora import AdapterBank, find_targets
from rankscope.records import Arm, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.testing import tiny_tokenizer
from rankscope.training.cohort import TrainSet, recruit
from rankscope.training.loop import Loop
from reference import plain

TOKENS = {"vocab_size": 132, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
}
HEADS = {"num_key_value_heads": 2}
EXPERTS = {"num_experts_per_tok": 2}
FAMILIES = {
    "llama": lambda: hf.LlamaConfig(**TOKENS, **SIZE, **HEADS),
    "llama, tied, with biases": lambda: hf.LlamaConfig(
        **TOKENS, **SIZE, **HEADS, tie_word_embeddings=True, attention_bias=True, mlp_bias=True
    ),
    "qwen2": lambda: hf.Qwen2Config(**TOKENS, **SIZE, **HEADS),
    "qwen3": lambda: hf.Qwen3Config(**TOKENS, **SIZE, **HEADS, head_dim=8),
    "mistral": lambda: hf.MistralConfig(**TOKENS, **SIZE, **HEADS),
    "gemma": lambda: hf.GemmaConfig(**TOKENS, **SIZE, num_key_value_heads=1, head_dim=8),
    "gemma2": lambda: hf.Gemma2Config(**TOKENS, **SIZE, **HEADS, head_dim=8, sliding_window=16),
    "gemma3": lambda: hf.Gemma3TextConfig(**TOKENS, **SIZE, **HEADS, head_dim=8, sliding_window=16),
    "phi": lambda: hf.PhiConfig(**TOKENS, **SIZE),
    "phi3": lambda: hf.Phi3Config(**TOKENS, **SIZE, **HEADS),
    "gpt2": lambda: hf.GPT2Config(**TOKENS, n_embd=32, n_layer=2, n_head=4, n_positions=256),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**TOKENS, **SIZE),
    "opt": lambda: hf.OPTConfig(
        **TOKENS, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64, word_embed_proj_dim=16
    ),
    "falcon": lambda: hf.FalconConfig(**TOKENS, hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
    "falcon, ALiBi": lambda: hf.FalconConfig(
        **TOKENS, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True, bias=True
    ),
    "bloom": lambda: hf.BloomConfig(**TOKENS, hidden_size=32, n_layer=2, n_head=4),
    "granite": lambda: hf.GraniteConfig(**TOKENS, **SIZE, logits_scaling=4.0),
    "cohere": lambda: hf.CohereConfig(**TOKENS, **SIZE),
    "mixtral": lambda: hf.MixtralConfig(**TOKENS, **SIZE, **HEADS, **EXPERTS, num_local_experts=4),
    "qwen2_moe": lambda: hf.Qwen2MoeConfig(
        **TOKENS,
        **SIZE,
        **HEADS,
        **EXPERTS,
        num_experts=4,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
    ),
    "qwen3_moe": lambda: hf.Qwen3MoeConfig(
        **TOKENS, **SIZE, **HEADS, **EXPERTS, head_dim=8, num_experts=4, moe_intermediate_size=32
    ),
}
LINEAR = {
    "llama": "down_proj gate_proj k_proj o_proj q_proj up_proj v_proj",
    "phi": "dense fc1 fc2 k_proj q_proj v_proj",
    "phi3": "down_proj gate_up_proj o_proj qkv_proj",
    "gpt2": "c_attn c_fc c_proj",
    "gpt_neox": "dense dense_4h_to_h dense_h_to_4h query_key_value",
    "opt": "fc1 fc2 k_proj out_proj project_in project_out q_proj v_proj",
    "falcon": "dense dense_4h_to_h dense_h_to_4h query_key_value",
    "mixtral": "k_proj o_proj q_proj v_proj",
    "qwen3_moe": "k_proj o_proj q_proj v_proj",
}
ARM = Arm("r3", "lora", (1e-2,), rank=3, alpha=16.0)


@pytest.fixture(scope="module", params=FAMILIES)
def base(request):
    return tiny(request.param)


def tiny(name: str) -> Base:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.AutoModelForCausalLM.from_config(FAMILIES[name]()).eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
            if parameter.dim() > 1:  # the usual start is so small that no logit would tell models apart
                parameter.mul_(4)
            elif parameter.abs().max() == 0:  # a bias of zeros would hide one that is left out
                parameter.normal_(std=0.1)
    return Base(ModelRef(name), model, tiny_tokenizer(), torch.device("cpu"), torch.float32)


def ids():
    return torch.arange(3, 33).reshape(2, 15)


def logits(base: Base) -> torch.Tensor:
    with torch.inference_mode():
        return base.logits(base.hidden(ids()))


def trained(base: Base, bank: AdapterBank, steps: int = 2):
    """An adapter after a few real steps on made-up rows."""
    rows = [join(tuple(range(3 + i, 12 + i)), tuple(range(40 + i, 46 + i)), 2, 64) for i in range(8)]
    spec = RunSpec(base.ref, ARM, 1e-2, TaskRef("made"), Recipe(max_steps=steps, batch_tokens=128, warmup=0.0), 0)
    trainee = recruit(base, bank, "mine", spec, TrainSet(tuple(rows[:7]), tuple(rows[7:])))
    Loop(base, bank).train([trainee])
    assert trainee.failed is None
    return trainee


@pytest.mark.parametrize(("family", "leaves"), LINEAR.items())
def test_all_linear_finds_every_linear_layer_but_the_head(family, leaves):
    found = find_targets(tiny(family).model, ("all-linear",))
    assert sorted({name.rsplit(".", 1)[-1] for name in found}) == leaves.split()


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False", "ignore:The following (rank|alpha)_pattern keys")
def test_all_linear_is_what_peft_adapts(base):
    twin = get_peft_model(copy.deepcopy(base.model), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    theirs = {n.removeprefix("base_model.model.").removesuffix(".lora_A.default") for n, _ in twin.named_modules()
              if n.endswith(".lora_A.default")}  # fmt: skip
    if hasattr(base.model.config, "num_experts_per_tok"):  # PEFT goes on to the router and the fused experts
        theirs = {name for name in theirs if ".mlp" not in name or "shared_expert" in name}
    assert set(find_targets(base.model, ("all-linear",))) == theirs


def test_hidden_states_and_head_give_the_models_own_logits(base):
    with torch.inference_mode():
        expected = base.model(ids()).logits
    torch.testing.assert_close(logits(base), expected, atol=1e-5, rtol=1e-5)


def test_scores_are_those_of_the_plain_model(base):
    requests = [Request(tuple(range(3, 9 + i)), ((40, 41, 42), (50,), (41, 60, 61, 62))) for i in range(3)]
    for request, found in zip(requests, loglikelihoods(base, requests), strict=True):
        expected = [plain.loglikelihood(base.model, request.prompt, c) for c in request.continuations]
        assert found == pytest.approx(expected, abs=1e-4)


def test_generation_is_that_of_the_library(base):
    prompts = [tuple(range(3, 11)), tuple(range(5, 20))]
    with torch.inference_mode():
        theirs = [
            base.model.generate(torch.tensor([p]), max_new_tokens=6, do_sample=False, eos_token_id=2)[0, len(p) :]
            for p in prompts
        ]
    assert generate(base, prompts, 6) == [base.decode([t for t in row.tolist() if t != 2]) for row in theirs]


def test_an_untrained_adapter_is_exactly_nothing_and_a_step_moves_the_logits(base):
    before, bank = logits(base), AdapterBank(base)
    bank.add("mine", ARM, 0)
    with bank.use("mine"):
        assert torch.equal(logits(base), before)
    bank.remove("mine")
    trained(base, bank, 1)
    with bank.use("mine"):
        assert not torch.allclose(logits(base), before, atol=1e-4)
    bank.remove("mine")
    assert torch.equal(logits(base), before)


def test_peft_loads_what_is_written_and_merges_to_the_same_logits(base, tmp_path):
    bank = AdapterBank(base)
    trainee = trained(base, bank)
    with bank.use("mine"):
        ours = logits(base)
    write_adapter(tmp_path / "blob", trainee.tensors(), ARM, base.model, "some/model")
    bank.remove("mine")
    export_adapter(tmp_path / "blob", tmp_path / "out")
    twin = PeftModel.from_pretrained(copy.deepcopy(base.model), tmp_path / "out")
    with torch.inference_mode():
        torch.testing.assert_close(twin(ids()).logits, ours, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(twin.merge_and_unload()(ids()).logits, ours, atol=1e-4, rtol=1e-4)


def test_our_own_merge_gives_the_same_logits(base):
    mine = Base(base.ref, copy.deepcopy(base.model), base.tokenizer, base.device, base.dtype)
    bank = AdapterBank(mine)
    trained(mine, bank)
    with bank.use("mine"):
        ours = logits(mine)
    bank.merge("mine")
    assert not bank.layers and not torch.allclose(ours, logits(base), atol=1e-4)
    torch.testing.assert_close(logits(mine), ours, atol=1e-4, rtol=1e-4)


def test_rows_side_by_side_each_go_through_their_own_adapter_in_every_layer(base):
    bank, drawn = AdapterBank(base), torch.Generator().manual_seed(0)
    for name in ("one", "two"):
        bank.add(name, ARM, 0)
        for parameter in bank.parameters(name).values():
            parameter.data.normal_(std=0.1, generator=drawn)
    expected = []
    for name in ("one", "two"):
        with bank.use(name):
            expected.append(logits(base))
    with bank.route((("one", 0, 1), ("two", 1, 2))):
        found = logits(base)
    torch.testing.assert_close(found, torch.stack([expected[0][0], expected[1][1]]), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(expected[0], expected[1], atol=1e-2)


def test_alibi_and_full_attention_tell_whether_choices_can_share_a_prompt():
    assert sharing(tiny("llama")) and sharing(tiny("gpt2")) and not sharing(tiny("falcon, ALiBi"))
