import json
import re

import pytest
from vimdeploy.cli.look import _rows
from vimdeploy.models.config import VARIANTS

from vimdeploy.doctor import MISSING, PROBLEM, READY, Finding


class TestModels:
    def test_a_row_a_variant(self, invoke):
        _, *rows = invoke("models").stdout.splitlines()
        assert [row.split()[0] for row in rows] == list(VARIANTS)

    def test_numbers_of_tiny(self, invoke):
        _, first, *_ = invoke("models").stdout.splitlines()
        assert first.split()[1:] == [
            *("7,148,008", "197", "224x224", "76.1"),
            "hf://hustvl/Vim-tiny-midclstok/vim_t_midclstok_76p1acc.pth",
        ]

    def test_json(self, invoke):
        document = json.loads(invoke("models", "--json").stdout)
        assert [(m["name"], m["parameters"], m["tokens"]) for m in document] == [
            (v.name, v.config.parameters, v.config.tokens) for v in VARIANTS.values()
        ]


class TestInspect:
    def test_table(self, invoke, tiny_onnx):
        lines = invoke("inspect", tiny_onnx).stdout.splitlines()
        rows = {name: value.strip() for name, _, value in (line.partition(" ") for line in lines)}
        assert (rows["variant"], rows["image_size"], rows["weights"]) == ("tiny", "32x32", "random seed 0")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("variant", "tiny"),
            ("opset", {"onnx": 20, "vimdeploy": 1}),
            ("operators", {"BidirectionalConv1d": 2, "BidirectionalSelectiveScan": 2}),
            ("function bodies", ["BidirectionalConv1d", "BidirectionalSelectiveScan"]),
        ],
    )
    def test_json(self, invoke, tiny_onnx, name, value):
        assert json.loads(invoke("inspect", tiny_onnx, "--json").stdout)[name] == value

    def test_parts_are_rows_in_the_table_and_objects_in_json(self, invoke, tiny_onnx):
        assert re.search(r"^config\.dim +16$", invoke("inspect", tiny_onnx).stdout, re.MULTILINE)
        assert json.loads(invoke("inspect", tiny_onnx, "--json").stdout)["config"]["dim"] == 16

    def test_of_many_labels_the_table_shows_the_first(self):
        assert _rows({"labels": ["ant"] * 11}) == [("labels", ", ".join(["ant"] * 10) + " ...")]

    @pytest.mark.parametrize("kind", ["missing", "foreign", "text"])
    def test_what_is_no_file_of_ours(self, invoke, foreign_onnx, tmp_path, kind):
        (tmp_path / "text.onnx").write_text("hello")
        result = invoke("inspect", foreign_onnx if kind == "foreign" else tmp_path / f"{kind}.onnx")
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert result.stderr.startswith("Error: ")


class TestInspectEngine:
    def test_table(self, invoke, engine_file):
        lines = invoke("inspect", engine_file()).stdout.splitlines()
        rows = {name: value.strip() for name, _, value in (line.partition(" ") for line in lines)}
        assert (rows["flavor"], rows["tensorrt_version"], rows["operators"]) == ("tensorrt", "10.3.0", "plugin")
        assert (rows["device"], rows["compute_capability"], rows["model.variant"]) == ("Orin", "8.7", "tiny")

    def test_json(self, invoke, engine_file):
        document = json.loads(invoke("inspect", engine_file(), "--json").stdout)
        assert document["profile"]["images"] == {"min": [1, 3, 32, 32], "opt": [1, 3, 32, 32], "max": [8, 3, 32, 32]}
        assert (document["model"]["labels"][0], document["carries_code"]) == ("ant", False)

    def test_an_engine_that_was_changed(self, invoke, engine_file):
        path = engine_file()
        path.write_bytes(b"another plan")
        result = invoke("inspect", path)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert "is not the engine that" in result.stderr


class TestDoctor:
    FINDINGS = (
        Finding("Python", READY, "3.12", cure="never shown"),
        Finding("torch", MISSING, "not installed", cure="pip install torch"),
    )

    @pytest.fixture
    def finds(self, monkeypatch):
        return lambda *findings: monkeypatch.setattr("vimdeploy.doctor.examine", lambda: list(findings))

    def test_table(self, invoke, finds):
        finds(*self.FINDINGS)
        assert [line.split(maxsplit=2) for line in invoke("doctor").stdout.splitlines()] == [
            ["what", "state", "found"],
            ["Python", "ready", "3.12"],
            ["torch", "missing", "not installed; get it with: pip install torch"],
        ]

    def test_json(self, invoke, finds):
        finds(*self.FINDINGS)
        first, second = json.loads(invoke("doctor", "--json").stdout)
        assert (first["state"], second["cure"]) == ("ready", "pip install torch")

    def test_what_is_missing_is_no_failure(self, invoke, finds):
        finds(*self.FINDINGS)
        assert invoke("doctor").exit_code == 0

    def test_a_problem_is(self, invoke, finds):
        finds(*self.FINDINGS, Finding("onnxruntime", PROBLEM, "twice"))
        assert invoke("doctor").exit_code == 1
