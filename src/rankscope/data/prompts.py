"""How questions become prompts. In: plain texts. Out: plain texts. Knows nothing about datasets, tasks or tokenizers.

Three formats: *cloze* (``Question: ...`` and ``Answer:``, and the text of each option is scored as a continuation),
*letters* (the options are listed and a letter is scored), and *few-shot* (worked examples in front of either). A prompt
never ends in a space: the space belongs to the continuation, because tokenizers join it with the word after it.

Cloze and letters are the two multiple-choice formats of Robinson et al., "Leveraging Large Language Models for Multiple
Choice Question Answering" (2210.12353); the letters format with its header is that of Hendrycks et al. (2009.03300).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def continuation(text: str) -> str:
    """The text as it follows a prompt: trimmed, behind one space."""
    return " " + text.strip()


def cloze(question: str) -> str:
    """``Question: <question>`` and, on a line of its own, ``Answer:``."""
    return f"Question: {question.strip()}\nAnswer:"


def letters(question: str, options: Sequence[str], lead: str = "Question: ") -> str:
    """The question, its options as ``A. <option>`` lines, and ``Answer:``. At most 26 options."""
    listed = "".join(f"{letter}. {option.strip()}\n" for letter, option in zip(LETTERS, options, strict=False))
    return f"{lead}{question.strip()}\n{listed}Answer:"


def few_shot(prompt: str, examples: Iterable[tuple[str, str]], header: str = "") -> str:
    """``header``, then each example's prompt and target and a blank line, then ``prompt``."""
    return header + "".join(f"{before}{target}\n\n" for before, target in examples) + prompt


def pick(pool: Iterable[tuple[str, str]], prompt: str, count: int) -> list[tuple[str, str]]:
    """The first ``count`` examples (prompt, target) of a pool that don't ask what ``prompt`` asks.

    May give fewer if the pool is small. The same pool gives the same examples on every run and for every arm.
    """
    found: list[tuple[str, str]] = []
    for example in pool:
        if len(found) == count:
            break
        if example[0] != prompt:
            found.append(example)
    return found
