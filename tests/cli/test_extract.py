"""``vimdeploy extract``."""

import csv
import json

from safetensors.numpy import load_file


def test_vectors_of_a_folder(invoke, tiny_onnx, picture, tmp_path):
    output = tmp_path / "vectors"
    result = invoke("extract", tiny_onnx, picture.parent, "-o", output)
    assert (result.exit_code, result.stdout) == (0, f"{output}: 1 vector in 1 shard\n")
    assert load_file(output / "00000.safetensors")["logits"].shape == (1, 5)


def test_a_bad_picture_is_told_and_1_at_the_end(invoke, tiny_onnx, picture, tmp_path):
    arguments = ("extract", tiny_onnx, picture, "none.png", "-o", tmp_path / "vectors", "--json")
    result = invoke(*arguments)
    error = "The picture none.png cannot be read: No such file or directory."
    assert json.loads(result.stdout) == {"vectors": 1, "shards": 1, "before": 0, "without": 1, "errors": [error]}
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == f"Error: 1 of 2 pictures has no vector: {error}"
    with (tmp_path / "vectors/00000.csv").open(newline="") as file:
        assert [row["error"] for row in csv.DictReader(file)] == ["", error]
    assert json.loads(invoke(*arguments, "--resume").stdout)["before"] == 2


def test_wrong_input(invoke, tiny_onnx, foreign_onnx, picture, tmp_path):
    for model, *more in ((foreign_onnx,), ("none.onnx",), (tiny_onnx, "--workers", 2, "--threads", 1)):
        result = invoke("extract", model, picture, "-o", tmp_path / "vectors", *more)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.splitlines()[-1].startswith("Error: ")
    for option in (("--format", "hdf5"), ("--shard-size", 0)):
        result = invoke("extract", tiny_onnx, picture, "-o", tmp_path / "vectors", *option)
        assert (result.exit_code, option[0] in result.stderr) == (2, True)
    assert not (tmp_path / "vectors").exists()
