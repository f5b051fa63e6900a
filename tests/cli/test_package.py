import json

import pytest


@pytest.fixture(autouse=True)
def _library(monkeypatch, tmp_path):
    """A stand-in for the operator library."""
    path = tmp_path / "libvimdeploy_onnxruntime.so"
    path.write_bytes(b"operators")
    monkeypatch.setattr("vimdeploy.libraries.library_path", lambda runtime="onnxruntime": path)
    monkeypatch.setattr("vimdeploy.serving.triton.library_info", lambda: {"cuda_architectures": ["86"]})


def test_says_what_it_wrote_and_what_comes_next(invoke, tiny_onnx, tmp_path):
    result = invoke("package", tiny_onnx, "-o", tmp_path / "repository", "--for", "triton", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == (
        f"{tmp_path}/repository/tiny: version 1, on the CPU, operators computed by the library, up to 8 requests "
        "together\n"
    )
    assert result.stderr == f"Serve it with: tritonserver --model-repository={tmp_path}/repository\n"


def test_a_further_version(invoke, tiny_onnx, tmp_path):
    for _ in range(2):
        result = invoke("package", tiny_onnx, "-o", tmp_path / "repository", "--max-batch", 4)
    assert result.stdout == f"{tmp_path}/repository/tiny: version 2\n"


def test_json(invoke, tiny_onnx, tmp_path):
    options = ("--name", "mine", "--model-version", 3, "--served-from", "/models", "--instances", 2, "--threads", 1)
    result = invoke("package", tiny_onnx, "-o", tmp_path / "repository", *options, "--json")
    document = json.loads(result.stdout)
    assert document["command"] == ["tritonserver", "--model-repository=/models"]
    assert (document["version"], document["device"], document["operators"]) == (3, "auto", "library")
    assert document["folder"] == str(tmp_path / "repository" / "mine")
    assert str(tmp_path / "repository" / "mine" / "3" / "model.onnx") in document["files"]
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--name", "a/b"), "found 'a/b'; give it another name"),
        (("--model-version", "0"), "not in the range"),
        (("--max-batch", "0"), "not in the range"),
        (("--instances", "1025"), "not in the range"),
        (("--for", "other"), "'other' is not 'triton'"),
        (("--device", "tpu"), "'tpu' is not one of"),
    ],
)
def test_wrong_options(invoke, tiny_onnx, tmp_path, options, reason):
    result = invoke("package", tiny_onnx, "-o", tmp_path / "repository", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr
    assert not (tmp_path / "repository").exists()


def test_no_model(invoke, tmp_path):
    result = invoke("package", tmp_path / "none.onnx", "-o", tmp_path / "repository")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "No such file" in result.stderr
