"""Stages add up to the wall time whatever happens, and samples are scaled to the seconds they stand for."""

from __future__ import annotations

import pytest

from rankscope.clock import Clock, Sample


class Hand:
    """A time that moves only when told to."""

    def __init__(self):
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def hand():
    return Hand()


@pytest.fixture
def clock(hand):
    return Clock(is_sampling=True, most=0.1, now=hand)


def test_an_inner_stage_takes_its_time_from_the_outer_one_and_all_add_up(clock, hand):
    hand.at += 1
    with clock.stage("training"):
        hand.at += 2
        with clock.stage("writing"):
            hand.at += 4
        hand.at += 8
    with clock.stage("writing"):
        hand.at += 16
    found = clock.breakdown()
    assert found.stages == {"training": 10, "writing": 20, "other": 1}
    assert sum(found.stages.values()) == found.seconds == 31


def test_a_stage_that_ends_in_an_error_gives_the_time_back(clock, hand):
    with pytest.raises(RuntimeError), clock.stage("scoring"), clock.stage("tokenising"):
        hand.at += 1
        raise RuntimeError
    hand.at += 2
    assert clock.breakdown().stages == {"tokenising": 1, "other": 2}


def test_a_breakdown_in_the_middle_of_a_stage_has_that_stage(clock, hand):
    with clock.stage("scoring"):
        hand.at += 3
        assert clock.breakdown().stages == {"scoring": 3, "other": 0}


def test_a_stage_that_nobody_knows_is_refused(clock):
    with pytest.raises(ValueError, match="sewing"), clock.stage("sewing"):
        pass


def test_shares_are_those_of_the_samples_and_what_was_not_measured_is_rest(clock, hand):
    with clock.stage("scoring"):
        hand.at += 10
    clock.measured("scoring", "text", 8.0)
    clock.sampled("scoring", "text", Sample(0.5, 0.25, 0.125, 0.0, 1e9))
    clock.sampled("scoring", "text", Sample(1.5, 1.25, 0.125, 0.0, 5e9))
    clock.ceiling = 6e9
    work = clock.breakdown().work["scoring"]
    assert (work.products, work.attention, work.optimiser) == pytest.approx((0.6, 0.1, 0.0))
    assert work.products + work.attention + work.optimiser + work.rest == pytest.approx(1)
    assert work.reached == pytest.approx(0.8 * 3e9 / 6e9)
    assert (work.samples, work.sampled_seconds) == (2, 2.0)


def test_kinds_of_passes_weigh_by_the_seconds_that_they_took(clock, hand):
    with clock.stage("scoring"):
        hand.at += 4
    clock.measured("scoring", "text", 1.0)
    clock.measured("scoring", "token", 3.0)
    clock.sampled("scoring", "text", Sample(1.0, 1.0, 0.0, 0.0, 0.0))
    clock.sampled("scoring", "token", Sample(0.1, 0.0, 0.0, 0.0, 0.0, {("rest", "aten::copy_"): 0.1}))
    work = clock.breakdown().work["scoring"]
    assert (work.products, work.rest) == pytest.approx((0.25, 0.75))
    assert work.reached is None
    assert clock.operators("scoring") == pytest.approx({("rest", "aten::copy_"): 3.0})


def test_the_first_sample_of_a_kind_is_free_and_further_ones_must_be_cheap(clock, hand):
    assert clock.may_sample("training", "step")
    with clock.stage("sampling"):
        hand.at += 1
    clock.sampled("training", "step", Sample(1.0, 1.0, 0.0, 0.0, 0.0))
    hand.at += 8
    assert not clock.may_sample("training", "step")
    assert clock.may_sample("scoring", "text")
    hand.at += 1
    assert clock.may_sample("training", "step")
    assert not Clock().may_sample("scoring", "text")


def test_sampling_is_no_part_of_what_work_took(clock, hand):
    began = clock.working()
    hand.at += 2
    with clock.stage("sampling"):
        hand.at += 5
    assert clock.working() - began == 2


def test_passes_with_another_stage_inside_them_stand_for_no_more_than_their_own_stage(clock, hand):
    with clock.stage("scoring"):
        hand.at += 3
        with clock.stage("tokenising"):
            hand.at += 1
    clock.measured("scoring", "text", 4.0)
    clock.sampled("scoring", "text", Sample(2.0, 2.0, 0.0, 0.0, 0.0))
    work = clock.breakdown().work["scoring"]
    assert (work.products, work.rest) == pytest.approx((1, 0))
