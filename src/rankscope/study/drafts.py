"""Study files that aren't written yet, as studies. In: a question and a store. Out: the scale that fits a time budget.

Every prediction is ``Study.plan``'s, of the very text that would be written. Reads rows to count tokens; no weights and
no network: where a model or rows are not here, no time is predicted.
"""

from __future__ import annotations

from dataclasses import replace

import yaml

from rankscope.config.load import from_dict
from rankscope.config.starter import Question, Rates, Scale, study_text
from rankscope.models import locate
from rankscope.records import ModelRef
from rankscope.stats.cost import linear_shapes
from rankscope.study.sizing import Prediction, Rung, Sized, fit, foreseen, ladder, too_small
from rankscope.study.study import Study
from rankscope.tasks import task as tasks
from rankscope.tasks.samples import Sample

RANKS = (1, 4, 16, 64, 256)
"""The ranks wanted, as far as they are low for the model: one tried is within a factor of 2 of any that is best."""
_STEPS = 40  # least steps of a run: with fewer an arm hardly leaves the base, and arms can't be told apart
_BATCHES = (4096, 2048, 1024, 512, 256)
_NO_SIZES = "the model has no config.json here that tells its sizes"


def full_scale(model: str, seeds: int | None = None) -> Scale:
    """What a study should have where time is no matter; the starter's ranks for a model whose sizes aren't known."""
    shape = locate.shape(ModelRef(model))
    scale = Scale(seeds=Scale().seeds if seeds is None else seeds)
    if shape is None:
        return scale
    # From rank o i / (o + i) on, LoRA trains as many numbers as the matrix has.
    most = min(out * inner / (out + inner) for out, inner in linear_shapes(shape))
    return replace(scale, ranks=tuple(rank for rank in RANKS if rank < most) or RANKS[:1])


def size(question: Question, store: str | None = None, budget: float | None = None, seeds: int | None = None) -> Sized:
    """The scale of a study file. Paths of ``question`` start at the working folder.

    Raises InputError for what ``check`` would refuse, as far as it is here, and if even the smallest study takes longer
    than ``budget`` seconds.
    """
    top = full_scale(question.model, seeds)
    drafts = Drafts(question, store)
    missing = drafts.missing(top)
    drafts.check(top, not missing)
    if missing:
        return Sized(Rung(top), None, missing)
    whole = drafts.predict(top)
    if whole is None or budget is None:
        return Sized(Rung(drafts.with_batch(top)), whole, "" if whole else _NO_SIZES)
    rungs = ladder(top, seeds is None)
    found = fit(rungs, drafts.known, budget)
    if found is None:
        raise too_small(drafts.known(rungs[-1].scale), rungs[-1].scale, budget)
    rung, prediction = found
    return Sized(replace(rung, scale=drafts.with_batch(rung.scale)), prediction)


class Drafts:
    """One draft a scale. The file will name its paths from its own folder, which need not be there yet."""

    def __init__(self, question: Question, store: str | None = None):
        self.question, self.store = question, store
        self._first: Study | None = None
        self._known: dict[Scale, Prediction | None] = {}

    def study(self, scale: Scale) -> Study:
        """The study that the text would be. Raises ConfigError."""
        config = from_dict(yaml.safe_load(study_text(self.question, scale)))
        if self._first is None:
            self._first = Study(config)
        return self._first.like(config)

    def missing(self, scale: Scale) -> str:
        """What is in no file or folder here, so that the hub would have to be asked; nothing if all is."""
        study = self.study(scale)
        found = [m.name for m in study.config.models() if not locate.place(m).is_local and locate.shape(m) is None]
        train = [(ref, "train") for ref in study.config.train_refs()]
        tests = [(ref, None) for ref, _ in study.config.evaluations(None)]
        found += [ref.name for ref, split in (*train, *tests) if not tasks.is_local(ref, study.data_dir, split)]
        return f"not in local files: {', '.join(dict.fromkeys(found))}" if found else ""

    def check(self, scale: Scale, is_all_here: bool) -> None:
        """As ``rankscope check`` does; where the hub would have to be asked, only the rows that lie here."""
        study = self.study(scale)
        if is_all_here:
            study.check()
            return
        for ref in study.config.train_refs():
            if tasks.is_local(ref, study.data_dir, "train"):
                study.samples(tasks.resolve(ref, study.data_dir, "train", may_ask=False))
        for ref, _ in study.config.evaluations(None):
            if tasks.is_local(ref, study.data_dir):
                study.prepared(study.test_task(ref))

    def predict(self, scale: Scale) -> Prediction | None:
        """The most that the study takes, also if every ``lr: auto`` is extended as far as it goes. None: not known."""
        if scale not in self._known:
            rates: Rates = "widest" if scale.rates == "auto" else scale.rates
            found = foreseen(self.study(replace(scale, rates=rates)).plan(self.store))
            self._known[scale] = found.raced if found is not None and scale.race else found
        return self._known[scale]

    def known(self, scale: Scale) -> Prediction:
        """The same for a scale of a model whose whole study could be predicted."""
        found = self.predict(scale)
        assert found is not None
        return found

    def with_batch(self, scale: Scale) -> Scale:
        """The largest usual batch with which a run of every train task still takes enough steps."""
        study = self.study(scale)
        recipe = study.config.recipe()
        refs = [tasks.resolve(ref, study.data_dir, "train") for ref in study.config.train_refs()]
        fewest = (1 - recipe.validation) * min(sum(map(_tokens, study.samples(ref))) for ref in refs)
        return replace(scale, batch_tokens=next((b for b in _BATCHES if fewest / b >= _STEPS), _BATCHES[-1]))


def _tokens(sample: Sample) -> float:
    """About how many tokens a training row has: four characters each."""
    return (len(sample.prompt) + len(sample.target)) / 4
