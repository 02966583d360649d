"""What a study file says becomes the records the engine works with."""

from __future__ import annotations

import pytest

from rankscope.config import STARTER, from_dict, load
from rankscope.config.diagnose import DiagnoseEntry
from rankscope.errors import ConfigError
from rankscope.records import Recipe, TaskRef


def arms_of(minimal, *entries):
    return from_dict({**minimal, "arms": list(entries)}).arms()


def test_a_minimal_study_has_the_defaults_of_the_records(minimal):
    config = from_dict(minimal)
    assert config.name == "study"
    assert config.recipe() == Recipe()
    assert config.seeds == (0, 1, 2)
    assert (config.keep, config.data_dir, config.title) == ("adapters", None, None)
    assert (config.recommend.margin, config.recommend.retain, config.recommend.prefer) == (None, None, "cost")
    assert (config.evaluate.divergence, config.evaluate.trials, config.evaluate.noise_floor) == (True, True, True)
    assert config.evaluate.alarm == 0.1
    assert [model.name for model in config.models()] == ["demo"]


def test_the_dict_given_is_left_as_it_was(minimal):
    before = repr(minimal)
    from_dict(minimal, ["training.epochs=2", "arms[1].lora.rank=16"])
    assert repr(minimal) == before


def test_the_base_is_always_there_and_first(minimal):
    assert [arm.name for arm in arms_of(minimal, {"lora": {"rank": 8}})] == ["base", "lora-r8"]
    assert [arm.name for arm in arms_of(minimal, {"full": None}, "base")] == ["base", "full"]


def test_a_list_of_ranks_sweeps_and_names_arms_by_rank(minimal):
    arms = arms_of(minimal, {"lora": {"rank": [4, 16]}})
    assert [(arm.name, arm.rank, arm.alpha) for arm in arms[1:]] == [("lora-r4", 4, 32.0), ("lora-r16", 16, 32.0)]


def test_several_lists_give_every_combination_and_name_only_what_varies(minimal):
    entry = {"rank": [8, 16], "alpha": [32, 64], "scaling": ["standard", "rslora"], "dropout": 0.1}
    names = [arm.name for arm in arms_of(minimal, {"lora": entry})[1:]]
    assert len(names) == 8
    assert names[:4] == ["lora-r8-a32", "lora-r8-a32-rslora", "lora-r8-a64", "lora-r8-a64-rslora"]


def test_a_list_of_one_value_adds_nothing_to_the_name(minimal):
    entry = {"rank": [8], "alpha": [64], "dropout": [0.1]}
    assert [arm.name for arm in arms_of(minimal, {"lora": entry})[1:]] == ["lora-r8"]
    swept = {"rank": 8, "dropout": [0, 0.1]}
    assert [arm.name for arm in arms_of(minimal, {"lora": swept})[1:]] == ["lora-r8-d0", "lora-r8-d0.1"]


def test_alpha_may_be_twice_the_rank_and_old_names_stay(minimal):
    arms = arms_of(minimal, {"lora": {"rank": [4, 16], "alpha": "2r"}})[1:]
    assert [(arm.name, arm.alpha) for arm in arms] == [("lora-r4", 8.0), ("lora-r16", 32.0)]
    mixed = {"rank": [4, 16, 64], "alpha": [32, "2r"]}
    arms = arms_of(minimal, {"lora": mixed})[1:]
    assert [(arm.name, arm.alpha) for arm in arms] == [
        ("lora-r4-a32", 32.0),
        ("lora-r4-a2r", 8.0),
        ("lora-r16-a32", 32.0),  # 2r is the same there
        ("lora-r64-a32", 32.0),
        ("lora-r64-a2r", 128.0),
    ]
    both = {"rank": 16, "alpha": [8, "2r"], "scaling": ["standard", "rslora"]}
    names = [arm.name for arm in arms_of(minimal, {"lora": both})[1:]]
    assert names == ["lora-r16-a8", "lora-r16-a8-rslora", "lora-r16-a2r", "lora-r16-a2r-rslora"]


def test_a_study_may_say_what_a_task_asks_for_and_the_reference_does_not_change(minimal):
    said = from_dict({**minimal, "train": [{"task": "gsm8k", "skill": "recall"}],
                      "evaluate": {"retention": ["mmlu", {"task": "arc_easy", "skill": "language"}]}})  # fmt: skip
    assert said.skills() == {"gsm8k": "recall", "arc_easy": "language"}
    assert said.train_refs() == from_dict(minimal).train_refs()


def test_a_task_has_one_skill_wherever_it_is_listed(minimal):
    twice = {**minimal, "train": [{"task": "gsm8k", "skill": "recall"}],
             "evaluate": {"in_domain": [{"task": "gsm8k", "skill": "recall"}]}}  # fmt: skip
    assert from_dict(twice).skills() == {"gsm8k": "recall"}
    twice["evaluate"] = {"in_domain": [{"task": "gsm8k", "skill": "reasoning"}]}
    with pytest.raises(ConfigError, match="'gsm8k' has the skill 'recall' above and 'reasoning' here"):
        from_dict(twice)


def test_the_starter_leaves_the_margin_to_what_the_tests_can_reach(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STARTER)
    assert load(path).recommend.margin is None


def test_a_given_name_replaces_lora_or_stands_alone(minimal):
    one = {"lora": {"rank": 8, "name": "attention", "targets": ["q_proj", "v_proj"]}}
    many = {"lora": {"rank": [8, 16], "name": "wide"}}
    arms = arms_of(minimal, one, many)
    assert [arm.name for arm in arms[1:]] == ["attention", "wide-r8", "wide-r16"]
    assert arms[1].targets == ("q_proj", "v_proj")


def test_learning_rates_are_auto_grids_or_candidates_in_ascending_order(minimal):
    _, lora, full, listed = arms_of(
        minimal, {"lora": {"rank": 8}}, {"full": {}}, {"full": {"lr": [1e-4, 1e-5], "name": "full-two"}}
    )
    assert (lora.lr, lora.lr_auto) == ((1e-4, 3e-4, 1e-3), True)
    assert (full.lr, full.lr_auto) == ((1e-5, 3e-5, 1e-4), True)
    assert (listed.lr, listed.lr_auto) == ((1e-5, 1e-4), False)


def test_each_run_is_judged_on_its_own_test_the_other_tests_and_retention(minimal):
    evaluate = {"retention": ["mmlu", {"task": "arc_easy", "limit": 50}], "limit": 200}
    train = [{"task": "gsm8k", "limit": 1000}, "math_qa"]
    config = from_dict({**minimal, "train": train, "evaluate": evaluate})
    gsm8k = config.train_refs()[0]
    assert gsm8k.limit == 1000
    assert config.evaluations(gsm8k) == (
        (TaskRef("gsm8k", limit=200), "in_domain"),
        (TaskRef("math_qa", limit=200), "cross_domain"),
        (TaskRef("mmlu", limit=200), "retention"),
        (TaskRef("arc_easy", limit=50), "retention"),
    )


def test_the_base_is_judged_on_everything_and_few_shot_on_the_train_tasks(minimal):
    evaluate = {"retention": ["mmlu"], "base_shots": 5}
    config = from_dict({**minimal, "train": ["gsm8k", "math_qa"], "evaluate": evaluate})
    found = [(ref.name, role) for ref, role in config.evaluations(None)]
    assert found == [
        ("gsm8k", "in_domain"),
        ("math_qa", "in_domain"),
        ("gsm8k@5shot", "in_domain"),
        ("math_qa@5shot", "in_domain"),
        ("mmlu", "retention"),
    ]


def test_cross_domain_can_be_switched_off_or_listed(minimal):
    def roles(cross):
        config = from_dict({**minimal, "train": ["gsm8k", "math_qa"], "evaluate": {"cross_domain": cross}})
        return [ref.name for ref, role in config.evaluations(config.train_refs()[0]) if role == "cross_domain"]

    assert roles("none") == []
    assert roles("all") == ["math_qa"]
    assert roles(["medmcqa", "gsm8k"]) == ["medmcqa"]


def test_a_listed_in_domain_task_sets_the_limit_of_that_train_task_everywhere(minimal):
    evaluate = {"in_domain": [{"task": "gsm8k", "limit": 30}], "limit": 99}
    config = from_dict({**minimal, "train": ["gsm8k", "math_qa"], "evaluate": evaluate})
    gsm8k, math_qa = config.train_refs()
    limits = {(ref.name, role): ref.limit for ref, role in config.evaluations(gsm8k)}
    assert limits == {("gsm8k", "in_domain"): 30, ("math_qa", "cross_domain"): 99}
    limits = {(ref.name, role): ref.limit for ref, role in config.evaluations(math_qa)}
    assert limits == {("math_qa", "in_domain"): 99, ("gsm8k", "cross_domain"): 30}


def test_the_options_of_a_task_are_sorted_and_hashable(minimal):
    config = from_dict(
        {**minimal, "train": [{"task": "data", "name": "mine", "train": "a.jsonl", "fields": ["q", "a"]}]}
    )
    ref = config.train_refs()[0]
    assert ref.name == "mine"
    assert ref.options == (("fields", ("q", "a")), ("train", "a.jsonl"))
    assert hash(ref)


def test_paths_start_at_the_study_file_if_something_lies_there(tmp_path, minimal):
    (tmp_path / "model").mkdir()
    (tmp_path / "demo").mkdir()
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "own.py").write_text("PUZZLE = 1\n")
    document = {
        **minimal,
        "models": ["model", "demo", "gpt2"],
        "train": [{"task": "data", "path": "rows.jsonl"}, "own.py@PUZZLE"],
        "data_dir": ".",
    }
    config = from_dict(document, folder=tmp_path)
    assert [model.id for model in config.models()] == [str(tmp_path / "model"), "demo", "gpt2"]
    rows, puzzle = config.train_refs()
    assert rows.options == (("path", str(tmp_path / "rows.jsonl")),)
    assert (puzzle.task, puzzle.name) == (f"{tmp_path / 'own.py'}@PUZZLE", "PUZZLE")
    assert config.data_dir.startswith(str(tmp_path))


def test_a_config_written_out_reads_back_the_same(minimal):
    document = {
        **minimal,
        "title": "A question",
        "arms": ["base", {"lora": {"rank": [8, 16], "lr": 3e-4, "scaling": "rslora"}}, {"full": {"lr": "auto"}}],
        "evaluate": {"in_domain": ["gsm8k"], "cross_domain": "none", "retention": [{"task": "mmlu", "shots": 5}]},
    }
    config = from_dict(document)
    again = from_dict(config.as_dict())
    assert again == config
    assert again.arms() == config.arms()


def test_the_starter_study_loads_as_it_is(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(STARTER)
    config = load(path)
    assert config.name == "study"
    assert [arm.name for arm in config.arms()] == ["base", "lora-r4", "lora-r16", "lora-r64", "full"]


def test_a_section_with_nothing_under_it_has_its_defaults(minimal):
    assert from_dict({**minimal, "training": None, "evaluate": None}) == from_dict(minimal)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"models": []}, "models: must not be empty"),
        ({"models": ["demo", "demo"]}, "models[1]: 'demo' is listed twice"),
        ({"models": ["./nowhere"]}, "models[0]: no such model folder or .gguf file"),
        ({"train": ["gsm8k", "gsm8k"]}, "train[1]: 'gsm8k' is listed twice"),
        ({"train": [{"task": "gsm8k", "limti": 3}]}, "train[0]: unknown key 'limti'. Did you mean 'limit'?"),
        ({"train": [{"task": "gsm8k", "limit": 0}]}, "train[0].limit: must be greater than 0 (got 0)"),
        ({"arms": [{"lora": {"rank": 0}}]}, "arms[0].lora.rank: must be greater than 0 (got 0)"),
        ({"arms": [{"lora": {"rank": [8, -4]}}]}, "arms[0].lora.rank[1]: must be greater than 0 (got -4)"),
        ({"arms": [{"lora": {"rank": True}}]}, "arms[0].lora.rank: must be a whole number (got True)"),
        ({"arms": [{"lora": {"rank": []}}]}, "arms[0].lora.rank: must not be empty"),
        ({"arms": [{"lora": {}}]}, "arms[0].lora.rank: missing"),
        ({"arms": [{"lora": {"rank": 8, "lr": []}}]}, "arms[0].lora.lr: must not be empty"),
        ({"arms": [{"lora": {"rank": 8, "lr": float("nan")}}]}, "must be a finite number"),
        ({"arms": [{"lora": {"rank": 8, "targets": ["all-linear", "q"]}}]}, "targets is either all-linear or"),
        ({"arms": [{"lora": {"rank": 8}}, {"lora": {"rank": [8, 16]}}]}, "arms[1]: there is an arm 'lora-r8' already"),
        ({"arms": [{"full": {"name": "base"}}]}, "arms[0]: the name 'base' belongs to the untouched model"),
        ({"arms": [{"lora": {"rank": 8}, "full": {}}]}, "arms[0]: an arm is base, or one of"),
        ({"arms": ["bsae"]}, "arms[0]: no kind of arm named 'bsae'. Did you mean 'base'?"),
        ({"training": {"seeds": [1, 1]}}, "training.seeds: 1 is listed twice"),
        ({"training": {"seeds": []}}, "training.seeds: must not be empty"),
        ({"training": {"seeds": 3}}, "training.seeds: must be a list (got 3)"),
        ({"training": {"validation": 0}}, "training.validation: must be greater than 0 (got 0)"),
        ({"training": {"validation": 0.6}}, "training.validation: must be at most 0.5 (got 0.6)"),
        ({"evaluate": {"retention": ["gsm8k"]}}, "evaluate.retention[0]: 'gsm8k' is trained on"),
        ({"evaluate": {"retention": ["mmlu", "mmlu"]}}, "evaluate.retention[1]: 'mmlu' is already in"),
        ({"evaluate": {"cross_domain": "some"}}, "evaluate.cross_domain: must be all or none, or a list (got 'some')"),
        ({"evaluate": {"in_domain": []}}, "evaluate.in_domain: must not be empty"),
        ({"arms": [{"lora": {"rank": 8, "alpha": "4r"}}]}, "arms[0].lora.alpha: must be 2r, or a number (got '4r')"),
        ({"arms": [{"lora": {"rank": 8, "alpha": [32, 0]}}]}, "arms[0].lora.alpha[1]: must be greater than 0 (got 0)"),
        (
            {"arms": [{"lora": {"rank": 8, "alpha": "2R"}}]},
            "arms[0].lora.alpha: must be 2r, or a number (got '2R'). Did you mean '2r'?",
        ),
        ({"arms": [{"lora": {"rank": 8, "alpha": ["2r", "2r"]}}]}, "arms[0].lora.alpha: '2r' is listed twice"),
        ({"train": [{"task": "gsm8k", "skill": "maths"}]}, "train[0].skill: must be reasoning, recall or language"),
        ({"evaluate": {"trials": "yes"}}, "evaluate.trials: must be true or false (got 'yes')"),
        ({"evaluate": {"alarm": 0}}, "evaluate.alarm: must be greater than 0 (got 0)"),
        ({"recommend": {"retain": 1.2}}, "recommend.retain: must be at most 1 (got 1.2)"),
        ({"recommend": {"prefer": "speed"}}, "recommend.prefer: must be cost, retention or gain (got 'speed')"),
        ({"keep": "al"}, "keep: must be adapters, best or all (got 'al'). Did you mean 'all'?"),
        ({"name": "a/b"}, "name: must start with a letter or digit"),
        ({"data_dir": "nowhere"}, "data_dir: no such folder of data"),
    ],
)
def test_what_makes_no_sense_is_an_error_that_says_where(minimal, change, sentence):
    with pytest.raises(ConfigError) as caught:
        from_dict({**minimal, **change})
    assert sentence in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("key", ["in_domain", "cross_domain", "retention"])
def test_two_files_of_one_name_are_two_tasks_and_need_names(tmp_path, minimal, key):
    for name in "ac":
        (tmp_path / f"{name}.jsonl").write_text("{}")
    one, other = ({"task": "data", "path": str(tmp_path / f"{name}.jsonl")} for name in "ac")
    for entry in (other, {**other, "shots": 2}):
        with pytest.raises(ConfigError) as caught:
            from_dict({**minimal, "train": [one], "evaluate": {key: [entry]}})
        sentence = f"evaluate.{key}[0]: two different tasks are called 'data'; give one of them a 'name'"
        assert sentence in str(caught.value)
    with pytest.raises(ConfigError, match=r"train\[1\]: two different tasks"):
        from_dict({**minimal, "train": [one, other]})
    config = from_dict({**minimal, "train": [one], "evaluate": {key: [{**other, "name": "c"}]}})
    assert "c" in [ref.name for ref, _ in config.evaluations(None)]


def test_the_trained_task_may_be_listed_with_a_limit_form_and_scorer_of_its_own(tmp_path, minimal):
    path = tmp_path / "a.jsonl"
    path.write_text("{}")
    task = {"task": "data", "path": str(path)}
    listed = {**task, "limit": 5, "form": "generate", "scorer": "exact_match"}
    config = from_dict({**minimal, "train": [task], "evaluate": {"in_domain": [listed]}})
    ((ref, role),) = config.evaluations(config.train_refs()[0])
    assert (ref.limit, ref.form, role) == (5, "generate", "in_domain")


def test_few_shot_scores_of_trained_tasks_are_an_error_where_nothing_is_trained(minimal):
    evaluate = {"in_domain": ["gsm8k"], "base_shots": 2}
    with pytest.raises(ConfigError, match=r"evaluate.base_shots: base_shots is for tasks that are trained on"):
        from_dict({"name": "s", "models": ["demo"], "arms": [{"adapter": {"path": "a/b"}}], "evaluate": evaluate})


def test_a_wrong_option_of_a_diagnostic_says_what_it_got():
    with pytest.raises(ValueError, match=r"k must be a whole number of 1 or more \(got \{'k': 0\}\)"):
        DiagnoseEntry.model_validate({"intruders": {"k": 0}})
