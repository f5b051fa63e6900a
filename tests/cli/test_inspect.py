import json
import re

import pytest

from vimdeploy.cli.inspect import _rows


class TestInspect:
    def test_table(self, invoke, tiny_onnx):
        lines = invoke("inspect", tiny_onnx).stdout.splitlines()
        rows = {name: value.strip() for name, _, value in (line.partition(" ") for line in lines)}
        assert (rows["model.name"], rows["image_size"], rows["model.origin.is"]) == ("tiny", "32x32", "random seed 0")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("image_size", "32x32"),
            ("opset", {"onnx": 20, "vimdeploy": 1}),
            (
                "operators",
                {
                    "computed_by": ["library", "function body"],
                    "nodes": {"BidirectionalConv1d": 2, "BidirectionalSelectiveScan": 2},
                },
            ),
            ("function_bodies", ["BidirectionalConv1d", "BidirectionalSelectiveScan"]),
        ],
    )
    def test_json(self, invoke, tiny_onnx, name, value):
        assert json.loads(invoke("inspect", tiny_onnx, "--json").stdout)[name] == value

    def test_parts_are_rows_in_the_table_and_objects_in_json(self, invoke, tiny_onnx):
        assert re.search(r"^model\.config\.dim +16$", invoke("inspect", tiny_onnx).stdout, re.MULTILINE)
        assert json.loads(invoke("inspect", tiny_onnx, "--json").stdout)["model"]["config"]["dim"] == 16

    def test_of_many_labels_the_table_shows_the_first(self):
        assert _rows({"labels": ["ant"] * 11}) == [("labels", ", ".join(["ant"] * 10) + " ...")]

    @pytest.mark.parametrize("kind", ["missing", "text"])
    def test_what_is_no_onnx_file(self, invoke, tmp_path, kind):
        (tmp_path / "text.onnx").write_text("hello")
        result = invoke("inspect", tmp_path / f"{kind}.onnx")
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert result.stderr.startswith("Error: ")


def test_a_file_of_another_program(invoke, foreign_onnx):
    document = json.loads(invoke("inspect", foreign_onnx, "--json").stdout)
    assert (document["made_by_vimdeploy"], document["operators"]) == (False, {"computed_by": [], "nodes": {}})
    assert document["model"]["inputs"] == {"x": {"dims": [1], "type": "float32"}}


class TestInspectEngine:
    def test_table(self, invoke, engine_file):
        lines = invoke("inspect", engine_file()).stdout.splitlines()
        rows = {name: value.strip() for name, _, value in (line.partition(" ") for line in lines)}
        assert (rows["flavor"], rows["tensorrt_version"], rows["operators.computed_by"]) == (
            "tensorrt",
            "10.3.0",
            "plugin",
        )
        assert (rows["device"], rows["compute_capability"], rows["model.name"]) == ("Orin", "8.7", "tiny")

    def test_json(self, invoke, engine_file):
        document = json.loads(invoke("inspect", engine_file(), "--json").stdout)
        assert document["profiles"][0]["images"] == {
            "min": [1, 3, 32, 32],
            "opt": [1, 3, 32, 32],
            "max": [8, 3, 32, 32],
        }
        assert (document["model"]["labels"][0], document["carries_code"]) == ("ant", False)

    def test_an_engine_that_was_changed(self, invoke, engine_file):
        path = engine_file()
        path.write_bytes(b"another plan")
        result = invoke("inspect", path)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert "is not the engine that" in result.stderr


class TestExpect:
    def test_table(self, invoke, tiny_onnx):
        lines = invoke("inspect", tiny_onnx, "--expect", "rtx 4090", "--shape", "batch=3").stdout.splitlines()
        assert re.search(
            r"^2 x BidirectionalSelectiveScan +float32 B=3 K=2 L=\d+ E=\d+ N=\d+ R=\d+ +.*tokens", lines[-2]
        )
        assert re.fullmatch(r"All scans: \d+ us, expected by a model of time that no GPU has confirmed\.", lines[-1])

    def test_json(self, invoke, tiny_onnx):
        expected = json.loads(invoke("inspect", tiny_onnx, "--expect", "H100", "--json").stdout)["expected"]
        assert (expected["gpu"], expected["confirmed"], len(expected["scans"])) == ("H100", False, 2)
        assert expected["us"] == pytest.approx(sum(scan["us"] for scan in expected["scans"]))
        assert expected["scans"][0]["sizes"]["B"] == 1

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            (("--expect", "Voodoo 2"), "There are no facts of a GPU 'Voodoo 2'; there are those of H100, "),
            (("--shape", "batch=2"), "--shape is for --expect GPU."),
            (
                ("--expect", "L4", "--shape", "batch"),
                "wanted a dimension and its size, such as batch=8, found 'batch'.",
            ),
            (("--expect", "L4", "--shape", "batch=0"), "0 is not in the range"),
        ],
    )
    def test_what_is_wrong_is_said(self, invoke, tiny_onnx, options, says):
        result = invoke("inspect", tiny_onnx, *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert says in result.stderr

    def test_a_file_without_scans(self, invoke, foreign_onnx):
        result = invoke("inspect", foreign_onnx, "--expect", "L4")
        assert result.exit_code == 2
        assert "has no nodes of our scans" in result.stderr
