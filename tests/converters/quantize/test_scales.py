import numpy as np
import pytest

from vimdeploy.converters.quantize.scales import best_scales


def problem(outlier=1.0, seed=0):
    """Rows whose channel 3 is larger than the others by a factor, and a weight."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((256, 24)).astype(np.float32)
    rows[:, 3] *= outlier
    return rows, np.abs(rows).max(axis=0), generator.standard_normal((24, 8)).astype(np.float32)


def relative_error(scales, rows, weight):
    exact = rows @ weight
    return np.linalg.norm(scales.product(rows, weight) - exact) / np.linalg.norm(exact)


def test_the_error_is_what_the_steps_make_it():
    """A step of 1/127 of four standard deviations, uniform error: 0.9 %; the weight's, of less than three: 0.6 %."""
    rows, largest, weight = problem()
    scales = best_scales(rows, largest, weight)
    assert relative_error(scales, rows, weight) < 0.015
    assert scales.sqnr_db == pytest.approx(-20 * np.log10(relative_error(scales, rows, weight)), abs=0.01)


def test_a_large_channel_is_smoothed():
    rows, largest, weight = problem(outlier=100)
    scales = best_scales(rows, largest, weight)
    others = np.delete(scales.smoothing, 3)
    assert scales.smoothing[3] > 2 * others.max()


def test_channels_alike_are_left_as_they_are():
    assert best_scales(*problem()).smoothing is None


def test_the_largest_value_is_not_cut_off():
    rows, largest, weight = problem()
    assert best_scales(rows, largest, weight).input_step == pytest.approx(np.abs(rows).max() / 127)


def test_a_channel_that_is_always_zero_and_a_row_of_zeros():
    rows, largest, weight = problem(outlier=100)
    rows[:, 5], largest[5], weight[7] = 0, 0, 0
    scales = best_scales(rows, largest, weight)
    assert scales.smoothing is not None
    assert np.isfinite(scales.smoothing).all()
    assert scales.smoothing[5] == scales.smoothing[7] == 1


def test_an_input_of_zeros():
    scales = best_scales(np.zeros((4, 3), np.float32), np.zeros(3, np.float32), np.ones((3, 2), np.float32))
    assert np.isfinite(scales.input_step)
    assert scales.input_step > 0
