"""The scripts to copy do what they say."""

import json
import re

import pytest
import torch
from helpers.dense import toolbox_names
from helpers.detectors import detector_checkpoint
from helpers.loading import script
from PIL import Image

import vimdeploy
from vimdeploy.models import variant_by_name
from vimdeploy.networks import network_of_variant
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


@pytest.mark.slow
def test_pyramid(tmp_path, capsys):
    described, checkpoint, path = (tmp_path / name for name in ("mine.json", "mine.pth", "pyramid.onnx"))
    described.write_text(json.dumps({"config": {"image_size": 64, "dim": 16, "depth": 4, "state_size": 4}}))
    network = network_of_variant(variant_by_name(str(described)), 0, "pyramid").module
    beside = {"decode_head.conv_seg.bias": torch.zeros(4)}
    torch.save({"state_dict": toolbox_names(network) | beside}, checkpoint)
    script("export/pyramid.py").main(str(described), str(checkpoint), str(path))
    printed = capsys.readouterr().out
    assert "1 tensors of heads were passed over" in printed
    assert [spec.name for spec in vimdeploy.load(path).info.outputs] == ["p2", "p3", "p4", "p5"]
    assert "16x12x16" in printed  # 320x512, as large as the weights were trained with: 40x64, padded to 48x64


@pytest.mark.slow
def test_segment(tmp_path, capsys):
    described, checkpoint, path = (tmp_path / name for name in ("mine.json", "mine.pth", "segment.onnx"))
    described.write_text(json.dumps({"config": {"image_size": 64, "dim": 16, "depth": 4, "state_size": 4}}))
    module = network_of_variant(variant_by_name(str(described)), 0, "segment").module
    names = [f"class of {number}" for number in range(150)]
    torch.save({"meta": {"CLASSES": names}, "state_dict": toolbox_names(module)}, checkpoint)
    script("export/segment.py").main(str(described), str(checkpoint), str(path))
    printed = capsys.readouterr().out
    assert "class of" in printed
    assert "a mask of (256, 384)" in printed
    with Image.open(f"{path}.png") as drawn:
        assert drawn.width > 384
        assert drawn.height == 256


@pytest.mark.slow
def test_detect(tmp_path, capsys):
    described, checkpoint, path = (tmp_path / name for name in ("mine.json", "mine.pth", "detect.onnx"))
    described.write_text(json.dumps({"config": {"image_size": 64, "dim": 16, "depth": 4, "state_size": 4}}))
    torch.save({"model": detector_checkpoint().tensors}, checkpoint)
    script("export/detect.py").main(str(described), str(checkpoint), str(path))
    printed = capsys.readouterr().out
    assert "0 tensors were passed over" in printed
    assert "in the picture's pixels" in printed
    with Image.open(f"{path}.png") as drawn:
        assert drawn.size == (384, 256)


def test_own_model(tmp_path, capsys):
    path = tmp_path / "own.onnx"
    script("export/own_model.py").main(str(path))
    session = vimdeploy.load(path)
    assert (session.operators, session.info.task) == ("library", "")
    assert "own.onnx" in capsys.readouterr().out


def test_any_mamba(tmp_path, capsys):
    path = tmp_path / "theirs.onnx"
    script("export/any_mamba.py").main(str(path))
    assert vimdeploy.load(path).operators == "library"
    errors = re.findall(r"'(\S+e-\d+)'", capsys.readouterr().out)
    assert len(errors) == 2
    assert max(map(float, errors)) <= tolerance_for("fp32").limit
