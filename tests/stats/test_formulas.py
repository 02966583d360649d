"""The formula language says what Python's arithmetic says, keeps what is missing missing, and its intervals enclose."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from rankscope.stats.formulas import absent, amount, cube_root, evaluate, filled, names, parse

LETTERS = "abcd"


def expression(dice: random.Random, depth: int) -> str:
    """A random expression that Python reads in the same way."""
    if depth == 0 or dice.random() < 0.2:
        return dice.choice([*LETTERS, f"{dice.uniform(0, 9):.3f}", str(dice.randrange(9)), "2.5e-3"])
    kind = dice.choice(["+", "-", "*", "/", "-x", "()", "min", "max", "ceil"])
    one, two = expression(dice, depth - 1), expression(dice, depth - 1)
    forms = {"-x": f"-{one}", "()": f"({one})", "ceil": f"ceil({one})", "min": f"min({one}, {two})",
             "max": f"max({one}, {two}, {one})"}  # fmt: skip
    return forms.get(kind, f"({one}) {kind} {two}")


def by_python(text: str, values: dict[str, float]) -> float | None:
    try:
        found = eval(text, {"ceil": math.ceil, "min": min, "max": max, "__builtins__": {}}, values)  # our own text
    except (ZeroDivisionError, OverflowError):
        return None
    return float(found) if math.isfinite(found) else None


def test_random_expressions_are_worth_what_python_says():
    dice, num_known = random.Random(0), 0
    for _ in range(200):
        text = expression(dice, 4)
        values = {letter: dice.choice([0.0, dice.gauss(0, 10), dice.uniform(1e3, 1e9)]) for letter in LETTERS}
        got = evaluate(parse(text), {k: amount(v) for k, v in values.items()}).value
        wanted = by_python(text, values)
        assert got == wanted, text
        num_known += wanted is not None
    assert num_known > 100


def test_intervals_enclose_every_corner_and_the_middle():
    dice = random.Random(1)
    for _ in range(80):
        text = expression(dice, 3)
        ends = {letter: sorted((dice.uniform(0.5, 9), dice.uniform(0.5, 9))) for letter in LETTERS}
        scope = {k: amount((low + high) / 2, low=low, high=high) for k, (low, high) in ends.items()}
        found = evaluate(parse(text), scope)
        if found.value is None:
            continue
        assert found.low <= found.value <= found.high
        for corner in itertools.product(*ends.values()):
            at = by_python(text, dict(zip(LETTERS, corner, strict=True)))
            slack = 1e-9 * max(1.0, abs(at or 0.0))
            assert at is None or found.low - slack <= at <= found.high + slack, text


def test_a_divisor_that_may_be_zero_leaves_the_ratio_unbounded():
    ten = amount(10)
    across = evaluate(parse("a / b"), {"a": ten, "b": amount(2, low=-1, high=5)})
    assert (across.value, across.low, across.high) == (5.0, -math.inf, math.inf)
    above = evaluate(parse("a / above(b)"), {"a": ten, "b": amount(2, low=-1, high=5)})
    assert (above.value, above.low, above.high) == (5.0, 2.0, math.inf)
    below = evaluate(parse("a / b"), {"a": ten, "b": amount(-2, low=-5, high=0)})
    assert (below.value, below.low, below.high) == (-5.0, -math.inf, -2.0)


def test_what_is_missing_stays_missing_and_is_never_zero():
    scope = {"a": amount(2), "b": absent("b is not typed"), "c": absent("c is not typed"), "z": amount(0)}
    for text in ("a + b", "b * 0", "max(a, b)", "ceil(b)", "above(b)", "-b", "first(b, b)", "known(b, b)"):
        found = evaluate(parse(text), scope)
        assert found.value is None and found.reasons == ("b is not typed",), text
    assert evaluate(parse("b / c"), scope).reasons == ("b is not typed", "c is not typed")
    assert evaluate(parse("a / z"), scope).reasons == ("division by zero",)
    assert evaluate(parse("above(z)"), scope).reasons == ("z is not above zero",)
    assert evaluate(parse("cbrt(z - a)"), scope).reasons == ("a part is below zero",)
    assert evaluate(parse("1e308 * 10"), scope).reasons == ("too large to compute",)


def test_a_sum_of_known_parts_names_the_others_and_passes_it_on():
    scope = {"a": amount(2), "b": absent("b is not typed"), "c": amount(3)}
    found = evaluate(parse("10 * known(a, b, c)"), scope)
    assert (found.value, found.left_out, found.reasons) == (50.0, ("b",), ("b is not typed",))
    assert evaluate(parse("first(b, c, a)"), scope) == scope["c"]


def test_a_result_has_the_weakest_tag_of_its_parts():
    scope = {"m": amount(1, "measured"), "t": amount(1, "typed"), "x": amount(1, "modelled")}
    for text, tag in (("2", ""), ("2 * m", "measured"), ("m + t", "typed"), ("min(m, t, x)", "modelled"),
                      ("first(m, x)", "measured")):  # fmt: skip
        assert evaluate(parse(text), scope).tag == tag


@pytest.mark.parametrize("x", [0.0, 1.0, 8.0, 1e-9, 0.3, 9243.2, 1e22, 1.7e308, math.inf])
def test_the_cube_root_is_one(x):
    assert cube_root(x) == pytest.approx(x ** (1 / 3), rel=1e-12)
    assert cube_root(1.0) == 1.0  # a study's own model is not scaled by a rounding error


@pytest.mark.parametrize("text", ["", "a +", "a b", "(a", "a)", "power(a)", "min()", "ceil(a, b)", "a ** b", "2x", "A",
                                  "a.b.c", "__import__('os')", "a[0]", "a if b else c"])  # fmt: skip
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(ValueError, match="formula|missing|function"):
        parse(text)


def test_names_are_found_and_filled_in():
    text = "full.cost - min(cost, 1e9) * rate1"
    assert names(parse(text)) == ("full.cost", "cost", "rate1")
    assert filled(text, {"full.cost": "7", "cost": "2", "e9": "NO", "min": "NO"}) == "7 - min(2, 1e9) * rate1"
