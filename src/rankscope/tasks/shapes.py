"""The user's rows, whatever their columns are called, as rows of one shape. In: rows and options. Out: rows.

A row comes out with some of ``turns`` (a conversation), ``prompt`` and ``completion``, ``choices`` and ``answer`` (an
index), ``text``; and ``id``, ``subject``, ``cluster``. Which, the options say by columns or templates, or else the
names of the columns (``detect``). A row in which a part that its form uses is blank is left out and counted; a row
without the column is an error, as is everything else that would have to be guessed.

The layout of instruction data is that of Stanford Alpaca (Taori et al. 2023, github.com/tatsu-lab/stanford_alpaca):
``instruction``, an optional ``input`` and ``output``; ``conversations`` with ``from`` and ``value`` is ShareGPT's.
Knows nothing about files, models or scores.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rankscope import plugins
from rankscope.data.files import Rows
from rankscope.errors import DataError
from rankscope.tasks.cells import answer as answer_of
from rankscope.tasks.cells import field, plain, text
from rankscope.tasks.cells import options as options_of

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
_LAYOUT = ("messages", "prompt", "completion", "choices", "text")  # any of these options says the layout


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


def shaped(found: Rows, options: Mapping[str, Any], form: str = "default") -> Rows:
    """The rows in our shape, blank ones left out (``origin`` says how many). ``form``: see ``kept``. Raises as it."""
    return kept(found, options, form)[0]


def kept(found: Rows, options: Mapping[str, Any], form: str = "default") -> tuple[Rows, tuple[int, ...]]:
    """The rows in our shape and the index that each had; blank ones are left out (``origin`` says how many).

    A row is blank if a part of it that ``form`` uses is; ``default`` is the form that its layout has. Raises DataError
    for columns that aren't there or can't be understood, for rows of several layouts, for a row that makes no sense
    (with its place) and if no row is left.
    """
    plan = detect(tuple(dict.fromkeys(name for row in found.rows for name in row)), options, found.place(0))
    if form != "text" and not any(options.get(name) is not None for name in _LAYOUT):
        _check_alike(found, options.get("answer") or "answer")
    used = _used(plan, form)
    rows, indices = [], []
    for index, row in enumerate(found.rows):
        try:
            one = _shaped(row, plan, used)
        except DataError as error:
            raise DataError(error.what, got=error.got, where=found.place(index), hint=error.hint) from error
        if one is not None:
            rows.append(one)
            indices.append(index)
    if not rows:
        raise DataError("every row is blank: no prompt, answer or text in it", got=len(found.rows), where=found.origin)
    blank = len(found.rows) - len(rows)
    origin = f"{found.origin}, {blank} blank rows left out" if blank else found.origin
    places = tuple(found.place(index) for index in indices)
    return replace(found, rows=tuple(rows), places=places, origin=origin, blank=blank), tuple(indices)


def detect(columns: Sequence[str], options: Mapping[str, Any], where: str | None = None) -> dict[str, Any]:
    """What each part of a row is made from, by the options or else by the columns' names; an option always wins.

    The plan has ``messages``, ``text``, ``choices`` and ``answer`` as columns, ``prompt`` and ``completion`` as
    templates, ``alpaca`` as a mark, ``guessed`` as the labels that no option names. Raises DataError if the columns fit
    no known layout or aren't there, or if options contradict each other.
    """
    plan: dict[str, Any] = {name: options[name] for name in (*_LABELS, "messages", "text", "choices", "answer", "chat")
                            if options.get(name) is not None}  # fmt: skip
    plan |= {name: template(name, options[name]) for name in ("prompt", "completion") if options.get(name) is not None}
    if not isinstance(plan.get("chat", False), bool):
        raise DataError("chat: must be true or false", got=plan["chat"])
    for name in (*_LABELS, "messages", "text", "answer"):
        if not isinstance(plan.get(name, ""), str):
            raise DataError(f"{name}: must be the name of a column", got=plan[name])
    for whole in ("messages", "text"):
        others = [name for name in (*_LAYOUT, "answer") if name in plan and name != whole]
        if whole in plan and others:
            raise DataError(f"{whole}: is the whole of a row and contradicts {', '.join(others)}", got=plan[whole],
                            hint="Leave one of them out")  # fmt: skip
    _check_columns(plan, columns, where)
    if not any(name in plan for name in _LAYOUT):
        plan = _by_names(columns, plan.pop("answer", "answer"), where) | plan
    elif "prompt" in plan or "completion" in plan or "choices" in plan:
        _complete(plan, columns)
    if (
        (answer := options.get("answer"))
        and "choices" not in plan
        and plan.get("completion") != Template((("", answer),))
    ):
        raise DataError(
            "answer: is for rows with choices", got=answer, hint="Name the text to learn: completion: COLUMN"
        )
    guessed = tuple(name for name in _LABELS if name in columns and name not in plan)
    return plan | {name: name for name in guessed} | {"guessed": guessed}


def _complete(plan: dict[str, Any], columns: Sequence[str]) -> None:
    """What the options leave open is taken from the columns of that very name. Raises DataError if it isn't there."""
    if "answer" in plan and "completion" not in plan and "choices" in columns:
        plan.setdefault("choices", "choices")
    for name in ("prompt", "completion"):
        if name not in plan and name in columns and not (name == "completion" and "choices" in plan):
            plan[name] = template(name, name)
    if "choices" in plan and "answer" not in plan and "answer" in columns:
        plan["answer"] = "answer"
    if "prompt" not in plan:
        raise DataError("a row needs a prompt", hint="Name its column: prompt: COLUMN")
    if "choices" in plan and "answer" not in plan:
        raise DataError("choices need an answer", hint="Name the column of the right one: answer: COLUMN")
    if "choices" not in plan and "completion" not in plan:
        raise DataError("a prompt needs a completion or choices", hint="Name the column: completion: COLUMN")


def _by_names(columns: Sequence[str], answer: str, where: str | None) -> dict[str, Any]:
    """The plan of the layout that the columns' names fit; ``answer`` is the column that holds the answer."""
    has = set(columns)
    plan: dict[str, Any] = {}
    if conversation := next((name for name in ("messages", "conversations") if name in has), None):
        return {"messages": conversation}
    question = "prompt" if "prompt" in has else "question" if "question" in has else None
    if question and {"choices", answer} <= has:
        plan |= {"prompt": template("prompt", question), "choices": "choices", "answer": answer}
    if "prompt" in has and "completion" in has:
        plan |= {"prompt": template("prompt", "prompt"), "completion": template("completion", "completion")}
    if not plan and {"instruction", "output"} <= has:
        plan |= {"alpaca": True}
    if not plan and {"question", answer} <= has:
        plan |= {"prompt": template("prompt", "question"), "completion": Template((("", answer),))}
    if "text" in has:
        plan |= {"text": "text"}
    if not plan:
        hint = f"Say which to use with prompt: and completion:, or name them as one of: {_KNOWN}"
        raise DataError("the columns fit no known layout", got=", ".join(map(str, columns)), where=where, hint=hint)
    return plan


def _check_columns(plan: Mapping[str, Any], columns: Sequence[str], where: str | None) -> None:
    """Columns that the options name must be in some row."""
    for option, value in plan.items():
        named = value.columns if isinstance(value, Template) else _listed(value)
        for column in named if option != "chat" else ():
            if column not in columns:
                near = plugins.did_you_mean(str(column), [str(c) for c in columns])
                raise DataError(f"{option}: no column {column!r}{near}", where=where,
                                hint=f"The columns: {', '.join(map(str, columns))}")  # fmt: skip


def _check_alike(found: Rows, answer: str) -> None:
    """Raises DataError at the first row whose columns' names say another layout than the first row's."""
    layouts: dict[tuple[str, ...], Any] = {}
    for index, row in enumerate(found.rows):
        columns = tuple(row)
        if columns not in layouts:
            try:
                plan = _by_names(columns, answer, None)
            except DataError:
                continue  # a column is missing, which the row itself will say
            layouts[columns] = {name: made for name, made in plan.items() if name != "text"}
            if layouts[columns] != next(iter(layouts.values())):
                raise DataError("rows of different layouts in one file", got=", ".join(columns),
                                where=found.place(index), hint="Put each layout into a file of its own")  # fmt: skip


def _used(plan: Mapping[str, Any], form: str) -> tuple[str, ...]:
    """The parts of the plan that a row can't be without in this form."""
    asked = ("prompt", "completion")
    if form == "text":
        return ("text",)
    if form in ("completion", "generate") or plan.get("chat"):
        return asked
    if form in ("cloze", "letters") or "choices" in plan:
        return ("prompt", "choices")
    return asked if "completion" in plan or "alpaca" in plan else ("text",)


def _shaped(row: Mapping[str, Any], plan: Mapping[str, Any], used: Sequence[str]) -> dict[str, Any] | None:
    """One row in our shape, None if it is blank. Parts that aren't used are there if the row has their columns."""
    out = _labels(row, plan)
    if "messages" in plan:
        turns = _turns(field(row, plan["messages"]), plan["messages"])
        return out | {"turns": turns} if turns else None
    if "alpaca" in plan and ("text" not in used or {"instruction", "output"} <= set(row)):
        out |= _alpaca(row, bool(plan.get("chat")))
    for name in ("prompt", "completion", "text"):
        made = Template((("", plan[name]),)) if name == "text" and name in plan else plan.get(name)
        if made and (name in used or all(column in row for column in made.columns)):
            out[name] = _filled(row, made)
    if any(not out[name].strip() for name in used if name in out):
        return None
    if "choices" in plan and ("choices" in used or all(name in row for name in _listed(plan["choices"]))):
        out["choices"], labels = options_of(row, plan["choices"])
        out["answer"] = answer_of(field(row, plan["answer"]), out["choices"], labels)
    if plan.get("chat"):
        return _as_chat(out)
    return out


def _labels(row: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """``id``, ``subject`` and ``cluster`` as far as the row says them; guessed columns may hold what they like."""
    out = {}
    for name in _LABELS:
        value = row.get(plan[name]) if name in plan else None
        if name in plan["guessed"] and (isinstance(value, bool) or not isinstance(value, str | int | float)):
            continue
        if said := plain(value, plan.get(name, name)).strip():
            out[name] = said
    return out


def _as_chat(row: dict[str, Any]) -> dict[str, Any]:
    if "completion" not in row:
        raise DataError("chat: true is for rows with a completion", hint="Leave chat out for choices and plain texts")
    return {name: row[name] for name in _LABELS if name in row} | {
        "turns": (("user", row["prompt"].strip()), ("assistant", row["completion"].strip()))
    }


def _alpaca(row: Mapping[str, Any], is_chat: bool) -> dict[str, Any]:
    """Alpaca's two layouts, with and without an input; in a chat the model's own template takes their place."""
    instruction, answer = text(row, "instruction").strip(), text(row, "output")
    more = text(row, "input").strip() if row.get("input") is not None else ""
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
        role, said = (turn.get("from"), turn.get("value")) if is_share else (turn.get("role"), turn.get("content"))
        if not isinstance(role, str) or role not in ROLES:
            raise DataError(f"turn {number} has a role that isn't known", got=role, hint=f"Known: {', '.join(ROLES)}")
        if turn.get("tool_calls") or turn.get("function_call"):
            raise DataError(f"turn {number} calls tools, which isn't supported", hint="Leave such rows out")
        if not isinstance(said, str | None):
            raise DataError(f"the text of turn {number} must be a text", got=type(said).__name__)
        found.append((ROLES[role], said or ""))
    while found and found[-1][0] != "assistant":
        found.pop()  # nothing answers these turns, so nothing can be learned or asked
    if not found or not all(said.strip() for role, said in found if role != "system"):
        return ()
    found = [turn for turn in found if turn[1].strip()]
    if found[0][0] == "assistant":
        raise DataError(
            "a conversation can't begin with an answer", hint="Leave such rows out, or put a question first"
        )
    return tuple(found)


def _filled(row: Mapping[str, Any], made: Template) -> str:
    """The template with the row's cells in it; '' if all of them are blank, as words alone ask and say nothing."""
    cells = [text(row, column) if column else "" for _, column in made.parts]
    if not any(cell.strip() for cell in cells):
        return ""
    return "".join(words + cell for (words, _), cell in zip(made.parts, cells, strict=True))


def _listed(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list | tuple) else (value,)
