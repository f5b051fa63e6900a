import onnx
import pytest

from vimdeploy.artifact import open_artifact
from vimdeploy.errors import InputError
from vimdeploy.scan_times import GPUS, _size, expected_scans, gpu_named

LARGER = {"batch": 64}


def test_a_gpu_may_be_written_small():
    assert gpu_named("rtx 4090") is gpu_named("RTX 4090") is GPUS["RTX 4090"]


@pytest.mark.parametrize("name", GPUS)
def test_every_gpu_gets_a_plan_and_a_time(tiny_onnx, name):
    artifact = open_artifact(tiny_onnx)
    alone, many = (expected_scans(artifact, GPUS[name], shape) for shape in ({}, LARGER))
    assert [scan.node for scan in alone] == [node.name for node in artifact.model.graph.node if "Scan" in node.op_type]
    assert all(0 < scan.us < more.us for scan, more in zip(alone, many, strict=True))
    assert all("tokens" in scan.plan and scan.operator == "BidirectionalSelectiveScan" for scan in alone)


@pytest.mark.parametrize(("axis", "size"), [(197, 197), ("batch", 2), ("((height//16))*((width//16)) + 1", 6085)])
def test_an_axis_may_be_an_expression(axis, size):
    assert _size(axis, {"batch": 2, "height": 1248, "width": 1248}) == size


@pytest.mark.parametrize(
    "axis", ["__import__('os')", "batch.real", "batch**batch", "batch//0", "1 +", "(" * 1000, "'a'*9"]
)
def test_an_axis_that_is_no_size_is_refused(axis):
    with pytest.raises(InputError, match="whose size cannot be told"):
        _size(axis, {"batch": 2})


def test_a_free_axis_must_be_named():
    with pytest.raises(InputError, match=r"leaves height free; say the sizes by --shape height=SIZE\."):
        _size("height//16 + batch", {"batch": 2})


def test_a_file_without_shapes(tiny_onnx, tmp_path):
    model = onnx.load(tiny_onnx)
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(InputError, match="does not tell the shapes of"):
        expected_scans(open_artifact(tmp_path / "bare.onnx"), GPUS["L4"], {})
