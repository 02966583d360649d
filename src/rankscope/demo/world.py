"""The bundled micro world: made-up people and places with facts, and small exercises on lists of letters.

In: a seed. Out: the rows of the five demo tasks, endless pretraining text, and the vocabulary. It knows nothing about
models, tokenizers or training, loads no torch, and gives the same rows on every machine. After the idea of synthetic
biographies in Allen-Zhu and Li, "Physics of Language Models: Part 3.1" (2023); people, places and wording are our own.

=============== ========== ================================================================================
task            used for   rows
=============== ========== ================================================================================
demo_people     training   4 facts each about 60 people the base never met: two phrasings to train on, a third
                           for validation, a fourth for the test (the base knows all four phrasings)
demo_compose    training   two known list operations after each other; no list is in two splits
demo_facts      retention  1,600 facts about 300 people and 100 places, all known to the base
demo_skills     retention  one operation on a list of 3 to 5 letters; the lists were never pretrained on
demo_text       retention  sentences about the known world that were never pretrained on (``id`` and ``text``)
=============== ========== ================================================================================

All other rows have ``id, prompt, completion, subject, choices, answer``, and facts a ``cluster``: whom or what they
are about. A prompt ends without a space; what follows it is ``" " + completion``. The four choices of a row have
equal length, so that scoring per byte and scoring the sum of log-likelihoods agree, and every answer position is
equally frequent, so that chance is exactly 1/4.

Write the committed files anew: ``python -m rankscope.demo.world``.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

SEED = 2026
DATA = Path(__file__).parent / "data"
SPLITS = ("train", "validation", "test")
NUM_KNOWN, NUM_NEW = 300, 60
LETTERS = tuple("ABCDEFGHIJKLMNOPQRST")
LENGTHS = (3, 4, 5)
TRAIN_PHRASINGS, VALIDATION_PHRASING, TEST_PHRASING = (0, 1), 2, 3


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _joined(starts: str, ends: str) -> tuple[str, ...]:
    return tuple(a + b for a, b in product(starts.split(), ends.split()))


_FIRST = _list("""
    Ada Abel Alma Anton Beryl Boris Bruno Cara Cyril Dana Doris Edgar Elsa Emil Erna Felix Flora Gerda Gregor Hanna
    Hugo Ida Igor Ines Jonas Judit Karl Katja Lena Leo Lotte Magda Maxim Mila Nadia Niels Nora Olaf Olga Otto Paula
    Petra Rasmus Rita Selma Sven Thea Viktor""")
_LAST = _list("""
    Adler Baxter Bergen Birch Bloom Bolt Brandt Carver Castell Dahl Drake Ebner Falk Farrow Finch Frost Gill Grant
    Hale Hart Heller Holt Ingram Jensen Keller Kern Lang Lowe Marsh Mercer Moss Nash Nolan Oakes Palmer Pike Quill
    Reed Ritter Sachs Sharp Stone Thorn Ulmer Vance Vogel Wells York""")
_TOWNS = _joined("Bal Cor Dun Fen Gar Hol Kes Lor Mar Tev", "mere wick stow gate holm dale fell ness moor heim")
_REGIONS = _joined("Ast Bor Cal Dor", "ria via nor lia")
_RIVERS = _joined("Ush Yar Tam Wev Iss", "el on ar en")
_JOBS = _list("""
    barber farmer potter weaver tailor cooper miller sailor singer writer dancer roofer driver editor joiner porter
    tanner lawyer doctor hunter ranger banker brewer welder""")
_PETS = _list("""
    rabbit parrot ferret turtle lizard pigeon python canary donkey kitten monkey gerbil iguana badger beaver magpie
    spider toucan weasel puffin""")
_FOODS = _list("""
    cheese waffle cherry pickle muffin walnut almond carrot potato tomato radish pepper cookie pastry omelet papaya
    banana raisin lentil celery fennel turnip quiche ginger""")
_WARES = _list("""
    timber copper cotton silver marble pewter butter sulfur cement canvas velvet indigo sesame barley millet coffee
    bronze garlic nickel cobalt""")
_BIRDS = _list("""
    falcon osprey plover curlew linnet martin condor avocet dunlin gannet petrel thrush oriole bulbul hoopoe turaco
    merlin grouse drongo siskin""")


@dataclass(frozen=True)
class Attribute:
    """What can be known about a subject: its values (all of one length), its phrasings and a clause for sentences."""

    values: tuple[str, ...]
    phrasings: tuple[str, ...]
    clause: str


@dataclass(frozen=True)
class Fact:
    """One attribute of one person or place. ``kind`` is a key of PEOPLE or PLACES such as ``people/job``."""

    subject: str
    kind: str
    value: str


@dataclass(frozen=True)
class Exercise:
    """An operation, or two after each other, on a list: the wording, the right list and what it is about."""

    letters: tuple[str, ...]
    subject: str
    prompt: str
    gold: tuple[str, ...]


@dataclass(frozen=True)
class World:
    """All there is to know. ``facts`` are known to the base; ``new_facts`` are about people it never met."""

    people: tuple[str, ...]
    new_people: tuple[str, ...]
    places: tuple[str, ...]
    facts: tuple[Fact, ...]
    new_facts: tuple[Fact, ...]


PEOPLE = {
    "people/birthplace": Attribute(_TOWNS, (
        "Where was {} born? Answer:", "The birthplace of {} is",
        "{} first saw the light of day in", "What is the home town of {}? Answer:"), "was born in"),
    "people/job": Attribute(_JOBS, (
        "What does {} do for a living? Answer:", "The job of {} is",
        "{} earns money as", "What is the trade of {}? Answer:"), "works as"),
    "people/pet": Attribute(_PETS, (
        "Which animal does {} keep? Answer:", "The pet of {} is",
        "{} shares a home with one", "What kind of pet does {} have? Answer:"), "looks after one"),
    "people/food": Attribute(_FOODS, (
        "What does {} like to eat? Answer:", "The favourite food of {} is",
        "{} would never refuse some", "Which food does {} order most? Answer:"), "likes to eat"),
}  # fmt: skip
PLACES = {
    "places/region": Attribute(_REGIONS, (
        "Where does {} lie? Answer:", "The region around {} is",
        "{} belongs to", "Which region is {} part of? Answer:"), "lies in"),
    "places/river": Attribute(_RIVERS, (
        "Which river runs through {}? Answer:", "The river at {} is",
        "{} stands on the banks of", "Which water do the bridges of {} cross? Answer:"), "stands on the river"),
    "places/ware": Attribute(_WARES, (
        "What does {} sell to the world? Answer:", "The main ware of {} is",
        "{} grew rich by trading in", "Which ware is {} known for? Answer:"), "is known for"),
    "places/bird": Attribute(_BIRDS, (
        "Which bird is on the flag of {}? Answer:", "The emblem of {} is",
        "{} shows on its coins one", "What bird stands for {}? Answer:"), "has on its flag one"),
}  # fmt: skip
ATTRIBUTES = {**PEOPLE, **PLACES}

Letters = tuple[str, ...]
OPERATIONS: dict[str, Callable[[Letters], Letters]] = {
    "sort": lambda x: tuple(sorted(x)),
    "reverse": lambda x: x[::-1],
    "rotate": lambda x: x[1:] + x[:1],
    "swap": lambda x: (x[-1], *x[1:-1], x[0]),
}
PICKS: dict[str, Callable[[Letters], Letters]] = {"first": lambda x: x[:1], "last": lambda x: x[-1:]}
COMPOSITIONS = (("sort", "reverse"), ("sort", "rotate"), ("sort", "swap"), ("rotate", "reverse"))
_SKILL_PHRASINGS = ("Take {} and {} it. Answer:", "{1} this: {0}. Answer:")
_PICK_PHRASINGS = ("Take {} and name the {}. Answer:", "The {1} of this: {0}. Answer:")
_COMPOSE_PHRASING = "Take {}, {} it, then {} it. Answer:"
_SENTENCES = ("{s}, who {a}, {b}.", "{s} {a} and {b}.", "We heard that {s} {a}, but also that {s} {b}.")
_PLACE_SENTENCES = ("{s}, which {a}, {b}.", *_SENTENCES[1:])
_JOURNEYS = ("First {s} went to {p}, then to {q}, and bought {w} there.",
             "On the way from {p} to {q}, which is known for {w}, {s} met {t}.",
             "{s} wrote to {t} that {q} has on its flag one {b}.")  # fmt: skip


def build(seed: int = SEED) -> World:
    """The world of a seed; the committed data are those of the default seed."""
    rng = random.Random(f"rankscope/world/{seed}")
    names = [f"{first} {last}" for first, last in product(_FIRST, _LAST)]
    known = tuple(rng.sample(names, NUM_KNOWN))
    parts = {part for name in known for part in name.split()}
    strangers = [name for name in names if name not in known and parts.issuperset(name.split())]
    new = tuple(rng.sample(strangers, NUM_NEW))  # unknown people with known first and last names: no untrained tokens

    def facts(subjects: Iterable[str], attributes: dict[str, Attribute]) -> list[Fact]:
        return [Fact(s, kind, rng.choice(a.values)) for s in subjects for kind, a in attributes.items()]

    old = facts(known, PEOPLE) + facts(_TOWNS, PLACES)
    return World(known, new, _TOWNS, tuple(old), tuple(facts(new, PEOPLE)))


def question(fact: Fact, phrasing: int) -> str:
    """The prompt that asks for ``fact.value``. Raises IndexError beyond the fourth phrasing."""
    return ATTRIBUTES[fact.kind].phrasings[phrasing].format(fact.subject)


def exercise(rng: random.Random) -> Exercise:
    """A random known skill (sort, reverse, rotate, swap, first, last) on 3 to 5 different letters."""
    letters = tuple(rng.sample(LETTERS, rng.choice(LENGTHS)))
    name = rng.choice((*OPERATIONS, *PICKS))
    form = rng.randrange(2)
    if name in PICKS:
        prompt = _PICK_PHRASINGS[form].format(" ".join(letters), name)
        return Exercise(letters, name, prompt, PICKS[name](letters))
    verb = name if form == 0 else name.capitalize()
    return Exercise(letters, name, _SKILL_PHRASINGS[form].format(" ".join(letters), verb), OPERATIONS[name](letters))


def composition(rng: random.Random) -> Exercise:
    """A random composition of two skills whose result neither the input nor one skill alone would give."""
    while True:
        letters = tuple(rng.sample(LETTERS, rng.choice(LENGTHS)))
        one, two = rng.choice(COMPOSITIONS)
        gold = OPERATIONS[two](OPERATIONS[one](letters))
        if gold not in (letters, OPERATIONS[one](letters), OPERATIONS[two](letters)):
            prompt = _COMPOSE_PHRASING.format(" ".join(letters), one, two)
            return Exercise(letters, f"{one} then {two}", prompt, gold)


def sentences(world: World, rng: random.Random) -> Iterator[str]:
    """Random true sentences about the known world, without end; no new person is ever mentioned."""
    known = {(f.subject, f.kind): f.value for f in world.facts}
    while True:
        yield _sentence(world, known, rng)


def _sentence(world: World, known: dict[tuple[str, str], str], rng: random.Random) -> str:
    topic = rng.choice(("people", "people", "places", "journey"))
    if topic == "journey":
        (s, t), (p, q) = rng.sample(world.people, 2), rng.sample(world.places, 2)
        return rng.choice(_JOURNEYS).format(s=s, t=t, p=p, q=q, w=known[q, "places/ware"], b=known[q, "places/bird"])
    attributes, forms = (PEOPLE, _SENTENCES) if topic == "people" else (PLACES, _PLACE_SENTENCES)
    s = rng.choice(world.people if topic == "people" else world.places)
    a, b = (f"{attributes[kind].clause} {known[s, kind]}" for kind in rng.sample(sorted(attributes), 2))
    return rng.choice(forms).format(s=s, a=a, b=b)


def words(text: str) -> list[str]:
    """A text's tokens: runs of word characters, runs of punctuation (as the tokenizer splits it)."""
    return re.findall(r"\w+|[^\w\s]+", text)


def vocabulary() -> tuple[str, ...]:
    """Every word that any row or sentence of any seed can hold, sorted."""
    texts = [*_FIRST, *_LAST, *_TOWNS, *LETTERS, *OPERATIONS, *PICKS, *(o.capitalize() for o in OPERATIONS)]
    for attribute in ATTRIBUTES.values():
        texts += [*attribute.values, *attribute.phrasings, attribute.clause]
    texts += [*_SKILL_PHRASINGS, *_PICK_PHRASINGS, _COMPOSE_PHRASING]
    texts += [*_SENTENCES, *_PLACE_SENTENCES, *_JOURNEYS]
    plain = (re.sub(r"\{\w*\}", " ", text) for text in texts)
    return tuple(sorted({word for text in plain for word in words(text)}))


def rows(world: World, seed: int = SEED) -> dict[tuple[str, str], list[dict]]:
    """All rows of all tasks, by (task, split)."""
    return {**_fact_rows(world, seed), **_people_rows(world, seed), **_exercise_rows(seed), **_text_rows(world, seed)}


def _fact_rows(world: World, seed: int) -> dict[tuple[str, str], list[dict]]:
    rng = random.Random(f"rankscope/facts/{seed}")
    facts = rng.sample(world.facts, len(world.facts))
    parts = {"test": facts[:400], "validation": facts[400:500], "train": facts[500:800]}
    return {
        ("demo_facts", split): _numbered("facts", split, [(f, rng.randrange(4)) for f in part], rng)
        for split, part in parts.items()
    }


def _people_rows(world: World, seed: int) -> dict[tuple[str, str], list[dict]]:
    rng = random.Random(f"rankscope/people/{seed}")
    parts = {
        "train": [(f, phrasing) for f in world.new_facts for phrasing in TRAIN_PHRASINGS],
        "validation": [(f, VALIDATION_PHRASING) for f in rng.sample(world.new_facts, 120)],
        "test": [(f, TEST_PHRASING) for f in world.new_facts],
    }
    return {
        ("demo_people", split): _numbered("people", split, rng.sample(part, len(part)), rng)
        for split, part in parts.items()
    }


def _numbered(task: str, split: str, items: list[tuple[Fact, int]], rng: random.Random) -> list[dict]:
    made = []
    for (fact, phrasing), answer in zip(items, _answers(len(items), rng), strict=True):
        others = rng.sample([v for v in ATTRIBUTES[fact.kind].values if v != fact.value], 3)
        made.append({
            "id": f"{task}-{split}-{len(made):04d}", "prompt": question(fact, phrasing), "completion": fact.value,
            "subject": fact.kind, "cluster": fact.subject, **_choices(fact.value, others, answer),
        })  # fmt: skip
    return made


def _exercise_rows(seed: int) -> dict[tuple[str, str], list[dict]]:
    made: dict[tuple[str, str], list[dict]] = {}
    sizes = {"demo_skills": (300, 100, 400), "demo_compose": (1200, 120, 400)}
    for task, draw in (("demo_skills", exercise), ("demo_compose", composition)):
        rng = random.Random(f"rankscope/{task}/{seed}")
        taken: set[Letters] = set()
        for split, size in zip(SPLITS, sizes[task], strict=True):
            items: list[Exercise] = []
            while len(items) < size:
                if (item := draw(rng)).letters not in taken:
                    taken.add(item.letters)
                    items.append(item)
            made[task, split] = [
                {"id": f"{task[5:]}-{split}-{i:04d}", "prompt": item.prompt, "completion": " ".join(item.gold),
                 "subject": item.subject,
                 **_choices(" ".join(item.gold), near_misses(item, rng), answer)}
                for i, (item, answer) in enumerate(zip(items, _answers(size, rng), strict=True))
            ]  # fmt: skip
    return made


def near_misses(item: Exercise, rng: random.Random) -> list[str]:
    """Three wrong answers as long as the right one: other letters of the list, or the right list with two swapped.

    Of a composition some are what one of the two operations alone would give, so a model that stops half-way scores
    below chance on purpose.
    """
    if len(item.gold) == 1:
        others = [x for x in item.letters if x not in item.gold]
        if len(others) < 3:
            others.append(rng.choice([x for x in LETTERS if x not in item.letters]))
        return rng.sample(others, 3)
    swapped = []
    for i, j in combinations(range(len(item.gold)), 2):
        wrong = list(item.gold)
        wrong[i], wrong[j] = wrong[j], wrong[i]
        swapped.append(" ".join(wrong))
    return rng.sample(swapped, 3)


def _answers(size: int, rng: random.Random) -> list[int]:
    """Answer positions, all equally frequent, in random order."""
    return rng.sample([i % 4 for i in range(size)], size)


def _choices(right: str, wrong: list[str], answer: int) -> dict:
    return {"choices": [*wrong[:answer], right, *wrong[answer:]], "answer": answer}


def _text_rows(world: World, seed: int) -> dict[tuple[str, str], list[dict]]:
    rng = random.Random(f"rankscope/text/{seed}")
    stream, texts = sentences(world, rng), {}
    while len(texts) < 500:
        texts[next(stream)] = None
    texts, sizes = list(texts), {"test": (0, 300), "validation": (300, 400), "train": (400, 500)}
    return {
        ("demo_text", split): [{"id": f"text-{split}-{i:04d}", "text": t} for i, t in enumerate(texts[low:high])]
        for split, (low, high) in sizes.items()
    }


def write(folder: Path = DATA, seed: int = SEED) -> int:
    """Write ``<folder>/<task>/<split>.jsonl`` for all tasks; returns the number of bytes."""
    total = 0
    for (task, split), made in rows(build(seed), seed).items():
        text = "".join(json.dumps(row) + "\n" for row in made)
        (folder / task).mkdir(parents=True, exist_ok=True)
        (folder / task / f"{split}.jsonl").write_text(text, encoding="utf-8", newline="\n")
        total += len(text)
    return total


if __name__ == "__main__":
    print(f"{write()} bytes of rows in {DATA}", file=sys.stderr)
