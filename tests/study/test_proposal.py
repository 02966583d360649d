"""What attribution read becomes an arm, in words and in the study file. The readings are made up: a known answer."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest

from rankscope.cli.main import main
from rankscope.config import load
from rankscope.config.append import arm_text
from rankscope.errors import InputError, ModelError
from rankscope.models.locate import shape
from rankscope.records import Arm, Diagnosis, ModelRef, Reading, RunResult, RunSpec, TaskRef
from rankscope.report.evidence import Evidence
from rankscope.study.proposal import parameters, proposals
from rankscope.study.sizes import size_of
from rankscope.study.study import Study

STEP = "rankscope run s.yaml"
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LORA = Arm("lora-r16", "lora", (1e-3, 3e-3), rank=16, alpha=32.0)
FILE = """\
# my study
models: [demo]
train: [demo_people]
arms:
  - base
  - lora: {rank: 16, lr: [1.0e-3, 3.0e-3]}   # the usual
  # - full
training: {seeds: [0]}
"""


def diagnosis(key: str, layers=(2, 3), ranks=None, rows: int = 40, kept: float = 0.9, **more) -> Diagnosis:
    """Of a model with layers 0 to 3: which are kept, the rank of each kind, and a gain of which ``kept`` is left."""
    ranks = {"q_proj": 4, "v_proj": 8} if ranks is None else ranks
    gain = np.linspace(0.5, 1.5, rows)
    losses = {"none": 3 + 0 * gain, "": 3 - gain, "proposal": 3 - kept * gain, "kept 1": 3 - gain / 2}
    readings = [
        *(Reading("loss", tuple(map(float, v)), part="validation", variant=k) for k, v in losses.items()),
        *(Reading("score", (1.0,), part="demo_people", variant=f"only layers {v}") for v in ("0-1", "2-3")),
        Reading("kept_layers", (3.0,), variant="kept 1"),
        Reading("kept_layers", tuple(map(float, layers)), variant="proposal"),
        *(Reading("kept_rank", (float(ranks.get(k, 0)),), module=k, variant="proposal") for k in KINDS),
    ]
    return Diagnosis(key, "d", "attribution", **{"status": "done", "readings": tuple(readings)} | more)


def evidence(*found: Diagnosis, arms=(LORA,), trains=("demo_people",)) -> Evidence:
    """Runs are called ARM/TRAIN/SEED."""
    runs = []
    for d in found:
        name, train, seed = d.run_key.split("/")
        arm = next(a for a in arms if a.name == name)
        runs.append((RunSpec(ModelRef("demo"), arm, 1e-3, TaskRef(train), None, int(seed)), d.run_key,
                     RunResult(d.run_key, "done"), "final"))  # fmt: skip
    return Evidence("s", None, (0, 1), (Arm("base", "base"), *arms, Arm("full", "full", (1e-4,))), trains, {},
                    tuple(runs), {}, models=(ModelRef("demo"),),
                    diagnoses={(d.run_key, "attribution"): d for d in found})  # fmt: skip


def test_the_parts_that_are_kept_become_an_arm_with_the_rate_and_alpha_of_its_origin():
    (found,) = proposals(evidence(diagnosis("lora-r16/demo_people/0")), None, (), STEP)
    assert found.arm == Arm("lora-r16-lean", "lora", (1e-3, 3e-3), rank=8, alpha=32.0, targets=("q_proj", "v_proj"),
                            layers=(2, 3), rank_pattern=(("q_proj", 4),))  # fmt: skip
    assert arm_text(found.arm) == (
        "lora: {name: lora-r16-lean, rank: 8, alpha: 32, targets: [q_proj, v_proj], layers: 2-3, "
        "rank_pattern: {q_proj: 4}, lr: [0.001, 0.003]}"
    )
    assert (found.kept.value, found.kept.num_items, found.kept.scope) == (pytest.approx(0.9), 40, "this seed only")
    assert found.kept.low == pytest.approx(0.9) and found.is_new


def test_what_is_wholly_kept_is_not_written_down():
    every = dict.fromkeys(KINDS, 16)
    (found,) = proposals(evidence(diagnosis("lora-r16/demo_people/0", (0, 1, 2, 3), every)), None, (), STEP)
    assert not found.is_new
    fewer = diagnosis("lora-r16/demo_people/0", (0, 1, 2, 3), every | {"k_proj": 2})
    (found,) = proposals(evidence(fewer), None, (), STEP)
    assert (found.arm.layers, found.arm.targets) == (None, ("all-linear",))
    assert found.arm.rank_pattern == (("k_proj", 2),)


def test_an_origin_of_named_modules_and_patterns_keeps_what_is_left_of_them():
    origin = Arm("mine", "lora", (1e-3,), True, rank=8, alpha=16.0, targets=("self_attn.q_proj", "k_proj"),
                 scaling="rslora", dropout=0.1, alpha_pattern=(("k_proj", 4.0), ("q_proj", 2.0)))  # fmt: skip
    (found,) = proposals(evidence(diagnosis("mine/demo_people/0", ranks={"q_proj": 4}), arms=(origin,)), None, (), STEP)
    assert (found.arm.targets, found.arm.alpha_pattern) == (("self_attn.q_proj",), (("q_proj", 2.0),))
    assert (found.arm.scaling, found.arm.dropout, found.arm.lr_auto, found.arm.alpha) == ("rslora", 0.1, True, 16.0)


def test_seeds_that_chose_the_same_parts_speak_together_and_others_are_named():
    runs = [diagnosis(f"lora-r16/demo_people/{s}", kept=0.8 + 0.1 * s) for s in (0, 1)]
    (found,) = proposals(evidence(*runs), None, (), STEP)
    assert (found.kept.value, found.kept.num_seeds, found.seeds) == (pytest.approx(0.85), 2, (0, 1))
    runs.append(diagnosis("lora-r16/demo_people/2", layers=(0,), kept=0.1))
    (found,) = proposals(evidence(*runs), None, (), STEP)
    assert (found.seeds, found.others, found.arm.layers) == ((0, 1), (2,), (2, 3))
    assert found.kept.value == pytest.approx(0.85)


def test_of_several_arms_the_recommended_one_is_made_leaner_unless_one_is_named():
    small = Arm("lora-r4", "lora", (1e-3,), rank=4, alpha=32.0)
    known = evidence(*(diagnosis(f"{n}/demo_people/0") for n in ("lora-r16", "lora-r4")), arms=(LORA, small))
    assert [p.origin.name for p in proposals(known, None, (None, "lora-r4"), STEP)] == ["lora-r4"]
    assert [p.origin.name for p in proposals(known, "lora-r16", ("lora-r4",), STEP)] == ["lora-r16"]
    with pytest.raises(InputError, match="several arms have an attribution; name one. --arm lora-r16 or lora-r4"):
        proposals(known, None, ("full",), STEP)


def test_train_tasks_that_need_different_parts_get_arms_of_their_own():
    same = [diagnosis(f"lora-r16/{t}/0") for t in ("demo_people", "demo_compose")]
    assert [p.arm.name for p in proposals(evidence(*same), None, (), STEP)] == ["lora-r16-lean"] * 2
    same[1] = diagnosis("lora-r16/demo_compose/0", layers=(0,))
    names = [p.arm.name for p in proposals(evidence(*same), None, (), STEP)]
    assert names == ["lora-r16-lean-demo_people", "lora-r16-lean-demo_compose"]


@pytest.mark.parametrize(
    ("found", "name", "sentence"),
    [
        ((), None, "no attribution has been measured. Add attribution to diagnose: .* Next: rankscope run s.yaml"),
        ((diagnosis("lora-r16/demo_people/0"),), "lora-r6", "no arm named 'lora-r6'. Did you mean 'lora-r16'"),
        ((diagnosis("lora-r16/demo_people/0"),), "full", "only a LoRA arm"),
        ((diagnosis("lora-r16/demo_people/0", status="failed", message="out of memory"),), None,
         r"no attribution has been measured \(got 'out of memory'\)"),
        ((diagnosis("lora-r16/demo_people/0", layers=()),), None, "the attribution of lora-r16 proposes nothing"),
        ((diagnosis("lora-r16/demo_people/0", readings=()),), "lora-r16", "proposes nothing"),
        ((diagnosis("lora-r16/demo_people/0", ranks={}),), None, "proposes nothing"),
    ],
)  # fmt: skip
def test_where_there_is_nothing_to_go_by_an_error_says_what_to_do(found, name, sentence):
    with pytest.raises(InputError, match=sentence):
        proposals(evidence(*found), name, (), STEP)


def test_a_gain_that_is_not_shown_or_not_whole_leaves_the_share_open():
    whole = diagnosis("lora-r16/demo_people/0")
    for strange in (
        [Reading(r.name, (*r.values[:-1], None), part=r.part, variant=r.variant) if r.name == "loss" else r
         for r in whole.readings],
        [r for r in whole.readings if (r.name, r.variant) != ("loss", "none")],
        [Reading(r.name, tuple((-1) ** i * v for i, v in enumerate(r.values)), part=r.part, variant=r.variant)
         if r.name == "loss" else r for r in whole.readings],
    ):  # fmt: skip
        (found,) = proposals(evidence(diagnosis("lora-r16/demo_people/0", readings=tuple(strange))), None, (), STEP)
        assert found.kept is None and found.arm.layers == (2, 3)


def test_parameters_are_counted_on_the_model_and_an_arm_that_does_not_fit_is_named():
    arm = Arm("x", "lora", rank=8, alpha=32.0, targets=("q_proj", "up_proj"), layers=(1,),
              rank_pattern=(("q_proj", 2),))  # fmt: skip
    size = size_of(shape(ModelRef("demo")), "float32")
    assert parameters(ModelRef("demo"), arm) == size.trainable(RunSpec(ModelRef("demo"), arm, 1e-3, None, None, 0))
    assert parameters(ModelRef("nobody/nothing-of-the-kind"), arm) is None
    with pytest.raises(ModelError, match="x doesn't fit demo: the model has no such layer"):
        parameters(ModelRef("demo"), Arm("x", "lora", rank=8, alpha=32.0, layers=(99,)))


@pytest.fixture
def asked(tmp_path, monkeypatch, capsys):
    """Runs ``propose`` on a study file, with a made-up result; gives the exit code and what was printed."""
    path = tmp_path / "s.yaml"
    path.write_text(FILE)
    made = {"evidence": evidence(diagnosis("lora-r16/demo_people/0"))}
    result = types.SimpleNamespace(view=lambda: types.SimpleNamespace(advice=()))
    monkeypatch.setattr(Study, "result", lambda study, store: result)

    def run(*words, found=()):
        result.evidence = evidence(*found) if found else made["evidence"]
        code = main(["propose", str(path), *words])
        return code, capsys.readouterr()

    run.path = path
    return run


def test_the_proposal_is_told_in_words_and_written_only_when_asked(asked):
    code, said = asked()
    assert code == 0 and asked.path.read_text() == FILE
    assert "layers: 2-3\nranks: q_proj 4, v_proj 8; left out: k_proj, o_proj, gate_proj, up_proj, down_proj" in said.out
    assert "kept 90.0% of the gain on 40 validation rows [90.0%, 90.0%] (this seed only" in said.out
    assert "not judged yet" in said.out and "parameters, " in said.out
    assert said.out.rstrip().endswith("--arm lora-r16 --add")

    code, said = asked("--add")
    entry = arm_text(load(asked.path).arms()[-1])
    assert code == 0 and f"lora-r16-lean written into {asked.path}\nNext: rankscope run {asked.path}" in said.out
    assert asked.path.read_text() == FILE.replace("   # the usual\n", f"   # the usual\n  - {entry}\n")

    written = asked.path.read_text()
    code, said = asked("--add")
    assert code == 0 and f"lora-r16-lean is in {asked.path} already; nothing was changed" in said.out
    assert asked.path.read_text() == written
    assert Study.load(asked.path).check() == []


def test_another_proposal_under_the_same_name_gets_a_number(asked):
    asked("--add")
    asked("--add", found=[diagnosis("lora-r16/demo_people/0", layers=(1,))])
    assert [a.name for a in load(asked.path).arms()][2:] == ["lora-r16-lean", "lora-r16-lean-2"]


def test_json_holds_the_arm_its_cost_and_what_was_added(asked):
    found = json.loads(asked("--add", "--json")[1].out)
    (one,) = found["proposals"]
    assert found["added"] == ["lora-r16-lean"] and one["entry"].startswith("lora: {name: lora-r16-lean")
    assert one["trainable"] < one["origin_trainable"] and one["kept"]["value"] == pytest.approx(0.9)
    assert one["ranks"]["k_proj"] == 0 and one["chosen_on"] == "validation rows"


def test_a_layer_that_the_model_lacks_is_an_error_before_anything_is_written(asked):
    code, said = asked("--add", found=[diagnosis("lora-r16/demo_people/0", layers=(98, 99))])
    assert code == 2 and "no such layer" in said.err and asked.path.read_text() == FILE


def test_where_nothing_can_be_left_out_nothing_is_added(asked):
    every = diagnosis("lora-r16/demo_people/0", (0, 1, 2, 3), dict.fromkeys(KINDS, 16))
    code, said = asked("--add", found=[every])
    assert code == 0 and "nothing can be left out" in said.out and asked.path.read_text() == FILE
