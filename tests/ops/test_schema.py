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

SIZES = {"B": "B", "L": "L", "K": 2, "G": 2, "E": 6, "N": 4, "R": 3, "W": 4, "X": 7, "2E": 12, "R+2N": 11}


@pytest.fixture(autouse=True, scope="module")
def registered():
    register_schemas()
    register_schemas()


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.name)
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


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.name)
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
            r"xz must be \(B, L, 2E\); 2E is 13 here \(axis 2\) and 12 by the other inputs",
        ),
        (BIDIRECTIONAL_SCAN, {"R+2N": 12}, r"dt_bc must be \(K, B, L, R\+2N\); R\+2N is 12 here \(axis 3\) and 11"),
        (CAUSAL_CONV1D, {"X": 5}, r"x must be \(B, L, X\); X is 5, less than E, which is 6 by the other inputs"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(op, wrong, message):
    with pytest.raises(onnx.shape_inference.InferenceError, match=message):
        onnx.checker.check_model(model_of(op, sizes=SIZES | wrong), full_check=True)


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
