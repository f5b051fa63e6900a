import re

from loading import script

from vimdeploy.artifact import read_onnx


def test_writes_the_file_and_proves_it(tiny_json, tiny_pth, tmp_path, capsys):
    script("export/classification.py").main(str(tiny_json), str(tiny_pth), str(tmp_path / "tiny.onnx"))
    assert read_onnx(tmp_path / "tiny.onnx")[1].variant == "tiny"
    errors = re.findall(r"largest logit error (\S+) of", capsys.readouterr().out)
    assert len(errors) == 2
    assert max(map(float, errors)) <= 1e-3
