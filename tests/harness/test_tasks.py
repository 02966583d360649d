"""Tasks of lm-evaluation-harness scored by rankscope's engine: the same prompts and scores as the harness's own run."""

from __future__ import annotations

import shutil

import pytest

from harness.made import CHOICES, MEAN, rows
from rankscope.errors import DataError, PluginError
from rankscope.records import TaskRef
from rankscope.study.study import Study
from rankscope.tasks.task import get_task, identity, prepare, resolve, train_samples

pytest.importorskip("lm_eval", reason="lm_eval isn't installed: pip install 'rankscope[lm-eval]'")

GENERATE = {
    "output_type": "generate_until",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{choices[answer]}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8, "do_sample": False},
    "metric_list": [{"metric": "exact_match", **MEAN}],
}
LAST_WORD = {
    "output_type": "loglikelihood",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{choices[0]}}",
    "target_delimiter": " ",
    "metric_list": [{"metric": "acc", **MEAN}],
}
TWO_CONTEXTS = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{answer}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{question}}",
    "metric_list": [{"metric": "acc", **MEAN}],
}


def same_as_the_harness(ours, theirs, metric):
    assert len(ours) == len(theirs) > 0
    for (sample, response, value), other in zip(ours, theirs, strict=True):
        arguments = [(a.rstrip(), a[len(a.rstrip()) :] + b) for a, b in other["arguments"]]
        contexts = sample.prompts or (sample.prompt,) * len(sample.choices)
        assert list(zip(contexts, sample.choices, strict=True)) == arguments
        answers = [pair[0] for pair in other["resps"]]
        assert response.loglikelihoods == pytest.approx([ll for ll, _ in answers], abs=1e-3)
        assert list(response.greedy) == [bool(is_greedy) for _, is_greedy in answers]
        assert value == other[metric]


@pytest.mark.parametrize("metric", ["acc", "acc_norm"])
def test_multiple_choice_is_scored_as_by_the_harness(write, harness, scored, metric):
    path = write(test=rows(0, 12))
    same_as_the_harness(scored(path, metric=metric), harness(path), metric)


def test_the_first_metric_is_the_default(write, scored):
    path = write(test=rows(0, 12))
    assert [v for *_, v in scored(path)] == [v for *_, v in scored(path, metric="acc")]


def test_shots_are_the_harness_own_draw(write, harness, scored):
    path = write()
    ours, theirs = scored(path, shots=2), harness(path, num_fewshot=2)
    same_as_the_harness(ours, theirs, "acc")
    assert all(sample.prompt.count("Question:") == 3 for sample, *_ in ours)


def test_no_shots_keeps_the_tasks_own_number(write, harness, scored):
    path = write(config={**CHOICES, "num_fewshot": 1})
    same_as_the_harness(scored(path), harness(path), "acc")
    assert all(sample.prompt.count("Question:") == 2 for sample, *_ in scored(path))


def test_a_limit_takes_the_first_rows_with_the_same_examples_and_ids(write, harness, scored):
    path = write()
    few = scored(path, limit=2, shots=1)
    same_as_the_harness(few, harness(path, num_fewshot=1, limit=2), "acc")
    whole = scored(path, shots=1)
    assert [sample for sample, *_ in few] == [sample for sample, *_ in whole][:2]
    assert [sample.id for sample, *_ in scored(path)] == [sample.id for sample, *_ in whole]


def test_copies_of_a_row_have_ids_of_their_own(write, scored):
    found = scored(write(test=[rows(0, 1)[0]] * 3))
    assert len({sample.id for sample, *_ in found}) == 3


def test_a_choice_may_have_a_context_of_its_own(write, harness, scored):
    path = write(config=TWO_CONTEXTS)
    ours = scored(path)
    same_as_the_harness(ours, harness(path), "acc")
    assert all(len(sample.prompts) == 3 for sample, *_ in ours)


def test_likelihood_without_the_question_is_taken_off_as_by_the_harness(write, harness, scored):
    path = write(config={**CHOICES, "metric_list": [{"metric": "acc_mutual_info", **MEAN}]}, test=rows(0, 12))
    same_as_the_harness(scored(path), harness(path), "acc_mutual_info")


def test_a_last_word_counts_if_greedy_generation_would_write_it(base, write, harness, scored):
    from rankscope.evaluation.generation import generate

    found = rows(0, 4)
    for row, question in zip(found, ("sort b a c", "sort d a e"), strict=False):  # what the model itself would say
        row["question"] = f"Question: {question}\nAnswer:"
        (row["choices"][0],) = generate(base, [base.encode(row["question"])], 2)
    path = write(config=LAST_WORD, test=found)
    ours = scored(path)
    same_as_the_harness(ours, harness(path), "acc")
    assert [value for *_, value in ours] == [1.0, 1.0, 0.0, 0.0]


def test_generation_is_judged_as_by_the_harness(base, write, harness, scored):
    first = harness(write(config=GENERATE))
    found = rows(0, 6)
    for row, sample in list(zip(found, first, strict=True))[:3]:  # make some answers right
        row["choices"][row["answer"]] = sample["resps"][0][0]
    path = write(config=GENERATE, test=found)
    ours, theirs = scored(path), harness(path)
    assert [(s.prompt, r.text, v) for s, r, v in ours] == [
        (t["arguments"][0][0], t["resps"][0][0], t["exact_match"]) for t in theirs
    ]
    assert {value for *_, value in ours} == {0.0, 1.0}


def test_a_filter_can_be_chosen(write, scored):
    config = {**GENERATE, "filter_list": [
        {"name": "whole", "filter": [{"function": "take_first"}]},
        {"name": "nothing", "filter": [{"function": "regex", "regex_pattern": "(no such)"},
                                       {"function": "take_first"}]},
    ]}  # fmt: skip
    path = write(config={**config, "doc_to_target": "[invalid]"})
    assert {value for *_, value in scored(path)} == {0.0}
    assert {value for *_, value in scored(path, filter="nothing")} == {1.0}
    with pytest.raises(DataError, match="no filter 'nothin'. Did you mean 'nothing'"):
        scored(path, filter="nothin")


def test_chance_is_known_where_one_of_the_choices_is_right(write):
    assert prepare(TaskRef(f"lm_eval:{write(test=rows(0, 6))}")).chance == pytest.approx(1 / 3)
    assert prepare(TaskRef(f"lm_eval:{write(test=rows(0, 4))}")).chance == pytest.approx(1 / 2)
    assert prepare(TaskRef(f"lm_eval:{write(config=TWO_CONTEXTS)}")).chance == pytest.approx(1 / 3)
    several = {**CHOICES, "doc_to_target": "{{[answer, (answer + 1) % 3]}}"}
    assert prepare(TaskRef(f"lm_eval:{write(config=several)}")).chance == pytest.approx(2 / 3)
    assert prepare(TaskRef(f"lm_eval:{write(config=LAST_WORD)}")).chance == 0.0


# ---- identity


def test_a_key_holds_what_can_change_a_score_and_not_where_files_lie(write, tmp_path):
    path = write()
    first = identity(resolve(TaskRef(f"lm_eval:{path}")))
    assert first == identity(resolve(TaskRef(f"lm_eval:{path}")))
    assert first["task"] == "lm_eval:made" and str(tmp_path) not in str(first)
    moved = identity(resolve(TaskRef(f"lm_eval:{write(folder=tmp_path / 'elsewhere')}")))
    assert moved == first
    changed = write(test=[*rows(0, 5), {**rows(5, 1)[0], "question": "Another?"}])
    assert identity(resolve(TaskRef(f"lm_eval:{changed}"))) != first
    other = write(config={**CHOICES, "doc_to_text": "Q: {{question}}\nA:"})
    assert identity(resolve(TaskRef(f"lm_eval:{other}"))) != first
    assert identity(resolve(TaskRef(f"lm_eval:{write()}"))) == first
    with_metric = TaskRef(f"lm_eval:{path}", options=(("metric", "acc_norm"),))
    assert identity(resolve(with_metric)) != first


def test_examples_count_only_where_there_are_shots(write):
    path = write()
    plain, few = (resolve(TaskRef(f"lm_eval:{path}", shots=n)).data_key for n in (0, 2))
    other = write(train=rows(40, 8))
    assert resolve(TaskRef(f"lm_eval:{other}")).data_key == plain
    assert resolve(TaskRef(f"lm_eval:{other}", shots=2)).data_key != few


def test_the_code_that_a_task_names_counts_and_the_library_s_version_too(write, tmp_path, monkeypatch):
    path = write()
    text = path.read_text() + "process_docs: !function made_code.keep\n"
    path.write_text(text)
    (tmp_path / "made_code.py").write_text("def keep(docs):\n    return docs.select(range(4))\n")
    first = resolve(TaskRef(f"lm_eval:{path}")).data_key
    assert len(prepare(TaskRef(f"lm_eval:{path}")).samples) == 4
    from rankscope.harness import tasks

    monkeypatch.setattr(tasks.metadata, "version", lambda name: "0.0.1")
    tasks._key.cache_clear()
    assert resolve(TaskRef(f"lm_eval:{path}")).data_key != first
    tasks._key.cache_clear()


def test_a_planned_task_whose_rows_have_changed_is_refused(write):
    planned = resolve(TaskRef(f"lm_eval:{write()}"))
    write(test=rows(1, 6))
    with pytest.raises(DataError, match="not the data the study was planned with"):
        prepare(planned)


# ---- refusals


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"output_type": "loglikelihood_rolling", "doc_to_target": "{{question}}", "doc_to_text": "",
          "metric_list": [{"metric": "word_perplexity"}]}, "perplexity over whole documents"),
        ({**CHOICES, "metric_list": [{"metric": "f1"}]}, "no score from 0 to 1 for each item"),
        ({**CHOICES, "metric_list": [{"metric": "brier_score", "higher_is_better": False}]}, "better when lower"),
        ({**GENERATE, "generation_kwargs": {"until": ["\n"], "do_sample": True, "temperature": 0.8}}, "samples its"),
        ({**GENERATE, "repeats": 3}, "asks each question several times"),
        ({**CHOICES, "doc_to_text": "{{nothing.here}}"}, "can't build .*UndefinedError"),
        ({**CHOICES, "unsafe_code": True}, "runs code that a model wrote"),
    ],
)  # fmt: skip
def test_what_would_be_scored_wrong_is_refused(write, config, message):
    with pytest.raises(DataError, match=message):
        prepare(TaskRef(f"lm_eval:{write(config=config)}"))


def test_options_are_those_of_the_task(write):
    path = write()
    for options, message in (((("metric", "ac"),), "no metric 'ac'. Did you mean 'acc'"),
                             ((("metrik", "acc"),), "no option 'metrik'. Did you mean 'metric'")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            prepare(TaskRef(f"lm_eval:{path}", options=options))
    with pytest.raises(DataError, match="no form 'letters'"):
        prepare(TaskRef(f"lm_eval:{path}", form="letters"))
    with pytest.raises(DataError, match="for evaluation only"):
        train_samples(TaskRef(f"lm_eval:{path}"))
    with pytest.raises(DataError, match="sets num_fewshot: 0"):
        prepare(TaskRef(f"lm_eval:{write(config={**CHOICES, 'num_fewshot': 0})}", shots=2))


@pytest.fixture
def shipped(write, tmp_path, monkeypatch):
    """Three tasks and a group of two, in place of the thousands that lm_eval ships."""
    from lm_eval.tasks import TaskManager

    from rankscope.harness import names

    for name in ("made_north", "made_south", "other"):
        write(name, {**CHOICES, "tag": "made_tag"} if name == "other" else CHOICES)
    (tmp_path / "group.yaml").write_text("group: made\ntask: [made_north, made_south]\n")
    names.manager.cache_clear()
    monkeypatch.setattr(names, "manager", lambda: TaskManager(include_path=str(tmp_path), include_defaults=False))


def test_a_group_is_refused_with_its_members(shipped):
    with pytest.raises(PluginError, match="a group of 2 tasks. List .*: lm_eval:made_north, lm_eval:made_south$"):
        get_task("lm_eval:made")
    with pytest.raises(PluginError, match="a group of 1 tasks. List its members one by one: lm_eval:other$"):
        get_task("lm_eval:made_tag")


def test_an_unknown_name_gets_the_nearest(shipped):
    assert get_task("lm_eval:other").name == "other"
    with pytest.raises(PluginError, match="no task named 'made_nort'. Did you mean 'made_north'"):
        get_task("lm_eval:made_nort")


def test_files_that_are_no_task_are_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    (tmp_path / "group.yaml").write_text("group: made\ntask: [a, b]\n")
    (tmp_path / "broken.yaml").write_text("task: [\n")
    for name, message in (("list", "Expected YAML dict"), ("group", "names no single task"), ("broken", "can't build"),
                          ("missing", "no such file")):  # fmt: skip
        with pytest.raises(PluginError, match=message):
            get_task(f"lm_eval:{tmp_path / name}.yaml")


# ---- in a study


STUDY = """\
models: [demo]
train: [{task: demo_people, limit: 40}]
arms: [base, {lora: {rank: [1], lr: 0.001}}]
training: {max_steps: 2, batch_tokens: 256, seeds: [0]}
evaluate:
  cross_domain: none
  retention:
    - {task: "lm_eval:TASK", metric: acc_norm}
  limit: 4
"""


def test_a_study_runs_with_a_task_of_the_harness_beside_it(write, tmp_path):
    write()
    (tmp_path / "study.yaml").write_text(STUDY.replace("TASK", "made.yaml"))
    result = Study.load(tmp_path / "study.yaml").run(tmp_path / "runs")
    assert result.is_complete and not result.failed
    found = [scored for (_, task), scored in result.evidence.evals.items() if task == "made"]
    assert len(found) == 2 and all(len(scored.scores) == 4 for scored in found)


def test_a_study_says_where_an_unknown_task_stands(shipped, tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.replace("TASK", "made_nort"))
    with pytest.raises(PluginError, match=r"study.yaml:8: .*Did you mean 'made_north'"):
        Study.load(tmp_path / "study.yaml").check()


def test_what_is_wrong_with_a_tasks_data_has_its_line_in_the_study(write, tmp_path):
    path = write()
    (tmp_path / "test.jsonl").unlink()
    shutil.copy(path, tmp_path / "gone.yaml")
    (tmp_path / "study.yaml").write_text(STUDY.replace("TASK", "gone.yaml"))
    with pytest.raises(DataError, match=r"study.yaml:8: .*the harness can't build"):
        Study.load(tmp_path / "study.yaml").check()
