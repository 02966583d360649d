"""Arms that exist already: an adapter and a checkpoint are scored like any other arm, without training."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from rankscope.cli.main import main
from rankscope.errors import ConfigError, DataError, ModelError, PluginError
from rankscope.models.base import load
from rankscope.records import ModelRef
from rankscope.study import runner, trainer
from rankscope.study.study import Study, score

ASKED = {"in_domain": [{"task": "demo_people"}], "retention": [{"task": "demo_facts"}, {"task": "demo_text"}]}


@pytest.fixture
def adapter(small, store, tmp_path):
    """The small study's adapter of rank 4, seed 1, as PEFT would have it."""
    return Study.load(small).result(store).adapter("lora-r4", 1).save(tmp_path / "mine")


@pytest.fixture(scope="session")
def checkpoint(base, tmp_path_factory):
    """The bundled model with its weights shrunk a little, saved as anyone's fine-tuned model is."""
    folder = tmp_path_factory.mktemp("tuned")
    model = load(ModelRef("demo", dtype="float32")).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.97)
    model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    return folder


def values(result, arm):
    found = {e.task_key: e for (key, _), e in result.evidence.evals.items() for spec, own, *_ in result.evidence.runs
             if own == key and spec.arm.name == arm and spec.seed in (0, 1)}  # fmt: skip
    return {key: [s.value for s in e.scores] for key, e in found.items()}


def test_an_adapter_added_to_a_study_has_the_scores_of_the_run_that_made_it(small, store, adapter, monkeypatch):
    monkeypatch.setattr(trainer, "train", lambda *_: pytest.fail("something was trained"))
    small["arms"].append({"adapter": {"path": str(adapter), "name": "last-year"}})
    result = Study.load(small).run(store)
    assert result.is_complete
    made = {e.task_key: e for (key, _), e in result.evidence.evals.items() for spec, own, *_ in result.evidence.runs
            if own == key and (spec.arm.name, spec.seed) == ("lora-r4", 1)}  # fmt: skip
    given = values(result, "last-year")
    assert set(given) == set(made) and len(given) == 3
    for key, scores in given.items():
        assert scores == pytest.approx([s.value for s in made[key].scores], abs=1e-6)


def test_a_merged_adapter_is_a_checkpoint_with_the_same_scores(small, store, adapter, tmp_path):
    folder = Study.load(small).result(store).adapter("lora-r4", 1).save_merged(tmp_path / "merged")
    apart = score("demo", ["demo_people", "demo_text"], adapter=str(adapter), limit=12, dtype="float32")
    merged = score(str(folder), ["demo_people", "demo_text"], limit=12, dtype="float32")
    plain = score("demo", ["demo_text"], limit=12, dtype="float32")[0]["value"]
    assert [row["value"] for row in merged] == pytest.approx([row["value"] for row in apart], abs=1e-5)
    assert merged[1]["value"] != pytest.approx(plain, abs=1e-4)


def test_an_arm_that_exists_already_speaks_for_itself_and_no_seed(small, store, adapter):
    small["arms"].append({"adapter": {"path": str(adapter)}})
    view = Study.load(small).run(store).view()
    row = next(h for h in view.headlines if h.arm == "mine")
    made = next(h for h in view.headlines if h.arm == "lora-r4")
    assert row.trainable == made.trainable and row.blob_bytes == pytest.approx(made.blob_bytes, rel=0.05)
    assert (row.kind, row.num_seeds, row.num_seeds_planned, row.lr) == ("adapter", 1, 1, None)
    assert row.gain.contrast.estimate.scope == "items" and "seed" not in view.verdicts[0].lead.split("rank")[0]
    text = json.dumps(view.as_dict())
    assert str(adapter) not in text and "made for demo, 28 modules" in text


def test_a_study_may_train_nothing_at_all(small, tmp_path, adapter, checkpoint):
    study = {
        "name": "given",
        "models": [{"id": "demo", "dtype": "float32"}],
        "arms": [{"adapter": {"path": str(adapter), "name": "old"}}, {"checkpoint": {"path": str(checkpoint)}}],
        "evaluate": ASKED | {"limit": 24},
    }
    loaded = Study.load(study)
    assert [name for name, _ in loaded.plan(tmp_path / "new").runs] == ["demo/old", f"demo/{checkpoint.name}"]
    result = loaded.run(tmp_path / "new")
    assert result.is_complete and not result.failed
    assert all(is_done for _, is_done in loaded.plan(tmp_path / "new").runs)
    assert result.verdict.startswith("old: ") and f"{checkpoint.name}: " in result.verdict
    assert "retention: " in result.verdict
    alone = score(str(checkpoint), ["demo_people"], limit=24, dtype="float32")[0]
    shown = next(s for s in result.view().scores if s.arm == checkpoint.name and s.task == "demo_people")
    assert shown.estimate.value == pytest.approx(alone["value"])
    for form in ("html", "md", "json"):
        text = result.report(tmp_path / f"r.{form}", form).read_text()
        assert re.search(r"trained on\s*[·,;<:]", text) is None and str(tmp_path) not in text


def test_the_same_adapter_twice_is_refused(small, tmp_path, adapter):
    small["arms"] += [{"adapter": {"path": str(adapter), "name": name}} for name in ("a", "b")]
    with pytest.raises(ModelError, match=r"this is the same adapter as 'a' \(got 'b'\)"):
        Study.load(small).run(tmp_path / "new")


def test_every_in_domain_task_is_in_the_lead_of_given_arms(tmp_path, adapter):
    study = {
        "name": "given",
        "models": [{"id": "demo", "dtype": "float32", "label": name} for name in ("one", "two")],
        "arms": [{"adapter": {"path": str(adapter), "name": "old"}}],
        "evaluate": {"in_domain": [{"task": t, "limit": 8} for t in ("demo_people", "demo_facts", "demo_skills")]},
    }
    result = Study.load(study).run(tmp_path / "new")
    for verdict, model in zip(result.view().verdicts, ("one", "two"), strict=True):
        assert verdict.lead.startswith(f"{model}. old: ")
        assert all(f" on {task} (" in verdict.lead for task in ("demo_people", "demo_facts", "demo_skills"))
        learned = [text for label, text in verdict.points if label == "Learned"]
        assert len(learned) == 3 and "or seeds" not in str(verdict.points)
    assert [row["model"] for row in result.table()] == ["one", "two"]


def test_a_scoring_that_fails_is_a_failure_of_the_study(small, store, monkeypatch):
    from rankscope.records import EvalResult

    def failing(base, task, run_key, task_key, *_):
        return EvalResult(run_key, task_key, "failed", "the scorer gave up")

    monkeypatch.setattr(runner, "evaluate", failing)
    small["evaluate"]["retention"].append({"task": "demo_skills", "limit": 4})
    failed = Study.load(small).run(store).failed
    assert ("demo/base on demo_skills", "the scorer gave up") in failed and len(failed) == 7


def test_the_content_of_an_adapter_is_its_identity(small, store, adapter, tmp_path):
    small["arms"].append({"adapter": {"path": str(adapter), "name": "a"}})
    Study.load(small).run(store)
    path = adapter / "adapter_model.safetensors"
    save_file({k: v * 2 for k, v in load_file(path).items()}, path, {"format": "pt"})
    assert ("demo/a", False) in Study.load(small).plan(store).runs


def test_an_adapter_of_another_model_is_found_before_anything_is_written(small, tmp_path, adapter):
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "some/other-model"}))
    path = adapter / "adapter_model.safetensors"
    cut = {k: v[:, :7].contiguous() if "lora_A" in k else v for k, v in load_file(path).items()}
    save_file(cut, path, {"format": "pt"})
    small["arms"].append({"adapter": {"path": str(adapter)}})
    with pytest.raises(ModelError, match="not one for this model.*The model it was made for: some/other-model"):
        Study.load(small).run(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_of_another_shape_is_refused(small, tmp_path, checkpoint, base):
    from rankscope.testing import tiny_model

    tiny_model().save_pretrained(tmp_path / "tiny")
    base.tokenizer.save_pretrained(tmp_path / "tiny")
    small["arms"].append({"checkpoint": {"path": str(tmp_path / "tiny")}})
    with pytest.raises(ModelError, match="this checkpoint is not one of this model: "):
        Study.load(small).run(tmp_path / "new")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ["base", {"full": {}}], "train": []}, "train: an arm is to be trained, but train is missing"),
        ({"arms": ["base"]}, "train: no arm is trained; list the tasks under evaluate.in_domain instead"),
        ({"arms": ["base"], "train": [], "evaluate": {}}, "evaluate: nothing to score"),
        ({"arms": [{"adapter": {}}]}, "arms[0].adapter.path: missing"),
        ({"arms": [{"adapter": {"path": "./gone"}}]}, "arms[0].adapter.path: no such folder (got './gone')"),
        ({"arms": [{"adapter": {"path": "a/b c"}}]}, "arms[0].adapter: 'b c' can't be the name of an arm"),
    ],
)
def test_a_study_of_given_arms_that_makes_no_sense_says_so(small, change, message):
    with pytest.raises(ConfigError) as caught:
        Study.load(small | change)
    assert str(caught.value).startswith(message)


def test_what_is_asked_for_must_leave_room_for_the_question(small, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Say {i}:", "completion": f"{i}"}) + "\n" for i in range(30)))
    entry = {"task": "data", "path": str(path), "form": "generate", "max_new_tokens": 99999}
    (tmp_path / "s.yaml").write_text(json.dumps({**small, "train": [entry]}, indent=1))
    with pytest.raises(DataError, match="max_new_tokens leaves no room for the question") as caught:
        Study.load(tmp_path / "s.yaml").check()
    assert re.search(r"s\.yaml:\d+: train\[0\]\.max_new_tokens", caught.value.where) and caught.value.hint


def test_a_scorer_that_its_file_lacks_is_told_with_the_studys_line(small, tmp_path):
    (tmp_path / "mine.py").write_text("def judge(sample, response): return 1.0\n")
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "Say it:", "completion": "it"}\n' * 9)
    entry = {"task": "data", "path": str(path), "scorer": "mine.py@judg"}
    (tmp_path / "s.yaml").write_text(json.dumps({**small, "train": [entry]}, indent=1))
    with pytest.raises(PluginError, match="mine.py has no 'judg'. Did you mean 'judge'") as caught:
        Study.load(tmp_path / "s.yaml").check()
    assert "s.yaml:" in caught.value.where


def test_an_adapter_without_its_weights_says_what_to_give(small, tmp_path, adapter):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text())
    small["arms"] = [{"adapter": {"path": str(broken), "name": "A"}}]
    del small["train"]
    with pytest.raises(ModelError) as caught:
        Study.load({**small, "evaluate": {"in_domain": ["demo_people"]}}).check()
    assert caught.value.hint == "Give the folder that PEFT saved"


def test_a_check_and_a_plan_of_scoring_alone_say_nothing_of_training(small, tmp_path, adapter, capsys):
    del small["train"]
    small |= {"arms": [{"adapter": {"path": str(adapter), "name": "A"}}], "evaluate": {"in_domain": ["demo_people"]}}
    (tmp_path / "s.yaml").write_text(json.dumps(small))
    assert main(["check", str(tmp_path / "s.yaml")]) == 0
    said = capsys.readouterr().out
    assert "train:" not in said and "seeds:" not in said and "evaluate: demo_people" in said
    assert Study.load(small).plan().forecast.peak.high > 600_000_000
