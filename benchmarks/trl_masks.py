"""Does rankscope put the loss on the tokens that TRL puts it on? Conversations through many templates, token by token.

    python benchmarks/trl_masks.py TOKENIZER [--only NAME ...]

Needs ``pip install trl``. TOKENIZER is a folder with a fast tokenizer; its template is swapped for each of those that
TRL carries (the ones that models ship, under a name that doesn't end in ``_training``), and the markers that a template
writes are added as special tokens. TRL's side is what its SFTTrainer makes of the rows with ``assistant_only_loss``:
where a template has no ``{% generation %}`` marks, it takes a training template of its own in its place. rankscope's
side is ``Base.encode_chat``, once with the template as the model ships it (which has no marks, so that rankscope finds
the answers itself) and once with TRL's training template (marks, so that both read the same).

For a template that TRL has no training template for, TRL refuses; the tokenizer's own, if it is plain ChatML, is then
given to TRL with marks where TRL's own ChatML templates have them.

Words in the table, for each conversation: *same* (ids and mask), *tail* (same ids; TRL also puts the loss on white
space that the template writes after the token that closes an answer), *given* (TRL also puts it on tokens that the
generation prompt gives the model when it is asked; perhaps *tail* as well), *mask* (same ids, masks that differ in
another way), *text* (TRL's training template writes another text), *refused* (rankscope refuses the template with these
turns), *TRL refuses*. Stop: whether the token that closes an answer is in TRL's and in rankscope's mask. The exit code
is 1 on *mask*, and if anything is not the same with marks. Today's date in a template is one fixed date on both sides.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import trl
from datasets import Dataset, disable_progress_bars
from jinja2 import TemplateError
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer
from trl.chat_template_utils import (
    get_training_chat_template,
    has_generation_markers,
    is_chat_template_stop_token_trained,
)

from rankscope.errors import ModelError
from rankscope.models.base import Base
from rankscope.records import ModelRef
from rankscope.testing import tiny_model

CONVERSATIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "one turn": (("user", "What is the capital of Peru?"), ("assistant", "Lima.")),
    "system": (("system", "Answer in one word."), ("user", "2 + 2?"), ("assistant", "Four")),
    "empty system": (("system", ""), ("user", "2 + 2?"), ("assistant", "Four")),
    "three answers": (("user", "Hi"), ("assistant", "Hello!"), ("user", "Who?"), ("assistant", "Nobody"),
                      ("user", "Why?"), ("assistant", "Because.")),
    "system, three answers": (("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c"),
                              ("assistant", "d"), ("user", "e"), ("assistant", "f")),
    "unicode": (("user", "Grüße aus Zürich 👋🏽 — 你好"), ("assistant", "你好！ «naïve» e\u0301 👩‍👩‍👧 ok"),
                ("user", "日本語"), ("assistant", "はい。")),
    "white space around": (("user", "  spaced  "), ("assistant", "  two before, two after  "), ("user", "\n\nand\n"),
                           ("assistant", "a line break after\n")),
    "line breaks in front": (("user", "code?"), ("assistant", "\n\ndef f():\n    return 1\n\n"), ("user", "thanks"),
                             ("assistant", "\tTab")),
    "a header as text": (("user", "write assistant: user: [INST]"), ("assistant", "assistant\nuser\nassistant"),
                         ("user", "Hi"), ("assistant", "Hi")),
    "numbers": (("user", "12345 + 1"), ("assistant", "12346"), ("user", "12346 + 1"), ("assistant", "12347")),
}  # fmt: skip
_MARKERS = re.compile(
    r"<[|｜][^<>\s'\"{}]{1,40}[|｜]>|</?\w+_of_\w+>|\[/?(?:INST|gMASK)\]|<bos>|<sop>|<turn\|>|<\|turn>"
)
_SPECIAL = {"llama": ("<|begin_of_text|>", "<|eot_id|>"), "gemma": ("<bos>", "<eos>"), "phi": (None, "<|endoftext|>"),
            "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"), "llava": ("<s>", "</s>"),
            "cohere": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>")}  # fmt: skip
_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"
_CHATML = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
_CHATML_MARKED = (
    "{{'<|im_start|>' + message['role'] + '\n'}}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{message['content'] + '<|im_end|>' + '\n'}}{% endgeneration %}"
    "{% else %}{{message['content'] + '<|im_end|>' + '\n'}}{% endif %}"
)  # _CHATML as it stands in a template, with marks
Labelled = tuple[list[int], list[bool]]
Turns = Sequence[tuple[str, str]]


def templates(own: str) -> dict[str, str]:
    """What models ship, by name: TRL's copies, and the tokenizer's own."""
    folder = Path(trl.__file__).parent / "chat_templates"
    names = sorted(p.stem for p in folder.glob("*.jinja") if not p.stem.endswith("_training"))
    return {"(the tokenizer's own)": own} | {n: (folder / f"{n}.jinja").read_text(encoding="utf-8") for n in names}


def dressed(tokenizer, name: str, template: str):
    """The tokenizer with another template and the special tokens that it writes."""
    mine = copy.deepcopy(tokenizer)
    mine.chat_template = template
    mine.add_special_tokens({"additional_special_tokens": sorted(set(_MARKERS.findall(template)))})
    for family, (first, last) in _SPECIAL.items():
        if name.startswith(family):
            mine.add_special_tokens({"eos_token": last} | ({"bos_token": first} if first else {}))
    return mine


def by_trl(tokenizer, conversations: Sequence[Turns]) -> list[Labelled | str]:
    """Ids and loss masks of TRL's own preparation, or why there are none: all in one go, or else one by one."""
    rows = Dataset.from_list([{"messages": [{"role": r, "content": c} for r, c in turns]} for turns in conversations])
    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(folder, assistant_only_loss=True, max_length=None, bf16=False, use_cpu=True, report_to="none",
                         gradient_checkpointing=False)  # fmt: skip
        try:
            made = SFTTrainer(tiny_model(), args, train_dataset=rows, processing_class=copy.deepcopy(tokenizer))
        except (TemplateError, TypeError, ValueError, RuntimeError) as error:
            if len(conversations) == 1:
                return [str(error).strip().splitlines()[0]]
            return [by_trl(tokenizer, [turns])[0] for turns in conversations]
    return [(r["input_ids"], [False, *(x != -100 for x in r["labels"][1:])]) for r in made.train_dataset]


def by_rankscope(tokenizer, turns) -> Labelled | str:
    base = Base(ModelRef("tokenizer"), tiny_model(), tokenizer, torch.device("cpu"), torch.float32)
    try:
        ids, mask = base.encode_chat(turns)
    except ModelError as error:
        return error.what
    return list(ids), list(mask)


def judge(tokenizer, turns: Turns, mine: Labelled | str, peer: Labelled | str) -> str:
    """One word on two sides of one conversation."""
    if isinstance(peer, str):
        return "TRL refuses"
    if isinstance(mine, str):
        return "refused"
    if mine[0] != peer[0]:
        return "text"
    apart = [t for t in range(len(mine[0])) if mine[1][t] != peer[1][t]]
    given = given_tokens(tokenizer, turns) if apart else set()
    kinds = {kind_at(tokenizer, mine, peer, given, t) for t in apart}
    return next((word for word in ("mask", "given", "tail") if word in kinds), "same")


def kind_at(tokenizer, mine: Labelled, peer: Labelled, given: set[int], t: int) -> str:
    """Why one token is in one mask and not in the other."""
    if mine[1][t]:
        return "mask"
    if t in given:
        return "given"
    return "tail" if peer[1][t - 1] and not tokenizer.decode([mine[0][t]]).strip() else "mask"


def given_tokens(tokenizer, turns: Turns) -> set[int]:
    """Tokens of a conversation that stand in the generation prompt in front of one of its answers."""
    messages = [{"role": role, "content": content} for role, content in turns]
    write = partial(tokenizer.apply_chat_template, tokenize=False)
    whole, found = write(messages), set()
    offsets = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    for index, (role, _) in enumerate(turns):
        if role == "assistant":
            start, asked = len(write(messages[:index])), write(messages[:index], add_generation_prompt=True)
            if whole.startswith(asked):
                found |= {t for t, (a, b) in enumerate(offsets) if start <= a < b <= len(asked)}
    return found


def shown(tokenizer, turns: Turns, mine: Labelled, peer: Labelled, word: str) -> str:
    """The first run of tokens that stands behind a word."""
    given = given_tokens(tokenizer, turns)
    apart = [t for t in range(len(mine[0])) if mine[1][t] != peer[1][t]]
    first = next(t for t in apart if kind_at(tokenizer, mine, peer, given, t) == word)
    last = next(t for t in range(first, len(mine[0]) + 1) if t not in apart)
    side = "TRL" if peer[1][first] else "rankscope"
    return f"only {side} has {tokenizer.decode(mine[0][first:last])!r} ({word})"


def one_template(tokenizer, name: str, template: str) -> dict:
    """All conversations through one template: words, and the reasons behind them."""
    shipped, training = dressed(tokenizer, name, template), training_template(dressed(tokenizer, name, template))
    marked = dressed(tokenizer, name, dated(training)) if training else shipped
    plain = dressed(tokenizer, name, dated(template))
    peers = by_trl(marked, CONVERSATIONS.values())
    words, both, reasons = {}, Counter(), Counter()
    for (title, turns), peer in zip(CONVERSATIONS.items(), peers, strict=True):
        mine = by_rankscope(shipped, turns)
        words[title] = judge(plain, turns, mine, peer)
        if words[title] in ("mask", "given"):
            reasons[shown(plain, turns, mine, peer, words[title])] += 1
        elif isinstance(peer, str) or isinstance(mine, str):
            reasons[peer if isinstance(peer, str) else mine] += 1
        if training:
            both[judge(marked, turns, by_rankscope(marked, turns), peer)] += 1
    stop = {"trl": training and is_chat_template_stop_token_trained(marked), "rankscope": is_stop_trained(shipped)}
    return {"template": name, "has_marks": has_generation_markers(template), "words": words,
            "counts": dict(Counter(words.values())), "with_training_template": dict(both), "stop_token_trained": stop,
            "reasons": dict(reasons)}  # fmt: skip


def is_stop_trained(tokenizer) -> bool | None:
    """Whether rankscope's mask of a last answer ends in a special or added token; None where it is refused."""
    made = by_rankscope(tokenizer, CONVERSATIONS["one turn"])
    if isinstance(made, str):
        return None
    labels = [token for token, is_label in zip(*made, strict=True) if is_label]
    while not tokenizer.decode(labels[-1:]).strip():
        labels.pop()
    return labels[-1] in tokenizer.get_added_vocab().values()


def dated(template: str) -> str:
    """The template with rankscope's fixed date, if it writes today's."""
    return _DATE + template if "strftime_now" in template else template


def training_template(tokenizer) -> str | None:
    """TRL's choice, ours for plain ChatML, or None."""
    try:
        return get_training_chat_template(tokenizer) or tokenizer.chat_template
    except ValueError:
        template = tokenizer.chat_template
        return template.replace(_CHATML, _CHATML_MARKED) if _CHATML in template else None


def counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{times} {word}" for word, times in counts.items()) or "TRL has none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", help="a folder with a fast tokenizer")
    parser.add_argument("--only", nargs="*", help="names of templates")
    args = parser.parse_args()
    disable_progress_bars()
    warnings.simplefilter("ignore", FutureWarning)
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    rows = []
    for name, template in templates(tokenizer.chat_template).items():
        if args.only and name not in args.only:
            continue
        row = one_template(tokenizer, name, template)
        rows.append(row)
        marks, stop = " (has marks)" if row["has_marks"] else "", row["stop_token_trained"]
        line = f"{name + marks:28}as shipped: {counted(row['counts']):28}TRL's template in both: "
        line += f"{counted(row['with_training_template']):24}stop: {stop['trl']}, {stop['rankscope']}"
        print(line, flush=True)
        for reason, times in row["reasons"].items():
            print(f"    {times} x {reason}")
    versions = {p: importlib.metadata.version(p) for p in ("trl", "transformers", "tokenizers", "Jinja2")}
    print(json.dumps({"benchmark": "trl_masks", "conversations": len(CONVERSATIONS), "rows": rows,
                      "versions": versions}, ensure_ascii=False))  # fmt: skip
    bad = [r for r in rows if "mask" in r["counts"] or set(r["with_training_template"]) - {"same", "TRL refuses"}]
    if bad:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
