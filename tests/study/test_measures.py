"""What is measured beside the verdicts' scores: divergences, lost trials, noise. Nothing is trained for it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from rankscope.cli.answer import outcome
from rankscope.errors import DamagedWeights, StoreError
from rankscope.evaluation import divergence
from rankscope.storage.store import Store
from rankscope.study import measures, runner, trainer
from rankscope.study.study import Study
from rankscope.study.weights import applied


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(trainer, "train", lambda *_, **__: pytest.fail("something was trained"))


def of(result, arm, role="final"):
    """Keys of an arm's runs, seed by seed."""
    return [key for spec, key, _, of_role in result.evidence.runs if spec.arm.name == arm and of_role == role]


def forget(folder, study, *, weights=()):
    """Make a store as it was before anything of this was measured, without the weights of some runs."""
    _, pairs = study.resolve()
    trained, judged = [ref for _, ref in pairs], study.config.judged()
    more = [*measures.divergences(study, trained, judged), *measures.noise(study)]
    trials = {key for spec, key, _, role in study.result(folder).evidence.runs if role == "trial"}
    with closing(sqlite3.connect(folder / "rankscope.db")) as db, db:
        for table in ("evals", "scores"):
            db.executemany(f"DELETE FROM {table} WHERE task_key = ?", [(m.key,) for m in more])
            db.executemany(f"DELETE FROM {table} WHERE run_key = ?", [(key,) for key in trials])
    with Store.open(folder) as opened:
        for key in weights:
            opened.blobs.remove(key)


def test_every_arm_has_a_divergence_on_validation_rows_and_texts_and_the_base_a_noise_floor(small, store):
    result = Study.load(small).result(store)
    evidence = result.evidence
    for arm in ("lora-r1", "lora-r4", "full"):
        for key in of(result, arm):
            rows, texts = (evidence.divergences[key, name] for name in ("demo_people", "demo_text"))
            assert (rows.status, rows.metric, len(rows.scores)) == ("done", "kl", 20)  # a tenth of 200 rows
            assert (texts.status, texts.metric, len(texts.scores)) == ("done", "kl", 8)
            assert all(score.value > 0 for score in (*rows.scores, *texts.scores))
    assert len(evidence.divergences) == 2 * 6
    (base,) = of(result, "base")
    assert set(evidence.noise) == {(base, task) for task in ("demo_people", "demo_facts", "demo_text")}
    for name, again in evidence.noise.items():
        first = evidence.evals[name]
        assert [s.item for s in again.scores] == [s.item for s in first.scores][: len(again.scores)]
        assert [s.value for s in again.scores] == pytest.approx([s.value for s in first.scores], abs=1e-4)
    assert not [note for note in evidence.notes if "no longer stored" in note]


def test_trials_that_lost_are_scored_in_domain_and_on_retention(small, store):
    result = Study.load(small).result(store)
    for arm in ("lora-r1", "lora-r4"):
        (key,) = of(result, arm, "trial")
        assert {task for own, task in result.evidence.evals if own == key} == {"demo_people", "demo_facts", "demo_text"}
    with Store.open(store, write=False) as opened:
        assert not any(opened.blobs.has(key) for key in of(result, "lora-r1", "trial"))  # gone once they are scored


def test_a_finished_study_of_before_gets_what_its_stored_weights_allow_and_says_what_they_do_not(
    small, store, no_training
):
    study = Study.load(small)
    before = study.result(store)
    forget(store, study)
    old = study.result(store)
    assert old.is_complete and not old.evidence.divergences and not old.evidence.noise
    told = [note for note in old.evidence.notes if "no longer stored" in note]
    assert told == [
        "demo on demo_people: the KL divergence from the base was not measured for full, whose weights are no longer "
        "stored.",
        "demo on demo_people: 2 learning-rate trials that lost have no scores; the weights are no longer stored.",
    ]
    done = study.run(store)
    assert done.is_complete and [n for n in done.evidence.notes if "no longer stored" in n] == told
    lora = {key for arm in ("lora-r1", "lora-r4") for key in of(done, arm)}
    assert {key for key, _ in done.evidence.divergences} == lora
    for name, found in done.evidence.divergences.items():
        assert found.scores == before.evidence.divergences[name].scores
    assert done.evidence.noise.keys() == before.evidence.noise.keys()
    assert study.plan(store).forecast.is_done


def test_a_finished_study_whose_weights_are_all_gone_is_complete_and_only_the_base_is_read(small, store, no_training):
    study = Study.load(small)
    with Store.open(store, write=False) as opened:
        kept = opened.blobs.keys()
    forget(store, study, weights=kept)
    assert study.result(store).is_complete
    done = study.run(store)
    assert done.is_complete and not done.evidence.divergences and len(done.evidence.noise) == 3
    assert any("for lora-r1, lora-r4, full, whose weights" in note for note in done.evidence.notes)


def test_a_damaged_weight_file_costs_the_divergence_and_nothing_else(small, store, no_training):
    study = Study.load(small)
    key = of(study.result(store), "lora-r4")[0]
    forget(store, study)
    with Store.open(store) as opened:
        opened.blobs.path(key).write_bytes(b"no weights")
    done = study.run(store)
    assert done.is_complete and (key, "demo_text") not in done.evidence.divergences
    assert any("for lora-r4 (seed 0), full" in note for note in done.evidence.notes)


def test_a_divergence_that_failed_is_told_and_one_without_memory_is_tried_again_by_the_next_command(
    small, store, monkeypatch, no_training
):
    study = Study.load(small)
    forget(store, study)

    def full(*_):
        raise torch.OutOfMemoryError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(divergence, "divergences", full)
        failed = study.run(store)
    assert failed.is_complete and not failed.failed
    told = [note for note in failed.evidence.notes if note.endswith(" failed: out of memory in the divergence.")]
    assert len(told) == 8  # two ranks, two seeds, rows and texts
    assert any("/lora-r4/" in note and "KL divergence from the base on demo_text" in note for note in told)
    assert {found.status for found in study.run(store).evidence.divergences.values()} == {"done"}


def test_each_can_be_switched_off(small, store, monkeypatch):
    monkeypatch.setattr(runner, "load", lambda *_: pytest.fail("the weights were read"))
    study = Study.load(small)
    forget(store, study)
    small["evaluate"] |= {"divergence": False, "trials": False, "noise_floor": False}
    off = Study.load(small).run(store)
    assert off.is_complete and not off.evidence.divergences and not off.evidence.noise
    assert not [note for note in off.evidence.notes if "no longer stored" in note]
    trials = {key for _, key, _, role in off.evidence.runs if role == "trial"}
    assert len(trials) == 2 and not {key for key, _ in off.evidence.evals} & trials


def test_a_budget_that_ends_before_the_trials_are_scored_keeps_their_weights_for_the_next_command(
    small, tmp_path, monkeypatch
):
    small["training"] |= {"max_steps": 2, "seeds": [0]}
    study = Study.load(small)
    monkeypatch.setattr(runner.Runner, "_score_trials", lambda *_: None)
    first = study.run(tmp_path)
    assert first.is_complete
    keys = [key for arm in ("lora-r1", "lora-r4") for key in of(first, arm, "trial")]
    assert first.has_more_to_measure
    assert any(note.endswith("the score is still to be measured for 2 learning-rate trials that lost.")
               for note in first.evidence.notes)  # fmt: skip
    assert "Next: rankscope run s.yaml" in outcome(first, again="rankscope run s.yaml", then="done")
    with Store.open(tmp_path, write=False) as opened:
        assert all(opened.blobs.has(key) for key in keys)
    assert study.plan(tmp_path).forecast.score.high > 0 and study.plan(tmp_path).forecast.train.is_none
    monkeypatch.undo()
    monkeypatch.setattr(trainer, "train", lambda *_, **__: pytest.fail("something was trained"))
    second = study.run(tmp_path)
    assert all((key, "demo_facts") in second.evidence.evals for key in keys)
    assert not second.has_more_to_measure and "rankscope run" not in outcome(second, again="rankscope run", then="done")
    with Store.open(tmp_path, write=False) as opened:
        assert not any(opened.blobs.has(key) for key in keys)


def test_the_plan_counts_what_is_measured_beside_the_verdicts(small, tmp_path):
    whole = Study.load(small).plan(tmp_path / "new").forecast.score.high
    less = {}
    for key in ("divergence", "trials", "noise_floor"):
        changed = json.loads(json.dumps(small))
        changed["evaluate"][key] = False
        tokens = _score_tokens(Study.load(changed))
        less[key] = _score_tokens(Study.load(small)) - tokens
    assert whole > 0 and all(saved > 0 for saved in less.values()), less


def _score_tokens(study):
    return sum(arm.score_tokens for arm in study.plan().arms)


def test_the_keys_of_divergences_hang_on_what_can_change_them_and_on_nothing_else(small):
    def keys(change=lambda study: None):
        study = json.loads(json.dumps(small))
        change(study)
        loaded = Study.load(study)
        _, ((raw, ref),) = loaded.resolve()
        found = measures.divergences(loaded, [ref], loaded.config.evaluations(raw))
        return [m.key for m in found]

    rows, text = keys()
    assert rows != text
    assert keys(lambda s: s["training"].update(validation=0.2))[0] != rows
    assert keys(lambda s: s["training"].update(validation=0.2))[1] == text
    assert keys(lambda s: s["training"].update(max_steps=99, seeds=[7])) == [rows, text]
    assert keys(lambda s: s["evaluate"]["retention"][1].update(limit=4))[1] != text
    assert keys(lambda s: s.update(title="another", recommend={"prefer": "gain"})) == [rows, text]


def test_given_arms_have_divergences_too(small, store, tmp_path, no_training):
    adapter = Study.load(small).result(store).adapter("lora-r4", 1).save(tmp_path / "mine")
    small["arms"].append({"adapter": {"path": str(adapter)}})
    result = Study.load(small).run(store)
    made, (mine,) = of(result, "lora-r4")[1], of(result, "mine")
    for name in ("demo_people", "demo_text"):
        expected = [s.value for s in result.evidence.divergences[made, name].scores]
        assert [s.value for s in result.evidence.divergences[mine, name].scores] == pytest.approx(expected, abs=1e-5)


def test_the_second_scoring_has_at_most_two_hundred_items_and_fifty_where_answers_are_generated(small):
    from rankscope.records import TaskRef

    study = Study.load(small)
    for form, most in (("cloze", 200), ("generate", 50)):
        ref = study.test_task(TaskRef("demo_people", form=form))
        task = study.prepared(ref)
        part = measures.Measure("noise", ref, "k").part(task)
        assert len(part.samples) == min(most, len(task.samples)) < len(task.samples)
        assert part.samples == task.samples[:most]


class Notes:
    """A progress display that only remembers what it is told."""

    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)

    def __getattr__(self, name):
        return lambda *_, **__: None


def spoil(folder, key, how):
    """Change a run's stored weights so that the file is whole and what it holds is not."""
    with Store.open(folder) as opened:
        path = opened.blobs.path(key)
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    name = next(iter(tensors))
    if how == "unfinite":
        tensors[name].view(-1)[0] = float("nan")
    elif how == "other shape":
        tensors[name] = tensors[name][:1].contiguous()
    else:
        del tensors[name]
    save_file(tensors, path, metadata)
    return path


@pytest.mark.parametrize(
    "how, said", [("unfinite", "not finite"), ("other shape", "another shape"), ("other names", "1 tensors differ")]
)
def test_weights_that_turn_out_damaged_cost_a_finished_study_the_divergence_and_nothing_else(
    small, store, no_training, how, said
):
    study, notes = Study.load(small), Notes()
    key = of(study.result(store), "lora-r4")[0]
    forget(store, study)
    path = spoil(store, key, how)
    done = study.run(store, progress=notes)
    assert done.is_complete and (key, "demo_text") not in done.evidence.divergences
    (told,) = [note for note in notes.told if said in note]
    assert "/lora-r4/" in told and "can't be measured any more" in told and str(path) in told
    assert not path.exists()
    assert (of(done, "lora-r4")[1], "demo_text") in done.evidence.divergences


def test_weights_that_turn_out_damaged_are_trained_again_where_scores_are_left(small, store, monkeypatch):
    trained, train = [], trainer.train
    monkeypatch.setattr(trainer, "train", lambda base, runs, *rest: trained.extend(runs) or train(base, runs, *rest))
    study, notes = Study.load(small), Notes()
    key = of(study.result(store), "lora-r4")[1]
    spoil(store, key, "unfinite")
    small["evaluate"]["retention"].append({"task": "demo_skills", "limit": 8})
    done = Study.load(small).run(store, progress=notes)
    assert done.is_complete and done.evidence.evals[key, "demo_skills"].status == "done"
    assert key in [own for own, _ in trained] and "lora-r1" not in {spec.arm.name for _, spec in trained}
    (told,) = [note for note in notes.told if "/lora-r4/" in note]
    assert "is trained again" in told and "not finite" in told


def test_damaged_weights_of_full_sft_are_called_so_when_they_are_put_on_the_base(small, tmp_path, base):
    small["training"] |= {"max_steps": 2, "seeds": [0]}
    study = Study.load(small | {"keep": "all"})
    result = study.run(tmp_path)
    ((spec, key),) = [(s, k) for s, k, *_ in result.evidence.runs if s.arm.kind == "full"]
    for how, said in (("unfinite", "not finite"), ("other shape", "another shape"), ("other names", "doesn't fit")):
        path = spoil(tmp_path, key, how)
        with pytest.raises(DamagedWeights, match=said) as error, applied(base, spec, path):
            pass
        assert str(path) in str(error.value)
    path.write_bytes(b"no weights")
    with pytest.raises(DamagedWeights, match="can't be read"), applied(base, spec, path):
        pass


def test_a_finished_study_in_another_number_format_is_left_as_it_is_and_says_why(small, store, no_training):
    study, notes = Study.load(small), Notes()
    forget(store, study)
    with closing(sqlite3.connect(store / "rankscope.db")) as db, db:
        other = ('"dtype":"float32"', '"dtype":"bfloat16"')
        db.execute("UPDATE runs SET result = replace(result, ?, ?)", other)
    done = study.run(store, progress=notes)
    assert done.is_complete and not done.evidence.divergences and not done.evidence.noise
    (told,) = [note for note in notes.told if "bfloat16" in note]
    assert "left out" in told and "now it is float32" in told
    small["evaluate"]["retention"].append({"task": "demo_skills", "limit": 8})
    with pytest.raises(StoreError, match="now it is float32"):  # scores that carry verdicts are another matter
        Study.load(small).run(store)


def test_scores_of_a_trial_that_fail_are_told_and_fail_nothing(small, tmp_path, monkeypatch):
    small["training"] |= {"max_steps": 2, "seeds": [0]}
    study, evaluate = Study.load(small), runner.evaluate
    measured = runner.Runner._score_trials

    def without_memory(base, task, key, task_key, *rest):
        found = evaluate(base, task, key, task_key, *rest)
        return replace(found, status="failed", message="out of memory in scoring", scores=())

    def trials(self, *pair):
        with monkeypatch.context() as patch:
            patch.setattr(runner, "evaluate", without_memory)
            measured(self, *pair)

    with monkeypatch.context() as patch:
        patch.setattr(runner.Runner, "_score_trials", trials)
        first = study.run(tmp_path)
    assert first.is_complete and first.failed == []
    assert len([note for note in first.evidence.notes if note.endswith("failed: out of memory in scoring.")]) == 2 * 3
    keys = [key for arm in ("lora-r1", "lora-r4") for key in of(first, arm, "trial")]
    with Store.open(tmp_path, write=False) as opened:
        assert all(opened.blobs.has(key) for key in keys)  # the next command tries again
    monkeypatch.setattr(trainer, "train", lambda *_, **__: pytest.fail("something was trained"))
    second = study.run(tmp_path)
    assert {second.evidence.evals[key, "demo_facts"].status for key in keys} == {"done"}
    with Store.open(tmp_path, write=False) as opened:
        assert not any(opened.blobs.has(key) for key in keys)


def test_weights_that_one_study_still_waits_for_are_left_alone_by_another(small, tmp_path, monkeypatch):
    small["training"] |= {"max_steps": 2, "seeds": [0]}
    with monkeypatch.context() as patch:
        patch.setattr(runner.Runner, "_score_trials", lambda *_: None)
        waiting = Study.load(small).run(tmp_path)
    keys = [key for arm in ("lora-r1", "lora-r4") for key in of(waiting, arm, "trial")]
    other = json.loads(json.dumps(small)) | {"name": "other"}
    other["evaluate"]["trials"] = False
    assert Study.load(other).run(tmp_path).is_complete
    with Store.open(tmp_path, write=False) as opened:
        assert all(opened.blobs.has(key) for key in keys)


def test_a_note_on_what_is_missing_names_the_tasks_where_only_a_part_is(small, store):
    study = Study.load(small)
    result = study.result(store)
    keys, trial = of(result, "full"), of(result, "lora-r1", "trial")[0]
    with closing(sqlite3.connect(store / "rankscope.db")) as db, db:
        for measure, runs in (("demo_text", [*keys, trial]), ("demo_facts", [trial])):
            own = {r.task_key for found in (result.evidence.divergences, result.evidence.evals)
                   for (key, task), r in found.items() if key in runs and task == measure}  # fmt: skip
            if measure == "demo_text":
                own &= {result.evidence.divergences[keys[0], "demo_text"].task_key}
            db.executemany("DELETE FROM evals WHERE run_key = ? AND task_key = ?",
                           [(key, task) for key in runs for task in own])  # fmt: skip
    told = [note for note in study.result(store).evidence.notes if "no longer stored" in note]
    assert told == [
        "demo on demo_people: the KL divergence from the base on demo_text was not measured for full, whose weights "
        "are no longer stored.",
        "demo on demo_people: 1 learning-rate trial that lost has no scores on demo_facts; the weights are no longer "
        "stored.",
    ]


def test_a_plan_reads_the_train_rows_no_more_often_for_more_runs(small, monkeypatch):
    read, samples = [], Study.samples
    monkeypatch.setattr(Study, "samples", lambda self, ref: read.append(ref) or samples(self, ref))
    Study.load(small).plan()
    few = len(read)
    small["training"]["seeds"] = [0, 1, 2, 3]
    Study.load(small).plan()
    assert len(read) == 2 * few
