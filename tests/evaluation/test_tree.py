"""Plans of shared beginnings: every text is in them once, whole and in order, and no token more often than it pays."""

from __future__ import annotations

import random

import pytest

from rankscope.evaluation.tree import Group, Pack, Text, cut, headers, pack, plan


def some(rng: random.Random, low: int, high: int) -> tuple[int, ...]:
    return tuple(rng.randrange(3, 50) for _ in range(rng.randint(low, high)))


def told(groups: list[Group]) -> dict[int, list[tuple[tuple[int, ...], int]]]:
    """What each text is asked: everything the model sees before a target, and the target."""
    found: dict[int, list[tuple[tuple[int, ...], int]]] = {}
    for group in groups:
        for row in group.packs:
            for node, target, text in row.reads:
                path = [j for j in range(node + 1) if node < row.ends[j]]  # ancestors and itself
                assert [row.positions[j] for j in path] == list(range(len(group.header), len(group.header) + len(path)))
                found.setdefault(text, []).append(((*group.header, *(row.tokens[j] for j in path)), target))
    return {text: sorted(reads, key=lambda read: len(read[0])) for text, reads in found.items()}


def asked(texts: list[Text]) -> dict[int, list[tuple[tuple[int, ...], int]]]:
    """The same by hand."""
    wholes = [(t.prompt + t.continuation, len(t.prompt)) for t in texts]
    return {k: [(whole[:i], whole[i]) for i in range(start, len(whole))]
            for k, (whole, start) in enumerate(wholes) if len(whole) > start}  # fmt: skip


def num_tokens(groups: list[Group]) -> int:
    return sum(len(g.header) + sum(len(p.tokens) for p in g.packs) for g in groups)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("is_kept", [True, False])
def test_every_target_stands_behind_exactly_its_own_text(seed, is_kept):
    rng = random.Random(seed)
    heads = [some(rng, 100, 300) for _ in range(2)]
    texts = []
    for _ in range(60):
        stem = rng.choice([*heads, ()]) + some(rng, 1, 30)
        options = [some(rng, 0, 5) for _ in range(rng.randint(1, 5))]
        texts += [Text(stem, c) for c in (*options, options[0][:2], options[0])]
    groups = plan(texts, 1024, is_kept)
    assert told(groups) == asked(texts)
    assert any(g.header for g in groups) == is_kept
    assert num_tokens(groups) < sum(len(t.inputs) for t in texts) / 3
    assert plan(texts, 1024, is_kept) == groups
    assert all(len(p.tokens) <= 1024 for g in groups for p in g.packs)


def test_a_stem_and_the_common_beginnings_of_options_stand_once():
    row = pack({0: Text((5, 6), (7, 8, 9)), 1: Text((5, 6), (7, 8, 4)), 2: Text((5, 6), (3,)), 3: Text((5, 6), (7,))})
    assert row == Pack((5, 6, 7, 8), (0, 1, 2, 3), (4, 4, 4, 4), row.reads) and row.is_chain
    assert row.reads == ((1, 3, 2), (1, 7, 0), (1, 7, 1), (1, 7, 3), (2, 8, 0), (2, 8, 1), (3, 4, 1), (3, 9, 0))
    fork = pack({0: Text((5, 6), (7, 8)), 1: Text((5, 6), (9, 8))})
    assert (fork.tokens, fork.positions, fork.ends) == ((5, 6, 7, 9), (0, 1, 2, 2), (4, 4, 3, 4)) and not fork.is_chain


def test_answers_of_one_token_cost_no_token():
    texts = [Text((5, 6, 7), (letter,)) for letter in (11, 12, 13, 14)]
    (group,) = plan(texts)
    assert num_tokens([group]) == 3 and len({node for node, _, _ in group.packs[0].reads}) == 1


def few_shot(num_items: int, num_header: int = 600) -> list[Text]:
    rng = random.Random(1)
    header = some(rng, num_header, num_header)
    stems = [header + some(rng, 60, 100) for _ in range(num_items)]
    return [Text(stem, (letter,)) for stem in stems for letter in (11, 12, 13, 14)]


def test_a_header_is_computed_once_where_its_rows_need_several_packs():
    texts = few_shot(20)
    (group,) = plan(texts)
    assert group.header[:600] == texts[0].prompt[:600] and len(group.header) == 600 and len(group.packs) > 3
    # What items have in common by chance may lie in two packs.
    alone = 600 + sum(len(t.prompt) - 600 for t in texts[::4])
    assert alone - 20 < num_tokens([group]) <= alone


def test_a_few_items_behind_a_long_header_need_no_pass_of_their_own_for_it():
    (group,) = plan(few_shot(2))
    assert group.header == () and len(group.packs) == 1


def test_a_short_common_beginning_is_no_header_as_every_row_pays_for_one():
    rng = random.Random(2)
    texts = [Text((7, 8, 9, 10) + some(rng, 20, 40), some(rng, 2, 4)) for _ in range(200)]
    assert [g.header for g in plan(texts)] == [()]


def test_headers_are_taken_whole_or_in_parts_whichever_saves_more():
    rng = random.Random(3)
    common, ones, twos = (7,) * 40, (8,) * 500, (9,) * 500
    short = [common + one + some(rng, 80, 90) for one in (ones, twos) for _ in range(10)]
    long = [(7,) * 700 + one[:30] + some(rng, 80, 90) for one in (ones, twos) for _ in range(10)]
    for rows, lengths in ((short, [540, 540]), (long, [700])):
        order = sorted(rows)
        assert [n for *_, n in headers(order, [len(r) - 1 for r in order])] == lengths


def test_no_header_reaches_over_the_place_where_something_is_read():
    tail = tuple(range(3, 49)) * 5
    texts = [Text((5,) * 150, tail[:100] + (k,) * 80) for k in range(10, 20)]
    groups = plan(texts)
    assert told(groups) == asked(texts) and [len(g.header) for g in groups] == [149]


def cost(order: list[tuple[int, ...]], runs: list[tuple[int, int]]) -> float:
    sizes = [len({row[:n] for row in order[i:j] for n in range(1, len(row) + 1)}) for i, j in runs]
    return sum(size + size * size / 2048 + 32 for size in sizes)


def test_texts_are_cut_into_the_cheapest_runs_of_all():
    rng = random.Random(4)
    stems = [some(rng, 30, 120) for _ in range(4)]
    order = sorted({rng.choice(stems) + some(rng, 1, 60) for _ in range(10)})
    every = [[i for i in range(1, len(order)) if bits >> i & 1] for bits in range(0, 2 ** len(order), 2)]
    ways = [list(zip([0, *inner], [*inner, len(order)], strict=True)) for inner in every]
    found = cut(order, 0, 4096)
    assert cost(order, found) == pytest.approx(min(cost(order, way) for way in ways)) and 1 < len(found) < len(order)


def test_batches_stay_within_the_budget_and_bound_what_is_kept_in_front_of_them():
    (group,) = plan(few_shot(40, 3000))
    for budget in (512, 2048, 8192):
        for batch in group.batches(budget):
            longest = max(len(p.tokens) for p in batch)
            assert len(batch) == 1 or (
                len(batch) * longest <= budget and len(batch) * (3000 + longest) <= 4 * budget + 4 * len(batch)
            )
        assert sorted(p.reads for b in group.batches(budget) for p in b) == sorted(p.reads for p in group.packs)


def test_a_chain_of_beginnings_is_one_text_and_nothing_is_planned_for_nothing():
    chain = [Text((5,), tuple(range(6, 6 + n))) for n in range(1, 120)]
    (group,) = plan(chain)
    assert num_tokens([group]) == 119 and group.packs[0].is_chain and told([group]) == asked(chain)
    assert plan([]) == [] == plan([Text((5, 6), ())])
