"""The plan as people and programs get it: arms, fits, money, disk, ranges; from a new study and from a stored one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from rankscope.cli.main import main
from rankscope.provenance import recall, remember
from rankscope.storage.history import history, measured, moved
from rankscope.storage.store import Store
from rankscope.study import disk, host
from rankscope.study.plan import base_spec, run_key, task_key
from rankscope.study.sizes import size_of
from rankscope.study.study import Study

LLAMA = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False}  # fmt: skip


@pytest.fixture
def large(small, tmp_path):
    """A study of an 8B model of which only the sizes are here, as a file."""
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "llama-8b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    save_file({"a": np.zeros(1, dtype=np.float32)}, folder / "model.safetensors")
    small["models"] = [{"id": str(folder), "dtype": "bfloat16"}]
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(small))
    return str(path)


def test_full_sft_of_an_8b_model_on_24_gb_is_refused_in_words_and_money_is_a_range(large, tmp_path, capsys):
    line = ["plan", large, "--store", str(tmp_path / "new"), "--on", "RTX 4090", "--price-per-hour", "0.7"]
    assert main([*line, "--currency", "EUR"]) == 0
    text = capsys.readouterr().out
    assert "full SFT of llama-8b does not fit RTX 4090" in text and "a B200 would hold it" in text
    assert "uncalibrated" in text and " EUR for the rest" in text and "rows" not in text.splitlines()[0]
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["host"] == "RTX 4090" and found["forecast"]["seconds"] is None
    assert found["cost"]["low"] == pytest.approx(found["forecast"]["low_seconds"] * 0.7 / 3600)
    arms = {arm["arm"]: arm for arm in found["arms"]}
    assert (arms["full"]["fits"], arms["lora-r1"]["fits"]) == ("no", "yes")
    assert {"total", "done", "runs", "notes", "at_most", "stopped"} <= set(found)
    assert arms["lora-r1"]["runs"] == 3 and arms["full"]["runs"] == 2, "a trial and two seeds; two seeds"
    assert sum(arm["runs"] for arm in found["arms"]) == found["total"] + 1, "the base is none to train"


def test_an_unknown_gpu_is_an_error_with_a_way_out(large, capsys):
    assert main(["plan", large, "--on", "H10"]) == 2
    assert "several GPUs are called this" in capsys.readouterr().err
    assert main(["plan", large, "--on", "abacus"]) == 2
    assert "give its memory, as in 24GB" in capsys.readouterr().err


def test_a_stored_study_is_planned_from_its_own_work(small, store):
    small["training"]["seeds"] = [0, 1, 2]
    plan = Study.load(small).plan(store)
    assert plan.forecast.basis == "measured" and plan.forecast.span.value is not None
    rows = {arm.arm: arm for arm in plan.arms}
    assert [rows[name].runs - rows[name].done for name in ("base", "lora-r1", "lora-r4", "full")] == [0, 1, 1, 1]
    with Store.open(store, write=False) as opened:
        past = history(opened)
        tokens = {p.ledger.tokens for p in past if p.kind == "train"}
    assert {arm.tokens for arm in plan.arms if arm.tokens} == tokens, "steps of the same rows have the same tokens"
    assert rows["full"].peak.value > 2e8 and rows["base"].peak is None
    elsewhere = Study.load(small).plan(store, on="H100 80GB")
    assert elsewhere.forecast.basis == "uncalibrated" and elsewhere.cohorts == 2, "both ranks side by side, and full"
    assert plan.cohorts == 3


def test_what_lies_in_a_store_is_told_without_its_scores(small, store):
    study = Study.load(small)
    (model,), _ = study.resolve()
    key = run_key(base_spec(model))
    with Store.open(store, write=False) as opened:
        past, done = history(opened), measured(opened)
        task = task_key(study.test_task(study.config.evaluations(None)[0][0]))
        found, base = moved(opened, key, task), opened.eval(key, task)
        one = next(m for m in found if opened.run(m.key).steps)
        arm = opened.eval(one.key, task)
    differences = [a.value - b.value for a, b in zip(arm.scores, base.scores, strict=True)]
    mean = sum(differences) / len(differences)
    assert one.items == 16 and one.mean == pytest.approx(mean)
    assert one.variance == pytest.approx(sum((d - mean) ** 2 for d in differences) / 16)
    assert {p.kind for p in past} == {"train", "weigh", "kl"} and all(p.device == "cpu" for p in past)
    assert all((p.key, p.measure) in done for p in past if p.kind != "train")


def test_disk_is_what_is_kept_and_one_full_copy_at_a_time(small):
    study = Study.load(small)
    (model,), ((_, ref),) = study.resolve()
    trials = [spec for own in study.arm_trials(model, ref) for spec in own]
    full = next(spec for spec in trials if spec.arm.kind == "full")
    from dataclasses import replace

    size = size_of({"hidden": 8, "inner": 16, "layers": 1, "q": 8, "kv": 8, "vocab": 10}, "float32")
    seeds = [full, replace(full, seed=1)]
    assert disk.weights_bytes(size, seeds, seeds, "adapters") == 4 * size.num_params
    assert disk.weights_bytes(size, seeds, seeds, "all") == disk.weights_bytes(size, seeds, seeds, "best") == (
        2 * 4 * size.num_params)  # fmt: skip
    assert disk.checkpoint_bytes(size, [[full]]) == 12 * size.num_params


def test_the_machine_is_the_card_that_nvidia_smi_lists_or_the_cpu(monkeypatch):
    said = "NVIDIA H200, 143771\n"
    monkeypatch.setattr(host.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(host.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, said))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    card = host.here()
    assert (card.device, card.flops, card.is_gpu) == ("NVIDIA H200", 989e12, True)
    assert card.memory_bytes == 143771 * 2**20
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert host.here().device == "cpu" and host.here().memory_bytes > 1e8
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    said = "No devices were found\n"
    assert not host.here().is_gpu


def test_what_is_kept_for_the_next_command_is_found_again_and_missing_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert recall("rows", "key") is None
    remember("rows", "key", "text")
    assert recall("rows", "key") == "text" and not list(tmp_path.rglob("*.new"))
    (tmp_path / "rankscope" / "rows" / "key").write_bytes(b"\xff\xfe")
    assert recall("rows", "key") is None


def test_counts_of_many_rows_are_kept_and_a_damaged_file_is_counted_again(small, tmp_path, monkeypatch):
    from rankscope.study import rows

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rows, "_MANY", 10)
    first = Study.load(small).plan().notes
    kept = next((tmp_path / "rankscope" / "rows").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(rows, "count_rows", lambda texts: pytest.fail("counted again"))
        assert Study.load(small).plan().notes == first
    kept.write_text("{not json")
    assert Study.load(small).plan().notes == first


def test_planning_loads_no_torch(large, tmp_path):
    code = (f"import sys; from rankscope.study.study import Study; Study.load({large!r}).plan(on='L4'); "
            "print({'torch', 'transformers', 'scipy.stats', 'pandas'} & set(sys.modules))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
