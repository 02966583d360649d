"""The frozen base model behind one small interface. In: a ModelRef. Out: a ``Base`` with hidden states, head and tokens.

The language-model head is apart from the decoder, so that logits are computed only at positions that someone reads.
Knows nothing about tasks, training or adapters.

Legend: B batch, T tokens, D hidden size, V vocabulary, P positions read.
"""

from __future__ import annotations

import copy
import inspect
import logging
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from rankscope.errors import ModelError
from rankscope.models.locate import place, resolve
from rankscope.records import ModelRef

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Base:
    """A loaded causal language model with its tokenizer. ``model`` has frozen parameters and is in eval mode."""

    ref: ModelRef
    model: nn.Module
    tokenizer: object
    device: torch.device
    dtype: torch.dtype
    _encoded: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @property
    def num_params(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @property
    def max_length(self) -> int:
        return int(getattr(self.model.config, "max_position_embeddings", 2048))

    @property
    def eos(self) -> int | None:
        return self.tokenizer.eos_token_id

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text from the start, with whatever special tokens this tokenizer puts first."""
        return tuple(self.tokenizer(text)["input_ids"])

    def encode_pair(self, prompt: str, continuation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of a prompt and of what follows it, cut where the prompt's own tokens end (as lm-evaluation-harness does).

        If joining changes the prompt's last tokens, the two are encoded apart.
        """
        context = self._encoded.get(prompt)
        if context is None:
            if len(self._encoded) > 50_000:
                self._encoded.clear()
            context = self._encoded[prompt] = self._start(prompt)
        whole = self.encode(prompt + continuation)
        if whole[: len(context)] == context and len(whole) > len(context):
            return context, whole[len(context) :]
        return context, tuple(self.tokenizer(continuation, add_special_tokens=False)["input_ids"])

    def _start(self, prompt: str) -> tuple[int, ...]:
        ids = self.encode(prompt)
        if ids:
            return ids
        # An empty prompt still needs one token to predict from.
        first = self.tokenizer.bos_token_id if self.tokenizer.bos_token_id is not None else self.tokenizer.eos_token_id
        return (first,) if first is not None else ()

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def hidden(self, ids: Int[Tensor, "B T"], mask: Tensor | None = None, positions: Int[Tensor, "B T"] | None = None,
               cache: object = None):  # fmt: skip
        """Last hidden states (B, T, D), after the final norm; with ``cache`` also fills it. ``mask`` is (B, T) or (B, 1, T, T)."""
        decoder = self.model.base_model
        more = {} if cache is None else {_cache_word(decoder): cache}
        out = decoder(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=cache is not None, **more)
        return out.last_hidden_state

    def logits(self, hidden: Float[Tensor, "P D"]) -> Float[Tensor, "P V"]:
        """Float32 logits of the hidden states that someone wants to read."""
        logits = self.model.get_output_embeddings()(hidden).float()
        cap = getattr(self.model.config, "final_logit_softcapping", None)
        return logits if not cap else cap * torch.tanh(logits / cap)

    def trainable_copy(self) -> Base:
        """A copy of its own with all weights trainable, for full fine-tuning; the base stays untouched."""
        model = copy.deepcopy(self.model)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return Base(self.ref, model, self.tokenizer, self.device, self.dtype)


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` is the first CUDA device, or the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 on GPUs that have it and float32 elsewhere. Raises ModelError on an unknown name."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    if name not in DTYPES:
        raise ModelError("no such dtype", got=name, hint=f"Known: auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def load(ref: ModelRef, device: str = "auto") -> Base:
    """Read a model's weights and tokenizer. Raises ModelError with the reason if that can't be done."""
    ref = ref if ref.key else resolve(ref)
    at, where = place(ref), pick_device(device)
    dtype = pick_dtype(ref.dtype, where)
    _quiet()
    options = {"revision": at.revision, "gguf_file": at.gguf} if at.gguf else {"revision": at.revision}
    try:
        if not at.gguf:
            AutoConfig.from_pretrained(at.source, revision=at.revision)
        tokenizer = AutoTokenizer.from_pretrained(at.source, **options)
        model = AutoModelForCausalLM.from_pretrained(at.source, dtype=dtype, attn_implementation="sdpa", **options)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"this model can't be loaded: {str(error).strip().splitlines()[0]}", got=ref.id) from error
    model = model.to(where, dtype).eval()
    if getattr(model.config, "quantization_config", None) is not None:
        # GGUF weights are dequantised on loading; the leftover note would forbid training and saving.
        del model.config.quantization_config
        model.hf_quantizer, model.is_quantized = None, False
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return Base(ref, model, tokenizer, where, dtype)


def _cache_word(decoder: nn.Module) -> str:
    """transformers renamed the argument ``past_key_values`` to ``cache`` within version 5."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"


@lru_cache(maxsize=1)
def _quiet() -> None:
    """Libraries' loading bars and advice would drown our own few lines."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
