import pytest

from vimdeploy.tolerance import tolerance_for


@pytest.mark.parametrize(("operators", "bound"), [("library", 1e-4), ("function body", 1e-3), ("eager", 1e-3)])
def test_the_bound(operators, bound):
    assert tolerance_for(operators).logits == bound


@pytest.mark.parametrize("operators", ["library", "function body"])
def test_a_bound_has_its_reason(operators):
    assert "roundings" in tolerance_for(operators).reason or "order" in tolerance_for(operators).reason
