"""Plain twin of ``rankscope.data.overlap``: sets of words in plain view, nothing hashed, each item against each row."""

from __future__ import annotations

import unicodedata


def words(text: str) -> list[str]:
    """One character at a time."""
    found, current, kind = [], "", ""
    text = unicodedata.normalize("NFKC", text).lower()
    text = text.replace("'", "").replace("\u2019", "")
    for place, char in enumerate(text):
        after = text[place + 1] if place + 1 < len(text) else " "
        if char.isdecimal() or (char in ".," and kind == "number" and after.isdecimal()):
            now = "number"
        elif "\u3040" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff":
            now = "one"
        else:
            now = "word" if char.isalpha() else ""
        if current and (now != kind or kind == "one"):
            found.append(current)
            current = ""
        current = current + char if now else ""
        kind = now
    return [*found, current] if current else found


def runs(text: tuple[str, str], n: int) -> set[tuple[str, ...]]:
    found = words(" ".join(text))
    if len(found) < n:
        return {tuple(found)} if found else set()
    return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)}


def asked(text: tuple[str, str], is_masked: bool) -> list[str]:
    found = words(text[0]) or words(text[1])
    return ["0" if is_masked and word[0].isdigit() else word for word in found]


def compare(train, test, n: int) -> tuple[int, int, int, int]:
    """Items, and how many share a run, the prompt, the template."""
    in_train = [runs(text, n) for text in train]
    ngram = exact = template = 0
    for item in test:
        shared = set()
        for run in runs(item, n):
            times = sum(run in found for found in in_train)
            if times and not (len(train) >= 20 and times > len(train) / 2):
                shared.add(run)
        ngram += bool(shared)
        exact += any(asked(item, False) and asked(item, False) == asked(row, False) for row in train)
        template += any(asked(item, True) and asked(item, True) == asked(row, True) for row in train)
    return len(test), ngram, exact, template
