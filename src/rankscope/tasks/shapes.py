"""The user's rows, whatever their columns are called, as rows of one shape. In: rows and options. Out: rows.

A row comes out with some of ``turns`` (a conversation), ``prompt`` and ``completion``, ``choices`` and ``answer`` (an
index), ``text``; and ``id``, ``subject``, ``cluster``. Which, the options say by columns or templates, or else the
names of the columns (``detect``). A row whose prompt, completion, turn or text is blank is left out and counted; a row
without the column is an error, as is everything else that would have to be guessed.

The layout of instruction data is that of Stanford Alpaca (Taori et al. 2023, github.com/tatsu-lab/stanford_alpaca):
``instruction``, an optional ``input`` and ``output``; ``conversations`` with ``from`` and ``value`` is ShareGPT's.
Knows nothing about files, models or scores.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rankscope import plugins
from rankscope.data.files import Rows
from rankscope.data.prompts import LETTERS
from rankscope.errors import DataError

OPTIONS = ("messages", "prompt", "completion", "choices", "answer", "text", "id", "subject", "cluster", "chat")
"""What a study may say about columns; all but ``chat`` (true or false) name one or, for ``choices``, several."""
ROLES = {"system": "system", "user": "user", "assistant": "assistant", "human": "user", "gpt": "assistant"}
"""Roles of a conversation; ShareGPT's are the last two."""
ALPACA = "Below is an instruction that describes a task{}. Write a response that appropriately completes the request."
ALPACA_INPUT = ", paired with an input that provides further context"
_KNOWN = (
    "messages; conversations; prompt and completion; prompt, choices and answer; instruction, input and output; "
    "question and answer; question, choices and answer; text"
)
_LABELS = ("id", "subject", "cluster")


@dataclass(frozen=True)
class Template:
    """Words with columns in between: ``parts`` are (words, column) pairs; the last column may be ''."""

    parts: tuple[tuple[str, str], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(column for _, column in self.parts if column)


def template(option: str, value: Any) -> Template:
    """An option as a template: the name of a column, or a text with ``{column}``; a brace is written twice.

    No attributes, indices, conversions or formats, as Python's own format has: data is no program. Raises DataError.
    """
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{option}: must be the name of a column, or a text with {{column}} in it", got=value)
    if "{" not in value and "}" not in value:
        return Template((("", value),))
    hint = "Write a column as {column} and a brace as {{ or }}"
    try:
        parts = [(words, name, spec, conversion) for words, name, spec, conversion in string.Formatter().parse(value)]
    except ValueError as error:
        raise DataError(f"{option}: {error}", got=value, hint=hint) from error
    for _, name, spec, conversion in parts:
        if name is not None and (spec or conversion or not name.strip() or any(c in name for c in ".[]!:{}")):
            raise DataError(f"{option}: only plain {{column}} can stand in a template", got=value, hint=hint)
    if not any(name for _, name, _, _ in parts):
        raise DataError(f"{option}: a template without a column would be the same for every row", got=value, hint=hint)
    return Template(tuple((words, name or "") for words, name, _, _ in parts))


def shaped(found: Rows, options: Mapping[str, Any]) -> Rows:
    """The rows in our shape, blank ones left out (``origin`` says how many).

    Raises DataError for columns that aren't there or can't be understood, for a row that makes no sense (with its
    place) and if no row is left.
    """
    plan = detect(tuple(found.rows[0]), options, found.place(0))
    rows, places, blank = [], [], 0
    for index, row in enumerate(found.rows):
        try:
            one = _shaped(row, plan)
        except DataError as error:
            raise DataError(error.what, got=error.got, where=found.place(index), hint=error.hint) from error
        if one is None:
            blank += 1
        else:
            rows.append(one)
            places.append(found.place(index))
    if not rows:
        raise DataError("every row is blank: no prompt, answer or text in it", got=len(found.rows), where=found.origin)
    origin = f"{found.origin}, {blank} blank rows left out" if blank else found.origin
    return replace(found, rows=tuple(rows), places=tuple(places), origin=origin, blank=blank)


def detect(columns: Sequence[str], options: Mapping[str, Any], where: str | None = None) -> dict[str, Any]:
    """What each part of a row is made from, by the options or else by the columns' names.

    The plan has ``messages``, ``text``, ``choices`` and ``answer`` as columns, ``prompt`` and ``completion`` as
    templates, ``alpaca`` as a mark. Raises DataError if the columns fit no known layout or aren't there.
    """
    plan: dict[str, Any] = {name: options[name] for name in (*_LABELS, "messages", "text", "choices", "answer", "chat")
                            if options.get(name) is not None}  # fmt: skip
    plan |= {name: template(name, options[name]) for name in ("prompt", "completion") if options.get(name) is not None}
    if not isinstance(plan.get("chat", False), bool):
        raise DataError("chat: must be true or false", got=plan["chat"])
    for name in (*_LABELS, "messages", "text", "answer"):
        if not isinstance(plan.get(name, ""), str):
            raise DataError(f"{name}: must be the name of a column", got=plan[name])
    if not any(name in plan for name in ("messages", "prompt", "completion", "choices", "text")):
        plan |= _by_names(columns, where)
    elif "prompt" in plan or "completion" in plan or "choices" in plan:
        for name in ("prompt", "completion"):
            if name not in plan and name in columns and not (name == "completion" and "choices" in plan):
                plan[name] = template(name, name)
        if "choices" in plan and "answer" not in plan and "answer" in columns:
            plan["answer"] = "answer"
        _check_complete(plan)
    for name in _LABELS:
        if name in columns:
            plan.setdefault(name, name)
    _check_columns(plan, columns, options, where)
    return plan


def _by_names(columns: Sequence[str], where: str | None) -> dict[str, Any]:
    has = set(columns)
    plan: dict[str, Any] = {}
    if conversation := next((name for name in ("messages", "conversations") if name in has), None):
        return {"messages": conversation}
    question = "prompt" if "prompt" in has else "question" if "question" in has else None
    if question and {"choices", "answer"} <= has:
        plan |= {"prompt": template("prompt", question), "choices": "choices", "answer": "answer"}
    if "prompt" in has and "completion" in has:
        plan |= {"prompt": template("prompt", "prompt"), "completion": template("completion", "completion")}
    if not plan and {"instruction", "output"} <= has:
        plan |= {"alpaca": True}
    if not plan and {"question", "answer"} <= has:
        plan |= {"prompt": template("prompt", "question"), "completion": template("completion", "answer")}
    if "text" in has:
        plan |= {"text": "text"}
    if not plan:
        hint = f"Say which to use with prompt: and completion:, or name them as one of: {_KNOWN}"
        raise DataError("the columns fit no known layout", got=", ".join(map(str, columns)), where=where, hint=hint)
    return plan


def _check_complete(plan: Mapping[str, Any]) -> None:
    if "prompt" not in plan:
        raise DataError("a row needs a prompt", hint="Name its column: prompt: COLUMN")
    if "choices" in plan and "answer" not in plan:
        raise DataError("choices need an answer", hint="Name the column of the right one: answer: COLUMN")
    if "choices" not in plan and "completion" not in plan:
        raise DataError("a prompt needs a completion or choices", hint="Name the column: completion: COLUMN")


def _check_columns(
    plan: Mapping[str, Any], columns: Sequence[str], options: Mapping[str, Any], where: str | None
) -> None:
    """Columns that the options name must be in the first row; the others are there, or wouldn't be in the plan."""
    for option, value in plan.items():
        named = value.columns if isinstance(value, Template) else _listed(value)
        for column in named if options.get(option) is not None and option != "chat" else ():
            if column not in columns:
                near = plugins.did_you_mean(str(column), [str(c) for c in columns])
                raise DataError(f"{option}: no column {column!r}{near}", where=where,
                                hint=f"The columns: {', '.join(map(str, columns))}")  # fmt: skip


def _shaped(row: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """One row in our shape, None if it is blank."""
    out: dict[str, Any] = {name: _text(row, plan[name]).strip() for name in _LABELS
                           if name in plan and row.get(plan[name]) is not None}  # fmt: skip
    if "messages" in plan:
        turns = _turns(_field(row, plan["messages"]), plan["messages"])
        return out | {"turns": turns} if turns else None
    if "alpaca" in plan:
        out |= _alpaca(row, bool(plan.get("chat")))
    for name in ("prompt", "completion"):
        if name in plan:
            out[name] = _filled(row, plan[name])
    if "text" in plan:
        out["text"] = _text(row, plan["text"])
    if any(not out[name].strip() for name in ("prompt", "completion", "text") if name in out):
        return None
    if "choices" in plan:
        out["choices"] = options = _options(row, plan["choices"])
        out["answer"] = _answer(_field(row, plan["answer"]), options)
    if plan.get("chat"):
        return _as_chat(out)
    return out


def _as_chat(row: dict[str, Any]) -> dict[str, Any]:
    if "completion" not in row:
        raise DataError("chat: true is for rows with a completion", hint="Leave chat out for choices and plain texts")
    return {name: row[name] for name in _LABELS if name in row} | {
        "turns": (("user", row["prompt"].strip()), ("assistant", row["completion"].strip()))
    }


def _alpaca(row: Mapping[str, Any], is_chat: bool) -> dict[str, Any]:
    """Alpaca's two layouts, with and without an input; in a chat the model's own template takes their place."""
    instruction, answer = _text(row, "instruction").strip(), _text(row, "output")
    more = _text(row, "input").strip() if row.get("input") is not None else ""
    if not instruction:
        return {"prompt": "", "completion": answer}
    if is_chat:
        return {"prompt": f"{instruction}\n\n{more}" if more else instruction, "completion": answer}
    said = f"\n\n### Input:\n{more}" if more else ""
    head = ALPACA.format(ALPACA_INPUT if more else "")
    # The response stands on a line of its own.
    prompt = f"{head}\n\n### Instruction:\n{instruction}{said}\n\n### Response:"
    return {"prompt": prompt, "completion": "\n" + answer.strip() if answer.strip() else ""}


def _turns(value: Any, column: str) -> tuple[tuple[str, str], ...]:
    """A conversation up to its last answer; () if there is none, or if something in it is blank."""
    if not isinstance(value, list | tuple):
        if value is None:
            return ()
        raise DataError(f"{column!r} must be a list of turns", got=type(value).__name__)
    found = []
    for number, turn in enumerate(value, start=1):
        if not isinstance(turn, Mapping):
            raise DataError(f"turn {number} must be an object with role and content", got=type(turn).__name__)
        is_share = "from" in turn and "role" not in turn
        role, text = (turn.get("from"), turn.get("value")) if is_share else (turn.get("role"), turn.get("content"))
        if not isinstance(role, str) or role not in ROLES:
            raise DataError(f"turn {number} has a role that isn't known", got=role, hint=f"Known: {', '.join(ROLES)}")
        if turn.get("tool_calls") or turn.get("function_call"):
            raise DataError(f"turn {number} calls tools, which isn't supported", hint="Leave such rows out")
        if not isinstance(text, str | None):
            raise DataError(f"the text of turn {number} must be a text", got=type(text).__name__)
        found.append((ROLES[role], text or ""))
    while found and found[-1][0] != "assistant":
        found.pop()  # nothing answers these turns, so nothing can be learned or asked
    if not found or not all(text.strip() for role, text in found if role != "system"):
        return ()
    found = [turn for turn in found if turn[1].strip()]
    if found[0][0] == "assistant":
        raise DataError(
            "a conversation can't begin with an answer", hint="Leave such rows out, or put a question first"
        )
    return tuple(found)


def _options(row: Mapping[str, Any], columns: Any) -> list[str]:
    """The choices: a column that holds a list of texts, or several columns."""
    if isinstance(columns, str):
        value = _field(row, columns)
        if isinstance(value, Mapping) and isinstance(value.get("text"), list):
            value = value["text"]  # the ARC family's layout
        if not isinstance(value, list | tuple):
            raise DataError(f"{columns!r} must be a list of texts", got=value,
                            hint="Or name one column a choice: choices: [a, b, c, d]")  # fmt: skip
        texts = [_plain(option, columns) for option in value]
    else:
        texts = [_text(row, column) for column in columns]
    if not 2 <= len(texts) <= len(LETTERS):
        raise DataError(f"a question needs 2 to {len(LETTERS)} choices", got=len(texts))
    if not all(text.strip() for text in texts):
        raise DataError("a choice is empty", got=texts)
    return texts


def _answer(value: Any, options: Sequence[str]) -> int:
    """Text of a choice, letter, or index from 0, in digits too. The text first: it may be a letter or number itself."""
    hint = "Write an index from 0, the text of a choice, or its letter"
    if value is None or value == "":
        raise DataError("a row with choices needs an answer", hint=hint)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    word = _plain(value, "answer").strip()
    texts = [option.strip() for option in options]
    if not isinstance(value, int) and word in texts:
        return texts.index(word)
    letter = LETTERS.find(word.upper()) if len(word) == 1 and not word.isdigit() else -1
    index = int(word) if word.isascii() and word.isdigit() and len(word) < 4 else letter
    if not 0 <= index < len(options):
        raise DataError(f"the answer is none of the {len(options)} choices", got=value, hint=hint)
    return index


def _filled(row: Mapping[str, Any], made: Template) -> str:
    return "".join(words + (_text(row, column) if column else "") for words, column in made.parts)


def _field(row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise DataError(f"the row has no {column!r}", hint=f"Its fields: {', '.join(map(str, row)) or 'none'}")
    return row[column]


def _text(row: Mapping[str, Any], column: str) -> str:
    return _plain(_field(row, column), column)


def _plain(value: Any, column: str) -> str:
    """A cell as text: numbers as they are written, nothing as ''. Raises DataError on all else."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise DataError(
        f"{column!r} must be a text or a number", got=value if isinstance(value, bool) else type(value).__name__
    )


def _listed(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list | tuple) else (value,)
