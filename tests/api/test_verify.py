import pytest

from vimdeploy.api.verify import verify
from vimdeploy.errors import ConfigError, OutputError, VimdeployWarning


def test_results(tiny_artifact):
    results = verify(tiny_artifact, count=2)
    assert results
    assert all(result.passed and result.fault is None for result in results)


def test_another_checkpoint_is_warned_of(tiny, tiny_pth, tmp_path):
    from vimdeploy.api.export import export

    path = tmp_path / "other.pth"
    path.write_bytes(tiny_pth.read_bytes() + b" ")
    made = export(tiny, tmp_path / "tiny.onnx", checkpoint=tiny_pth)
    with pytest.warns(VimdeployWarning, match="is not the file that"):
        verify(made.artifact, checkpoint=path, count=1)


def test_the_model_as_report(tiny_onnx):
    with pytest.raises(OutputError, match="would be written over"):
        verify(tiny_onnx, report=tiny_onnx)


def test_two_things_to_compare_with(tiny_onnx, tiny_pth):
    with pytest.raises(ConfigError, match="not both"):
        verify(tiny_onnx, checkpoint=tiny_pth, against=tiny_onnx)
