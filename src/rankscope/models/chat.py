"""Conversations as tokens, by the tokenizer's own chat template. In: turns (role, text). Out: token ids and a mask.

The mask says, token by token, what an assistant must learn to write: the text of its turns and the token that closes
them; never the header that names the role, which is given when the model is asked. Where a template marks this itself
(``{% generation %}``, see transformers' "Writing a chat template"), its marks are taken. Elsewhere the text of a
conversation up to an answer, with the generation prompt, must be how the text of the whole begins; what follows it is
the answer. A template may dress its last answer in another way than earlier ones (Qwen 3, Phi 3, gpt-oss); one that
rewrites earlier turns beyond that is refused, since any mask would be a guess.

A template that prints today's date gets one fixed date, or the same data would give other weights tomorrow.
Knows nothing about models, data files or training.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jinja2

from rankscope.errors import ModelError

Turns = Sequence[tuple[str, str]]
ASSISTANT = "assistant"
_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")
# The date that Llama 3.2's template falls back to. A macro of this name comes before transformers' own function.
_DATE = "26 Jul 2024"
_FIXED_DATE = "{% macro strftime_now(format) %}" + _DATE + "{% endmacro %}"
_PROBE = (("user", "Hi"), (ASSISTANT, "Hello"))


def encode(tokenizer: Any, turns: Turns) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Token ids (T,) of a whole conversation, and which of them belong to an assistant turn (T,).

    Raises ModelError if there is no template, if it refuses these turns, or if it doesn't show where answers begin.
    """
    template = _template(tokenizer)
    if _MARKS.search(template):
        out = _applied(tokenizer, turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        ids, mask = tuple(out["input_ids"]), tuple(bool(x) for x in out["assistant_masks"])
        if not any(mask):
            raise _broken("its {% generation %} marks hold no token of this conversation")
    else:
        text = _text(tokenizer, turns)
        ids, offsets = _tokens(tokenizer, text)
        mask = _mask(ids, offsets, text, _spans(tokenizer, turns, text), _closing(tokenizer))
    return ids, (False, *mask[1:])  # nothing comes before the first token, so nothing can predict it


def encode_answer(tokenizer: Any, turns: Turns) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids of all up to the last turn, with the generation prompt, and of that turn's text without the closing token.

    As in ``Base.encode_pair``: cut where the prompt's own tokens end or, if joining changes them, encoded apart.
    Raises ModelError as ``encode``.
    """
    before = _text(tokenizer, turns[:-1], add_generation_prompt=True)
    whole = _text(tokenizer, turns)
    if whole.startswith(before):
        rest = whole[len(before) :]
    elif _MARKS.search(_template(tokenizer)):
        rest = turns[-1][1]
    else:
        raise _broken("the text before an answer isn't how the whole text begins")
    prompt = _tokens(tokenizer, before)[0]
    ids = _tokens(tokenizer, before + rest)[0]
    answer = ids[len(prompt) :] if ids[: len(prompt)] == prompt else _tokens(tokenizer, rest)[0]
    closing = _closing(tokenizer)
    last = max((t for t, token in enumerate(answer) if token in closing), default=len(answer))
    is_end = last < len(answer) and not tokenizer.decode(answer[last + 1 :]).strip()
    return prompt, answer[:last] if is_end else answer


def ends(tokenizer: Any) -> frozenset[int]:
    """The tokens that close an answer in this template; empty if it closes answers with plain text or not at all."""
    ids, mask = encode(tokenizer, _PROBE)
    labels = [token for token, is_label in zip(ids, mask, strict=True) if is_label]
    closing = _closing(tokenizer)
    while labels and labels[-1] not in closing and not tokenizer.decode(labels[-1:]).strip():
        labels.pop()  # white space after the closing token, where a template's own marks take it in
    return frozenset(labels[-1:]) & closing


def _spans(tokenizer: Any, turns: Turns, whole: str) -> list[tuple[int, int]]:
    """Where in the text of the whole each answer begins (after the header) and ends."""
    found = []
    for index, (role, _) in enumerate(turns):
        if role != ASSISTANT:
            continue
        if not index:
            raise ModelError("a conversation can't begin with an answer", hint="Begin it with a user or system turn")
        before = _text(tokenizer, turns[:index], add_generation_prompt=True)
        after = whole if index == len(turns) - 1 else _text(tokenizer, turns[: index + 1])
        if not after.startswith(before):
            raise _broken("the text before an answer isn't how the text with the answer begins")
        end = len(after) if whole.startswith(after) else _redressed(tokenizer, turns[index][1], before, after, whole)
        found.append((len(before), end))
    return found


def _redressed(tokenizer: Any, content: str, before: str, after: str, whole: str) -> int:
    """Where an earlier answer ends in the whole, if the template only dresses the last answer in another way.

    Qwen 3 puts a thinking block in front of the last answer alone, Phi 3 and gpt-oss close it with another token. What
    stands in front of the answer must then be what stands there in the last one, or nothing but white space, and a
    closing token must follow. All else is refused.
    """
    start, content = len(before), content.strip()
    dress = after[start:].partition(content)[0]
    lead, is_there, rest = whole[start:].partition(content)
    if not (whole.startswith(before) and is_there and (lead == dress or not lead.strip())):
        raise _broken("it writes an earlier turn in another way once more turns follow")
    rest = rest.lstrip()
    # Only what closes a user's turn too, or the last answer: another token may open the next turn.
    asked = _text(tokenizer, _PROBE[:1]).partition(_PROBE[0][1])[2].lstrip()
    known = {tokenizer.decode(token) for token in ends(tokenizer)}
    known |= {text for text in map(tokenizer.decode, _closing(tokenizer)) if text and asked.startswith(text)}
    closing = [text for text in known if rest.startswith(text)]
    if not closing:
        raise _broken("it writes an earlier turn in another way, and nothing closes it")
    return len(whole) - len(rest) + max(map(len, closing))


def _mask(ids: Sequence[int], offsets: Sequence[tuple[int, int]], text: str, spans: Sequence[tuple[int, int]],
          closing: frozenset[int]) -> tuple[bool, ...]:  # fmt: skip
    """Tokens that reach into a span, up to the token that closes it: the line break after it is the template's."""
    mask = [False] * len(ids)
    for start, stop in spans:
        inside = [t for t, (a, b) in enumerate(offsets) if a < stop and b > start and b > a]
        ends = [t for t in inside if ids[t] in closing]
        if ends and not text[offsets[ends[-1]][1] : stop].strip():
            inside = [t for t in inside if t <= ends[-1]]
        for t in inside:
            mask[t] = True
    return tuple(mask)


def _tokens(tokenizer: Any, text: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Token ids of a rendered text and the characters each stands for; the template has put special tokens in."""
    try:
        out = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    except NotImplementedError as error:
        raise ModelError("this tokenizer can't say which characters a token stands for, so answers can't be told from "
                         "questions", hint="Save it in the fast format (tokenizer.json)") from error  # fmt: skip
    return tuple(out["input_ids"]), tuple((a, b) for a, b in out["offset_mapping"])


def _closing(tokenizer: Any) -> frozenset[int]:
    """Tokens that may close a turn: special and added ones, but not runs of white space, which some models add."""
    added = tokenizer.get_added_vocab()
    return frozenset(tokenizer.all_special_ids) | {token for text, token in added.items() if text.strip()}


def _text(tokenizer: Any, turns: Turns, add_generation_prompt: bool = False) -> str:
    return _applied(tokenizer, turns, tokenize=False, add_generation_prompt=add_generation_prompt)


def _applied(tokenizer: Any, turns: Turns, **options: Any) -> Any:
    template = _template(tokenizer)
    messages = [{"role": role, "content": content} for role, content in turns]
    if "strftime_now" in template:
        options |= {"chat_template": _FIXED_DATE + template}
    try:
        return tokenizer.apply_chat_template(messages, **options)
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the model's chat template refuses this conversation: {reason}",
                         got=", ".join(role for role, _ in turns)) from error  # fmt: skip


def _template(tokenizer: Any) -> str:
    """The template for plain conversations. Raises ModelError if there is none."""
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        raise ModelError("this model's tokenizer has no chat template, so it can't be trained or scored on chats",
                         hint="Use the instruction-tuned model, or give the rows as prompt and completion without "
                         "chat: true") from error  # fmt: skip


def _broken(why: str) -> ModelError:
    return ModelError(f"the model's chat template doesn't show which tokens are the assistant's: {why}",
                      hint="Give it {% generation %} marks, or give rows with one answer each")  # fmt: skip
