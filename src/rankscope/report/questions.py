"""The source study's claims, asked of this study's scores. In: an evidence `Index`. Out: `Question` rows.

Which pairs and tables a claim is about is decided here; how it is judged, in ``rankscope.stats.claims``. Each claim is
a family of its own, in which arms that a race stopped count as comparisons that were never made. Tasks on which the
base is not above chance are left out unless they were taught.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np

from rankscope.report.answer_rows import Question
from rankscope.report.evidence import Index, Panel, difference, shared_items
from rankscope.report.family import POOLED, Status, as_pair, aspects, statuses, texts
from rankscope.report.rows import BaseRow
from rankscope.report.tables import blocks
from rankscope.stats import claims
from rankscope.stats.contrast import Pair
from rankscope.stats.mcb import Scores


def questions(index: Index, base: tuple[BaseRow, ...], margin: float) -> tuple[Question, ...]:
    """Every claim's answer, one set for each model and train task."""
    status = statuses(base)
    rows = []
    for model, train in blocks(index):
        if not train:  # arms that exist already: no rank was swept
            continue
        asked = _Asked(index, model, train, status)
        taught, kept = asked.against_full("in_domain"), asked.against_full(POOLED)
        answers = (
            claims.as_good_as_full(taught, margin, absent=asked.num_out(taught, claims.RANKS)),
            claims.recall_is_flat(asked.rank_pairs("recall"), margin, absent=asked.num_pairs_out("recall")),
            claims.reasoning_is_best_between(*asked.by_task("reasoning"), absent=len(asked.out)),
            claims.training_lowers_others(
                asked.across(), margin, alarm=index.evidence.alarm, absent=len(asked.out) * len(asked.others)
            ),
            claims.lora_is_above_full([pair for _, pair in kept], margin, absent=asked.num_out(kept)),
        )
        rows += [Question(model, train, a.claim, a.answer, a.test, a.why, claims.SOURCE) for a in answers]
    return tuple(rows)


class _Asked:
    """The panels of one model and train task, as the claims want them."""

    def __init__(self, index: Index, model: str, train: str, status: Status):
        self.index, self.model, self.train, self.status = index, model, train, status
        self.group = f"{model} trained on {train}"
        self.ranked = [a for a in index.trained_arms if a.kind == "lora"]
        self.out = index.out(model, train)
        self.tasks = dict(index.tasks(train))

    def panel(self, arm: str, task: str) -> Panel | None:
        return self.index.panel(self.index.finals(self.model, self.train, arm), task)

    def usable(self, task: str) -> bool:
        return self.tasks[task] == "in_domain" or self.status.get((self.model, task)) is not False

    def against_full(self, aspect: str) -> list[tuple[int, Pair]]:
        """(rank, LoRA - full) on the first in-domain task, or on what the aspect of that name pools."""
        found = []
        fulls = [a for a in self.index.trained_arms if a.kind == "full"]
        for name, _, tasks in aspects(self.index, self.model, self.train, self.status):
            # By name: a pool of a skill may be of the very same task, and would be compared a second time.
            if name != (self.in_domain if aspect == "in_domain" else aspect):
                continue
            for arm in self.ranked:
                for full in fulls:
                    pairs = {t: difference(self.panel(arm.name, t), self.panel(full.name, t), False) for t in tasks}
                    pair = as_pair({t: p for t, p in pairs.items() if p is not None}, arm.name, full.name, name,
                                   self.group)  # fmt: skip
                    found += [(arm.top_rank, pair)] if pair is not None else []
        return found

    def num_out(self, pairs: list[tuple[int, Pair]], ranks: tuple[int, int] | None = None) -> int:
        """How many of these comparisons the stopped arms (between two ranks) would have had: as many as the others."""
        each = max(Counter(pair.arm for _, pair in pairs).values(), default=0)
        return each * sum(ranks is None or ranks[0] <= (arm.top_rank or 0) <= ranks[1] for arm in self.out)

    def num_pairs_out(self, skill: str) -> int:
        """How many pairs of ranks have a stopped arm in them, over the tasks of a skill."""
        pairs = [pair for pair in combinations(self.ranked, 2) if any(arm in self.out for arm in pair)]
        return len(self.of_skill(skill)) * sum(one.top_rank != other.top_rank for one, other in pairs)

    @property
    def in_domain(self) -> str | None:
        return next((t for t, role in self.tasks.items() if role == "in_domain"), None)

    def of_skill(self, skill: str) -> list[str]:
        return [t for t in self.tasks if self.index.evidence.skills.get(t) == skill and self.usable(t)]

    def rank_pairs(self, skill: str) -> list[Pair]:
        """The differences of all pairs of LoRA arms of different rank on each task of a skill."""
        found = []
        for task in self.of_skill(skill):
            for one, other in combinations(self.ranked, 2):
                change = difference(self.panel(one.name, task), self.panel(other.name, task), False)
                if one.top_rank != other.top_rank and change is not None:
                    found.append(as_pair({task: change}, one.name, other.name, task, self.group))
        return found

    def by_task(self, skill: str) -> tuple[dict[str, list[Scores]], dict[str, int], dict]:
        """Scores of all LoRA arms on each task of a skill, their ranks, and the items' clusters."""
        tables, clusters = {}, {}
        for task in self.of_skill(skill):
            panels = {a.name: p for a in self.ranked if (p := self.panel(a.name, task)) is not None}
            panels = shared_items(panels)
            if panels:
                tables[task] = [Scores(name, _more_is_better(p), p.seeds) for name, p in panels.items()]
                clusters[task] = next(iter(panels.values())).clusters
        return tables, {a.name: a.top_rank for a in self.ranked}, clusters

    @property
    def others(self) -> list[str]:
        """The tasks of another domain that can show something."""
        in_nats = texts(self.index, self.train)
        cross = [task for task, role in self.tasks.items() if role == "cross_domain" and task not in in_nats]
        return [task for task in cross if self.usable(task)]

    def across(self) -> list[Pair]:
        """Every trained arm against the base on each task of another domain."""
        base, found = self.index.base(self.model), []
        for task in self.others if base else ():
            for arm in self.index.trained_arms:
                change = difference(self.panel(arm.name, task), self.index.panel((base,), task), True)
                if change is not None and change.higher_is_better:
                    found.append(as_pair({task: change}, arm.name, "base", task, self.group))
        return found


def _more_is_better(panel: Panel) -> np.ndarray:
    """The scores (S, N), nats turned so that a lower loss is more."""
    return panel.values if panel.higher_is_better else -panel.values
