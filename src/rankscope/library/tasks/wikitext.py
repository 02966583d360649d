"""WikiText-2: how well the model still predicts good articles of Wikipedia, in nats per token. Lower is better.

Paper: Merity et al., "Pointer Sentinel Mixture Models" (1609.07843).
Data: hub Salesforce/wikitext, config wikitext-2-raw-v1: 36,718 / 3,760 / 4,358 rows, which are lines; about 60 articles
in test.
Licence: CC BY-SA 3.0 and GFDL.
Chance: none; lower is better.

What is scored: lines are joined into articles at their headings (``= Title =``), empty lines are left out, and an
article is cut between lines into passages of at most 2,500 characters (more where a paragraph alone is longer, or where
less than 500 would stand by themselves). Each passage is an item, scored by itself from its first token on, without the
text before it, and cut at 768 tokens. The dataset's tokenisation is undone (``@-@``, spaces before punctuation and
apostrophes and within brackets and quotation marks, the equals signs of headings). The score is the mean over passages
of nats per token, not the perplexity over the whole text that papers and lm-evaluation-harness give. Passages of an
article are alike: the article is the ``cluster``. A ``limit`` takes passages of all articles in turn.

Worked instance (invented): 'The Brell is a river in the north of the county. It is 41 km long.' scored as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from rankscope.data.dataset import Rows, Source, read
from rankscope.errors import DataError
from rankscope.provenance import content_key
from rankscope.tasks.samples import Sample, item_id, text_sample
from rankscope.tasks.task import Folder, Task

MOST = 2500
LEAST = 500
SOURCE = Source(
    "wikitext",
    "Salesforce/wikitext",
    "wikitext-2-raw-v1",
    splits=(("train", "train"), ("validation", "validation"), ("test", "test")),
)
_TITLE = re.compile(r"= [^=].*[^=] =|= [^=] =")
_HEADING = re.compile(r"=( =)* (.+?) =( =)*")
_SPACES = (
    (re.compile(r" @([-.,])@ "), r"\1"),
    (re.compile(r" ([,.;:!?)\]%])"), r"\1"),
    (re.compile(r"([(\[]) "), r"\1"),
    (re.compile(r" ('\w)"), r"\1"),
    (re.compile(r'" ([^"]*) "'), r'"\1"'),
)


def to_sample(row: dict[str, Any], form: str, index: int) -> Sample:
    """The passage as the only thing to score; its article is subject and cluster."""
    return replace(text_sample(row), subject=row["title"], cluster=item_id(row["title"]))


def rows(options: Mapping[str, Any], split: str, data_dir: Folder) -> Rows:
    """The passages of a split, each with its article's title. Raises DataError if there is no text."""
    lines = read(SOURCE, split, data_dir)
    found = [(passage, lines.place(index)) for passage, index in _passages(lines)]
    if not found:
        raise DataError("wikitext has no text", where=lines.origin)
    key = content_key([lines.key, MOST, LEAST])
    return Rows(tuple(passage for passage, _ in found), key, lines.origin, tuple(place for _, place in found))


def plain(line: str) -> str:
    """A line as people write it: the dataset's tokenisation undone, a heading without its signs."""
    line = line.strip()
    if heading := _HEADING.fullmatch(line):
        line = heading.group(2)
    for pattern, written in _SPACES:
        line = pattern.sub(written, line)
    return line


def _passages(lines: Rows) -> Iterator[tuple[dict[str, str], int]]:
    """Each passage with the index of its first line."""
    title, article = "", []
    for index, row in enumerate(lines.rows):
        line = row["text"].strip()
        if _TITLE.fullmatch(line):
            yield from _cut(title, article)
            title, article = plain(line), []
        if line:
            article.append((plain(line), index))
    yield from _cut(title, article)


def _cut(title: str, article: list[tuple[str, int]]) -> Iterator[tuple[dict[str, str], int]]:
    """One article between lines into passages."""
    passages: list[tuple[str, int]] = []
    for line, index in article:
        text, first = passages[-1] if passages else ("", index)
        if passages and (len(text) < LEAST or len(text) + 1 + len(line) <= MOST):
            passages[-1] = (f"{text}\n{line}", first)
        else:
            passages.append((line, index))
    if len(passages) > 1 and len(passages[-1][0]) < LEAST:
        (text, first), (last, _) = passages[-2:]
        passages[-2:] = [(f"{text}\n{last}", first)]
    yield from (({"text": text, "title": title}, index) for text, index in passages)


PLUGIN = Task(
    name="wikitext",
    summary="Cross-entropy on passages of good Wikipedia articles",
    source=SOURCE,
    to_sample=to_sample,
    forms=("text",),
    default_form="text",
    uniform=None,
    skill="language",  # how articles go on
    licence="CC BY-SA 3.0, GFDL",
    paper="1609.07843",
    example={"text": "The Brell is a river in the north of the county. It is 41 km long.", "title": "Brell"},
    metric="cross_entropy",
    is_trainable=False,
    spread_limit=True,
    rows=rows,
)
