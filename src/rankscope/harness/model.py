"""rankscope's engine as a model of lm-evaluation-harness, by the name ``rankscope``. In: its requests. Out: answers.

Importing this module registers the model: the harness finds no models in other packages by itself (0.4.13 has no entry
points for them). Texts become tokens the harness's own way, so its numbers for ``hf`` and for this model agree up to
rounding. Knows nothing about tasks.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from itertools import groupby
from typing import Any

import torch
from jinja2 import TemplateError
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from rankscope.data.batching import fit_prompt
from rankscope.errors import InputError, ModelError
from rankscope.evaluation.engine import Request, Weight, weigh
from rankscope.evaluation.generation import generate
from rankscope.models.base import load
from rankscope.models.given import read_given, wearing
from rankscope.models.locate import adapter_folder
from rankscope.records import ModelRef

_GREEDY = {"do_sample", "temperature", "until", "max_gen_toks"}
# What changes nothing about a greedy answer.
_IDLE = {"top_p", "top_k", "use_cache"}


@register_model("rankscope")
class RankscopeLM(TemplateLM):
    """A model as rankscope loads and scores it, with or without a PEFT adapter (``adapter``: its folder).

    Batches are measured in tokens (``batch_tokens``), so the harness's ``batch_size`` is not used. Raises ModelError
    for a model or adapter that can't be used.
    """

    def __init__(
        self,
        pretrained: str | None = None,
        adapter: str | None = None,
        dtype: str = "auto",
        revision: str | None = None,
        device: str | None = None,
        batch_tokens: int = 4096,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        **unknown: Any,
    ):
        super().__init__()
        known = "pretrained, adapter, dtype, revision, device, batch_tokens"
        if pretrained is None or unknown:
            what = f"the model rankscope takes no argument {next(iter(unknown))!r}" if unknown else "no model is named"
            raise ModelError(what, where="--model_args", hint=f"It takes: {known}; pretrained is required")
        if not str(batch_tokens).isdecimal() or int(batch_tokens) < 1:
            raise ModelError("batch_tokens must be a whole number from 1", got=batch_tokens, where="--model_args")
        # The harness's command line asks for CUDA where nobody named a device; as for ``hf``, what is there is used.
        is_there = device is not None and (not device.startswith("cuda") or torch.cuda.is_available())
        self.base = load(ModelRef(str(pretrained), revision, str(dtype)), device if is_there else "auto")
        self.batch_tokens, self._adapter = int(batch_tokens), adapter
        self._in_use = ExitStack()
        if adapter:
            self._in_use.enter_context(wearing(self.base, read_given(adapter_folder(adapter))))

    # ---- what the harness asks of a model

    @property
    def tokenizer(self) -> Any:
        return self.base.tokenizer

    @property
    def eot_token_id(self) -> int | None:
        return self.base.eos

    @property
    def prefix_token_id(self) -> int | None:
        """What stands before a text that has nothing before it."""
        return self.base.bos if self.base.bos is not None else self.base.eos

    @property
    def max_length(self) -> int:
        return self.base.max_length

    @property
    def tokenizer_name(self) -> str:
        return self.base.ref.id.replace("/", "__")

    @property
    def device(self) -> str:
        return str(self.base.device)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids. A text that brings its begin-of-text token, as chat templates write it, gets no second one."""
        first = self.tokenizer.decode([self.prefix_token_id]) if self.prefix_token_id is not None else ""
        if add_special_tokens is None and first and string.startswith(first):
            add_special_tokens = False
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer(string, **options)["input_ids"])

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as one text; a template that knows no system role gets it without."""
        options = {
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        try:
            return self.tokenizer.apply_chat_template(chat_history, **options)
        except TemplateError:
            logging.getLogger(__name__).warning("the chat template failed; tried again without the system message")
            kept = [message for message in chat_history if message["role"] != "system"]
            return self.tokenizer.apply_chat_template(kept, **options)

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes beside its results."""
        dtype = str(self.base.dtype).removeprefix("torch.")
        return {"model_num_parameters": self.base.num_params, "model_dtype": dtype, "model_sha": self.base.ref.key,
                "adapter": self._adapter}  # fmt: skip

    # ---- answers

    def _loglikelihood_tokens(self, requests: list, disable_tqdm: bool = False, **kwargs: Any) -> list[Weight]:
        """Log-likelihood and greediness of each (texts, context, continuation); a too long context loses its start."""
        pairs = []
        for _, context, continuation in requests:
            kept = max(1, self.max_length + 1 - len(continuation))  # the last token is never fed to the model
            pairs.append((tuple(context[-kept:]), tuple(continuation)))
        answers = self._weigh(pairs)
        for (texts, _, _), answer in zip(requests, answers, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def _weigh(self, pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[Weight]:
        """Weights of (context, continuation) pairs; neighbours with one context share it."""
        groups = [(context, tuple(c for _, c in group)) for context, group in groupby(pairs, key=lambda pair: pair[0])]
        found = weigh(self.base, [Request(*group) for group in groups], self.batch_tokens, greedy=True)
        return [weight for weights in found for weight in weights]

    def loglikelihood_rolling(self, requests: list, disable_tqdm: bool = False) -> list[float]:
        """Log-likelihood of whole texts, each token once, in windows of the model's length."""
        pairs, owners = [], []
        for index, request in enumerate(requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for context, continuation in map(make_disjoint_window, windows):
                pairs.append((tuple(context), tuple(continuation)))
                owners.append(index)
        sums = [0.0] * len(requests)
        for index, (value, _) in zip(owners, self._weigh(pairs), strict=True):
            sums[index] += value
        for request, value in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, value)
        return sums

    def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
        """Greedy answers, cut at the first stop text. Raises InputError for sampling and settings not known here."""
        asked: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        for index, request in enumerate(requests):
            asked.setdefault(_settings(request.args[1]), []).append(index)
        out = [""] * len(requests)
        end = self.tokenizer.decode([self.eot_token_id]) if self.eot_token_id is not None else ""
        for (most, stop), indices in asked.items():
            room = self.max_length - most
            if room < 1:
                raise InputError("no room for a prompt: the tokens to generate fill the model's length", got=most,
                                 hint=f"Its length is {self.max_length}: --gen_kwargs max_gen_toks=...")  # fmt: skip
            prompts = [fit_prompt(self.tok_encode(requests[i].args[0]), room) for i in indices]
            texts = generate(self.base, prompts, most, (*stop, *([end] if end else ())), self.batch_tokens)
            for index, text in zip(indices, texts, strict=True):
                out[index] = text
                self.cache_hook.add_partial("generate_until", requests[index].args, text)
        return out


def _settings(given: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Number of new tokens and stop texts of the harness's settings."""
    settings = normalize_gen_kwargs(given)
    if settings["do_sample"]:
        raise InputError("this model generates greedily; it doesn't sample", got=given,
                         hint="Use --gen_kwargs do_sample=False,temperature=0")  # fmt: skip
    if strange := sorted(set(settings) - _GREEDY - _IDLE):
        raise InputError("a setting of generation that isn't known here", got=strange[0])
    return settings["max_gen_toks"], tuple(stop for stop in settings["until"] if stop)
