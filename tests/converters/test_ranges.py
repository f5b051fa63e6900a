import math

import numpy as np
import pytest

from vimdeploy.converters.ranges import MARGIN, RangeTally


def range_of(*batches, type_name="float16", margin=1.0):
    tally = RangeTally(type_name, margin)
    for batch in batches:
        tally.add(np.asarray(batch, np.float32))
    return tally.result()


def normal(scale, count=10_000):
    return scale * np.random.default_rng(0).standard_normal(count).astype(np.float32)


class TestNumbers:
    def test_the_largest_is_a_magnitude_over_all_batches(self):
        assert range_of([1, 2], [-7, 3], [5]).largest == 7

    def test_numbers_of_the_type_lose_nothing(self):
        assert range_of([0.5, -3, 65504, 2.0**-14]).loss == 0

    @pytest.mark.parametrize(("type_name", "unit"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
    def test_the_loss_is_that_of_rounding(self, type_name, unit):
        values = normal(1)
        halves = range_of(values[:4000], values[4000:], type_name=type_name)
        assert halves.loss == pytest.approx(unit / math.sqrt(3) * 0.72, rel=0.1)  # less above each power of two
        assert halves.loss == pytest.approx(range_of(values, type_name=type_name).loss)

    def test_parts(self):
        found = range_of([0, 1, 1e6, -1e6, 1e-5, 1e-9, -1e-9, 3e-8])
        assert (found.infinite, found.subnormal, found.vanishing) == (2 / 8, 4 / 8, 2 / 8)

    def test_of_zeros(self):
        found = range_of(np.zeros((3, 4)))
        assert (found.largest, found.loss, found.subnormal, found.fault) == (0, 0, 0, None)


class TestFault:
    @pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
    @pytest.mark.parametrize("type_name", ["float16", "bfloat16"])
    def test_values_of_usual_size_have_none(self, scale, type_name):
        assert range_of(normal(scale), type_name=type_name, margin=MARGIN).fault is None

    def test_beyond_the_end(self):
        assert range_of([1, -1.4e6], margin=MARGIN).fault == "reaches 1.4e+06; float16 ends at 65504"

    def test_too_near_to_the_end(self):
        assert range_of([3e4], margin=4).fault == "reaches 3e+04; float16 ends at 65504, and a margin of 4 is wanted"

    @pytest.mark.parametrize(("largest", "margin", "good"), [(65504, 1, True), (16376, 4, True), (16380, 4, False)])
    def test_the_margin(self, largest, margin, good):
        assert (range_of([largest], margin=margin).fault is None) is good

    def test_bfloat16_reaches_as_far_as_float32(self):
        assert range_of(normal(1e30), type_name="bfloat16", margin=MARGIN).fault is None
        assert "bfloat16 ends at 3.38953e+38" in range_of([3e38], type_name="bfloat16", margin=MARGIN).fault

    def test_values_that_float16_has_few_digits_for(self):
        fault = range_of(normal(1e-6)).fault
        assert fault.startswith("loses 1.7e-02 of itself, more than 4.9e-04: 100% of its values lie below 6.1e-05")
        assert range_of(normal(1e-6), type_name="bfloat16").fault is None

    def test_few_small_values_among_others_do_no_harm(self):
        assert range_of(np.concatenate([normal(1), normal(1e-6)])).fault is None

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_what_float32_itself_cannot_hold(self, value):
        found = range_of([1], [value], [2], margin=MARGIN)
        assert found.fault == f"reaches {value}; float16 ends at 65504"


class TestNoValues:
    """Tensors of a model that finds nothing."""

    def test_of_some_batches(self):
        assert range_of(np.zeros((0, 3)), [1, -2], []).largest == 2

    def test_of_all(self):
        found = range_of(np.zeros((0, 3)))
        assert (found.largest, found.loss, found.infinite, found.fault) == (0, 0, 0, None)
