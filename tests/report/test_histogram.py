import dataclasses
import math

import pytest
from helpers.made import output

from vimdeploy.parity.results import Histogram
from vimdeploy.report.histogram import histogram_chart
from vimdeploy.tolerance import Tolerance


def chart_of(edges, counts, limit=1e-4, std=1.0):
    tolerance = Tolerance(limit, "so it is")
    return histogram_chart(
        dataclasses.replace(output(), histogram=Histogram(edges, counts), std=std, tolerance=tolerance)
    )


def test_nothing_counted_no_plot():
    assert chart_of((0.0, 1.0), (0,)) is None


def test_bars_stand_side_by_side_and_the_highest_fills_the_plot():
    chart = chart_of((1e-6, 1e-5, 1e-4, 1e-3), (10, 40, 20))
    first, second, third = chart.bars
    assert second.x == pytest.approx(first.x + first.width)
    assert second.height == pytest.approx(4 * first.height)
    assert third.height == pytest.approx(2 * first.height)


def test_bars_beyond_what_is_allowed_are_marked():
    chart = chart_of((1e-6, 1e-5, 1e-4, 1e-3), (10, 40, 20), limit=1e-4)
    assert [bar.beyond for bar in chart.bars] == [False, False, True]
    assert chart.bound.at == pytest.approx(chart.bars[2].x)


@pytest.mark.parametrize("limit", [1e-9, 1e3])
def test_what_is_allowed_is_in_the_plot_however_far(limit):
    chart = chart_of((1e-6, 1e-5), (10,), limit=limit)
    assert 0 < chart.bound.at < 100


def test_the_same_to_the_bit():
    chart = chart_of((0.0, 1e-9), (5000,))
    assert len(chart.bars) == 1
    assert chart.bars[0].note.startswith("5,000 errors: less than ")


def test_infinite_errors():
    chart = chart_of((1e2, 1e3, math.inf), (0, 7))
    assert len(chart.bars) == 1
    assert chart.bars[0].beyond
    assert 0 < chart.bars[0].x < 100


@pytest.mark.parametrize("std", [0.0, math.inf, math.nan])
def test_a_bound_without_a_logarithm_has_no_line(std):
    chart = chart_of((1e-6, 1e-5), (10,), std=std)
    assert chart.bound is None
    assert 0 < chart.bars[0].x < 100


def test_the_summary_names_the_output():
    assert histogram_chart(output("map")).summary.startswith("5,000 values of map; the largest error is ")


@pytest.mark.parametrize("most", [1, 2, 3, 7, 10, 930, 123456])
def test_counts_are_round_and_few(most):
    ticks = chart_of((1e-6, 1e-5), (most,)).y_ticks
    assert 2 <= len(ticks) <= 6
    assert ticks[0].label == "0"
