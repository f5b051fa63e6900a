"""The scripts to copy do what they say."""

import re

import pytest
from helpers.loading import script

import vimdeploy
from vimdeploy.tolerance import tolerance_for


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "precision"), [((), "fp32"), (("fp16",), "fp16"), (("bf16",), "bf16")])
def test_classification(tiny_json, tiny_pth, tmp_path, capsys, monkeypatch, arguments, precision):
    path = tmp_path / "tiny.onnx"
    script("export/classification.py").main(str(tiny_json), str(tiny_pth), str(path), *arguments)
    info = vimdeploy.load(path).info
    assert (info.name, info.precision) == ("tiny", precision)
    printed = capsys.readouterr().out
    errors = re.findall(r"largest error (\S+) standard", printed)
    assert len(errors) == 2
    assert max(map(float, errors)) <= tolerance_for(precision).limit
    assert "ant" in printed


@pytest.mark.slow
def test_features(tiny_json, tiny_pth, tmp_path, capsys):
    path = tmp_path / "features.onnx"
    script("export/features.py").main(str(tiny_json), str(tiny_pth), str(path), "0,1")
    assert [spec.name for spec in vimdeploy.load(path).info.outputs] == ["map", "pooled", "block_0", "block_1"]
    printed = capsys.readouterr().out
    assert "2 tensors of heads were passed over" in printed
    assert "16x28x28" in printed
    assert "16x40x64" in printed


def test_own_model(tmp_path, capsys):
    path = tmp_path / "own.onnx"
    script("export/own_model.py").main(str(path))
    session = vimdeploy.load(path)
    assert (session.operators, session.info.task) == ("library", "")
    assert "own.onnx" in capsys.readouterr().out
