"""A race inside a study: who can't win is stopped and never mixed with the rest, and a kill changes nothing."""

from __future__ import annotations

import copy
import json
import shutil
import sqlite3

import pytest
import torch

from rankscope.cli.main import main
from rankscope.errors import StoreError
from rankscope.evaluation.divergence import look, reference
from rankscope.models.adapter import read_tensors
from rankscope.models.lora import AdapterBank
from rankscope.records import Arm, RunLook, RunResult, RunSpec, Score
from rankscope.report.html import _facts
from rankscope.stats.racing import LOOKS
from rankscope.storage.store import Store
from rankscope.study import racing, runner, trainer
from rankscope.study.plan import base_spec, run_key
from rankscope.study.racing import Racing
from rankscope.study.standing import Standing, look_steps, standing
from rankscope.study.study import Study
from rankscope.training.loop import Loop

_RACED = {
    "name": "raced",
    "models": [{"id": "demo", "dtype": "float32"}],
    "train": [{"task": "demo_people", "limit": 100}],
    "arms": ["base", {"lora": {"rank": [1, 4], "lr": [1e-6, 1.5e-2]}},
             {"lora": {"name": "idle", "rank": 2, "lr": 1e-7}}, {"full": {"lr": 5e-4}}],
    "training": {"max_steps": 6, "batch_tokens": 256, "seeds": [0], "race": True},
    "evaluate": {"retention": [{"task": "demo_facts", "limit": 2}], "limit": 2, "divergence": False, "trials": False,
                 "noise_floor": False},
    "keep": "all",
}  # fmt: skip


@pytest.fixture
def raced():
    return copy.deepcopy(_RACED)


@pytest.fixture(scope="module")
def _done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raced")
    assert Study.load(_RACED).run(folder).is_complete
    return folder


@pytest.fixture
def done(_done, tmp_path):
    return shutil.copytree(_done, tmp_path / "runs")


def weights(study, folder):
    """The bytes of every stored adapter and checkpoint of the first seed."""
    (model,), ((_, ref),) = study.resolve()
    with Store.open(folder, write=False) as store:
        keys = [run_key(s) for trials in study.arm_trials(model, ref) for s in trials]
        return {k: {n: t.numpy().tobytes() for n, t in read_tensors(store.blobs.path(k))[0].items()}
                for k in keys if store.blobs.has(k)}  # fmt: skip


def test_an_arm_that_learns_nothing_is_stopped_and_nothing_of_it_is_an_estimate(raced, done):
    study = Study.load(raced)
    result = study.result(done)
    rows = {(d.arm, d.lr): d for d in result.dropped}
    assert set(rows) == {("idle", 1e-7), ("lora-r1", 1e-6), ("lora-r4", 1e-6)}
    assert {arm for (arm, _), d in rows.items() if d.is_out} == {"idle"}
    assert {d.reason for d in rows.values()} == {"rate", "gain"} and all(d.lag > d.limit for d in rows.values())
    assert all(d.step == look_steps(6)[d.share] and d.ledger.tokens > 0 for d in rows.values())
    view = result.view()
    assert result.is_complete and [h.arm for h in view.headlines] == ["lora-r1", "lora-r4", "full"]
    assert {h.lr for h in view.headlines} == {1.5e-2, 5e-4}
    assert "idle" not in {e.contrast.arm for e in view.effects} | {s.arm for s in view.scores if s.estimate}
    (model,), ((_, ref),) = study.resolve()
    stopped = [run_key(s) for trials in study.arm_trials(model, ref) for s in trials if (s.arm.name, s.lr) in rows]
    with Store.open(done, write=False) as store:
        assert len(stopped) == 3 and store.runs(stopped) == {}
        assert not any(store.eval_ledgers(key) for key in stopped)
    assert not set(stopped) & {key for key, _ in result.evidence.evals}
    assert not list(done.glob("checkpoints/*"))


def test_page_json_plan_and_terminal_tell_who_was_stopped(raced, done, tmp_path, capsys):
    study = Study.load(raced)
    result = study.result(done)
    page = result.report(tmp_path / "a.md", "md").read_text()
    section = page.split("## Who was stopped early, and why")[1].split("\n## ")[0]
    assert "idle (the whole arm is out)" in section and "(partial)" in section and "Truncation preview" in section
    told = json.loads(result.report(tmp_path / "a.json", "json").read_text())
    assert [d["arm"] for d in told["dropped"]] == ["lora-r1", "lora-r4", "idle"]
    assert ("3 stopped early", "stopped") in _facts(result.view())
    (excluded,) = (e for e in result.recommend().excluded if e.arm == "idle")
    assert excluded.why.startswith("was stopped at ")
    cost = {c.part: c for c in result.view().costs}
    assert cost["Training stopped early by a race"].num_runs == 3
    plan = study.plan(done)
    assert len(plan.stopped) == 3 and plan.num_done == len(plan.runs) and not plan.is_at_most
    assert "stopped  demo/demo_people/idle" in str(plan)
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(raced))
    assert main(["recommend", str(path), "--store", str(done)]) == 0
    assert "3 runs were stopped early by the race; out altogether: idle" in capsys.readouterr().out
    assert main(["compare", str(path), "--store", str(done), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["dropped"]) == 3


def test_before_a_race_the_plan_says_at_most(raced):
    plan = Study.load(raced).plan()
    assert plan.is_at_most and "0 of at most 6 runs done" in str(plan) and "a race" in str(plan)


def test_looks_that_cost_a_good_part_of_a_run_are_told_beforehand(raced):
    def told(steps: int) -> list[str]:
        raced["training"]["max_steps"] = steps
        return [note for note in Study.load(raced).plan().notes if "4 looks takes about" in note]

    (note,) = told(6)
    assert "fewer validation rows" in note and told(600) == []


def test_a_raced_study_that_is_done_does_nothing_again(raced, done, monkeypatch):
    monkeypatch.setattr(runner, "load", lambda *_: pytest.fail("the weights were read"))
    assert Study.load(raced).run(done).is_complete


class _Kill(Exception):
    pass


def test_a_race_killed_at_a_look_and_between_looks_ends_with_the_same_drops_and_bits(
    raced, _done, tmp_path, monkeypatch
):
    study = Study.load(raced)

    def kill(*_):
        raise _Kill

    with monkeypatch.context() as patch:  # all looks of the first stage are stored
        patch.setattr(Racing, "_tell", kill)
        with pytest.raises(_Kill):
            study.run(tmp_path)
    step = Loop._step

    def killing(loop, live, at):
        return kill() if at == 4 else step(loop, live, at)

    with monkeypatch.context() as patch:  # in the middle of the last stage
        patch.setattr(Loop, "_step", killing)
        with pytest.raises(_Kill):
            Study.load(raced | {"training": raced["training"] | {"checkpoint_seconds": 0}}).run(tmp_path)
    assert list(tmp_path.glob("checkpoints/*"))
    result = study.run(tmp_path)
    expected = study.result(_done)
    facts = [[(d.arm, d.lr, d.share, d.reason, d.lag, d.loss) for d in r.dropped] for r in (expected, result)]
    assert facts[0] == facts[1] and expected.evidence.previews == result.evidence.previews
    assert weights(study, tmp_path) == weights(study, _done) and len(weights(study, _done)) == 3


def test_a_study_that_does_not_race_trains_what_was_stopped_and_it_then_counts_in_full(raced, done, monkeypatch):
    trained, train = [], trainer.train
    monkeypatch.setattr(trainer, "train", lambda base, runs, *rest: trained.extend(runs) or train(base, runs, *rest))
    whole = Study.load(raced | {"training": {k: v for k, v in raced["training"].items() if k != "race"}})
    result = whole.run(done)
    assert {spec.arm.name for _, spec in trained} == {"lora-r1", "lora-r4", "idle"} and len(trained) == 3
    assert result.dropped == () and "idle" in {h.arm for h in result.view().headlines}
    assert all(len(r.curve) == 6 for _, _, r, _ in result.evidence.runs if r.curve)
    again = Study.load(raced).result(done)
    assert again.dropped == () and again.is_complete


def test_a_study_that_does_not_race_has_the_key_it_had_before_there_were_races(raced):
    plain = raced | {"training": {k: v for k, v in raced["training"].items() if k != "race"}}
    off = raced | {"training": raced["training"] | {"race": False}}
    assert "race" not in Study.load(plain).config.as_dict()["training"]
    assert Study.load(plain).key == Study.load(off).key != Study.load(raced).key


_STEPS = [(1, {}), (2, {0.5: 1}), (4, {0.25: 1, 0.5: 2}), (8, {0.125: 1, 0.25: 2, 0.5: 4}),
          (30, {0.125: 4, 0.25: 8, 0.5: 15})]  # fmt: skip


@pytest.mark.parametrize("total, steps", _STEPS)
def test_looks_are_at_whole_steps_each_once_and_never_at_the_end(total, steps, monkeypatch):
    monkeypatch.setattr("rankscope.study.standing.LOOKS", (0.125, 0.25, 0.5))
    assert look_steps(total) == steps


class _Looks:
    """A store of planted looks: (loss, drift) of a run at a share, on twenty rows."""

    def __init__(self, start, looks, cut=()):
        self.all = [_look(*entry) for entry in [(*start, 0.0), *looks]] + [_look(*entry) for entry in cut]

    def looks(self, rows_key, keys):
        return [k for k in self.all if k.run_key in keys]


def _look(key, loss, share, cut=0):
    wobble = [0.01 * ((7 * i) % 5 - 2) for i in range(20)]
    return RunLook(key, "rows", share, round(16 * share), tuple(loss + w for w in wobble), (0.1,) * 20, cut)


@pytest.fixture
def field(raced):
    """A study, its only model and train task, and the run keys of its first seed by (arm, rate)."""
    study = Study.load(raced)
    (model,), ((_, ref),) = study.resolve()
    keys = {(s.arm.name, s.lr): run_key(s) for trials in study.arm_trials(model, ref) for s in trials}
    return study, model, ref, keys


def test_planted_looks_drop_the_run_that_lags_only_once_all_have_been_looked_at(field):
    study, model, ref, keys = field
    looks = [(key, 2.0 if lr > 1e-4 else 5.0, LOOKS[-1]) for (_, lr), key in keys.items()]
    start = (run_key(base_spec(model)), 5.0)

    def stands(looks, finished=()) -> Standing:
        return standing(study, lambda asked: {k: RunResult(k, "done") for k in asked if k in finished},
                        _Looks(start, looks), model, ref)  # fmt: skip

    low = {keys["lora-r1", 1e-6], keys["lora-r4", 1e-6], keys["idle", 1e-7]}
    assert set(stands(looks).drops) == low and set(stands(looks).live) == set(keys.values()) - low
    assert stands(looks[1:]).drops == {}
    first = [(key, 5.0, LOOKS[0]) for key in keys.values()]
    assert set(stands(first[1:] + looks).drops) == set()  # later looks wait for the first one to be whole
    assert set(stands(first + looks).drops) == low
    waiting = keys["lora-r1", 1e-6]  # finished by another study, and never looked at: it takes no part
    assert looks[0][0] == waiting and set(stands(looks[1:], {waiting}).drops) == low - {waiting}
    assert set(stands(looks, {keys["idle", 1e-7]}).drops) == low - {keys["idle", 1e-7]}  # finished: it counts in full


def test_the_order_of_ranks_is_that_of_the_best_runs_truncations_and_else_as_declared(field):
    study, model, ref, keys = field
    start, looks = (run_key(base_spec(model)), 5.0), [(keys["lora-r4", 1.5e-2], 3.0, LOOKS[0])]
    cut = [(keys["lora-r4", 1.5e-2], loss, LOOKS[0], rank) for rank, loss in ((1, 4.0), (2, 3.05))]
    found = standing(study, lambda _: {}, _Looks(start, looks, cut), model, ref)
    assert {p.rank: p.kept for p in found.previews} == pytest.approx({1: 0.5, 2: 0.975})
    assert found.order() == (2, 1, 4)
    assert standing(study, lambda _: {}, _Looks(start, looks), model, ref).order() == (1, 4, 2)


def test_a_look_at_other_rows_than_the_bases_is_an_error_and_no_verdict(raced, done):
    with sqlite3.connect(done / "rankscope.db") as db:
        db.execute("UPDATE looks SET losses = '[1.0, 2.0]' WHERE rowid = 3")
    with pytest.raises(StoreError, match="other rows"):
        Study.load(raced).result(done)


def test_an_update_of_rank_one_loses_nothing_when_truncated_to_it_and_one_of_rank_two_does(base, people):
    examples = people.validation[:6]
    known = reference(base, examples, [Score(str(i), 0.0) for i in range(6)])
    for true_rank, is_whole in ((1, True), (2, False)):
        trained = _planted(base, people, true_rank)
        try:
            with trained.using("x") as worn:
                whole = look(worn, known)
            short = racing._truncated(trained, trained.trainees[0], 1, known)
        finally:
            trained.close()
        assert (short[0] == pytest.approx(whole[0], abs=1e-4)) is is_whole
        assert max(whole[1]) > 0.01


def _planted(base, people, rank):
    """A run of rank 4 whose update has ``rank`` directions."""
    from rankscope.training.cohort import Trainee
    from rankscope.worker import Trained

    bank = AdapterBank(base)
    arm = Arm("x", "lora", rank=4, alpha=32.0)
    bank.add("x", arm, 0)
    torch.manual_seed(0)
    for name, parameter in bank.parameters("x").items():
        if "lora_B" in name:
            parameter.data[:, :rank] = torch.randn(len(parameter), rank) * 0.05
    named = bank.parameters("x")
    spec = RunSpec(base.ref, arm, 1e-3, None, None, 0)
    return Trained(base, bank, [Trainee("x", spec, list(named), list(named.values()), [], people)])
