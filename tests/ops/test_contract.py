import re
from pathlib import Path

import pytest
import torch

from vimdeploy.ops.contract import (
    BIDIRECTIONAL_CONV1D,
    BIDIRECTIONAL_SCAN,
    CAUSAL_CONV1D,
    DOMAIN,
    FLOAT_TYPES,
    LOW_RANK_SCAN,
    OPERATORS,
    SELECTIVE_SCAN,
    VERSION,
)

PLUGINS = Path(__file__).parents[2] / "plugins"
EACH = pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)


def test_domain_and_version():
    assert (DOMAIN, VERSION) == ("vimdeploy", 1)


INPUTS = {
    "BidirectionalConv1d": "xz weight bias",
    "BidirectionalSelectiveScan": "u xz dt_bc dt_weight dt_bias A D",
    "CausalConv1d": "x weight bias",
    "SelectiveScan": "u delta A B C D delta_bias",
    "LowRankSelectiveScan": "u delta A B C D delta_bias delta_weight",
}


def test_the_operators_and_their_inputs():
    assert {operator.name: " ".join(value.name for value in operator.inputs) for operator in OPERATORS} == INPUTS


@EACH
def test_what_is_float32_whatever_the_type(operator):
    float32 = {value.name for value in operator.inputs if value.type == "float32"}
    assert float32 == {"dt_bias", "delta_bias", "A", "D"} & {value.name for value in operator.inputs}


@EACH
def test_every_value_has_the_type_t_or_float32(operator):
    assert {value.type for value in (*operator.inputs, operator.output)} <= {"T", "float32"}


@EACH
def test_every_dimension_is_explained(operator):
    import vimdeploy.ops.contract as contract

    letters = set("".join("".join(value.dims) for value in (*operator.inputs, operator.output))) - set("2+")
    assert all(re.search(rf"^.*\b{letter}  \w", contract.__doc__, re.MULTILINE) for letter in letters)


@EACH
def test_the_attributes_by_which_tensorrt_finds_the_plugin(operator):
    defaults = {attribute.name: attribute.default for attribute in operator.attributes}
    assert (defaults["plugin_namespace"], defaults["plugin_version"]) == ("vimdeploy", "1")


@pytest.mark.parametrize(
    ("operator", "names"),
    [
        (BIDIRECTIONAL_CONV1D, ["reverse"]),
        (BIDIRECTIONAL_SCAN, ["reverse", "scale"]),
        (CAUSAL_CONV1D, ["reverse", "silu"]),
        (SELECTIVE_SCAN, ["reverse", "delta_softplus"]),
        (LOW_RANK_SCAN, ["reverse", "delta_softplus"]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_attributes_that_a_node_must_have(operator, names):
    assert [attribute.name for attribute in operator.attributes if attribute.default is None] == names


def test_the_types_are_torchs():
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in FLOAT_TYPES)


class TestHeaders:
    """plugins/scan/problem.h and operators.h state the same to C++."""

    @pytest.fixture
    def headers(self):
        return "".join((PLUGINS / "scan" / name).read_text() for name in ("problem.h", "operators.h"))

    def test_version(self, headers):
        assert f"kOperatorsVersion = {VERSION};" in headers

    @EACH
    def test_names_inputs_and_output(self, headers, operator):
        [constant] = re.findall(rf'(\w+) = "{operator.name}";', headers)
        [struct] = re.findall(rf"\nstruct \w+ {{\n[^}}]*kName = {constant};.*?\n}};", headers, re.DOTALL)
        stated = re.findall(r'\{"(\w+)", "\((.*?)\)", "(\w+)"\}', struct)
        values = (*operator.inputs, operator.output)
        assert stated == [(value.name, ", ".join(value.dims), value.type) for value in values]
