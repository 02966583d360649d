"""What is wrong with training rows, and how much of a test stands in them too. In: texts. Out: counts. No torch.

A text is a pair (prompt, target): what is asked, and the right answer. Everything here looks at *words*: the text in
lower case (Unicode NFKC), cut at white space and punctuation, which are dropped; an apostrophe is dropped without a
cut; a number with its inner points and commas is one word, so that 3.5 isn't 35; so is a Chinese or Japanese character.

- **Shared n-gram**: an item whose prompt and target have a run of ``n`` = 13 words that some training row has. A text
  of fewer than ``n`` words is one run as a whole: it is shared only with a row of the same words. Runs that stand in
  more than half of the training rows (of 20 or more) are the prompts' frame, such as an instruction, and don't count.
  Source: Brown et al., "Language Models are Few-Shot Learners" (2005.14165), appendix C, whose largest n is 13; the
  rules for short texts and for frames are rankscope's.
- **Same prompt**: the words of the item's prompt are those of a training row's prompt.
- **Same template**: they are so with every number read as the same. MathQA (1905.13319) is made from such templates.

Plain text has no prompt; there the text itself is compared. Runs are kept as 64-bit hashes, 12 bytes each: among a
million times a million, the chance that any two different ones are taken for equal is about 1 in 20 million.

Legend: N texts, G runs of words, K different runs, W words of a text, R runs of a text.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int, UInt64

from rankscope.records import Overlap, RowCounts

NGRAM = 13
"""Words in a run: the largest that 2005.14165 uses."""
_LEAST_FRAMED = 20  # below so many texts, what most of them share may be chance

_ONE = r"\u3040-\u30ff\u3400-\u9fff"  # kana and Han: no spaces between words
_WORD = re.compile(rf"\d+(?:[.,]\d+)*|[{_ONE}]|[^\W\d_{_ONE}]+")
_APOSTROPHE = re.compile("['\u2019]")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit of a word is lost

Text = tuple[str, str]


@dataclass(frozen=True)
class Prints:
    """The hashes of N texts: each text's distinct runs with the text they are of, its prompt and its template."""

    n: int
    grams: UInt64[np.ndarray, " G"]
    owners: Int[np.ndarray, " G"]
    prompts: UInt64[np.ndarray, " N"]
    templates: UInt64[np.ndarray, " N"]

    @cached_property
    def known(self) -> UInt64[np.ndarray, " K"]:
        """The runs of all texts, each once, without the frame."""
        found, counts = np.unique(self.grams, return_counts=True)
        most = len(self.prompts) / 2 if len(self.prompts) >= _LEAST_FRAMED else np.inf
        return found[counts <= most]


def words(text: str) -> list[str]:
    """The words of a text, as the module defines them."""
    return _WORD.findall(_APOSTROPHE.sub("", unicodedata.normalize("NFKC", text).lower()))


def count_rows(texts: Sequence[Text]) -> RowCounts:
    """Empty, repeated and contradicting training rows.

    ``empty``: no target, or a prompt that asks nothing: blank where others aren't, or (of 20 different prompts or more)
    with no word beyond those with which all prompts begin and end. ``duplicates``: rows whose prompt and target an
    earlier row has. ``conflicts``: rows whose prompt also stands with another target.
    """
    stripped = [(prompt.strip(), target.strip()) for prompt, target in texts]
    times, targets = Counter(stripped), {}
    for prompt, target in times:
        targets.setdefault(prompt, set()).add(target)
    silent = _silent(list(targets))
    return RowCounts(
        rows=len(texts),
        empty=sum(not target or prompt in silent for prompt, target in stripped),
        duplicates=len(stripped) - len(times),
        conflicts=sum(bool(prompt) and len(targets[prompt]) > 1 for prompt, _ in stripped),
    )


def fingerprint(texts: Sequence[Text], n: int = NGRAM) -> Prints:
    """The hashes of texts that ``compare`` needs. Work and memory grow with the number of words."""
    codes: dict[str, int] = {}
    grams, owners, prompts, templates = [], [], [], []
    for index, (prompt, target) in enumerate(texts):
        asked = words(prompt) or words(target)
        found = np.unique(_runs(_codes(words(f"{prompt} {target}"), codes), n))
        grams.append(found)
        owners.append(np.full(len(found), index, dtype=np.int32))
        prompts.append(_whole(_codes(asked, codes)))
        templates.append(_whole(_codes(["0" if word[0].isdigit() else word for word in asked], codes)))
    empty = np.zeros(0, dtype=np.uint64)
    return Prints(
        n,
        np.concatenate([empty, *grams]),
        np.concatenate([np.zeros(0, dtype=np.int32), *owners]),
        np.concatenate([empty, *prompts]),
        np.concatenate([empty, *templates]),
    )


def compare(train: Prints, test: Prints) -> Overlap:
    """How many of the test's items stand in the training texts too. Raises ValueError for runs of different lengths."""
    if train.n != test.n:
        raise ValueError(f"runs of {train.n} words can't be compared with runs of {test.n}")
    place = np.searchsorted(train.known, test.grams)  # by halves, since known is sorted: isin would sort it every time
    shared = test.owners[np.append(train.known, np.uint64(0))[place] == test.grams]
    exact = np.isin(test.prompts, train.prompts) & (test.prompts != 0)
    template = np.isin(test.templates, train.templates) & (test.templates != 0)
    return Overlap(len(test.prompts), len(np.unique(shared)), int(exact.sum()), int(template.sum()), train.n)


def _silent(prompts: list[str]) -> set[str]:
    """Of different prompts, those that ask nothing; none of them where all are blank (plain text)."""
    silent = {""} if any(prompts) else set()
    if len(prompts) < _LEAST_FRAMED:
        return silent
    asked = {prompt: words(prompt) for prompt in prompts if prompt}
    ends = _shared_start(list(asked.values())) + _shared_start([found[::-1] for found in asked.values()])
    return silent | {prompt for prompt, found in asked.items() if len(found) <= ends}


def _shared_start(lists: list[list[str]]) -> int:
    """How many words all lists begin with: those that the first and the last in order share."""
    first, last = min(lists), max(lists)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _codes(found: list[str], known: dict[str, int]) -> UInt64[np.ndarray, " W"]:
    """A 64-bit hash of each word, the same on every machine."""
    for word in found:
        if word not in known:
            known[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
    return np.array([known[word] for word in found], dtype=np.uint64)


def _runs(codes: UInt64[np.ndarray, " W"], n: int) -> UInt64[np.ndarray, " R"]:
    """The hash of every run of ``n`` words, of the whole if there are fewer; none of no words."""
    if not len(codes):
        return codes
    n = min(n, len(codes))
    found = np.full(len(codes) - n + 1, n, dtype=np.uint64)
    for start in range(n):
        found = found * _FACTOR + codes[start : start + len(found)]
    return found


def _whole(codes: UInt64[np.ndarray, " W"]) -> UInt64[np.ndarray, " 1"]:
    """The hash of all words as one run; 0 for no words."""
    return _runs(codes, len(codes)) if len(codes) else np.zeros(1, dtype=np.uint64)
