import math

import pytest
from helpers.made import deviation, stages

from vimdeploy.parity.results import Stage
from vimdeploy.report.depth import depth_chart
from vimdeploy.report.scale import BOTTOM, TOP


def stage(error, limit=1e-5, own=None, nan=0):
    return Stage("head", "head", None, "head", deviation(error, limit), own, nan, 0)


def test_no_stages_no_plot():
    assert depth_chart((), None) is None


def test_every_stage_is_a_point_at_its_place():
    made = stages(2)
    own, carried = depth_chart(made, None).panels
    assert own.title == "Own: the stage alone, given the reference's inputs"
    assert carried.title == "Carried: including errors from earlier stages"
    assert len(carried.points) == len(made)
    assert len(own.points) == sum(stage.own is not None for stage in made)
    assert [point.x for point in carried.points] == sorted({point.x for point in carried.points})
    assert carried.points[0].note.startswith("Block 0, in_proj: ")


def test_a_larger_error_lies_higher_and_the_band_between():
    small, large = stage(1e-7), stage(1e-2)
    (panel,) = depth_chart((small, large), 1).panels
    assert panel.points[1].y < panel.bands[0].y < panel.points[0].y
    assert [point.passed for point in panel.points] == [True, False]


def test_stages_of_one_band_share_its_shape():
    (panel,) = depth_chart((stage(1e-6), stage(1e-6), stage(1e-6, limit=1e-4)), None).panels
    assert [(round(band.x, 6), round(band.width, 6)) for band in panel.bands] == [
        (0, 66.666667),
        (66.666667, 33.333333),
    ]


def test_the_failing_stage_is_named_if_it_is_out_of_its_band():
    made = stages(24, fault_at=(13, "scan"))
    failing = next(n for n, stage in enumerate(made) if not stage.passed)
    chart = depth_chart(made, failing)
    assert chart.failing == "Block 13, scan"
    assert chart.label_at_left is (chart.failing_x > 55)
    assert [panel.marked.x for panel in chart.panels] == [chart.failing_x] * 2


def test_a_stage_that_fails_by_nan_alone_is_not_marked_as_out_of_its_band():
    (panel,) = depth_chart((stage(1e-7, nan=3),), 0).panels
    assert panel.marked is None


@pytest.mark.parametrize(("error", "y"), [(0.0, BOTTOM), (math.inf, TOP), (math.nan, TOP)])
def test_what_has_no_logarithm_lies_on_an_end(error, y):
    (panel,) = depth_chart((stage(error), stage(1e-4)), None).panels
    assert panel.points[0].y == y


def test_no_error_at_all_differs_from_a_small_one():
    assert depth_chart((stage(0.0), stage(1e-7)), None).has_exact
    assert not depth_chart((stage(1e-7),), None).has_exact


@pytest.mark.parametrize("blocks", [1, 2, 24, 100])
def test_block_numbers_are_few(blocks):
    ticks = depth_chart(stages(blocks), None).x_ticks
    assert 1 <= len(ticks) <= 8
    assert ticks[0].label == "0"
