"""The schemas: what onnx makes of our nodes. Each test is run in a process of its own where registration matters."""

import subprocess
import sys

import onnx
import onnx.checker
import onnx.defs
import onnx.shape_inference
import pytest
from helpers.one_node import model_of
from onnx import TensorProto

from vimdeploy.ops.contract import (
    BIDIRECTIONAL_CONV1D,
    BIDIRECTIONAL_SCAN,
    CAUSAL_CONV1D,
    DOMAIN,
    LOW_RANK_SCAN,
    OPERATORS,
    SELECTIVE_SCAN,
    VERSION,
)
from vimdeploy.ops.schema import register_schemas

EACH = pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.name)
SIZES = {"B": "B", "L": "L", "K": 2, "G": 2, "E": 6, "N": 4, "R": 3, "W": 4, "X": 7, "2E": 12, "R+2N": 11}


@pytest.fixture(autouse=True, scope="module")
def registered():
    register_schemas()
    register_schemas()


@EACH
def test_schema_says_what_the_contract_says(op):
    schema = onnx.defs.get_schema(op.name, domain=DOMAIN)
    assert schema.since_version == VERSION
    assert [value.name for value in schema.inputs] == [value.name for value in op.inputs]
    assert [value.type_str for value in schema.inputs] == [
        "T" if value.type == "T" else "tensor(float)" for value in op.inputs
    ]
    assert [value.name for value in schema.outputs] == [op.output.name]
    assert set(schema.attributes) == {attribute.name for attribute in op.attributes}
    for attribute in op.attributes:
        assert schema.attributes[attribute.name].required == (attribute.default is None)
        assert schema.attributes[attribute.name].type.name == attribute.type.upper()
    [t] = schema.type_constraints
    assert list(t.allowed_type_strs) == ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]


@pytest.mark.parametrize("type_", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16])
@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (BIDIRECTIONAL_CONV1D, [2, "B", "L", 6]),
        (BIDIRECTIONAL_SCAN, ["B", "L", 6]),
        (CAUSAL_CONV1D, [2, "B", "L", 6]),
        (SELECTIVE_SCAN, ["B", 2, "L", 6]),
        (LOW_RANK_SCAN, ["B", 2, "L", 6]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
@pytest.mark.parametrize("with_body", [True, False])
def test_output_type_and_shape_are_inferred(op, shape, type_, with_body):
    model = model_of(op, type_, sizes=SIZES, with_body=with_body)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("elem_type")
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output[0].type.tensor_type
    assert inferred.elem_type == type_
    assert [d.dim_param or d.dim_value for d in inferred.shape.dim] == shape


@EACH
def test_unknown_sizes_stay_unknown(op):
    model = model_of(op, sizes=dict.fromkeys(SIZES))
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output[0].type.tensor_type
    assert len(inferred.shape.dim) == len(op.output.dims)


@pytest.mark.parametrize(
    ("op", "wrong", "message"),
    [
        (
            BIDIRECTIONAL_CONV1D,
            {"2E": 13},
            r"xz must be \(B, L, 2E\); 2E is 13 here \(axis 2\) and 12 by the rest of the node",
        ),
        (BIDIRECTIONAL_SCAN, {"R+2N": 12}, r"dt_bc must be \(K, B, L, R\+2N\); R\+2N is 12 here \(axis 3\) and 11"),
        (CAUSAL_CONV1D, {"X": 5}, r"x must be \(B, L, X\); X is 5, less than E, which is 6 by the rest of the node"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(op, wrong, message):
    with pytest.raises(onnx.shape_inference.InferenceError, match=message):
        onnx.checker.check_model(model_of(op, sizes=SIZES | wrong), full_check=True)


@pytest.mark.parametrize(
    ("op", "index", "axis", "message"),
    [
        (SELECTIVE_SCAN, 1, 3, r"delta must be \(B, G, L, E\); E is 9 here \(axis 3\) and 6 by the rest of the node"),
        (SELECTIVE_SCAN, 4, 1, r"C must be \(B, G, L, N\); G is 9 here \(axis 1\) and 2"),
        (LOW_RANK_SCAN, 7, 2, r"delta_weight must be \(G, E, R\); R is 9 here \(axis 2\) and 3"),
        (CAUSAL_CONV1D, 2, 1, r"bias must be \(K, E\); E is 9 here \(axis 1\) and 6"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_an_input_that_contradicts_the_others_is_refused(op, index, axis, message):
    model = model_of(op, sizes=SIZES)
    model.graph.input[index].type.tensor_type.shape.dim[axis].dim_value = 9
    with pytest.raises(onnx.shape_inference.InferenceError, match=message):
        onnx.checker.check_model(model, full_check=True)


@EACH
def test_a_flag_is_wanted_for_each_direction_or_group(op):
    letter = op.flagged
    with pytest.raises(
        onnx.shape_inference.InferenceError, match=rf"{letter} is 2 here .* and 3 by the rest of the node"
    ):
        onnx.checker.check_model(model_of(op, sizes=SIZES, reverse=[0, 1, 0]), full_check=True)
    free = model_of(op, sizes=SIZES | {letter: None}, reverse=[0, 1, 0])
    onnx.checker.check_model(free, full_check=True)


def test_number_of_dimensions_is_checked():
    model = model_of(BIDIRECTIONAL_CONV1D, sizes=SIZES)
    del model.graph.input[0].type.tensor_type.shape.dim[0]
    with pytest.raises(onnx.shape_inference.InferenceError, match=r"xz must be \(B, L, 2E\), it has 2 dimensions"):
        onnx.checker.check_model(model, full_check=True)


def test_other_types_and_missing_attributes_are_refused():
    with pytest.raises(onnx.shape_inference.InferenceError, match="type"):
        onnx.checker.check_model(model_of(BIDIRECTIONAL_CONV1D, TensorProto.INT32, sizes=SIZES), full_check=True)
    model = model_of(BIDIRECTIONAL_CONV1D, sizes=SIZES)
    del model.graph.node[0].attribute[:]
    with pytest.raises(onnx.checker.ValidationError, match="reverse"):
        onnx.checker.check_model(model)


@pytest.mark.parametrize("register", ["", "from vimdeploy.ops.schema import register_schemas; register_schemas()"])
def test_models_pass_the_checker_with_and_without_the_schemas(tmp_path, register):
    paths = []
    for op in OPERATORS:
        for type_ in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16):
            paths.append(tmp_path / f"{op.name}-{type_}.onnx")
            onnx.save(model_of(op, type_, sizes=SIZES), paths[-1])
    check = f"{register}\nimport sys, onnx.checker\nfor p in sys.argv[1:]: onnx.checker.check_model(p, full_check=True)"
    subprocess.run([sys.executable, "-c", check, *map(str, paths)], check=True)
