import re

import pytest
from helpers.loading import script

from vimdeploy.artifact import read_onnx
from vimdeploy.tolerance import tolerance_for


@pytest.mark.parametrize(("arguments", "precision"), [((), "fp32"), (("fp16",), "fp16"), (("bf16",), "bf16")])
def test_writes_the_file_and_proves_it(tiny_json, tiny_pth, tmp_path, capsys, arguments, precision):
    script("export/classification.py").main(str(tiny_json), str(tiny_pth), str(tmp_path / "tiny.onnx"), *arguments)
    info = read_onnx(tmp_path / "tiny.onnx")[1]
    assert (info.variant, info.precision) == ("tiny", precision)
    errors = re.findall(r"largest logit error (\S+) of", capsys.readouterr().out)
    assert len(errors) == 2
    assert max(map(float, errors)) <= tolerance_for(precision).limit
