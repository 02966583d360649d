"""What the tasks that came with the larger shelf do beyond the contract, on invented rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rankscope import plugins
from rankscope.data.dataset import Rows
from rankscope.errors import DataError
from rankscope.library.tasks import aqua_rat, boolq, hellaswag, pubmed_qa, triviaqa, truthfulqa, wikitext, winogrande
from rankscope.records import TaskRef
from rankscope.tasks.scoring import Response
from rankscope.tasks.task import prepare, train_samples

INVENTED = Path(__file__).parent / "mirror"


def test_aqua_rat_leaves_out_the_marks_and_nothing_else():
    assert aqua_rat.unmarked("B)21", "B") == "21"
    assert aqua_rat.unmarked("C) A) and B)", "C") == "A) and B)"
    assert aqua_rat.unmarked("D)", "D") == "D)"
    marked, bare = aqua_rat.PLUGIN.example, {**aqua_rat.PLUGIN.example, "options": ["4", "6", "8", "9", "18"]}
    assert aqua_rat.to_sample(marked, "cloze", 0).choices == (" 4", " 6", " 8", " 9", " 18")
    assert aqua_rat.to_sample(marked, "cloze", 0) == aqua_rat.to_sample(bare, "cloze", 0)


def test_boolq_asks_behind_the_passage_and_questions_on_one_passage_are_one_cluster():
    samples = prepare(TaskRef("boolq"), INVENTED).samples
    assert samples[0].prompt.endswith("crosses it.\nQuestion: does the brell reach the sea?\nAnswer:")
    assert (samples[0].target, samples[1].target) == (" yes", " no")
    assert samples[0].cluster == samples[1].cluster and len({s.cluster for s in samples}) == len(samples) - 1
    with pytest.raises(ValueError):
        boolq.to_sample({"passage": "p", "question": "q", "answer": "yes"}, "cloze", 0)


def test_boolq_and_neutral_text_read_the_same_passages():
    asked = prepare(TaskRef("boolq"), INVENTED).samples
    texts = {sample.target for sample in prepare(TaskRef("neutral_text"), INVENTED).samples}
    assert {sample.prompt.split("\nQuestion:")[0] for sample in asked} == texts


@pytest.mark.parametrize("name", ["boolq", "winogrande"])
def test_words_of_a_fixed_set_and_continuations_that_are_the_same_are_compared_by_plain_likelihood(name):
    assert prepare(TaskRef(name), INVENTED).scorer.__name__ == "choice_raw"
    assert plugins.get("tasks", "pubmed_qa").scorers == {"cloze": "choice_raw"}


def test_hellaswag_takes_out_the_marks_of_wikihow_and_goes_on_without_a_question():
    rows = [json.loads(line) for line in (INVENTED / "hellaswag" / "train.jsonl").read_text().splitlines()]
    video, article = hellaswag.to_sample(rows[0], "cloze", 0), hellaswag.to_sample(rows[2], "cloze", 0)
    assert video.prompt == "Washing a car: A man fills a bucket with soapy water. He"
    assert video.target == " wipes the car with a sponge." and video.cluster == "activitynet~v_t1"
    assert article.prompt == "Home and Garden: How to water a cactus. Look at the soil first. Push a finger into it."
    assert article.choices[0] == " Water only if it is dry."
    assert hellaswag.cleaned("[only a mark]") == "[only a mark]"
    letters = hellaswag.to_sample(rows[0], "letters", 0)
    assert letters.prompt.startswith(video.prompt + "\nA. drinks it slowly.\n") and letters.target == " B"


def test_winogrande_puts_the_option_into_the_context_and_scores_the_same_rest():
    sample = winogrande.to_sample(winogrande.PLUGIN.example, "cloze", 0)
    assert sample.prompts == (
        "The mug did not fit into the box because the mug",
        "The mug did not fit into the box because the box",
    )
    assert sample.choices == (" was too small.",) * 2 and sample.answer == 1
    assert sample.prompt + sample.target == "The mug did not fit into the box because the box was too small."


@pytest.mark.parametrize("sentence", ["There is no gap.", "The gap ends it: _"])
def test_winogrande_without_a_gap_or_a_rest_is_an_error(sentence):
    with pytest.raises(DataError, match="needs a gap"):
        winogrande.to_sample({**winogrande.PLUGIN.example, "sentence": sentence}, "cloze", 0)


@pytest.mark.parametrize(("sums", "right"), [((-1.0, -2.0), 0.0), ((-2.0, -1.0), 1.0)])
def test_winogrande_can_be_got_wrong(sums, right):
    found = prepare(TaskRef("winogrande"), INVENTED)
    assert found.samples[0].answer == 1
    assert found.scorer(found.samples[0], Response(sums, (3, 3))).value == right


def test_winogrande_trains_on_right_sentences_and_shows_them_as_examples():
    first = train_samples(TaskRef("winogrande", limit=1), INVENTED)[0]
    assert first.prompt + first.target == "Ina lent Mara her bicycle because Mara had to walk to work."
    sample = prepare(TaskRef("winogrande", shots=1, limit=1), INVENTED).samples[0]
    assert all(prompt.startswith(first.prompt + first.target + "\n\n") for prompt in sample.prompts)


def test_truthfulqa_does_not_leave_the_true_options_first():
    found = prepare(TaskRef("truthfulqa"), INVENTED)
    assert len({sample.answer for sample in found.samples}) > 1 and found.chance < 0.6
    for sample in found.samples:
        assert sample.accepted == () and sample.choices[sample.answer] == sample.target


def test_truthfulqa_mc2_takes_every_true_option_as_right():
    row = truthfulqa.PLUGIN.example
    sample = truthfulqa.to_sample(row, "mc2", 0)
    true = {f" {text}" for text in row["mc2_targets"]["choices"][:2]}
    assert {sample.target, *sample.accepted} == true and len(sample.choices) == 4
    found = prepare(TaskRef("truthfulqa", form="mc2"), INVENTED)
    assert found.scorer.__name__ == "true_mass" and 0.3 < found.chance < 0.7
    assert [s.id for s in found.samples] == [s.id for s in prepare(TaskRef("truthfulqa"), INVENTED).samples]


@pytest.mark.parametrize(("labels", "message"), [([0, 0, 0], "one true option"), ([1, 1, 0], "one true option")])
def test_truthfulqa_with_no_or_two_true_options_is_an_error(labels, message):
    targets = {**truthfulqa.PLUGIN.example["mc1_targets"], "labels": labels}
    with pytest.raises(DataError, match=message):
        truthfulqa.to_sample({**truthfulqa.PLUGIN.example, "mc1_targets": targets}, "mc1", 0)


def test_truthfulqa_has_no_rows_for_examples_or_for_training():
    with pytest.raises(DataError, match="no 'train' split. It has: test"):
        prepare(TaskRef("truthfulqa", shots=2), INVENTED)
    with pytest.raises(DataError, match="for evaluation only"):
        train_samples(TaskRef("truthfulqa"), INVENTED)


def test_triviaqa_trains_on_the_answers_own_name_and_accepts_its_aliases():
    sample = triviaqa.to_sample(triviaqa.PLUGIN.example, "generate", 0)
    assert (sample.id, sample.target, sample.accepted) == ("example_1", " the Brell", ("river brell", "brell"))
    found = prepare(TaskRef("triviaqa"), INVENTED)
    assert (found.scorer.__name__, found.stop, found.chance) == ("alias_match", ("\n",), 0.0)
    assert found.scorer(found.samples[0], Response(text=" Mt Ansel.")).value == 1.0


def hub_rows():
    """Ten rows as the hub has them: three of the authors' training ids, seven others, all in one split."""
    ids = [*sorted(pubmed_qa.TRAIN_IDS)[:3], *range(1, 8)]
    return tuple({**pubmed_qa.PLUGIN.example, "pubid": id} for id in ids)


def test_pubmed_qa_divides_the_hubs_one_split_by_the_authors_ids(monkeypatch):
    whole = Rows(hub_rows(), "key", "hub", ())
    monkeypatch.setattr(pubmed_qa, "read", lambda source, split, data_dir: whole)
    monkeypatch.setattr(pubmed_qa, "locate", lambda source, split, data_dir: None)
    train, test = (pubmed_qa.rows({}, split, None) for split in ("train", "test"))
    ids = [[row["pubid"] for row in part.rows] for part in (train, test)]
    assert list(map(len, ids)) == [3, 7] and not set(ids[0]) & set(ids[1])
    assert len({whole.key, train.key, test.key}) == 3 and test.place(6) == "hub, test ids, row 7"


def test_pubmed_qa_takes_the_files_of_a_mirror_as_they_are(tmp_path):
    (tmp_path / "pubmed_qa").mkdir()
    for split in ("train", "test"):
        (tmp_path / "pubmed_qa" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, hub_rows())))
    assert len(pubmed_qa.rows({}, "train", tmp_path).rows) == len(pubmed_qa.rows({}, "test", tmp_path).rows) == 10


def test_pubmed_qa_knows_five_hundred_training_ids():
    assert len(pubmed_qa.TRAIN_IDS) == 500


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (" = Du Fu = \n", "Du Fu"),
        (" = = = 2000 – 2005 = = = \n", "2000 – 2005"),
        ("In 2006 , 52 @.@ 9 % of 1 @,@ 200 part @-@ timers left .", "In 2006, 52.9% of 1,200 part-timers left."),
        ("Ina 's river ( the Brell ) isn 't long ; it is short .", "Ina's river (the Brell) isn't long; it is short."),
        ('He called it " Aldwic " and " the old town . "', 'He called it "Aldwic" and "the old town."'),
        ("a = b", "a = b"),
    ],
)  # fmt: skip
def test_wikitext_undoes_the_tokenisation(line, text):
    assert wikitext.plain(line) == text


def test_wikitext_joins_lines_into_passages_of_one_article_each():
    found = prepare(TaskRef("wikitext"), INVENTED)
    assert (found.kind, found.metric, found.chance) == ("text", "cross_entropy", None)
    subjects = [sample.subject for sample in found.samples]
    assert subjects == ["Oldwick", "Oldwick", "Brell (river)"]
    assert len({sample.cluster for sample in found.samples}) == 2
    assert found.samples[0].target.startswith(
        'Oldwick\nOldwick is a town at the mouth of the Brell. It was called "Ald'
    )
    assert found.samples[2].target.split("\n") == [
        "Brell (river)",
        "The Brell is 41.5 km long. It rises on Mount Ansel, in the county's north.",
        "Bridges",
        "Seven bridges cross it; the oldest is that of Tarn.",
    ]
    limited = prepare(TaskRef("wikitext", limit=2), INVENTED).samples
    assert [sample.subject for sample in limited] == ["Oldwick", "Brell (river)"]


def passages(*lengths, title=" = T = "):
    rows = ({"text": title}, *({"text": letter * length} for letter, length in zip("abcdefg", lengths, strict=False)))
    lines = Rows(tuple(rows), "key", "here", tuple(f"test.jsonl:{i + 1}" for i in range(len(rows))))
    return [(len(row["text"]), index) for row, index in wikitext._passages(lines)]


def test_wikitext_cuts_between_lines_and_leaves_no_short_passage_alone():
    assert passages(1000, 1000) == [(2003, 0)]
    assert passages(1500, 1500) == [(1502, 0), (1500, 2)]
    assert passages(3000, 600) == [(3002, 0), (600, 2)]  # a heading never stands by itself
    assert passages(2000, 1500, 499) == [(2002, 0), (2000, 2)]
    assert passages(2000, 499) == [(2002 + 500, 0)]
    assert passages(2000, 500) == [(2002, 0), (500, 2)]


def test_wikitext_without_text_is_an_error(monkeypatch):
    lines = Rows(({"text": ""},), "key", "here", ())
    monkeypatch.setattr(wikitext, "read", lambda source, split, data_dir: lines)
    with pytest.raises(DataError, match="wikitext has no text"):
        wikitext.rows({}, "test", None)


@pytest.mark.parametrize(
    ("name", "hub_id", "split"),
    [
        ("hellaswag", "Rowan/hellaswag", "validation"),
        ("winogrande", "allenai/winogrande", "validation"),
        ("piqa", "baber/piqa", "validation"),  # ybisk/piqa needs its own script, which datasets 4 refuses
        ("boolq", "google/boolq", "validation"),
        ("triviaqa", "mandarjoshi/trivia_qa", "validation"),
        ("truthfulqa", "truthfulqa/truthful_qa", "validation"),
        ("pubmed_qa", "qiaojin/PubMedQA", "train"),
        ("arc_challenge", "allenai/ai2_arc", "test"),
    ],
)
def test_test_rows_come_from_a_split_of_the_hub_that_has_answers(name, hub_id, split):
    source = plugins.get("tasks", name).source
    assert (source.hub_id, dict(source.splits)["test"]) == (hub_id, split)
