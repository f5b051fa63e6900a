import math

import pytest

from vimdeploy.report.text import exact, percent, quantity, scientific

PLAIN = str.maketrans({"\N{MINUS SIGN}": "-", "\N{MULTIPLICATION SIGN}": "x", "\N{NARROW NO-BREAK SPACE}": " "})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.14e-5, "3.1 x 10⁻⁵"),
        (1.0, "1.0 x 10⁰"),
        (9.99e11, "1.0 x 10¹²"),
        (-2e-3, "-2.0 x 10⁻³"),
        (0.0, "0"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (math.nan, "NaN"),
    ],
)
def test_scientific(value, text):
    assert scientific(value).translate(PLAIN) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.23456, "1.235"), (-0.5, "-0.5"), (1234.5, "1,234"), (0.0, "0"), (math.nan, "NaN"), (math.inf, "∞")],
)
def test_quantity(value, text):
    assert quantity(value).translate(PLAIN) == text


def test_quantities_far_from_one_have_a_power_of_ten():
    assert quantity(1.2e-7) == scientific(1.2e-7)
    assert quantity(5e8) == scientific(5e8)


def test_exact_distinguishes_neighbours_of_float32():
    assert exact(1.5) != exact(1.500001)
    assert [exact(value).translate(PLAIN) for value in (0.0, -1.5, math.nan)] == ["0", "-1.5", "NaN"]


def test_percent():
    assert percent(449 / 450).translate(PLAIN) == "99.78 %"
    assert percent(math.nan) == "NaN"
