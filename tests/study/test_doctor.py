"""What the doctor finds: planted caches, packages, rates and devices; and no network, whatever is there."""

from __future__ import annotations

import json
import re
import socket
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
import torch

from rankscope.cli.main import main
from rankscope.data.dataset import VARIABLE
from rankscope.study import doctor

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, in effect."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HOME", str(tmp_path))
    for name in (*doctor.OFFLINE, VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def named(findings):
    return {f.name: f for f in findings}


def test_the_verb_prints_every_finding_asks_no_network_and_exits_with_0(cache, monkeypatch, capsys, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(doctor, "product_rate", lambda torch, device, form: 1e9 if form == "float32" else 1e7)
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sum(found["count"].values()) == len(found["findings"])
    assert {f["part"] for f in found["findings"]} == {"software", "devices", "number formats", "memory", "hub", "data",
                                                      "optional"}  # fmt: skip
    network = next(f for f in found["findings"] if f["name"] == "network")
    assert network["text"].startswith("hub: not asked") and network["data"] == {"asked": False, "offline": {}}
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^  slow +bfloat16 on cpu .*100 x slower than float32$", text, re.M)
    assert all(f["name"] in text and f["mend"] in text for f in found["findings"])
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("rate", "status", "words"),
    [
        (None, "missing", "not supported here"),
        (1e9, "slow", "100 x slower than float32"),
        (4.9e10, "slow", "2.04 x slower"),
        (5.1e10, "ok", "0.51 x float32"),
        (4e11, "ok", "4 x float32"),
    ],
)
def test_a_format_is_judged_by_its_rate_beside_float32(rate, status, words):
    found = doctor.judged("cpu", "bfloat16", rate, 1e11)
    assert found.status == status and words in found.text
    assert found.mend == ("" if status == "ok" else doctor.DTYPE_HINT)
    assert found.data["flops_per_second"] == rate


def test_a_rate_is_that_of_a_product_here_and_none_where_it_is_not_implemented():
    threads = torch.get_num_threads()
    assert 1e7 < doctor.product_rate(torch, "cpu", "float32", 0.01) < 1e14

    class Refusing:
        def to(self, _):
            return self

        def __matmul__(self, _):
            raise RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'")

    fake = SimpleNamespace(cpu=torch.cpu, float16=torch.float16, ones=lambda *_, **__: Refusing(),
                           get_num_threads=torch.get_num_threads, set_num_threads=torch.set_num_threads)  # fmt: skip
    assert doctor.product_rate(fake, "cpu", "float16") is None
    assert torch.get_num_threads() == threads


def test_cached_models_and_datasets_are_listed_by_id(cache):
    assert {n: f.status for n, f in named(doctor.hub()).items()} == {
        "network": "ok", "cached models": "missing", "cached datasets": "missing"}  # fmt: skip
    for repo in ("models--some--model-1", "models--gpt2", "datasets--a--b"):
        (cache / "hub" / repo / "snapshots" / "abc").mkdir(parents=True)
        (cache / "hub" / repo / "snapshots" / "abc" / "config.json").touch()
    (cache / "hub" / "models--half--loaded" / "snapshots").mkdir(parents=True)  # nothing arrived
    (cache / "datasets" / "c___d").mkdir(parents=True)
    found = named(doctor.hub())
    assert found["cached models"].data["ids"] == ["gpt2", "some/model-1"]
    assert found["cached datasets"].data["ids"] == ["a/b", "c/d"]
    assert found["cached models"].status == found["cached datasets"].status == "ok"


def test_offline_variables_are_named(cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert named(doctor.hub())["network"].text == "hub: not asked; HF_HUB_OFFLINE=1"


def test_the_mirrors_tasks_are_told_with_their_splits(cache, monkeypatch):
    (missing,) = doctor.mirror()
    assert missing.status == "missing" and missing.mend.startswith(f"export {VARIABLE}=DIR")
    monkeypatch.setenv(VARIABLE, str(cache))
    (empty,) = doctor.mirror()
    assert empty.status == "missing" and "no task" in empty.text
    (cache / "arc_easy").mkdir()
    (cache / "arc_easy" / "test.jsonl").touch()
    (found,) = doctor.mirror()
    assert found.status == "ok" and "has arc_easy (test); not: " in found.text
    assert found.data["tasks"]["arc_easy"] == ["test"] and found.data["tasks"]["gsm8k"] == []
    assert not [name for name in found.data["tasks"] if name.startswith("demo_")]
    monkeypatch.setenv(VARIABLE, str(cache / "nowhere"))
    (gone,) = doctor.mirror()
    assert gone.status == "missing" and "no such folder of data" in gone.text


def test_a_package_that_is_missing_or_too_old_says_what_to_install(monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: {"peft": None, "numpy": "1.0"}.get(name, real(name)))
    found = named(doctor.software())
    assert found["peft"].text.startswith("not installed, needs peft>=")
    assert found["numpy"].text.startswith("1.0 is too old, needs numpy>=")
    assert found["numpy"].mend == f"pip install '{found['numpy'].data['needs']}'"
    assert "peft" not in found["packages"].data["versions"] and found["packages"].data["versions"]["torch"]


def test_the_packages_looked_at_are_those_that_rankscope_declares():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.M | re.S)[1]
    assert {wanted for _, wanted, _ in doctor._requirements()} == set(re.findall(r'"(.+?)"', listed))
    assert set(doctor._REQUIRED) <= {name for name, _, _ in doctor._requirements()}


def test_a_broken_plug_in_package_is_a_finding(monkeypatch):
    from rankscope.plugins import Listed, Origin

    broken = Listed("ports", Origin("portsmith", "1.0"), problem="the task 'ports' can't be loaded")
    monkeypatch.setattr(doctor.plugins, "listing", lambda kind: [broken] if kind == "tasks" else [])
    found = named(doctor.software())["task ports"]
    assert (found.status, found.mend) == ("missing", "pip uninstall portsmith")


def test_without_torch_there_are_findings_and_no_error(monkeypatch):
    (cpu,) = doctor.devices(None)
    assert cpu.status == "missing" and cpu.mend == "pip install torch" and cpu.data["flops_per_second"] > 0
    assert list(doctor.number_formats(None)) == []
    assert named(doctor.optional(None))["bitsandbytes"].mend == ""
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert doctor._module("torch") is None


def fake_torch(threads=1, gpus=0, cuda=None):
    properties = SimpleNamespace(name="Card", major=9, minor=0)
    return SimpleNamespace(
        get_num_threads=lambda: threads,
        version=SimpleNamespace(cuda=cuda),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
        cuda=SimpleNamespace(
            is_available=lambda: gpus > 0,
            device_count=lambda: gpus,
            get_device_properties=lambda index: properties,
            mem_get_info=lambda index: (int(60e9), int(80e9)),
        ),
    )


def test_gpus_are_told_with_memory_and_compute_capability():
    found = named(doctor.devices(fake_torch(gpus=2, cuda="12.8")))
    assert {"CUDA 0", "CUDA 1"} <= set(found)
    assert found["CUDA 1"].text == "Card, 60.0 of 80.0 GB free, compute capability 9.0"
    assert named(doctor.optional(fake_torch(gpus=1)))["bitsandbytes"].text.find("none here") == -1


def test_a_driver_without_a_torch_for_it_is_told_apart_from_no_gpu(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert "no GPU that torch can use" in named(doctor.devices(fake_torch()))["CUDA"].text
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    found = named(doctor.devices(fake_torch()))["CUDA"]
    assert "built without CUDA" in found.text and found.mend.startswith("pip install --force-reinstall torch")


def test_idle_cores_are_slow(monkeypatch):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    few, enough = (named(doctor.devices(fake_torch(threads=n)))["CPU"] for n in (1, 4))
    assert (few.status, few.mend) == ("slow", "export OMP_NUM_THREADS=8")
    assert (enough.status, enough.mend) == ("ok", "")


def test_too_little_memory_or_disk_is_missing(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(10**12, 0, 10**8))
    store = tmp_path / "not" / "yet"
    found = named(doctor.memory(store))
    assert found["RAM"].data["total_bytes"] > found["RAM"].data["free_bytes"] > 0
    disk = found[f"disk of {store}"]
    assert (disk.status, disk.mend) == ("missing", f"rankscope gc {store} --delete")


def test_a_file_is_no_store(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["doctor", "--store", str(tmp_path / "file")]) == 2
    assert "this is a file, not a folder of results" in capsys.readouterr().err


def test_the_hint_for_an_optional_package_is_the_extras_own_bound(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    bound = re.search(r'lm-eval = \["(.*)"\]', text)[1]
    assert named(doctor.optional(None))["lm_eval"].mend == f"pip install '{bound}'"
