import math

import pytest

from vimdeploy.report.scale import LogScale, thinned


def test_whole_decades_around_the_values():
    assert LogScale.around([3e-7, 2e-2]) == LogScale(-7, -1)


def test_what_has_no_logarithm_is_left_out():
    assert LogScale.around([0.0, math.inf, math.nan, 2e-3]) == LogScale(-3, -2)
    assert LogScale.around([0.0]).part(0.0) == 0


def test_no_more_decades_than_can_be_read():
    assert LogScale.around([1e-30, 1.0]).low > -20


@pytest.mark.parametrize(
    ("value", "part"), [(1e-4, 0), (1e-3, 0.5), (1e-2, 1), (0.0, 0), (1e-9, 0), (5.0, 1), (math.inf, 1), (math.nan, 1)]
)
def test_part(value, part):
    assert LogScale(-4, -2).part(value) == pytest.approx(part)


def test_ticks_are_few_and_evenly_spaced():
    assert LogScale(-8, 0).ticks(6) == [0, -2, -4, -6, -8]
    assert LogScale(-1, 0).ticks(6) == [0, -1]


@pytest.mark.parametrize("count", [1, 8, 9, 24, 144, 999])
def test_thinned_labels_fit(count):
    assert len(range(count)[:: thinned(count, 8)]) <= 8
