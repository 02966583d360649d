"""The contract of tasks, run over every task on the shelf, a new one included unasked.

Real rows come from the mirror named by RANKSCOPE_DATA, or from ``shared/data`` beside the repository; where a task's
rows are in neither, invented ones with the dataset's field names stand in (``tests/library/mirror``). A task that has
rows in none of the three is skipped, visibly.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rankscope import plugins, testing
from rankscope.data.dataset import VARIABLE, locate
from rankscope.records import TaskRef
from rankscope.tasks.task import get_task, prepare, train_samples

BESIDE = Path(__file__).parents[3] / "shared" / "data"
INVENTED = Path(__file__).parent / "mirror"
TASKS = plugins.names("tasks")
WORDS = ("paper", "licence", "chance", "worked instance")


def takes_shots(task):
    """Whether there is a split to take examples from."""
    return task.default_form != "text" and (task.source is None or task.shots_split in dict(task.source.splits))


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def real(tmp_path):
    """Gives a reference to a task with real rows, or else invented ones, and their folder; skips where there are none.

    The rows of a test all come from one folder, so that its splits belong together.
    """
    mirror = os.environ.get(VARIABLE) or (str(BESIDE) if BESIDE.is_dir() else None)

    def find(name, *splits, only=(mirror, str(INVENTED)), **fields):
        task = get_task(name)
        if task.source is None:  # The user's own data: many rows like the example.
            file = tmp_path / "my.jsonl"
            rows = [{**task.example, "prompt": f"{i}. {task.example['prompt']}"} for i in range(50)]
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            return TaskRef(name, options=(("path", str(file)),), **fields), None
        needed = [*(splits or [task.test_split]), *([task.shots_split] if fields.get("shots") else [])]
        for folder in only:
            if all(locate(task.source, split, folder) is not None for split in needed):
                return TaskRef(name, **fields), folder
        pytest.skip(f"no rows of {task.source.folder} for {', '.join(needed)} in a local mirror ({VARIABLE})")

    find.mirror = mirror
    return find


@pytest.mark.parametrize("name", TASKS)
def test_a_task_keeps_the_contract_on_its_example(name):
    testing.check_task(plugins.get("tasks", name))
    assert plugins.get("tasks", name).name == name


@pytest.mark.parametrize("name", TASKS)
def test_a_tasks_file_opens_with_its_evidence(name):
    evidence = (importlib.import_module(f"rankscope.library.tasks.{name}").__doc__ or "").lower()
    assert [word for word in WORDS if word not in evidence] == []


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_it_asks_for_unless_the_rows_are_the_users(name):
    task = get_task(name)
    assert (task.skill in ("reasoning", "recall", "language")) == (task.source is not None)


@pytest.mark.parametrize("name", TASKS)
def test_all_real_rows_keep_the_contract(name, real):
    ref, folder = real(name)
    task = get_task(name)
    testing.check_task(task, task.read(dict(ref.options), task.test_split, folder).rows)


@pytest.mark.parametrize(("name", "form"), [(name, form) for name in TASKS for form in get_task(name).forms])
def test_real_rows_give_valid_samples_with_unique_ids(name, form, real):
    ref, folder = real(name, form=form)
    found = prepare(ref, folder)
    assert len({sample.id for sample in found.samples}) == len(found.samples) > 0
    assert [problem for sample in found.samples for problem in testing.sample_problems(sample, form)] == []
    if found.kind == "choices":
        assert get_task(name).uniform is None or found.chance >= get_task(name).uniform - 0.01
        assert found.chance < 0.65 or get_task(name).source is None  # 62 % of BoolQ's answers are yes


@pytest.mark.parametrize("name", [name for name in TASKS if takes_shots(get_task(name))])
def test_real_rows_take_shots(name, real):
    ref, folder = real(name, shots=2, limit=5)
    plain = prepare(TaskRef(ref.task, limit=5, options=ref.options), folder).samples
    with_shots = prepare(ref, folder).samples
    assert [sample.id for sample in with_shots] == [sample.id for sample in plain]
    for before, after in zip(plain, with_shots, strict=True):
        assert after.prompt.endswith(before.prompt.rsplit("\n\n", 1)[-1])
        assert after.prompt.count("\n\n") >= before.prompt.count("\n\n") + 2


@pytest.mark.parametrize("name", [name for name in TASKS if get_task(name).is_trainable])
def test_real_training_rows_are_valid(name, real):
    ref, folder = real(name, "train", limit=300)
    samples = train_samples(ref, folder)
    assert 0 < len(samples) <= 300
    form = get_task(name).default_form
    assert [problem for sample in samples for problem in testing.sample_problems(sample, form)] == []


def asked(sample):
    """What a sample asks, whatever its id, its cluster and the order of its choices; a text asks for itself."""
    return sample.prompt or sample.target, sample.prompts, tuple(sorted(sample.choices))


@pytest.mark.parametrize("name", [name for name in TASKS if get_task(name).is_trainable])
def test_no_training_row_asks_what_a_test_row_asks(name, real):
    ref, folder = real(name, "train", get_task(name).test_split)
    tested = {asked(sample): sample.id for sample in prepare(ref, folder).samples}
    both = {tested[asked(sample)] for sample in train_samples(ref, folder) if asked(sample) in tested}
    assert both == set()


class Letters:
    """A tokenizer that loses nothing: one id a character. What has equal ids is equal text, in any tokenizer."""

    pad_token_id, bos_token_id, eos_token_id = 0, 1, 2

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": [3 + ord(letter) for letter in text]}


@pytest.fixture(scope="module")
def letters():
    """A model that takes texts of any length, letter by letter."""
    import torch

    from rankscope.models.base import Base
    from rankscope.records import ModelRef

    model = testing.tiny_model()
    model.config.max_position_embeddings = 1 << 20
    return Base(ModelRef("letters"), model, Letters(), torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def every_test_row():
    """What the test rows of every task ask that lie in a folder: any of them may carry a verdict."""
    found = {}

    def all_of(folder):
        if folder not in found:
            found[folder] = {}
            for name in TASKS:
                task = get_task(name)
                if task.source is not None and locate(task.source, task.test_split, folder) is not None:
                    found[folder] |= {asked(s): name for s in prepare(TaskRef(name), folder).samples}
        return found[folder]

    return all_of


@pytest.mark.parametrize("name", [name for name in TASKS if get_task(name).is_trainable])
def test_validation_rows_are_no_test_row_of_any_task_and_no_row_that_is_trained_on(name, real, letters, every_test_row):
    """They choose learning rates, so a verdict on any of them would be about rows that were used."""
    from rankscope.records import Recipe
    from rankscope.training.cohort import encode_train_set

    ref, folder = real(name, "train", limit=2000)
    samples = train_samples(ref, folder)
    recipe = Recipe(max_length=1 << 20)
    first, again = (encode_train_set(letters, samples, recipe) for _ in range(2))
    assert first == again and first.train and first.validation
    assert first.validation == encode_train_set(letters, train_samples(ref, folder), recipe).validation
    trained, carved = ({example.ids for example in part} for part in (first.train, first.validation))
    assert not trained & carved
    rows = {example_of(letters, sample): sample for sample in samples}
    assert trained | carved == set(rows)
    tested = every_test_row(folder)
    assert {asked(rows[ids]) for ids in carved} & set(tested) == set()


def test_a_row_that_comes_again_is_never_on_both_sides_and_one_that_is_tested_is_seen(letters, real):
    """The test above can fail: planted copies stay together, and a planted test row among the carved ones is found."""
    from rankscope.records import Recipe
    from rankscope.training.cohort import encode_train_set

    ref, folder = real("demo_people", "train", limit=60)
    samples = train_samples(ref, folder)
    recipe = Recipe(max_length=1 << 20, validation=0.5, validation_max=1000)
    found = encode_train_set(letters, (*samples, *samples), recipe)
    trained, carved = ({example.ids for example in part} for part in (found.train, found.validation))
    assert not trained & carved and len(found.train) + len(found.validation) == 120
    rows = {example_of(letters, sample): sample for sample in samples}
    one = rows[min(carved)]
    assert {asked(rows[ids]) for ids in carved} & {asked(one)} == {asked(one)}


def example_of(base, sample):
    """The ids that a sample becomes in training where nothing is cut."""
    prompt, target = base.encode_pair(sample.prompt, sample.target)
    return (*prompt, *target, base.eos)


@pytest.mark.real
def test_a_limit_of_mmlu_is_spread_over_all_subjects(real):
    ref, folder = real("mmlu", only=(real.mirror,), limit=114)
    subjects = [sample.subject for sample in prepare(ref, folder).samples]
    assert len(set(subjects)) == 57 and subjects[:57] == subjects[57:]


@pytest.mark.real
def test_the_first_option_of_medmcqa_is_its_chance_level(real):
    ref, folder = real("medmcqa", only=(real.mirror,))
    assert prepare(ref, folder).chance == pytest.approx(0.32, abs=0.01)


@pytest.mark.real
def test_math_qa_has_problems_that_share_a_template(real):
    ref, folder = real("math_qa", only=(real.mirror,))
    samples = prepare(ref, folder).samples
    assert len({sample.cluster for sample in samples}) < len(samples)


def test_no_plug_in_of_the_shelf_and_no_task_module_loads_torch():
    modules = [f"rankscope.library.{kind}.{name}" for kind in ("tasks", "scorers") for name in plugins.names(kind)]
    code = (
        f"import importlib, sys\nfor name in {['rankscope.testing', *modules]!r}: importlib.import_module(name)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'pandas'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
