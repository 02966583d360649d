"""Studies end to end in one process: what is done is never done again, and what changes is done alone."""

from __future__ import annotations

import json
import weakref

import pytest
import torch

from rankscope.errors import InputError
from rankscope.evaluation import divergence
from rankscope.models.base import Base
from rankscope.records import TaskRef
from rankscope.storage.store import Store
from rankscope.study import measures, plan, runner, trainer
from rankscope.study.plan import base_spec, run_key
from rankscope.study.study import Study
from rankscope.training.loop import Loop


@pytest.fixture
def work(monkeypatch):
    """Names of the runs that are really trained, and of the tasks that are really scored."""
    done: list[str] = []
    train, evaluate = trainer.train, runner.evaluate

    def training(base, runs, *rest):
        done.extend(f"train {spec.arm.name} lr{spec.lr:g} seed{spec.seed}" for _, spec in runs)
        return train(base, runs, *rest)

    def scoring(base, task, *rest):
        done.append(f"score {task.ref.name}")
        return evaluate(base, task, *rest)

    monkeypatch.setattr(trainer, "train", training)
    monkeypatch.setattr(runner, "evaluate", scoring)
    return done


def _blobs(store, study):
    """Arm names and seeds whose weights are still on disk."""
    models, pairs = study.resolve()
    with Store.open(store, write=False) as opened:
        kept = set(opened.blobs.keys())
        seeds, model = study.config.seeds, models[0]
        runs = [s for seed in seeds for _, ref in pairs for s in study.finals(opened.runs, model, ref, seed)]
        runs += [s for _, ref in pairs for trials in study.arm_trials(models[0], ref) for s in trials]
    return {(s.arm.name, s.seed) for s in runs if run_key(s) in kept}, len(kept)


def test_a_finished_study_does_nothing_and_reads_no_weights(small, store, work, monkeypatch):
    monkeypatch.setattr(runner, "load", lambda *_: pytest.fail("the weights were read"))
    assert Study.load(small).run(store).is_complete
    assert work == []


def test_a_new_rank_runs_alone(small, store, work):
    small["arms"][1]["lora"]["rank"] = [1, 2, 4]
    result = Study.load(small).run(store)
    trained = [w for w in work if w.startswith("train")]
    assert len(trained) == 3 and all(w.startswith("train lora-r2") for w in trained)
    assert len([w for w in work if w.startswith("score")]) == 3 * 3  # two finals, and the rate that lost
    assert result.is_complete and {h.arm for h in result.view().headlines} == {"lora-r1", "lora-r2", "lora-r4", "full"}


def test_names_and_labels_change_nothing(small, store, work):
    small["models"][0]["label"] = "micro"
    small["arms"][2]["full"]["name"] = "sft"
    small["title"] = "another title"
    assert Study.load(small).run(store).is_complete and work == []


def test_a_new_evaluation_task_scores_stored_weights_without_training_them_again(small, store, work):
    small["evaluate"]["retention"].append({"task": "demo_skills", "limit": 8})
    Study.load(small).run(store)
    assert {w for w in work if w.startswith("score")} == {"score demo_skills"}
    # A full checkpoint is gone once it is scored (keep: adapters), so only that is trained again.
    assert {w.split()[1] for w in work if w.startswith("train")} == {"full"}


def test_the_learning_rate_is_chosen_at_the_first_seed_and_used_at_all(small, store):
    study = Study.load(small)
    (model,), ((_, ref),) = study.resolve()
    with Store.open(store, write=False) as opened:
        for trials in study.arm_trials(model, ref):
            losses = {s.lr: opened.run(run_key(s)).validation_loss for s in trials}
            chosen = {s.lr for seed in (0, 1) for s in study.finals(opened.runs, model, ref, seed)
                      if s.arm.name == trials[0].arm.name}  # fmt: skip
            assert len(chosen) == 1
            assert losses[chosen.pop()] <= min(losses.values()) + 0.2


@pytest.mark.parametrize("keep, expected", [("adapters", {"lora"}), ("all", {"lora", "full"}), ("best", {"one"})])
def test_keep_says_which_weights_stay(small, tmp_path, keep, expected):
    small |= {"keep": keep}
    small["training"]["max_steps"] = 4
    study = Study.load(small)
    study.run(tmp_path)
    arms, count = _blobs(tmp_path, study)
    if keep == "best":
        assert len({arm for arm, _ in arms}) == 1 and count == 2
    elif keep == "adapters":
        assert arms == {(arm, seed) for arm in ("lora-r1", "lora-r4") for seed in (0, 1)} and count == 4
    else:
        assert {arm for arm, _ in arms} == {"lora-r1", "lora-r4", "full"} and count == 8
    assert not list(tmp_path.glob("checkpoints/*"))


def test_a_study_leaves_alone_the_weights_that_another_one_keeps(small, tmp_path):
    small["training"] |= {"max_steps": 2, "seeds": [0]}
    mine, other = Study.load(small | {"keep": "all"}), Study.load(small | {"name": "other", "keep": "adapters"})
    mine.run(tmp_path)
    kept = _blobs(tmp_path, mine)
    small["evaluate"]["retention"].append({"task": "demo_skills", "limit": 8})
    Study.load(small | {"name": "third", "keep": "best"}).run(tmp_path)
    assert other.run(tmp_path).is_complete
    assert kept == _blobs(tmp_path, mine) and ("full", 0) in kept[0]


def test_half_precision_without_range_is_not_trained(small, tmp_path):
    small["models"][0]["dtype"] = "float16"
    with pytest.raises(InputError, match="float16 is for scoring"):
        Study.load(small).run(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_budget_that_is_used_up_starts_nothing_and_says_so(small, tmp_path, work):
    result = Study.load(small).run(tmp_path, budget_seconds=1e-9)
    assert not result.is_complete and not [w for w in work if w.startswith("train")]


def test_the_plan_knows_what_is_done_and_what_the_rest_takes(small, store, tmp_path):
    study = Study.load(small)
    done = study.plan(store)
    assert done.num_done == len(done.runs) == 8 and done.forecast.is_done
    assert "nothing left to do" in str(done)
    new = study.plan()
    assert new.num_done == 0 and new.forecast.basis == "uncalibrated" and new.forecast.span.high > 0
    assert new.forecast.span.value is None and new.as_dict()["forecast"]["seconds"] is None
    small["arms"][1]["lora"]["rank"] = [1, 4, 16]
    more = Study.load(small).plan(store)
    assert (len(more.runs), more.num_done) == (11, 8) and more.forecast.basis == "measured"
    assert any(note.startswith("two seeds") for note in more.notes)
    assert 0 < more.forecast.peak.value < 4e9
    assert json.loads(json.dumps(more.as_dict()))["forecast"]["basis"] == "measured"


def test_the_result_answers_questions(small, store):
    result = Study.load(small).result(store)
    change = result.contrast("lora-r4", "base", task="demo_people")
    assert (change.arm, change.other) == ("lora-r4", "base")
    assert (change.estimate.num_seeds, change.estimate.num_items) == (2, 16)
    with pytest.raises(InputError, match="Did you mean 'lora-r4'"):
        result.contrast("lora-r5", "base", task="demo_people")
    assert {(t.arm, t.task) for t in result.transfer()} >= {("full", "demo_facts"), ("lora-r1", "demo_people")}


def test_a_stored_adapter_is_saved_as_peft_reads_it(small, store, tmp_path, base):
    import torch
    from peft import PeftModel

    result = Study.load(small).result(store)
    result.adapter("lora-r4", seed=1).save(tmp_path / "out")
    model = PeftModel.from_pretrained(base.trainable_copy().model, tmp_path / "out")
    ids = torch.tensor([base.encode("where was")])
    assert not torch.equal(model(ids).logits, base.model(ids).logits)
    with pytest.raises(InputError, match="no stored weights"):
        result.adapter("full", seed=0)
    with pytest.raises(InputError, match="no run"):
        result.adapter("lora-r4", seed=7)


def test_a_cohort_that_does_not_fit_is_halved_and_rows_without_memory_are_tried_again(small, tmp_path, monkeypatch):
    small["training"] |= {"max_steps": 2, "seeds": [0]}
    real, room = Loop._nll, [1]

    def tight(self, live, rows):
        if len(live) > room[0]:
            raise torch.OutOfMemoryError("planted")
        return real(self, live, rows)

    monkeypatch.setattr(Loop, "_nll", tight)
    assert Study.load(small).run(tmp_path / "one").is_complete and not Study.load(small).result(tmp_path / "one").failed
    room[0] = 0
    failed = Study.load(small).run(tmp_path / "none").failed
    assert len(failed) == 5 and all(message.startswith("out of memory at step 1") for _, message in failed)
    room[0] = 1
    again = Study.load(small).run(tmp_path / "none")
    assert again.is_complete and not again.failed


def test_weights_that_memory_does_not_hold_cost_their_own_rows_and_nothing_else(small, tmp_path, monkeypatch):
    """Full SFT's copy doesn't fit: it is a failed row, and LoRA is scored. Stored weights that don't fit when they are
    put on the base, and what the base says, are failed rows as well, and tried again by the next command."""
    small["training"] |= {"max_steps": 2, "seeds": [0]}

    def full(*_, **__):
        raise torch.OutOfMemoryError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(Base, "trainable_copy", full)
        tight = Study.load(small).run(tmp_path / "tight")
    assert [message for _, message in tight.failed] == ["out of memory before the first step"]
    assert {h.arm: h.gain is not None for h in tight.view().headlines} == {
        "lora-r1": True,
        "lora-r4": True,
        "full": False,
    }
    with monkeypatch.context() as patch:
        patch.setattr(runner, "applied", full)
        patch.setattr(divergence, "reference", full)
        none = Study.load(small).run(tmp_path / "none")
    assert none.failed and {message for _, message in none.failed} == {"out of memory in loading"}
    again = Study.load(small).run(tmp_path / "none")
    assert again.is_complete and not again.failed
    assert {found.status for found in again.evidence.divergences.values()} == {"done"}


def test_a_model_is_gone_before_the_next_one_is_read(small, tmp_path, monkeypatch):
    small |= {"models": [{"id": "demo", "dtype": "float32"}, {"id": "demo", "label": "again"}],
              "arms": ["base", {"lora": {"rank": 1, "lr": 1e-3}}]}  # fmt: skip
    small["training"] |= {"max_steps": 1, "seeds": [0]}
    real, seen, alive = runner.load, [], []

    def loading(ref):
        alive.append([model() is not None for model in seen])
        found = real(ref)
        seen.append(weakref.ref(found.model))
        return found

    monkeypatch.setattr(runner, "load", loading)
    assert Study.load(small).run(tmp_path).is_complete
    assert alive == [[], [False]]


def test_the_base_is_scored_once_and_once_more_in_other_batches(small, store):
    study = Study.load(small)
    (model,), _ = study.resolve()
    with Store.open(store, write=False) as opened:
        scored = set(opened.eval_ledgers(run_key(base_spec(model))))
    judged = study.config.judged()
    assert scored == {m.key for m in (*measures.scores(study, judged), *measures.noise(study))} and len(scored) == 6


def test_a_change_of_generation_makes_generated_answers_anew_and_nothing_else(monkeypatch):
    refs = [TaskRef("demo_people", form=form, data_key="k") for form in ("generate", "cloze")]
    before = [plan.task_key(ref) for ref in refs]
    monkeypatch.setattr(plan, "_GENERATION", plan._GENERATION + 1)
    after = [plan.task_key(ref) for ref in refs]
    assert after[0] != before[0] and after[1] == before[1]
