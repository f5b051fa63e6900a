import pytest

from vimdeploy.artifact import PRECISIONS
from vimdeploy.tolerance import tolerance_for


@pytest.mark.parametrize(("operators", "bound"), [("library", 1e-4), ("function body", 1e-3), ("eager", 1e-3)])
def test_the_bound_in_float32(operators, bound):
    assert tolerance_for(operators, "fp32").limit == bound


@pytest.mark.parametrize(("precision", "unit"), [("fp16", 2**-11), ("bf16", 2**-8)])
@pytest.mark.parametrize("operators", ["library", "function body"])
def test_the_bound_in_other_precisions_is_some_roundings(operators, precision, unit):
    assert 11 * unit < tolerance_for(operators, precision).limit < 20 * unit


@pytest.mark.parametrize("operators", ["library", "function body"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_bound_has_its_reason(operators, precision):
    reason = tolerance_for(operators, precision).reason
    assert "roundings" in reason or "order" in reason
