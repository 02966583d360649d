"""One sample, and the two ways most rows become one. In: fields of a row. Out: ``Sample``.

Knows the prompt formats; knows nothing about files, models or scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rankscope.data import prompts
from rankscope.errors import DataError

_ANSWER_HINT = "Write an index from 0, the text of a choice, or its letter"


@dataclass(frozen=True)
class Sample:
    """One question as a model meets it.

    ``prompt`` ends without a space (and is empty for plain text). ``target`` is the training completion with its
    leading space; for choices it is the right one of ``choices``, the continuations whose likelihood is compared, and
    ``answer`` is its index from 0. ``id`` is the same in every form, so that items pair across forms and shots.

    ``prompts``, one a choice, are there where choices differ in the context and not in the continuation (WinoGrande):
    each choice is then scored behind its own, and ``prompt`` is the right one, the one to train on. ``accepted`` are
    further right answers: texts for a scorer of generations, continuations among ``choices`` for one that takes several
    as right; the target need not be among them.

    ``turns`` make it a conversation: (role, text), the last one the assistant's. Then the model's chat template makes
    the tokens, every assistant turn is trained on and the last one is asked for; ``prompt`` and ``target`` are the same
    words as plain text, for people and for comparing rows.
    """

    id: str
    prompt: str
    target: str
    choices: tuple[str, ...] = ()
    answer: int | None = None
    subject: str = ""
    cluster: str = ""
    prompts: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    turns: tuple[tuple[str, str], ...] = ()


def item_id(*texts: str) -> str:
    """A stable id for a row that has none: 12 hex digits of the SHA-256 of its texts (48 bits)."""
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()[:12]


def choice_sample(
    question: str,
    options: Sequence[str],
    answer: int,
    form: str,
    *,
    id: str = "",
    subject: str = "",
    cluster: str = "",
    lead: str = "Question: ",
) -> Sample:
    """A multiple-choice question in the form ``cloze`` or ``letters``.

    ``lead`` stands before the question in the letters form. Without an ``id`` the question and its options make one.
    Raises DataError if ``answer`` is no index of ``options``, if an option is empty, or for fewer than two options.
    """
    _check_choices(options, answer)
    if form == "letters":
        prompt = prompts.letters(question, options, lead)
        choices = tuple(f" {letter}" for letter in prompts.LETTERS[: len(options)])
    else:
        prompt = prompts.cloze(question)
        choices = tuple(prompts.continuation(option) for option in options)
    return Sample(id or item_id(question, *options), prompt, choices[answer], choices, answer, subject, cluster)


def labelled_sample(row: Mapping[str, Any], question: str, form: str) -> Sample:
    """A row of the ARC family: ``choices`` with ``text`` and ``label`` lists, ``answerKey`` one of the labels.

    Labels may be letters or digits and as many as there are options. Raises DataError if the key is no label.
    """
    labels = list(row["choices"]["label"])
    if row["answerKey"] not in labels:
        raise DataError("answerKey is none of the labels", got=row["answerKey"], hint=f"Labels: {', '.join(labels)}")
    options = list(row["choices"]["text"])
    return choice_sample(question, options, labels.index(row["answerKey"]), form, id=str(row["id"]))


def plain_sample(row: Mapping[str, Any], form: str) -> Sample:
    """A row in rankscope's own format: ``prompt``, and ``completion`` or ``choices`` with ``answer``.

    ``answer`` is an index from 0, the text of a choice, or its letter; ``id``, ``subject`` and ``cluster`` are
    optional. The prompt is used as it stands (trailing space left out); in the letters form the options and
    ``Answer:`` are put under it. Raises DataError for a row that doesn't have what ``form`` needs.
    """
    prompt = _text(row, "prompt").rstrip()
    id, subject, cluster = _plain_id(row, prompt), str(row.get("subject") or ""), str(row.get("cluster") or "")
    if form in ("generate", "completion"):
        completion = _text(row, "completion")
        target = completion.rstrip() if completion[:1].isspace() else prompts.continuation(completion)
        return Sample(id, prompt, target, subject=subject, cluster=cluster)
    options = row.get("choices")
    if not isinstance(options, list | tuple) or not all(isinstance(option, str) for option in options):
        raise DataError(
            "'choices' must be a list of texts", got=options, hint="Or give every row a 'completion' instead"
        )
    answer = _index(row.get("answer"), options)
    _check_choices(options, answer)
    if form == "letters":
        listed = choice_sample(prompt, options, answer, "letters", lead="")
        prompt, choices = listed.prompt, listed.choices
    else:
        choices = tuple(prompts.continuation(option) for option in options)
    return Sample(id, prompt, choices[answer], choices, answer, subject, cluster)


def text_sample(row: Mapping[str, Any]) -> Sample:
    """A row with ``text``: nothing is asked, all of it is scored. Raises DataError if it is missing or empty."""
    text = _text(row, "text").strip()
    subject, cluster = str(row.get("subject") or ""), str(row.get("cluster") or "")
    return Sample(str(row.get("id") or item_id(text)), "", text, subject=subject, cluster=cluster)


def chat_sample(turns: Sequence[tuple[str, str]], *, id: str = "", subject: str = "", cluster: str = "") -> Sample:
    """A conversation, its last turn the answer that is asked for. Without an ``id`` all its texts make one.

    Raises DataError if it doesn't end in an assistant turn with something before it, or begins with one.
    """
    if len(turns) < 2 or turns[-1][0] != "assistant" or turns[0][0] == "assistant":
        raise DataError("a conversation begins with a user or system turn and ends with an assistant turn",
                        got=", ".join(role for role, _ in turns))  # fmt: skip
    prompt = "\n".join(f"{role}: {text}" for role, text in turns[:-1]).rstrip()
    words = [part for turn in turns for part in turn]
    target = prompts.continuation(turns[-1][1])
    return Sample(id or item_id(*words), prompt, target, subject=subject, cluster=cluster, turns=tuple(turns))


def _text(row: Mapping[str, Any], field: str) -> str:
    value = row.get(field)
    if value is None:
        raise DataError(f"the row has no {field!r}", hint=f"Its fields: {', '.join(row) or 'none'}")
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{field!r} must be a text that isn't empty", got=value)
    return value


def _plain_id(row: Mapping[str, Any], prompt: str) -> str:
    if row.get("id") is not None:
        return str(row["id"])
    options = row.get("choices")
    parts = [str(option) for option in options] if isinstance(options, list | tuple) else []
    return item_id(prompt, *parts, str(row.get("completion") or ""))


def _index(answer: Any, options: Sequence[str]) -> int:
    """Index, text of the choice, or letter; the text is tried first because a choice may itself be a letter."""
    if answer is None:
        raise DataError("a row with 'choices' needs an 'answer'", hint=_ANSWER_HINT)
    if isinstance(answer, int) and not isinstance(answer, bool):
        return answer
    if isinstance(answer, str):
        texts = [option.strip() for option in options]
        if answer.strip() in texts:
            return texts.index(answer.strip())
        if len(answer.strip()) == 1 and (index := prompts.LETTERS.find(answer.strip().upper())) >= 0:
            return index
    raise DataError("'answer' is none of the choices", got=answer, hint=_ANSWER_HINT)


def _check_choices(options: Sequence[str], answer: int) -> None:
    if not 2 <= len(options) <= len(prompts.LETTERS):
        raise DataError(f"a question needs 2 to {len(prompts.LETTERS)} choices", got=len(options))
    if not all(option.strip() for option in options):
        raise DataError("a choice is empty", got=list(options))
    if not 0 <= answer < len(options):
        raise DataError(f"'answer' must point at one of the {len(options)} choices", got=answer)
