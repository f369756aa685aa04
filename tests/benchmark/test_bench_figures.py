"""Percentiles, intervals and verdicts, against figures done by hand."""

import math

import pytest

from edge_runtime.benchmark.figures import Spread, compare, percentile, spread
from edge_runtime.benchmark.profile import Cost, largest_costs


def test_percentile_is_a_value_of_the_sample():
    values = list(range(1, 101))
    assert [percentile(values, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7], 50) == percentile([7], 99) == 7
    assert percentile([1, 2], 50) == 1


def test_spread_of_nothing_is_nothing():
    assert spread([]) == Spread(0, 0, 0, 0, 0)
    assert spread([4.0, 1.0, 1.0]) == Spread(3, 2.0, 1.0, 4.0, 4.0)


def test_interval_is_students_t_over_the_logarithms_of_paired_ratios():
    found = compare([100, 100, 100], [110, 121, 110])
    middle = (math.log(1.1) * 4) / 3
    half = 4.303 * (math.log(1.1) / math.sqrt(3)) / math.sqrt(3)
    assert found.change == pytest.approx(math.exp(middle) - 1)
    assert (found.low, found.high) == pytest.approx((math.exp(middle - half) - 1, math.exp(middle + half) - 1))


@pytest.mark.parametrize(
    ("base", "candidate", "verdict"),
    [
        ([100, 101, 99, 100], [120, 122, 119, 121], "more"),
        ([120, 122, 119, 121], [100, 101, 99, 100], "less"),
        ([100, 130, 90, 100], [110, 100, 120, 95], "no difference shown"),
        ([100, 200, 400], [100, 200, 400], "no difference shown"),
        ([0, 0, 0], [5000, 5000, 5000], "more"),
    ],
)
def test_verdict_is_what_the_interval_shows(base, candidate, verdict):
    assert compare(base, candidate).verdict == verdict


def test_noise_that_falls_on_both_of_a_pair_cancels_out():
    assert compare([100, 300, 50, 900], [105, 315, 52.5, 945]).change == pytest.approx(0.05)


def test_threshold_is_passed_only_by_the_whole_interval():
    found = compare([100, 101, 99, 100], [120, 122, 119, 121])
    assert found.exceeds(10)
    assert not found.exceeds(20)


@pytest.mark.parametrize(("base", "candidate"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 2]), ([], [])])
def test_too_few_rounds_are_refused(base, candidate):
    with pytest.raises(ValueError, match="at least 3, as many of each"):
        compare(base, candidate)


def test_costs_are_counted_in_a_function_and_with_what_it_calls():
    assert largest_costs(["main;run;parse 6", "main;run;parse;run 2", "main 2"]) == (
        Cost("parse", 0.6, 0.8),
        Cost("run", 0.2, 0.8),
        Cost("main", 0.2, 1.0),
    )
    assert largest_costs([]) == ()
