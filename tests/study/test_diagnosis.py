"""Diagnostics of a study's runs: asked for in the study, made once, kept; what can't be made is a row or a note."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing

import pytest
import torch

import rankscope as rs
from rankscope.errors import ConfigError, InputError
from rankscope.models import base as models
from rankscope.records import Diagnosis, Ledger, Reading
from rankscope.storage.store import Store
from rankscope.study import runner, trainer
from rankscope.study.study import Study

PLUGIN = """
from rankscope.analysis.diagnostic import Diagnostic
from rankscope.errors import RunFailed
from rankscope.models.names import layer_of
from rankscope.records import Reading


def measure(subject, options):
    if options["breaks"]:
        raise RunFailed("nothing to be seen here", stage="diagnose")
    if options["nan"]:
        yield Reading("strange", (float("nan"),), 3)
    for name, delta in subject.update.deltas.items():
        yield Reading("norm", (float(delta.dense().norm()), None), layer_of(name), name)
    yield Reading("sizes", tuple(float(len(rows)) for rows in subject.texts.values()), part=" ".join(subject.texts))
    with subject.worn() as tuned:
        for asked in subject.tasks:
            values = tuple(score.value for score in subject.score(tuned, asked.task))
            yield Reading("score", values, part=asked.name, variant="")
        yield Reading("loss", subject.losses(tuned, subject.validation), part="validation")


PLUGIN = Diagnostic("look", "a look", (), measure, reads=("base", "texts", "tasks", "validation"),
                    options={"breaks": False, "nan": False, "depth": 2.5})
COSTLY = Diagnostic("costly", "a long look", (), lambda subject, options: iter([Reading("one", (1.0,))]),
                    is_costly=True)
"""


@pytest.fixture
def look(tmp_path):
    path = tmp_path / "look.py"
    path.write_text(PLUGIN)
    return f"{path}@PLUGIN"


def asked(small, *entries):
    return small | {"diagnose": list(entries)}


def norms(result):
    frame = result.diagnostic("PLUGIN").frame()
    return frame[(frame.name == "norm") & (frame["index"] == 0)]


def test_a_finished_study_is_looked_into_without_training_and_only_once(small, store, look, monkeypatch):
    monkeypatch.setattr(trainer, "train", lambda *_, **__: pytest.fail("something was trained"))
    result = Study.load(asked(small, look)).run(store)
    frame = norms(result)
    assert set(frame.arm) == {"lora-r1", "lora-r4"} and set(frame.seed) == {0, 1}  # full SFT's weights are gone
    assert (frame.value > 0).all() and frame.layer.min() == 0
    assert any("PLUGIN was not measured" in note and "/full/" in note for note in result.evidence.notes)
    monkeypatch.setattr(runner, "load", lambda *_: pytest.fail("weights were read"))
    assert len(norms(Study.load(asked(small, look)).run(store))) == len(frame)


def test_scores_and_losses_under_a_worn_update_are_those_of_the_run(small, store, look):
    result = Study.load(asked(small, look)).run(store)
    frame = result.diagnostic("PLUGIN").frame()
    for spec, key, found, role in result.evidence.runs:
        if spec.arm.kind != "lora" or role != "final":
            continue
        mine = frame[frame.run == spec.name]
        assert mine[mine.name == "loss"].value.tolist() == pytest.approx(found.validation_items, abs=1e-5)
        for task in ("demo_people", "demo_facts", "demo_text"):
            stored = [s.value for s in result.evidence.evals[key, task].scores]
            assert mine[(mine.name == "score") & (mine.part == task)].value.tolist() == pytest.approx(stored, abs=1e-5)
        (sizes,) = (r for r in result.evidence.diagnoses[key, "PLUGIN"].readings if r.name == "sizes")
        assert sizes.part == "train evaluation neutral" and sizes.values == (20.0, 32.0, 8.0)


def test_full_fine_tuning_is_looked_into_before_its_weights_go(small, tmp_path, look):
    small |= {"arms": ["base", {"full": {"lr": 5e-4}}]}
    small["training"]["seeds"] = [0]
    result = Study.load(asked(small, look)).run(tmp_path / "runs")
    (key,) = (key for spec, key, *_ in result.evidence.runs if spec.arm.kind == "full")
    with Store.open(tmp_path / "runs", write=False) as opened:
        assert not opened.blobs.has(key)
    assert result.evidence.diagnoses[key, "PLUGIN"].status == "done"
    frame = result.diagnostic("PLUGIN").frame()
    stored = [s.value for s in result.evidence.evals[key, "demo_people"].scores]
    assert frame[(frame.name == "score") & (frame.part == "demo_people")].value.tolist() == pytest.approx(stored)


def test_arms_and_seeds_can_be_chosen_and_a_costly_one_takes_the_first_seed(small, store, look):
    costly = look.replace("PLUGIN", "COSTLY")
    study = Study.load(asked(small, {look: {"arms": ["lora-r4"], "seeds": "first"}}, costly))
    result = study.run(store)
    assert {(s.arm.name, s.seed) for s, _ in result.diagnostic("PLUGIN").rows} == {("lora-r4", 0)}
    assert {(s.arm.name, s.seed) for s, _ in result.diagnostic("COSTLY").rows} == {("lora-r1", 0), ("lora-r4", 0)}
    again = Study.load(asked(small, {costly: {"seeds": "all"}})).run(store)
    assert {s.seed for s, _ in again.diagnostic("COSTLY").rows} == {0, 1}


def test_other_options_or_prompts_are_another_diagnosis_and_none_changes_the_key_of_a_study(small, store, look):
    from rankscope.study.diagnosis import wanted

    def key(*entries):
        study = Study.load(asked(small, *entries))
        ((raw, ref),) = zip(study.config.train_refs(), (ref for _, ref in study.resolve()[1]), strict=True)
        spec = next(s for s, *_ in study.result(store).evidence.runs if s.arm.name == "lora-r4")
        return wanted(study, spec, ref, study.config.evaluations(raw))[0].key

    assert len({key(look), key({look: {"depth": 3}}), key({look: {"prompts": 8}})}) == 3
    assert key(look) == key({look: {"depth": 2.5, "prompts": 32}})
    assert Study.load(small).key == Study.load(asked(small)).key != Study.load(asked(small, look)).key


@pytest.mark.parametrize(("option", "why"), [("breaks", "nothing to be seen here"), ("nan", "strange of layer 3")])
def test_what_a_diagnostic_cannot_say_is_a_row_with_the_reason(small, store, look, option, why):
    result = Study.load(asked(small, {look: {option: True}})).run(store)
    found = list(result.evidence.diagnoses.values())
    assert len(found) == 4 and all(d.status == "failed" and why in d.message and not d.readings for d in found)
    assert result.is_complete and not result.failed
    assert sum("the diagnostic PLUGIN failed" in note for note in result.evidence.notes) == 4


def test_memory_that_ends_is_a_row_and_is_tried_again_by_the_next_command(small, store, look, monkeypatch):
    from rankscope.study import subjects

    def full(*_):
        raise torch.OutOfMemoryError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(subjects, "evaluate", full)
        result = Study.load(asked(small, look)).run(store)
    assert {d.message for d in result.evidence.diagnoses.values()} == {f"{models.OUT_OF_MEMORY} in the diagnostic"}
    assert {d.status for d in Study.load(asked(small, look)).run(store).evidence.diagnoses.values()} == {"done"}


def test_an_adapter_given_is_looked_into_too(small, store, look, tmp_path):
    result = Study.load(small).result(store)
    result.adapter("lora-r4", seed=0).save(tmp_path / "mine")
    small["arms"].append({"adapter": {"path": str(tmp_path / "mine")}})
    again = Study.load(asked(small, look)).run(store)
    frame = norms(again).sort_values("module")
    mine, own = frame[frame.arm == "mine"], frame[(frame.arm == "lora-r4") & (frame.seed == 0)]
    assert mine.value.tolist() == pytest.approx(own.value.tolist()) and len(mine) == 28


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("spectra", "no diagnostic named 'spectra'"),
        ({"LOOK": {"deep": 3}}, "has no option 'deep'. Did you mean 'depth'?"),
        ({"LOOK": {"depth": "far"}}, "the option 'depth' must be like 2.5 (got 'far')"),
        ({"LOOK": {"nan": 1}}, "the option 'nan' must be like False (got 1)"),
        ({"LOOK": {"arms": ["lora-r16"]}}, "no arm named 'lora-r16'. Did you mean 'lora-r1'?"),
        ({"LOOK": {"seeds": "some"}}, "must be all or first"),
        ({"LOOK": [1]}, "must have keys of their own"),
        ("nowhere.py@PLUGIN", "no such file of a diagnostic 'nowhere.py'"),
    ],
)
def test_wrong_entries_are_one_clear_error(small, look, entry, said):
    entry = {look: entry["LOOK"]} if isinstance(entry, dict) else entry
    with pytest.raises(ConfigError) as error:
        Study.load(asked(small, entry))
    assert said in str(error.value) and "diagnose" in str(error.value)


def test_the_same_diagnostic_twice_is_an_error(small, look):
    with pytest.raises(ConfigError, match="'PLUGIN' is listed twice"):
        Study.load(asked(small, look, {look: {"depth": 3.0}}))


def test_asking_for_what_was_not_measured_names_what_was(small, store, look):
    with pytest.raises(InputError, match="no diagnostic 'look' was measured"):
        rs.Study.load(small).result(store).diagnostic("look")


def test_readings_come_back_from_the_store_as_they_were_put(tmp_path):
    readings = (Reading("s", (1.5, None, math.pi), 2, "layers.2.q_proj", "train", "only q_proj"), Reading("t", ()))
    found = Diagnosis("run", "key", "look", "done", "", readings, Ledger(1.5))
    with Store.open(tmp_path) as store:
        store.put_diagnosis(found)
        assert store.diagnosis("run", "key") == found and store.diagnosis("run", "other") is None
        store.put_diagnosis(Diagnosis("run", "key", "look", "failed", "why"))
        assert store.diagnosis("run", "key").readings == () and store.diagnosis_outcome("run", "key") == (
            "failed",
            "why",
        )


def test_damaged_weights_are_told_and_dropped_and_the_rest_is_looked_into(small, store, look):
    from safetensors.torch import load_file, save_file

    with Store.open(store) as opened:
        study = Study.load(small)
        runs = study.result(store).evidence.runs
        keys = {(s.arm.name, s.seed): key for s, key, _, role in runs if role == "final"}
        for name, change in (("lora-r1", lambda t: t * torch.nan), ("lora-r4", lambda t: t[:, :1].contiguous())):
            path = opened.blobs.path(keys[name, 0])
            tensors = load_file(path)
            first = next(iter(tensors))
            save_file(tensors | {first: change(tensors[first])}, path)
    notes = []
    progress = type(
        "P", (), {"note": lambda self, text: notes.append(text), "__getattr__": lambda *_: lambda *a, **k: 0}
    )()
    result = Study.load(asked(small, look)).run(store, progress=progress)
    assert {(s.arm.name, s.seed) for s, _ in result.diagnostic("PLUGIN").rows} == {("lora-r1", 1), ("lora-r4", 1)}
    assert sum("can't be measured any more" in note for note in notes) == 2 and "not finite" in " ".join(notes)
    with Store.open(store, write=False) as opened:
        assert not opened.blobs.has(keys["lora-r1", 0]) and not opened.blobs.has(keys["lora-r4", 0])


def test_a_study_stopped_while_it_looks_inside_goes_on_where_it_was(small, store, look, monkeypatch):
    from rankscope.study import diagnosing

    real, made = diagnosing.diagnose, []

    def counted(subject, want, key):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(key)
        return real(subject, want, key)

    with monkeypatch.context() as patch:
        patch.setattr(diagnosing, "diagnose", counted)
        with pytest.raises(KeyboardInterrupt):
            Study.load(asked(small, look)).run(store)
    half = Study.load(asked(small, look)).result(store)
    assert half.is_complete and half.has_more_to_measure
    assert any("still to be measured" in note for note in half.evidence.notes)
    made.clear()
    monkeypatch.setattr(diagnosing, "diagnose", lambda *args: made.append(args[2]) or real(*args))
    assert len(norms(Study.load(asked(small, look)).run(store)).run.unique()) == 4 and len(made) == 2


def test_another_study_of_the_store_does_not_drop_weights_that_the_look_inside_waits_for(small, store, look):
    """With no time left nothing is looked into; the weights are then wanted until it has been."""
    with closing(sqlite3.connect(store / "rankscope.db")) as db, db:
        db.execute("DELETE FROM wanted")  # what the study without ``diagnose`` asked to keep
    study = Study.load(asked(small, look))
    study.run(store, budget_seconds=1e-9)
    with Store.open(store) as opened:
        mine = {
            key for s, key, _, role in study.result(store).evidence.runs if role == "final" and s.arm.kind == "lora"
        }
        assert mine <= opened.wanted_by_others("another study")


def test_an_adapter_given_is_not_looked_into_in_another_number_format_and_the_study_goes_on(
    small, store, look, tmp_path, monkeypatch
):
    Study.load(small).result(store).adapter("lora-r4", seed=0).save(tmp_path / "mine")
    small["arms"].append({"adapter": {"path": str(tmp_path / "mine")}})
    Study.load(small).run(store)
    monkeypatch.setattr(runner, "where", lambda base: {"device": "cpu", "dtype": "bfloat16", "threads": 1})
    result = Study.load(asked(small, look)).run(store)
    assert result.is_complete and not result.evidence.diagnoses
