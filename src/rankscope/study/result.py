"""What a study has measured: ``StudyResult``. In: a view and its evidence. Out: answers, a report.

Computes nothing itself: every number comes from ``report`` and ``stats``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rankscope.errors import InputError
from rankscope.plugins import did_you_mean
from rankscope.records import Contrast, Dropped
from rankscope.report import render
from rankscope.report.flip_rows import Flipped
from rankscope.storage.blobs import Blobs
from rankscope.study.stored import StoredAdapter


class StudyResult:
    """What a study has measured so far.

    ``has_more_to_measure``: ``run`` would still measure divergences, noise or lost trials; no verdict waits for it.
    ``read_items`` gives the texts of the test items, as ``report.evidence`` describes them.
    """

    def __init__(
        self,
        view: Any,
        evidence: Any,
        store: Path,
        has_more_to_measure: bool = False,
        read_items: Callable[[], dict[str, Any]] = dict,
    ):
        self._view, self.evidence, self._store = view, evidence, store
        self.has_more_to_measure, self._read_items = has_more_to_measure, read_items

    def view(self) -> Any:
        return self._view

    def full_view(self, is_whole: bool = False) -> Any:
        """The view with the texts of the items whose answer changed, which reads rows that lie here.

        ``is_whole``: with every such item, not only as many as a page should hold.
        """
        from rankscope.report.evidence import Index
        from rankscope.report.flip_choice import MOST_BYTES, flipped

        self.evidence = self.evidence if self.evidence.items else replace(self.evidence, items=self._read_items())
        most_bytes = None if is_whole else MOST_BYTES
        return replace(self._view, flipped=flipped(Index(self.evidence), self._view.advice, most_bytes))

    @property
    def verdict(self) -> str:
        return self._view.verdict

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """The first-seed runs that a race stopped early, with why. What they showed is partial and in no estimate."""
        return self.evidence.dropped

    @property
    def failed(self) -> list[tuple[str, str]]:
        """Runs and scorings that failed, by name, with what they said.

        A trial that lost counts for its training alone: no verdict needs its scores, and the notes say which failed.
        """
        runs = [(spec.name, found.message) for spec, _, found, _ in self.evidence.runs if found.status == "failed"]
        names = {key: spec.name for spec, key, _, role in self.evidence.runs if role == "final"}
        return runs + [(f"{names[key]} on {task}", found.message) for (key, task), found in self.evidence.evals.items()
                       if found.status == "failed" and key in names]  # fmt: skip

    @property
    def is_complete(self) -> bool:
        return not self._view.missing

    def table(self) -> list[dict[str, Any]]:
        def shown(e: Any) -> str:
            return "" if e is None else f"{e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]"

        several = len(self._view.models) > 1
        return [
            {
                **({"model": h.model} if several else {}),
                "train": h.train,
                "arm": h.arm,
                "gain": shown(h.gain and h.gain.contrast.estimate),
                "retention": shown(h.retention),
                "forgotten": shown(h.forgotten),
                "kept": h.kept,
                "seeds": h.num_seeds,
            }
            for h in self._view.headlines
        ]

    def transfer(self) -> tuple[Any, ...]:
        """Every cell train task x eval task of every arm; a cell's ``effect`` is None where nothing was measured."""
        return self._view.transfer

    def contrast(self, arm: str, other: str, task: str, train: str | None = None) -> Contrast:
        """The paired difference ``arm - other`` on one task; positive is better.

        ``train`` is needed if there are several.

        Raises InputError, with the nearest name, if this study doesn't compare the two there.
        """
        found = self._view.effects
        asked = (
            ("arm", arm, lambda e: e.contrast.arm),
            ("arm", other, lambda e: e.contrast.other),
            ("task", task, lambda e: e.task),
            ("train task", train, lambda e: e.train),
        )
        for what, wanted, of in asked:
            names = list(dict.fromkeys(map(of, found)))
            found = [e for e in found if wanted in (None, of(e))]
            if not found:
                raise InputError(f"no comparison with the {what} {wanted!r}{did_you_mean(str(wanted), names)}",
                                 hint=f"There is: {', '.join(names)}")  # fmt: skip
        if len(found) > 1:
            names = ", ".join(dict.fromkeys(e.train for e in found))
            raise InputError("several train tasks (or models) have this comparison; name one", hint=f"train: {names}")
        return found[0].contrast

    def recommend(
        self,
        retain: float | None = None,
        prefer: str | None = None,
        train: str | None = None,
        model: str | None = None,
    ) -> Any:
        """A ``stats.recommend.Recommendation``: the ranks that can be the best in domain, one arm, why, what then.

        ``retain`` (a share of what the base could do) and ``prefer`` (cost, retention or gain) stand in for those of
        the study file. ``train`` and ``model`` are needed if there are several. Raises InputError if there is no such
        recommendation.
        """
        from rankscope.report.advice import check_terms, under_terms

        check_terms(retain, prefer)
        found = [a for a in self._view.advice if train in (None, a.train) and model in (None, a.model)]
        if len(found) != 1:
            names = "; ".join(f"train {a.train}, model {a.model}" for a in self._view.advice) or "none"
            what = "several recommendations; name the train task or the model" if found else "no such recommendation"
            raise InputError(what, hint=". ".join([f"There are: {names}", *self.without_recommendation()]))
        if retain is None and prefer is None:
            return found[0].choice
        return under_terms(self.evidence, self._view.headlines, self._view.base, found[0], (retain, prefer))

    def roi(self, prices: Any = None, scenario: str = "base") -> list[Any]:
        """A year's cost, savings and hours of every arm: a ``stats.roi.Roi`` for each model and train task.

        ``prices`` is a YAML file of what you pay (``rankscope roi --template``) or a loaded ``config.prices.Prices``;
        without it no line has money. ``scenario`` (low, base, high) says which of three values counts. Raises
        InputError if no trained arm is done, the file is wrong or there is no such scenario.
        """
        from rankscope.config.prices import load
        from rankscope.config.reality import SCENARIOS
        from rankscope.stats.gpus import GPUS, gpu
        from rankscope.stats.roi import roi

        if scenario not in SCENARIOS:
            raise InputError(f"no scenario {scenario!r}{did_you_mean(scenario, SCENARIOS)}",
                             hint=f"There is: {', '.join(SCENARIOS)}")  # fmt: skip
        if not self._view.cases:
            raise InputError("no trained arm of this study is done, so nothing is measured", hint="Next: run the study")
        given = load(prices, [g.name for g in GPUS]) if isinstance(prices, str | Path) else prices
        card = gpu(given.gpu) if given and given.gpu else None
        return [roi(case, given.numbers if given else {}, card, scenario) for case in self._view.cases]

    def diagnostic(self, name: str) -> Any:
        """What one diagnostic said of all runs; ``frame()`` gives it as a tidy table.

        Raises InputError, with the nearest name, if nothing was measured by it.
        """
        from rankscope.study.frames import of_study

        return of_study(self.evidence, name)

    def without_recommendation(self) -> list[str]:
        """Why there is no recommendation, for each model and train task that has none."""
        from rankscope.report.advice import silences

        return silences(self.evidence, self._view.advice)

    def adapter(self, arm: str, seed: int, train: str | None = None, model: str | None = None) -> StoredAdapter:
        """The stored LoRA adapter of one run. Raises InputError if there is no such run or its weights are gone."""
        found = [(spec, key) for spec, key, _, role in self.evidence.runs if role == "final" and spec.train is not None
                 and (spec.arm.name, spec.seed) == (arm, seed) and train in (None, spec.train.name)
                 and model in (None, spec.model.name)]  # fmt: skip
        if len(found) != 1:
            names = list(dict.fromkeys(s.name for s, *_ in self.evidence.runs))
            what = f"no run of arm {arm!r} with seed {seed}"
            what = "several train tasks or models have this run; name one" if found else what
            raise InputError(what, hint=f"There are: {', '.join(names)}")
        spec, key = found[0]
        path = Blobs(self._store / "blobs").path(key)
        if spec.arm.kind != "lora" or not path.is_file():
            raise InputError(f"no stored weights of an adapter for {spec.name}", hint="See keep: in docs/config.md")
        return StoredAdapter(path, spec)

    def report(self, path: str | Path, format: str = "html", has_items: bool = True) -> Path:
        """Write the report; what was there before stays until the new one is whole.

        ``has_items``: with the test items whose answer changed, their questions and answers. Raises InputError if it
        can't be written.
        """
        view = self.full_view(is_whole=format == "json") if has_items else replace(self._view, flipped=Flipped())
        path, text = Path(path), render(view, format)
        new = path.with_name(path.name + ".new")
        try:
            new.write_text(text, encoding="utf-8")
            os.replace(new, path)
        except OSError as error:
            raise InputError(f"can't be written: {error.strerror}", where=str(path)) from error
        finally:
            with suppress(OSError):
                new.unlink(missing_ok=True)
        return path
