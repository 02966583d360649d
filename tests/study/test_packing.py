"""How many runs train side by side: what memory holds, the fewest that are fast, the same cut when resumed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from rankscope.records import Arm, ModelRef, Recipe, RunSpec, TaskRef
from rankscope.study import packing
from rankscope.study.memory import train_bytes
from rankscope.study.plan import COHORT, cohorts
from rankscope.study.sizes import Size
from rankscope.training.cohort import TrainSet
from rankscope.training.probe import Probe
from rankscope.worker import train

SHAPE = {"hidden": 64, "inner": 128, "layers": 2, "q": 64, "kv": 32, "vocab": 100}
CPU = {1: 100.0, 2: 110.0, 4: 104.0, 8: 90.0}  # matrix products are the limit
GPU = {1: 100.0, 2: 190.0, 4: 350.0, 8: 360.0}


def _spec(rank: int, lr: float = 1e-3, seed: int = 0, **recipe) -> RunSpec:
    arm = Arm(f"r{rank}", "lora" if rank else "full", rank=rank or None, alpha=32.0)
    settings = {"max_steps": 1000, "batch_tokens": 256, **recipe}
    return RunSpec(ModelRef("m", key="k"), arm, lr, TaskRef("demo_people"), Recipe(**settings), seed)


RUNS = [_spec(r, lr) for r in (1, 4, 16, 64) for lr in (1e-4, 1e-3, 1e-2)]


@dataclass
class Machine:
    """A machine whose speeds are known, counting what it was asked."""

    rates: dict
    usable: int = 10**12
    run_steps: int = 1000
    asked: list = field(default_factory=list)
    place = {"device": "x", "threads": 2}
    width = 4
    trial_steps = 3

    def steps(self, spec):
        return self.run_steps

    def tokens_per_second(self, specs):
        self.asked.append(len(specs))
        return self.rates.get(len(specs))

    def usable_bytes(self):
        return self.usable


def _sizes(specs, folder, machine, shape=SHAPE):
    return [len(group) for group in packing.cut(specs, shape, folder, lambda: machine)]


def test_the_fewest_runs_near_the_best_speed_are_taken(tmp_path):
    cpu, gpu = Machine(CPU), Machine(GPU)
    assert set(_sizes(RUNS, tmp_path / "a", cpu)) == {2} and cpu.asked == [1, 2, 4]
    assert _sizes(RUNS, tmp_path / "b", gpu) == [4, 4, 4] and gpu.asked == [1, 2, 4, 8]
    assert packing.fewest({1: 100.0, 2: 104.0, 4: 105.0}) == 1
    assert packing.fewest({}) == 1


def test_measuring_takes_a_small_share_of_the_work_or_is_left(tmp_path):
    little = Machine(CPU, run_steps=24)  # 12 runs x 24 steps: 3 % are not three measured runs of three steps
    assert packing.cut(RUNS, SHAPE, tmp_path / "a", lambda: little) == cohorts(RUNS) and not little.asked
    some = Machine({**CPU, 2: 101.0}, run_steps=25)
    assert set(_sizes(RUNS, tmp_path / "b", some)) == {1} and some.asked == [1, 2]
    ended = Machine(GPU, run_steps=124)  # enough for 1, 2 and 4 runs, and four are faster than two
    assert packing.cut(RUNS, SHAPE, tmp_path / "c", lambda: ended) == cohorts(RUNS) and ended.asked == [1, 2, 4]
    assert not list((tmp_path / "c").glob("speed*"))
    enough = Machine(GPU, run_steps=125)
    assert set(_sizes(RUNS, tmp_path / "d", enough)) == {4} and enough.asked == [1, 2, 4, 8]


def test_no_cohort_is_larger_than_memory_holds(tmp_path):
    size = Size(SHAPE, 4)
    heaviest = sorted(RUNS, key=lambda s: -s.arm.rank)
    for held in (1, 3, 5):
        usable = int(train_bytes(size, heaviest[:held]) / packing.SHARE) + 1
        for machine in (Machine(GPU, usable), Machine(GPU, usable, run_steps=20)):
            groups = packing.cut(RUNS, SHAPE, tmp_path / f"{held}-{machine.run_steps}", lambda m=machine: m)
            assert max(map(len, groups)) <= held
            assert all(train_bytes(size, g) <= packing.SHARE * usable or len(g) == 1 for g in groups)
            assert [s for g in groups for s in g] == RUNS
    assert set(_sizes(RUNS, tmp_path / "none", Machine(GPU, 0))) == {1}


def test_without_sizes_trying_tells_what_memory_holds(tmp_path):
    assert set(_sizes(RUNS, tmp_path / "a", Machine({1: 100.0, 2: 190.0}), None)) == {2}
    assert set(_sizes(RUNS, tmp_path / "b", Machine({}), None)) == {1}


def test_speeds_are_kept_and_measured_again_only_for_more_runs(tmp_path):
    first = Machine(GPU)
    assert _sizes(RUNS[:3], tmp_path, first) == [2, 1] and first.asked == [1, 2]
    second = Machine(GPU)
    assert _sizes(RUNS, tmp_path, second) == [4, 4, 4] and second.asked == [1, 2, 4, 8]
    third = Machine({})
    assert _sizes(RUNS[:5], tmp_path, third) == [4, 1] and not third.asked
    slow = Machine({1: 100.0, 2: 90.0})  # no larger number can be faster, so it's never asked for
    slow.place = {"device": "z"}
    assert _sizes(RUNS[:2], tmp_path, slow) == [1, 1] and slow.asked == [1, 2]
    assert set(_sizes(RUNS[2:], tmp_path, slow)) == {1} and slow.asked == [1, 2]
    elsewhere = Machine(CPU)
    elsewhere.place = {"device": "y"}
    assert set(_sizes(RUNS[1:], tmp_path, elsewhere)) == {2, 1} and elsewhere.asked


def test_a_cpu_that_there_is_no_time_to_measure_trains_one_by_one(tmp_path):
    for device, sizes in {"cpu": {1}, "a GPU": {8, 4}}.items():
        machine = Machine(GPU, run_steps=1)
        machine.place = {"device": device}
        assert set(_sizes(RUNS, tmp_path / device, machine)) == sizes and not machine.asked


def test_a_cut_stays_when_the_machine_has_changed_and_a_damaged_file_is_made_again(tmp_path):
    before = packing.cut(RUNS, SHAPE, tmp_path, lambda: Machine(GPU))
    assert packing.cut(RUNS, SHAPE, tmp_path, lambda: pytest.fail("asked again")) == before
    for damage in (
        b"[4, 4]",
        b"[4, 4, 4, 0]",
        b"{",
        b'"x"',
        b'{"most": 8, "rates": 1}',
        b'{"most": 8, "rates": [[1, "x"], 2]}',
        b"\xff",
    ):
        for path in tmp_path.glob("*.json"):
            path.write_bytes(damage)
        assert packing.cut(RUNS, SHAPE, tmp_path, lambda: Machine(GPU)) == before


def test_full_runs_stay_alone_and_one_run_asks_nothing(tmp_path):
    full = _spec(0)
    nothing = pytest.fail
    assert packing.cut([RUNS[0], full], SHAPE, tmp_path, lambda: nothing("asked")) == [[RUNS[0]], [full]]
    assert packing.packed([full, *RUNS[:3]], 2) == [RUNS[:2], [RUNS[2]], [full]]
    assert packing.packed(RUNS, COHORT) == cohorts(RUNS)


def _probe(base, people) -> Probe:
    return Probe(base, TrainSet(people.train[:40], ()), {"device": "cpu"})


def test_a_probe_measures_and_leaves_everything_as_it_was(base, people):
    import torch

    before = {k: v.clone() for k, v in base.model.state_dict().items()}
    torch.manual_seed(3)
    stream, names = torch.random.get_rng_state(), [n for n, _ in base.model.named_modules()]
    probe, specs = _probe(base, people), [_spec(2, max_steps=4), _spec(8, max_steps=4)]
    speed = probe.tokens_per_second(specs)
    assert speed is not None and 10 < speed < 1e7
    assert probe.usable_bytes() > 10**8 and probe.width == 4 and probe.steps(specs[0]) == 4
    assert torch.equal(torch.random.get_rng_state(), stream)
    assert [n for n, _ in base.model.named_modules()] == names
    assert all(torch.equal(v, before[k]) for k, v in base.model.state_dict().items())


def test_a_probe_that_memory_does_not_hold_says_so(base, people, monkeypatch):
    import torch

    from rankscope.training.loop import Loop

    real = Loop._nll

    def tight(self, live, rows):
        if sum(map(len, rows)) > 6:
            raise torch.OutOfMemoryError("planted")
        return real(self, live, rows)

    monkeypatch.setattr(Loop, "_nll", tight)
    assert _probe(base, people).tokens_per_second([_spec(2, max_steps=4)] * 2) is None
    assert not [n for n, _ in base.model.named_modules() if n.endswith(".base")]


def test_weights_are_the_same_whatever_the_packing(base, people):
    import torch

    recipe = {"max_steps": 3, "batch_tokens": 256}
    specs = [_spec(r, 3e-3, **recipe) for r in (1, 2, 8)]
    found = {}
    for most in (1, 2, 3):
        for group in packing.packed(specs, most):
            trained = train(base, [(s.arm.name, s) for s in group], people)
            for trainee in trained.trainees:
                new = {k: v.detach().clone() for k, v in trainee.tensors().items()}
                for name, tensor in found.setdefault(trainee.key, new).items():
                    torch.testing.assert_close(new[name], tensor, atol=1e-4, rtol=1e-3)
            trained.close()
    assert len(found) == 3
