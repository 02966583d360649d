"""How near does `rankscope plan` come? A table for people, then one JSON line.

    python benchmarks/plan_accuracy.py --store runs [--study study.yaml [--set KEY=VALUE] [--data-dir DIR]]

Every finished piece of work of a store is predicted from the others that lie there, as a plan would: a run from the
other runs, and from the runs on other train tasks alone; a scoring from what other runs took. Ratios are predicted over
measured. Targets: a run's time within 30 %, its memory within 20 %. On a machine that does other things too a single
run's seconds are its neighbours' doing, so that totals say more.

With a study its tokens are counted anew from its rows, as for a study that never ran, and the whole of it is predicted
without any calibration, to see whether the measured time lies in the range.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence

import numpy as np

from rankscope.models.locate import local_folder, shape
from rankscope.records import ModelRef
from rankscope.storage.history import Past, history
from rankscope.storage.store import Store
from rankscope.study.calibration import Calibration, Job, spec_of
from rankscope.study.forecast import plausible
from rankscope.study.host import here
from rankscope.study.sizes import model_size, score_flops, train_flops
from rankscope.study.study import Study
from rankscope.study.tokens import Counter

TARGETS = {"seconds": 0.3, "bytes": 0.2}
Row = tuple[str, float, float]  # what, predicted, measured


def shapes(ref: ModelRef) -> dict | None:
    try:
        return shape(ref)
    except Exception:  # noqa: BLE001  (a model that is gone: its memory can't be counted)
        return None


def predicted(past: Sequence[Past], device: str, is_half: bool) -> Iterator[Row]:
    """Every piece of work from the others."""
    whole = [p for p in past if p.device == device]
    for one in whole:
        others = Calibration([p for p in whole if p.key != one.key], device, is_half, shapes)
        spec = spec_of(one.spec)
        if one.kind != "train":
            job = Job(one.kind, spec.model, one.arm, one.name, one.measure, one.ledger.flops or None)
            if (span := others.seconds(job)) is not None and span.value is not None and one.ledger.seconds > 0:
                yield f"{one.kind}, seconds", span.value, one.ledger.seconds
            continue
        rest = [p for p in whole if p.spec["train"] is None or p.spec["train"] != one.spec["train"]]
        size = model_size(spec.model, shapes(spec.model), device != "cpu")
        for name, known in (("", others), (" from other tasks", Calibration(rest, device, is_half, shapes))):
            job = Job("train", spec.model, one.arm, one.name, "", one.ledger.flops, spec.arm.rank)
            if (span := known.seconds(job)) is not None and span.value is not None:
                yield f"train{name}, seconds", span.value, one.ledger.seconds
            if size is not None and (peak := known.train_bytes(size, [spec])).value is not None:
                yield f"train{name}, bytes", peak.value, float(one.ledger.peak_bytes)


def counted(study: Study, past: Sequence[Past]) -> Iterator[Row]:
    """Tokens of the study's rows as a plan counts them, beside those of its finished work."""
    (model, *_), pairs = study.resolve()
    here = local_folder(model)
    counter = Counter(None if here is None else str(here))
    for raw, ref in pairs:
        own = [p.ledger.tokens for p in past if p.kind == "train" and p.spec["train"]["data_key"] == ref.data_key]
        if own:
            tokens = counter.train_tokens(study.config.recipe(), study.samples(ref))
            yield f"tokens of a run on {raw.name}", float(tokens), float(np.mean(own))
    for raw, _ in study.config.evaluations(None):
        task = study.test_task(raw)
        prepared = study.prepared(task)
        own = [p.ledger.tokens for p in past if p.kind == "weigh" and p.name == task.task and p.arm == "base"]
        if own and prepared.kind != "generate" and not task.shots:
            yield f"tokens of {raw.name}", float(counter.weighed(prepared.samples)), float(max(own))


def uncalibrated(past: Sequence[Past]) -> dict[str, tuple[float, float, float]]:
    """By kind: low, high and measured seconds of all finished work, without a look at what anything took."""
    host, found = here(), {}
    for kind in ("train", "weigh", "kl", "generate"):
        low = high = measured = 0.0
        for p in (p for p in past if p.kind == kind):
            spec = spec_of(p.spec)
            if (size := model_size(spec.model, shapes(spec.model), host.is_gpu)) is None:
                continue
            flops = train_flops(size, spec, p.ledger.tokens) if kind == "train" else score_flops(size, p.ledger.tokens)
            span = plausible(host, size, kind) * flops
            low, high, measured = low + span.low, high + span.high, measured + p.ledger.seconds
        if measured:
            found[kind] = (low, high, measured)
    return found


def summary(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """By what: how many, ratios (median, 10 and 90 %), share within the target, ratio of the totals."""
    found: dict[str, dict[str, float]] = {}
    for what in dict.fromkeys(name for name, _, _ in rows):
        own = [(p, m) for name, p, m in rows if name == what and m > 0]
        ratios = [p / m for p, m in own]
        low, middle, high = map(float, np.quantile(ratios, (0.1, 0.5, 0.9)))
        target = TARGETS.get(what.rpartition(", ")[2], 0.2)
        found[what] = {"n": len(own), "median": middle, "low": low, "high": high,
                       "within": float(np.mean([abs(r - 1) <= target for r in ratios])), "target": target,
                       "total": sum(p for p, _ in own) / sum(m for _, m in own)}  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", required=True)
    parser.add_argument("--study")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--data-dir")
    args = parser.parse_args()
    with Store.open(args.store, write=False) as store:
        past = history(store)
    devices = {(p.device, p.environment.get("dtype") != "float32") for p in past if p.device}
    rows = [row for device, is_half in sorted(devices) for row in predicted(past, device, is_half)]
    if args.study:
        rows += counted(Study.load(args.study, tuple(args.overrides), args.data_dir), past)
    found = summary(rows)
    print(f"{'predicted over measured':<34} {'n':>4} {'median':>7} {'10 %':>6} {'90 %':>6} {'within':>14} {'total':>6}")
    for what, row in found.items():
        within = f"{100 * row['within']:.0f} % in {100 * row['target']:.0f} %"
        print(f"{what:<34} {row['n']:>4} {row['median']:>7.2f} {row['low']:>6.2f} {row['high']:>6.2f} {within:>14} "
              f"{row['total']:>6.2f}")  # fmt: skip
    guessed = uncalibrated(past) if args.study else {}
    for kind, (low, high, measured) in guessed.items():
        word = "inside" if low <= measured <= high else "OUTSIDE"
        print(f"{kind}, uncalibrated: {low:.0f} to {high:.0f} s, measured {measured:.0f} s: {word}")
    print(json.dumps({"rows": found, "uncalibrated": guessed}))


if __name__ == "__main__":
    main()
