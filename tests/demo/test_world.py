"""The micro world: same rows everywhere, nothing leaks between splits, and the base knows what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from rankscope.demo import pretrain, world

CHOICE_TASKS = ("demo_facts", "demo_skills", "demo_people", "demo_compose")


@pytest.fixture(scope="module")
def micro():
    return world.build()


@pytest.fixture(scope="module")
def made(micro):
    return world.rows(micro)


@pytest.fixture(scope="module")
def known_words():
    return set(world.vocabulary())


def _letters(row):
    return tuple(w for w in world.words(row["prompt"]) if w in world.LETTERS)


def test_the_committed_rows_are_exactly_what_the_generator_makes(tmp_path):
    world.write(tmp_path)
    fresh = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*.jsonl")}
    committed = {p.relative_to(world.DATA): p.read_bytes() for p in world.DATA.rglob("*.jsonl")}
    assert fresh == committed


def test_another_seed_makes_another_world(micro):
    assert world.build(1).facts != micro.facts


def test_rows_stay_under_1_mb_and_the_model_under_8_mb():
    assert sum(p.stat().st_size for p in world.DATA.rglob("*.jsonl")) < 1_000_000
    assert sum(p.stat().st_size for p in pretrain.MODEL.iterdir()) < 8_000_000


def test_the_world_has_1600_facts_of_known_subjects_and_240_about_new_people(micro):
    assert len(micro.facts) == 1600
    assert len(micro.new_facts) == 240
    assert len({(f.subject, f.kind) for f in micro.facts + micro.new_facts}) == 1840


def test_new_people_are_unknown_but_made_of_known_names(micro):
    assert not set(micro.people) & set(micro.new_people)
    names = [{word for person in people for word in person.split()} for people in (micro.people, micro.new_people)]
    assert names[1] <= names[0]


def test_pretraining_never_names_a_new_person_or_holds_a_demo_row(micro, made):
    tokenizer = pretrain.make_tokenizer()
    batches = pretrain.examples(tokenizer, seed=0)
    seen = {tuple(ids) for _ in range(30) for ids, _ in next(batches)}
    for person in micro.new_people:
        first, last = tokenizer(person).input_ids
        assert not any(pair == (first, last) for ids in seen for pair in zip(ids, ids[1:], strict=False))
    for task in ("demo_skills", "demo_text"):
        for row in made[task, "test"]:
            text = row["text"] if task == "demo_text" else f"{row['prompt']} {row['completion']}"
            assert (*tokenizer(text).input_ids, tokenizer.eos_token_id) not in seen


@pytest.mark.parametrize("task", ["demo_skills", "demo_compose"])
def test_no_list_is_in_two_splits(made, task):
    lists = [_letters(row) for split in world.SPLITS for row in made[task, split]]
    assert len(lists) == len(set(lists))


def test_the_test_asks_every_new_fact_in_a_phrasing_that_training_does_not_use(micro, made):
    train, test = made["demo_people", "train"], made["demo_people", "test"]
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in test}
    facts = {(f.subject, f.kind, f.value) for f in micro.new_facts}
    for part in (train, test):
        assert {(r["cluster"], r["subject"], r["completion"]) for r in part} == facts


def test_a_composition_is_neither_its_input_nor_one_operation_alone(made):
    for row in made["demo_compose", "test"]:
        letters = _letters(row)
        one, two = row["subject"].split(" then ")
        gold = tuple(row["completion"].split())
        assert gold == world.OPERATIONS[two](world.OPERATIONS[one](letters))
        assert gold not in (letters, world.OPERATIONS[one](letters), world.OPERATIONS[two](letters))


def test_skill_answers_are_right(made):
    for row in made["demo_skills", "test"]:
        operation = {**world.OPERATIONS, **world.PICKS}[row["subject"]]
        assert tuple(row["completion"].split()) == operation(_letters(row))


@pytest.mark.parametrize("task", CHOICE_TASKS)
@pytest.mark.parametrize("split", world.SPLITS)
def test_choices_hold_the_answer_once_and_give_no_hint_by_length_or_position(made, task, split):
    rows = made[task, split]
    for row in rows:
        assert len(set(row["choices"])) == 4
        assert row["choices"][row["answer"]] == row["completion"]
        assert len({len(choice) for choice in row["choices"]}) == 1
    positions = Counter(row["answer"] for row in rows)
    assert max(positions.values()) - min(positions.values()) <= 1


def test_ids_are_unique_and_prompts_do_not_end_with_a_space(made):
    rows = [row for part in made.values() for row in part]
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(row.get("prompt", "x")[-1] != " " for row in rows)


def test_every_word_of_every_row_and_sentence_is_in_the_vocabulary(made, known_words):
    for row in (row for part in made.values() for row in part):
        texts = [row["text"]] if "text" in row else [row["prompt"], *row["choices"]]
        assert all(set(world.words(text)) <= known_words for text in texts)


def test_the_saved_tokenizer_is_the_vocabulary_and_adds_nothing(made):
    saved = json.loads((pretrain.MODEL / "tokenizer.json").read_text(encoding="utf-8"))
    assert list(saved["model"]["vocab"]) == [*pretrain.SPECIAL, *world.vocabulary()]
    tokenizer = pretrain.make_tokenizer()
    row = made["demo_compose", "test"][0]
    prompt, completion = tokenizer(row["prompt"]).input_ids, tokenizer(" " + row["completion"]).input_ids
    assert prompt + completion == tokenizer(f"{row['prompt']} {row['completion']}").input_ids
    assert tokenizer.decode(completion) == row["completion"]


def test_the_generator_loads_no_torch():
    code = "import sys, rankscope.demo.world as w; w.rows(w.build()); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def base():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(pretrain.MODEL).eval(), AutoTokenizer.from_pretrained(pretrain.MODEL)


@pytest.mark.parametrize("task", ["demo_facts", "demo_skills"])
def test_the_base_knows_the_retention_tasks(base, task):
    rows = pretrain.read_rows(task)[:100]
    assert pretrain.choice_accuracy(*base, rows) >= 0.9
    assert pretrain.exact_match(*base, rows) >= 0.9


@pytest.mark.parametrize("task", ["demo_people", "demo_compose"])
def test_the_base_does_not_know_the_training_tasks(base, task):
    rows = pretrain.read_rows(task)
    assert pretrain.choice_accuracy(*base, rows) < 0.5
    assert pretrain.exact_match(*base, rows) < 0.3


def test_exact_match_agrees_with_real_greedy_decoding(base):
    model, tokenizer = base
    rows = pretrain.read_rows("demo_skills")[:10] + pretrain.read_rows("demo_compose")[:10]
    hits = []
    for row in rows:
        inputs = tokenizer(row["prompt"], return_tensors="pt")
        ids = model.generate(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=8)
        text = tokenizer.decode(ids[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)
        hits.append(text == row["completion"])
    assert pretrain.exact_match(model, tokenizer, rows) == sum(hits) / len(rows)
