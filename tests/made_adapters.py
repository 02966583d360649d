"""Adapters and models in folders, small and made up, as PEFT and transformers save them; and ways to spoil them."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
import transformers as hf
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

from rankscope.testing import tiny_model, tiny_tokenizer

HEAD = Path(__file__).parents[2]
REAL = [folder / "adapters" for folder in (Path(os.environ.get("RANKSCOPE_DATA", HEAD)), HEAD / "shared" / "data")
        if (folder / "adapters").is_dir()]  # fmt: skip
"""Where adapters that others trained lie; the last one counts."""
WEIGHTS = "adapter_model.safetensors"


def gpt2(**sizes) -> nn.Module:
    """A random GPT-2, whose linear layers (Conv1D) keep their weights the other way round."""
    sizes = {"vocab_size": 132, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64} | sizes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return hf.GPT2LMHeadModel(hf.GPT2Config(bos_token_id=1, eos_token_id=2, **sizes)).eval()


def save_model(folder: Path, model: nn.Module | None = None) -> Path:
    """A model's folder, by default the tiny Llama's."""
    (tiny_model() if model is None else model).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_adapter(folder: Path, model: nn.Module | None = None, dtype: torch.dtype = torch.float32, **settings) -> Path:
    """A PEFT adapter with random weights in everything that it trains, saved as PEFT does it."""
    config = LoraConfig(**{"r": 6, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
                        | settings)  # fmt: skip
    twin = get_peft_model(copy.deepcopy(tiny_model() if model is None else model), config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for name, parameter in twin.named_parameters():
            if parameter.requires_grad:
                # Directions of unequal weight, so that a share of the energy asks for different ranks.
                shape = torch.arange(1, len(parameter) + 1)[:, None] ** -1.0 if "lora_A" in name else torch.tensor(0.3)
                parameter.add_(torch.randn_like(parameter) * shape)
    twin.save_pretrained(folder)
    return change_tensors(folder, lambda tensors: {k: v.to(dtype) for k, v in tensors.items()})


def change_tensors(folder: Path, change: Callable[[dict], dict | None]) -> Path:
    """Spoil or replace an adapter's tensors: ``change`` gets them and may return others."""
    tensors = load_file(folder / WEIGHTS)
    save_file(change(tensors) or tensors, folder / WEIGHTS, {"format": "pt"})
    return folder


def change_config(folder: Path, **config) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


def zeroed(folder: Path, part: str = "lora_B") -> Path:
    """An adapter whose update is zero in all modules whose tensors' names hold ``part``."""
    return change_tensors(folder, lambda tensors: {k: v * (part not in k) for k, v in tensors.items()})


def without(folder: Path, part: str) -> Path:
    """An adapter that lacks the tensors whose names hold ``part``."""
    return change_tensors(folder, lambda tensors: {k: v for k, v in tensors.items() if part not in k})


def cut_short(folder: Path) -> Path:
    """The file of weights without its last hundred bytes."""
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    return folder


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no lora_B": (lambda f: without(f, "0.mlp.up_proj.lora_B"),
                  r"1 modules of this adapter have only one of their two factors .*no .*up_proj.lora_B"),
    "no lora_A": (lambda f: without(f, "0.mlp.up_proj.lora_A"),
                  r"1 modules of this adapter have only one of their two factors .*no .*up_proj.lora_A"),
    "NaN weights": (lambda f: change_tensors(f, lambda t: {k: v.log() for k, v in t.items()}),
                    "tensors of this adapter hold NaN or infinity"),
    "a file cut short": (cut_short, "these weights can't be read.*Copy it again"),
    "an unknown PEFT type": (lambda f: change_config(f, peft_type="IA3"), r"only LoRA adapters are read \(got 'IA3'\)"),
    "DoRA": (lambda f: change_config(f, use_dora=True), "needs what can't be applied here .*'use_dora': True"),
    "PiSSA": (lambda f: change_config(f, init_lora_weights="pissa"), "whose own weights were changed too"),
    "no config": (lambda f: (f / "adapter_config.json").unlink(), "neither an adapter|no adapter_config.json here"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "no such file of weights"),
}  # fmt: skip
"""How an adapter of the tiny model can be wrong, and what is said of it."""
