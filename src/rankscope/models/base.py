"""The frozen base model behind one small interface. In: a ModelRef. Out: a Base with hidden states, head and tokens.

The language-model head is apart from the decoder, so that logits are computed only at positions that someone reads.
Knows nothing about tasks, training or adapters.

Legend: B batch, T tokens, S tokens seen (cached ones and T), D hidden size, V vocabulary, P positions read.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from rankscope.errors import ModelError
from rankscope.models import chat
from rankscope.models.locate import place, resolve
from rankscope.models.loss import frozen_head_nll
from rankscope.records import ModelRef
from rankscope.stats.cost import LOGITS as _LOGITS

OUT_OF_MEMORY = "out of memory"  # how the message of everything that failed for this reason starts
_NO_MEMORY = ("not enough memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Base:
    """A loaded causal language model with its tokenizer. ``model`` has frozen parameters and is in eval mode.

    ``autocast`` is the type that products are computed in, where it isn't the weights' own ``dtype``.
    """

    ref: ModelRef
    model: nn.Module
    tokenizer: object
    device: torch.device
    dtype: torch.dtype
    autocast: torch.dtype | None = None
    can_share: bool | None = field(default=None, init=False, repr=False)
    can_keep: bool | None = field(default=None, init=False, repr=False)
    can_read: bool | None = field(default=None, init=False, repr=False)
    token_bytes: int | None = field(default=None, init=False, repr=False)
    found_causal: bool | None = field(default=None, init=False, repr=False)
    num_params: int = field(init=False)
    _last: tuple[str, tuple[int, ...]] | None = field(default=None, init=False, repr=False)

    def __post_init__(self):
        # Counted once: adapters that are put on later are no part of the model.
        self.num_params = int(self.model.num_parameters())  # of 4-bit weights two lie in one byte

    @property
    def max_length(self) -> int:
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 2048)

    @property
    def window(self) -> int | None:
        """The shortest span that some layer's attention sees, or None if all see everything."""
        config = self.model.config.get_text_config()
        kinds, size = getattr(config, "layer_types", None), getattr(config, "sliding_window", None)
        is_used = any("sliding" in k for k in kinds) if kinds else getattr(config, "use_sliding_window", True)
        chunk = getattr(config, "attention_chunk_size", None) if any("chunked" in k for k in kinds or ()) else None
        return min((int(span) for span in (size if is_used else None, chunk) if span), default=None)

    @property
    def slice_size(self) -> int:
        """Positions whose logits are held at once."""
        return max(1, _LOGITS // self.model.config.get_text_config().vocab_size)

    @property
    def eos(self) -> int | None:
        return self.tokenizer.eos_token_id

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a generated text: the tokenizer's end of text, and those the model's own settings name."""
        named = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        return frozenset({self.eos, *(named if isinstance(named, list) else [named])} - {None})

    @property
    def bos(self) -> int | None:
        return self.tokenizer.bos_token_id

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text from the start, with whatever special tokens this tokenizer puts first."""
        return tuple(self.tokenizer(text)["input_ids"])

    def encode_pair(self, prompt: str, continuation: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of a prompt and of what follows it, cut where the prompt's own tokens end.

        This is lm-evaluation-harness's way. If joining changes the prompt's last tokens, the two are encoded apart.
        """
        if self._last is None or self._last[0] != prompt:  # the choices of one question come one after the other
            self._last = (prompt, self._start(prompt))
        context = self._last[1]
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

    def encode_chat(self, turns: Sequence[tuple[str, str]]) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Ids of a conversation (role, text), and which of them an assistant has to write; see ``models.chat``."""
        return chat.encode(self.tokenizer, turns)

    def encode_answer(self, turns: Sequence[tuple[str, str]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of a conversation up to its last turn, as the model is asked for it, and of that turn's text."""
        return chat.encode_answer(self.tokenizer, turns)

    def chat_ends(self) -> frozenset[int]:
        """The tokens that end an answer in a conversation."""
        return chat.ends(self.tokenizer) | ({self.eos} if self.eos is not None else set())

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def hidden(
        self,
        ids: Int[Tensor, "B T"],
        mask: Int[Tensor, "B S"] | Float[Tensor, "B 1 T S"] | None = None,
        positions: Int[Tensor, "B T"] | None = None,
        cache: object = None,
        **given: object,
    ) -> Float[Tensor, "B T D"]:
        """Last hidden states, after the final norm; with ``cache`` also fills it.

        ``mask`` says which tokens are real (1 or 0), or is added to the attention scores. ``given`` goes on to the
        attention of every layer.
        """
        decoder = self.model.base_model
        more = {} if cache is None else {_cache_word(decoder): cache}
        with self.products():
            out = decoder(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=cache is not None, **more, **given
            )
        return out.last_hidden_state

    def right_padded(self, ids: Int[Tensor, "B T"], lengths: Int[Tensor, " B"]) -> Int[Tensor, "B T"] | None:
        """The mask that rows padded on the right need: none where no token sees what comes after it, because without
        one attention goes its fastest way."""
        if self.is_causal() or bool((lengths == ids.shape[1]).all()):
            return None
        return (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()

    @torch.no_grad()
    def is_causal(self) -> bool:
        """Whether states of real tokens are the same with padding masked and seen; found out once with a few tokens."""
        if self.found_causal is None:
            ids = torch.arange(3, 11, device=self.device)[None] % self.model.config.get_text_config().vocab_size
            mask = (torch.arange(8, device=self.device) < 5).long()[None]
            hidden, other = self.hidden(ids, mask)[:, :5].float(), self.hidden(ids)[:, :5].float()
            near = 1e-4 if self.dtype == torch.float32 and not self.autocast else 0.05
            self.found_causal = bool((hidden - other).norm() <= near * hidden.norm())
        return self.found_causal

    def logits(self, hidden: Float[Tensor, "*P D"]) -> Float32[Tensor, "*P V"]:
        """Float32 logits of the hidden states that someone wants to read."""
        with self.products():
            return self._scaled(self.model.get_output_embeddings()(hidden).float())

    def head(self) -> Callable[[Tensor], Tensor]:
        """``logits`` as the model is now, whatever is put on it later: adapters replace modules and tensors, they
        change none."""
        module = self.model.get_output_embeddings()
        own = dict(module.named_parameters())

        def logits(hidden: Float[Tensor, "*P D"]) -> Float32[Tensor, "*P V"]:
            with self.products():
                return self._scaled(functional_call(module, own, (hidden,)).float())

        return logits

    def _scaled(self, logits: Float32[Tensor, "*P V"]) -> Float32[Tensor, "*P V"]:
        config = self.model.config.get_text_config()
        over, times = getattr(config, "logits_scaling", None) or 1.0, getattr(config, "logit_scale", None) or 1.0
        if over != 1.0:  # Granite
            logits = logits / over
        if times != 1.0:  # Cohere
            logits = logits * times
        cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
        return logits if not cap else cap * torch.tanh(logits / cap)

    def token_nll(self, hidden: Float[Tensor, "P D"], targets: Int[Tensor, " P"]) -> Float32[Tensor, " P"]:
        """Negative log-likelihood in nats of each target, a slice at a time: all logits at once may not fit.

        With a gradient, a plain frozen head gives it along with the loss (``models.loss``); under any other head the
        logits of all slices but one are computed again on the way back (``checkpoint``).
        """
        if torch.is_grad_enabled() and hidden.requires_grad and self._is_plain_head():
            head = self.model.get_output_embeddings()
            return frozen_head_nll(hidden, head.weight, head.bias, targets)
        size = self.slice_size
        if len(targets) <= size:
            return self._slice_nll(hidden, targets)
        parts = zip(hidden.split(size), targets.split(size), strict=True)
        if not hidden.requires_grad:
            return torch.cat([self._slice_nll(h, t) for h, t in parts])
        return torch.cat([checkpoint(self._slice_nll, h, t, use_reentrant=False) for h, t in parts])

    def _is_plain_head(self) -> bool:
        """Whether logits are one product with frozen floating-point weights, computed in their own type."""
        head, config = self.model.get_output_embeddings(), self.model.config.get_text_config()
        if type(head) is not nn.Linear or self.autocast or head.weight.requires_grad:
            return False
        names = ("logits_scaling", "logit_scale", "final_logit_softcapping")
        return head.weight.is_floating_point() and all(getattr(config, n, None) in (None, 1.0) for n in names)

    def _slice_nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(hidden), targets, reduction="none")

    def token_scores(
        self, hidden: Float[Tensor, "P D"], targets: Int[Tensor, " P"]
    ) -> tuple[Float32[Tensor, " P"], Bool[Tensor, " P"]]:
        """``token_nll`` without a gradient, and whether each target is the likeliest token at its position."""
        size = self.slice_size
        nll, is_top = [], []
        for h, t in zip(hidden.split(size), targets.split(size), strict=True):
            logits = self.logits(h)
            nll.append(F.cross_entropy(logits, t, reduction="none"))
            is_top.append(logits.argmax(-1) == t)
        return torch.cat(nll), torch.cat(is_top)

    def trainable_copy(self) -> Base:
        """A copy of its own with all weights trainable, for full fine-tuning; the base stays untouched.

        Its weights are float32 whatever the base's type, as LoRA's factors are: in bfloat16 most updates of a usual
        size would round to nothing. Products are computed in the base's type.
        """
        model = copy.deepcopy(self.model).float()
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        autocast = None if self.dtype == torch.float32 else self.dtype
        return Base(self.ref, model, self.tokenizer, self.device, torch.float32, autocast)

    def products(self) -> contextlib.AbstractContextManager:
        """Inside, matrix products are computed in ``autocast`` where that is set."""
        return torch.autocast(self.device.type, self.autocast) if self.autocast else contextlib.nullcontext()


def token_kl(base: Float32[Tensor, "P V"], arm: Float32[Tensor, "P V"]) -> Float32[Tensor, " P"]:
    """KL(base || arm) of each position, in nats. A token that the base gives no chance at all adds nothing."""
    p, q = base.log_softmax(-1), arm.log_softmax(-1)
    share = p.exp()
    return torch.where(share > 0, share * (p - q), 0.0).sum(-1)


def is_out_of_memory(error: BaseException) -> bool:
    """torch's allocator on a GPU has an error of its own; on the CPU, and where CUDA or cuBLAS itself gets no memory, a
    RuntimeError says it in words."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in said for words in _NO_MEMORY)


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


def load(ref: ModelRef, device: str = "auto", tokenizer: object = None) -> Base:
    """Read a model's weights and tokenizer; with a ``tokenizer`` given, the weights alone.

    Raises ModelError with the reason if that can't be done, and if a weight is NaN or infinite.
    """
    ref = ref if ref.key else resolve(ref)
    where = pick_device(device)
    dtype = pick_dtype(ref.dtype, where)
    packed = four_bit(ref, where, dtype)
    with _opening(ref) as (source, options):
        if "gguf_file" not in options:
            _refuse_quantised(AutoConfig.from_pretrained(source, **options))
        if tokenizer is None:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model, info = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, output_loading_info=True, **packed, **options
        )
    if missing := sorted(info["missing_keys"]):
        what = f"the weights lack {len(missing)} tensors that this model needs"
        hint = "Copy it again; a model without a language-model head can't be used"
        raise ModelError(what, got=missing[0], where=ref.id, hint=hint)
    # Moved, not cast: the parameters have their type already, and rotary frequencies stay float32 as everywhere else.
    model = (model if packed else model.to(where)).eval()
    if not packed and getattr(model.config, "quantization_config", None) is not None:
        # GGUF weights are dequantised on loading; the leftover note would forbid training and saving.
        del model.config.quantization_config
        model.hf_quantizer, model.is_quantized = None, False
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
            raise ModelError("these weights hold NaN or infinity", got=name, where=ref.id, hint="Copy it again")
    return Base(ref, model, tokenizer, where, dtype)


def outline(ref: ModelRef) -> nn.Module:
    """The model's modules without any weights (on the meta device). Raises ModelError as ``load`` would."""
    with _opening(ref) as (source, options):
        config = AutoConfig.from_pretrained(source, **options)
        if "gguf_file" not in options:  # there, making the tokenizer takes long
            _refuse_quantised(config)
            AutoTokenizer.from_pretrained(source, **options)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=ref.trust_remote_code)


def four_bit(ref: ModelRef, where: torch.device, dtype: torch.dtype) -> dict[str, object]:
    """Options that load the frozen weights in 4 bits (QLoRA, 2305.14314), if that is asked for.

    Raises ModelError, naming what is missing, where bitsandbytes or a CUDA GPU is not there.
    """
    if ref.quantization is None:
        return {}
    needed = {"the package bitsandbytes": find_spec("bitsandbytes") is not None, "a CUDA GPU": where.type == "cuda"}
    if missing := [what for what, is_there in needed.items() if not is_there]:
        raise ModelError(f"4-bit weights need {' and '.join(missing)}", got=ref.quantization, where=ref.id,
                         hint="Leave quantization out, or see what is here: rankscope doctor")  # fmt: skip
    packed = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=ref.quantization,
                                bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)  # fmt: skip
    return {"quantization_config": packed, "device_map": {"": where}}


def _refuse_quantised(config: object) -> None:
    """A checkpoint that was saved quantised would be read as something else than what it is."""
    found = getattr(config, "quantization_config", None)
    if found is not None:
        method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", found)
        raise ModelError("this checkpoint is saved in a quantised format, which is not read", got=str(method),
                         hint="Give the original weights; for 4 bits set quantization: nf4")  # fmt: skip


def check_chat(ref: ModelRef, conversations: Sequence[Sequence[tuple[str, str]]]) -> None:
    """Whether a model's chat template takes these conversations. Reads no weights. Raises ModelError if it doesn't.

    A GGUF file is left for later: making its tokenizer takes long.
    """
    with _opening(ref) as (source, options):
        tokenizer = None if "gguf_file" in options else AutoTokenizer.from_pretrained(source, **options)
    for turns in conversations if tokenizer is not None else ():
        chat.encode(tokenizer, turns)


@contextmanager
def _opening(ref: ModelRef) -> Iterator[tuple[str, dict[str, str | bool | None]]]:
    """Source and options for ``from_pretrained``; what transformers raises inside becomes a ModelError."""
    at = place(ref)
    _quiet()
    options = {"revision": at.revision, "trust_remote_code": ref.trust_remote_code}
    options |= {"gguf_file": at.gguf} if at.gguf else {}
    try:
        yield at.source, options
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, RecursionError) as error:
        if "trust_remote_code" in str(error):
            raise ModelError("this model brings Python code of its own, which was not run", got=ref.id,
                             hint="If you trust it, set trust_remote_code: true for the model") from error  # fmt: skip
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"this model can't be loaded: {reason}", got=ref.id) from error


def _cache_word(decoder: nn.Module) -> str:
    """transformers renamed the argument ``past_key_values`` to ``cache`` within version 5."""
    return "cache" if "cache" in inspect.signature(decoder.forward).parameters else "past_key_values"


@lru_cache(maxsize=1)
def _quiet() -> None:
    """Libraries' loading bars and advice would drown our own few lines."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
