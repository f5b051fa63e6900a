import re
from pathlib import Path

import pytest
import torch

from vimdeploy.ops.contract import CONV1D, DOMAIN, FLOAT_TYPES, OPERATORS, SELECTIVE_SCAN, VERSION

BOTH = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)


def test_domain_and_version():
    assert (DOMAIN, VERSION) == ("vimdeploy", 1)


def test_the_operators_are_two():
    assert [operator.name for operator in OPERATORS] == ["BidirectionalConv1d", "BidirectionalSelectiveScan"]


def test_inputs_of_the_convolution():
    assert [value.name for value in CONV1D.inputs] == ["xz", "weight", "bias"]


def test_inputs_of_the_scan():
    wanted = ["u", "xz", "dt_bc", "dt_weight", "dt_bias", "A", "D"]
    assert [value.name for value in SELECTIVE_SCAN.inputs] == wanted


def test_what_is_float32_whatever_the_type():
    assert [value.name for value in SELECTIVE_SCAN.inputs if value.type == "float32"] == ["dt_bias", "A", "D"]


@BOTH
def test_every_value_has_the_type_t_or_float32(operator):
    assert {value.type for value in (*operator.inputs, operator.output)} <= {"T", "float32"}


@BOTH
def test_every_dimension_is_explained(operator):
    import vimdeploy.ops.contract as contract

    letters = set("".join("".join(value.dims) for value in (*operator.inputs, operator.output))) - set("2+")
    assert all(re.search(rf"^.*\b{letter}  \w", contract.__doc__, re.MULTILINE) for letter in letters)


@BOTH
def test_the_attributes_by_which_tensorrt_finds_the_plugin(operator):
    defaults = {attribute.name: attribute.default for attribute in operator.attributes}
    assert (defaults["plugin_namespace"], defaults["plugin_version"]) == ("vimdeploy", "1")


@pytest.mark.parametrize(("operator", "names"), [(CONV1D, ["reverse"]), (SELECTIVE_SCAN, ["reverse", "scale"])])
def test_the_attributes_that_a_node_must_have(operator, names):
    assert [attribute.name for attribute in operator.attributes if attribute.default is None] == names


def test_the_types_are_torchs():
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in FLOAT_TYPES)


class TestProblemHeader:
    """plugins/scan/problem.h states the same to C++."""

    @pytest.fixture
    def header(self):
        return (Path(__file__).parents[2] / "plugins" / "scan" / "problem.h").read_text()

    def test_version(self, header):
        assert f"kOperatorsVersion = {VERSION};" in header

    @BOTH
    def test_names(self, header, operator):
        assert f'= "{operator.name}";' in header

    @pytest.mark.parametrize(
        ("operator", "struct"), [(CONV1D, "Conv1dTensors"), (SELECTIVE_SCAN, "SelectiveScanTensors")]
    )
    def test_tensors(self, header, operator, struct):
        body = re.search(rf"struct {struct} {{(.*?)}};", header, re.DOTALL)[1]
        stated = re.findall(r"(\w+);\s+// \((.*?)\) (\w+)", body)
        values = (*operator.inputs, operator.output)
        assert stated == [(value.name, ", ".join(value.dims), value.type) for value in values]
